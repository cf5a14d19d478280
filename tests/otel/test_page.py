"""What docs/observability.md shows is run as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spooled import SpooledClient
from spooled_contrib.server import EmbeddedServer

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
PRODUCER, WORKER, PROMETHEUS, OWN = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def environment(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)


def test_the_producer_and_the_worker_share_a_trace():
    setup = (
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
    )
    subprocess.run([sys.executable, "-c", setup + PRODUCER], check=True)
    # The page's worker runs until it is stopped; here it stops after its first job.
    worker = WORKER.replace(
        "worker.start()",
        "worker.on('job:completed', lambda event: worker.stop())\nworker.start()",
    ).replace(
        "    print(f",
        "    print(f'{trace.get_current_span().parent.span_id != 0}')\n    print(f",
    )
    shown = subprocess.run(
        [sys.executable, "-c", setup + worker], capture_output=True, text=True, check=True, timeout=50
    ).stdout
    assert shown == "True\nsending to ada@example.org\n"


def test_metrics_are_shown():
    shown = PROMETHEUS.replace("9000", "0") + (
        "from prometheus_client import generate_latest\n"
        "worker.process(lambda ctx: None)\n"
        "worker.on('job:completed', lambda event: worker.stop())\n"
        "worker.start()\n"
        "print(generate_latest().decode())\n"
    )
    with SpooledClient() as client:
        client.jobs.create(queue_name="emails", payload={})
    printed = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=50
    ).stdout
    assert 'spooled_worker_jobs_completed_total{queue="emails"} 1.0' in printed
    listed = set(re.findall(r"^\| `(spooled_worker_\w+)` ", PAGE, re.MULTILINE))
    made = {
        f"{name}_total" if kind == "counter" else name
        for name, kind in re.findall(
            r"^# TYPE (spooled_worker_\w+?)(?:_total)? (counter|gauge|histogram)$", printed, re.MULTILINE
        )
        if not name.endswith("_created")
    }
    assert listed == made


def test_a_middleware_of_ones_own():
    names: dict[str, Any] = {}
    exec(OWN, names)
    assert names["SlowJobs"]()
