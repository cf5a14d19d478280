"""What the generator knows about every job, and whether the server says the same in the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from benchmarks.server_load._wire import Wire, decode

IDS_PER_CALL = 100


@dataclass
class Ledger:
    """Ids of jobs by what was answered about them."""

    created: set[str] = field(default_factory=set)
    completed: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)
    unknown_creations: int = 0
    """Jobs whose creation was not answered: they may exist or not."""

    def note_completed(self, job_id: str) -> None:
        if job_id in self.completed:
            self.twice.append(job_id)
        self.completed.add(job_id)

    async def audit(self, wire: Wire) -> list[str]:
        """Return what is wrong; empty when every job is accounted for."""
        wrong: list[str] = []
        if self.twice:
            wrong.append(f"{len(self.twice)} jobs were completed twice, such as {self.twice[0]}")
        strange = self.completed - self.created
        if len(strange) > self.unknown_creations:
            wrong.append(f"{len(strange)} completed jobs were never created, such as {min(strange)}")
        statuses: dict[str, str] = {}
        ids = sorted(self.created)
        for start in range(0, len(ids), IDS_PER_CALL * 8):
            batch = ids[start : start + IDS_PER_CALL * 8]
            answers = await asyncio.gather(
                *(
                    wire.call("GET", "/api/v1/jobs/status?ids=" + ",".join(batch[i : i + IDS_PER_CALL]))
                    for i in range(0, len(batch), IDS_PER_CALL)
                )
            )
            for _, body in answers:
                statuses |= {item["id"]: item["status"] for item in decode(body)}
        lost = self.created - statuses.keys()
        if lost:
            wrong.append(f"{len(lost)} created jobs are gone, such as {min(lost)}")
        undone = {job_id for job_id in self.completed if statuses.get(job_id, "completed") != "completed"}
        if undone:
            wrong.append(f"{len(undone)} completed jobs are not completed, such as {min(undone)}")
        left = {job_id for job_id, status in statuses.items() if status != "completed"}
        if left:
            wrong.append(f"{len(left)} jobs were never handed to a worker, such as {min(left)}")
        total = decode((await wire.call("GET", "/api/v1/jobs/stats"))[1])["total"]
        if not len(self.created) <= total <= len(self.created) + self.unknown_creations:
            wrong.append(f"the server counts {total} jobs; {len(self.created)} were created")
        return wrong
