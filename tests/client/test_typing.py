"""What a type checker tells users of the client."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# `# error: ...` at the end of a line: mypy must complain there, and nowhere else.
SNIPPET = """
from datetime import datetime, timedelta
from typing import Any, Callable, Mapping

from spooled import AsyncSpooledClient, Job, JobSummary, Page, SpooledClient, TimeoutError
from spooled.models import AckResponse, AdminStats, CreateJobResponse, Schedule, ScheduleRun
from spooled.realtime import SubscriptionFilter
from spooled.types import CreateJobParams


def blocking(client: SpooledClient, params: Mapping[str, Any]) -> None:
    made: CreateJobResponse = client.jobs.create(queue_name="q", payload={"a": 1}, scheduled_at=timedelta(hours=1))
    client.jobs.create({"queue_name": "q", "payload": 1})
    client.jobs.create(params)
    client.jobs.create(CreateJobParams(queue_name="q", payload=1, priority=5))
    ack: AckResponse = client.jobs.complete(made.id, worker_id="w", lease_id="l", result=[1])
    client.jobs.complete(made.id, {"worker_id": "w", "lease_id": "l"})
    client.jobs.complete(job_id=made.id, worker_id="w", lease_id="l")
    page: Page[JobSummary] = client.jobs.list(status=["pending", "failed"], created_after=datetime.now())
    first: JobSummary = page[0]
    more: bool | None = client.jobs.list().has_more
    client.with_options(timeout=5)
    client.config.retry.max_retries + 1
    when: datetime = first.created_at
    client.ingest.custom("o", {"queue_name": "q", "payload": 1}, webhook_token="whk_")
    client.ingest.custom("o", queue_name="q", payload=1, webhook_token="whk_")
    plan: Page[Schedule] = client.schedules.list(is_active=True)
    runs: list[ScheduleRun] = client.schedules.get_history("s", limit=5)
    client.webhooks.update("h", secret=None)
    client.webhooks.update("h", {"secret": None})
    stop: Callable[[], None] = client.realtime("sse").on("job.completed", lambda data: print(data.result))
    text: str = client.metrics.get()
    for event in client.realtime("sse", reconnect_delay=0.5).events():
        kind: str = event.type

    client.jobs.create(queue_name=1, payload=1)  # error: No overload variant
    client.jobs.create(queue_name="q")  # error: No overload variant
    client.jobs.create(queue_name="q", payload=1, priorty=1)  # error: did you mean "priority"
    client.jobs.create("q", {})  # error: No overload variant
    client.jobs.complete(made.id)  # error: No overload variant
    client.jobs.get(5)  # error: incompatible type "int"
    wrong: str = client.jobs.get("j")  # error: Incompatible types in assignment
    client.jobs.list(limit="5")  # error: No overload variant
    client.with_options(timeot=5)  # error: Unexpected keyword argument "timeot"
    SpooledClient(base_uri="http://x")  # error: Unexpected keyword argument "base_uri"
    SpooledClient(timeout="5")  # error: incompatible type "str"
    client.config.timeout = 5  # error: read-only
    client.ingest.custom("o", queue_name="q")  # error: No overload variant
    client.realtime("polling")  # error: incompatible type
    client.schedules.create(name="n", cron_expression="* * * * *", queue_name="q")  # error: No overload variant


async def coroutines(client: AsyncSpooledClient) -> None:
    made: CreateJobResponse = await client.jobs.create(queue_name="q", payload=None)
    job: Job = await client.jobs.create_and_get({"queue_name": "q", "payload": 1})
    page: Page[JobSummary] = await client.jobs.dlq.list()
    async with AsyncSpooledClient("sp_test_0123456789", base_url="http://localhost:8080") as other:
        ok: bool = await other.health.liveness()

    async for event in client.realtime().events():
        stamp: datetime | None = event.timestamp
    await client.realtime().connect(SubscriptionFilter(queue="q"))
    usage: AdminStats = await client.admin.get_stats()

    lost: Job = client.jobs.create_and_get(queue_name="q", payload=1)  # error: Incompatible types in assignment
    await client.workers.heartbeat("w", current_jobs="3")  # error: No overload variant


def failing(client: SpooledClient) -> float:
    try:
        client.jobs.get("j")
    except TimeoutError as late:
        return late.timeout_seconds
    return 0
"""


def test_calls_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET)
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-error-summary",
            "--cache-dir", str(ROOT / ".mypy_cache" / "typing-test"), str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == ""
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        match = re.search(r"snippet\.py:(\d+): error: (.*)", line)
        if match:
            found[int(match[1])] = found.get(int(match[1]), "") + match[2]
    wanted = {
        number: line.partition("# error: ")[2]
        for number, line in enumerate(SNIPPET.splitlines(), 1)
        if "# error: " in line
    }
    assert found.keys() == wanted.keys(), done.stdout
    for number, text in wanted.items():
        assert text in found[number], (number, found[number])
