"""The jobs of the demo and their handler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spooled import SpooledClient
from spooled.worker import JobContext
from spooled_contrib.server.demo._modules import STANDARD_LIBRARY, measure

QUEUE = "stdlib"
RETRIES = 2
"""After each of them the server waits longer (1 s, 2 s), so the jobs that must fail take about four seconds."""

BATCH = 100
"""The most jobs that one bulk request may hold."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A job that must fail, and what its last error has to tell."""

    label: str
    payload: dict[str, Any]
    expected: str


def planned_failures(scratch: Path) -> list[Planned]:
    """Three jobs that fail for different reasons: the world, the data, and the producer."""
    broken = scratch / "shopping_list.py"
    broken.write_text("2 apples, 1 bread\n", encoding="utf-8")
    return [
        Planned("a file that does not exist", {"path": "no/such_module.py"}, "FileNotFoundError"),
        Planned("a file that is not Python", {"path": broken.name, "folder": str(scratch)}, "SyntaxError"),
        Planned("a payload with a misspelt field", {"paht": "json/decoder.py"}, "KeyError"),
    ]


def enqueue(client: SpooledClient, payloads: list[dict[str, Any]], *, priority: int = 0) -> list[str]:
    """Enqueue in bulk; the ids in the order of the payloads.

    Raises:
        RuntimeError: The server accepted fewer than all.
        SpooledError: The server refused.
    """
    ids: list[str] = []
    for start in range(0, len(payloads), BATCH):
        batch = [{"payload": payload, "priority": priority} for payload in payloads[start : start + BATCH]]
        answer = client.jobs.bulk_enqueue(queue_name=QUEUE, jobs=batch, default_max_retries=RETRIES)
        if answer.failed:
            raise RuntimeError(f"the server refused {len(answer.failed)} jobs: {answer.failed[0].error}")
        ids += [job.job_id for job in sorted(answer.succeeded, key=lambda job: job.index)]
    return ids


def handle(ctx: JobContext[dict[str, Any]]) -> dict[str, int]:
    """Count what is in the file that the payload names."""
    folder = Path(ctx.payload.get("folder", STANDARD_LIBRARY))
    return measure(folder / ctx.payload["path"])
