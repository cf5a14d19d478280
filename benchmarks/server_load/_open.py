"""Open-loop traffic: calls start when they are due, whether or not earlier ones were answered.

A latency counts from the moment that a call was due. A generator that waits for answers would send less to a server
that stalls, and so hide the stall.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.server_load._ledger import Ledger
from benchmarks.server_load._numbers import Times
from benchmarks.server_load._wire import Answer, Wire, decode

# Out of a thousand calls. Jobs come and go at the same pace: 280 + 22 * 10 are created, 100 * 5 claimed, 500 completed.
MIX = {
    "create": 280,
    "bulk (10)": 22,
    "claim (5)": 100,
    "complete": 500,
    "heartbeat": 40,
    "get": 48,
    "list": 5,
    "stats": 5,
}
QUEUES = tuple(f"load-{number}" for number in range(4))
PAYLOAD = {"job_type": "mail", "to": "someone@example.org", "body": "x" * 200}


@dataclass
class Traffic:
    """One run. `times` has what each kind of call took."""

    wire: Wire
    rate: int
    seconds: float
    ledger: Ledger = field(default_factory=Ledger)
    times: dict[str, Times] = field(default_factory=lambda: {kind: Times() for kind in MIX})
    elapsed: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(7)  # so that two runs send the same
        self._leased: deque[tuple[str, str]] = deque()
        self._recent: deque[str] = deque(maxlen=1000)
        self._late = 0
        self._calls: dict[str, Callable[[], Awaitable[Answer]]] = {
            "create": self._create,
            "bulk (10)": self._bulk,
            "claim (5)": self._claim,
            "complete": self._complete,
            "heartbeat": self._heartbeat,
            "get": self._get,
            "list": lambda: self.wire.call("GET", f"/api/v1/jobs?queue_name={self._queue()}&limit=20"),
            "stats": lambda: self.wire.call("GET", "/api/v1/jobs/stats"),
        }

    async def run(self) -> None:
        """Send everything, and wait for the answers."""
        loop = asyncio.get_running_loop()
        kinds = self._random.choices(list(MIX), weights=list(MIX.values()), k=int(self.rate * self.seconds))
        running: set[asyncio.Task[None]] = set()
        begun = loop.time()
        for number, kind in enumerate(kinds):
            due = begun + number / self.rate
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            elif number % 64 == 0:
                await asyncio.sleep(0)  # behind: let answers be read
            task = loop.create_task(self._one(kind, due))
            running.add(task)
            task.add_done_callback(running.discard)
        while running:
            await asyncio.wait(running)
        self.elapsed = loop.time() - begun

    async def drain(self) -> None:
        """Complete what was claimed, then claim and complete until nothing is left."""
        while self._leased:
            await self._complete()

        async def empty(queue: str) -> None:
            while await self._claim_from(queue, 100):
                while self._leased:
                    await self._complete()

        await asyncio.gather(*map(empty, QUEUES))

    @property
    def sent(self) -> int:
        return sum(len(times.seconds) + sum(times.errors.values()) for times in self.times.values())

    async def _one(self, kind: str, due: float) -> None:
        if kind in ("complete", "heartbeat") and not self._leased:
            kind = "claim (5)"
        if kind == "get" and not self._recent:
            kind = "create"
        times = self.times[kind]
        try:
            status, body = await self._calls[kind]()
        except ConnectionError as error:
            times.wrong(str(error))
            return
        if status >= 400:
            times.wrong(f"{status} {body[:80].decode(errors='replace')}")
            return
        times.seconds.append(asyncio.get_running_loop().time() - due)

    def _queue(self) -> str:
        return self._random.choice(QUEUES)

    def _created(self, job_id: str) -> None:
        self.ledger.created.add(job_id)
        self._recent.append(job_id)

    async def _create(self) -> Answer:
        self.ledger.unknown_creations += 1
        body = {"queue_name": self._queue(), "payload": PAYLOAD, "priority": self._random.randint(-2, 2)}
        answer = await self.wire.call("POST", "/api/v1/jobs", body)
        if answer[0] < 300:
            self._created(decode(answer[1])["id"])
        self.ledger.unknown_creations -= 1
        return answer

    async def _bulk(self) -> Answer:
        self.ledger.unknown_creations += 10
        body = {"queue_name": self._queue(), "jobs": [{"payload": PAYLOAD}] * 10}
        answer = await self.wire.call("POST", "/api/v1/jobs/bulk", body)
        if answer[0] < 300:
            for item in decode(answer[1])["succeeded"]:
                self._created(item["job_id"])
        self.ledger.unknown_creations -= 10
        return answer

    async def _claim(self) -> Answer:
        body = {"queue_name": self._queue(), "worker_id": "load", "limit": 5, "lease_duration_secs": 600}
        answer = await self.wire.call("POST", "/api/v1/jobs/claim", body)
        if answer[0] < 300:
            self._leased.extend((job["id"], job["lease_id"]) for job in decode(answer[1])["jobs"])
        return answer

    async def _claim_from(self, queue: str, limit: int) -> int:
        body = {"queue_name": queue, "worker_id": "load", "limit": limit, "lease_duration_secs": 600}
        _, answer = await self.wire.call("POST", "/api/v1/jobs/claim", body)
        jobs = decode(answer)["jobs"]
        self._leased.extend((job["id"], job["lease_id"]) for job in jobs)
        return len(jobs)

    async def _complete(self) -> Answer:
        job_id, lease_id = self._leased.popleft()
        body = {"worker_id": "load", "lease_id": lease_id, "result": {"ok": True}}
        answer = await self.wire.call("POST", f"/api/v1/jobs/{job_id}/complete", body)
        if answer[0] < 300:
            self.ledger.note_completed(job_id)
        return answer

    async def _heartbeat(self) -> Answer:
        # Taken out meanwhile, so that nobody completes the job under the heartbeat.
        job_id, lease_id = self._leased.popleft()
        body = {"worker_id": "load", "lease_id": lease_id, "lease_duration_secs": 600}
        answer = await self.wire.call("POST", f"/api/v1/jobs/{job_id}/heartbeat", body)
        self._leased.append((job_id, lease_id))
        return answer

    async def _get(self) -> Answer:
        return await self.wire.call("GET", f"/api/v1/jobs/{self._random.choice(self._recent)}")
