"""The proof: what was enqueued against what the server has, without asking the worker."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spooled import Job, JobSummary, SpooledClient
from spooled_contrib.server.demo._modules import STANDARD_LIBRARY, measure
from spooled_contrib.server.demo._work import QUEUE, RETRIES, Planned

SAMPLES = 25
"""Results that are counted again in this process."""


@dataclass(slots=True)
class Ledger:
    """What the server knows when the queue has run dry."""

    completed: list[JobSummary] = field(default_factory=list)
    dead: list[JobSummary] = field(default_factory=list)
    other: list[JobSummary] = field(default_factory=list)
    statistics: dict[str, int] = field(default_factory=dict)
    modules: dict[str, dict[str, int]] = field(default_factory=dict)
    """The stored results by path."""
    jobs: dict[str, Job] = field(default_factory=dict)
    retries: list[str] = field(default_factory=list)
    """What made jobs run again that were not meant to."""

    @property
    def retried(self) -> int:
        """Runs after the first of all jobs."""
        return sum(job.retry_count for job in (*self.completed, *self.dead, *self.other))

    @property
    def totals(self) -> dict[str, int]:
        """The stored results, added up."""
        totals = dict.fromkeys(("lines", "functions", "classes", "imports"), 0)
        for counts in self.modules.values():
            for name, number in counts.items():
                totals[name] += number
        return totals


@dataclass(frozen=True, slots=True)
class Check:
    """One statement that has to be true."""

    statement: str
    holds: bool
    found: str


def read_ledger(client: SpooledClient, planned: Container[str]) -> Ledger:
    """List every job of the queue, and fetch each result.

    Args:
        client: For the server.
        planned: Ids of the jobs whose retries need no explanation.
    """
    ledger = Ledger()
    for job in client.jobs.iterate(queue_name=QUEUE):
        kind = {"completed": ledger.completed, "deadletter": ledger.dead}.get(job.status, ledger.other)
        kind.append(job)
    for job in (*ledger.completed, *ledger.dead):
        ledger.jobs[job.id] = client.jobs.get(job.id)
    for job in (*ledger.completed, *ledger.dead):
        if job.retry_count and job.id not in planned:
            ledger.retries.append(_why(client, job))
    for summary in ledger.completed:
        full = ledger.jobs[summary.id]
        if isinstance(full.payload, dict) and isinstance(full.result, dict):
            ledger.modules[str(full.payload.get("path"))] = full.result
    stats = client.jobs.get_stats(QUEUE)
    ledger.statistics = {
        name: getattr(stats, name)
        for name in (
            "pending",
            "scheduled",
            "processing",
            "completed",
            "failed",
            "deadletter",
            "cancelled",
            "total",
        )
    }
    return ledger


def prove(
    ledger: Ledger, enqueued: dict[str, str], planned: dict[str, Planned], handled: dict[str, int]
) -> list[Check]:
    """Everything that has to be true when no job was lost, run twice to an end, or mixed up.

    Args:
        ledger: What the server has.
        enqueued: The path that each ordinary job's id was enqueued for.
        planned: The jobs that must fail, by id.
        handled: What the handlers counted in all.
    """
    everything = {*enqueued, *planned}
    completed = [job.id for job in ledger.completed]
    dead = [job.id for job in ledger.dead]
    listed = [*completed, *dead, *(job.id for job in ledger.other)]
    missing, foreign = everything - set(listed), set(listed) - everything
    unexpected = [job for job in ledger.dead if job.id not in planned]
    statistics = ledger.statistics
    left = statistics["total"] - statistics["completed"] - statistics["deadletter"]
    swapped = [
        job_id
        for job_id, path in enqueued.items()
        if job_id in ledger.jobs and _path(ledger.jobs[job_id]) != path
    ]
    wrong_errors = [
        job.id
        for job in ledger.dead
        if job.id in planned and planned[job.id].expected not in (job.last_error or "")
    ]
    differing = _recount(ledger.modules)
    sampled = min(SAMPLES, len(ledger.modules))
    return [
        Check(
            f"{len(everything)} jobs enqueued = {len(set(completed))} completed + {len(set(dead))} dead, id by id",
            {*completed, *dead} == everything and not ledger.other,
            f"{len(missing)} missing, {len(foreign)} unknown, {len(ledger.other)} in another state",
        ),
        Check(
            "every job is listed once",
            len(listed) == len(set(listed)),
            f"{len(listed) - len(set(listed))} listed twice",
        ),
        Check(
            "the server's statistics say the same",
            left == 0
            and (statistics["total"], statistics["completed"], statistics["deadletter"])
            == (len(everything), len(completed), len(dead)),
            ", ".join(f"{name} {number}" for name, number in statistics.items() if number),
        ),
        Check(
            f"exactly the {len(planned)} jobs that must fail are dead, each with its own error",
            set(dead) == set(planned) and not wrong_errors,
            "; ".join(f"{_path(ledger.jobs[job.id])}: {job.last_error}" for job in unexpected)
            or f"{len(dead)} dead, {len(wrong_errors)} with another error",
        ),
        Check(
            f"each of them ran {RETRIES + 1} times, everything else once",
            ledger.retried == len(planned) * RETRIES
            and all(job.retry_count == RETRIES for job in ledger.dead),
            "; ".join([f"{ledger.retried} retries", *ledger.retries]),
        ),
        Check(
            "every job still has the payload it was enqueued with",
            not swapped,
            f"{len(swapped)} have another",
        ),
        Check(
            f"the {len(ledger.modules)} stored results add up to what the handlers counted",
            len(ledger.modules) == len(enqueued) and ledger.totals == handled,
            f"stored {ledger.totals}, counted {handled}",
        ),
        Check(
            f"{sampled} results counted again here are the same",
            not differing,
            f"these differ: {', '.join(differing)}",
        ),
    ]


def _recount(modules: dict[str, dict[str, int]]) -> list[str]:
    """Count evenly spread files once more, without queue and worker; the paths whose stored result is wrong."""
    paths = sorted(modules)
    chosen = paths[:: max(1, -(-len(paths) // SAMPLES))]
    return [path for path in chosen if measure(STANDARD_LIBRARY / Path(path)) != modules[path]]


def _why(client: SpooledClient, job: JobSummary) -> str:
    """Return the job's file, and what its history says about the runs that did not count."""
    reasons = [
        f"{event.event_type}: {event.details.get('error', '')}"
        for event in client.jobs.iterate_history(job.id)
        if isinstance(event.details, dict) and event.event_type not in ("created", "processing", "completed")
    ]
    return f"{_path(client.jobs.get(job.id))} ({', '.join(reasons)})"


def _path(job: Job) -> Any:
    return job.payload.get("path") if isinstance(job.payload, dict) else None
