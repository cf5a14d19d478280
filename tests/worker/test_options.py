from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import AsyncSpooledWorker, JobContext, SpooledWorker
from spooled.worker._options import WorkerOptions, registrable_hostname
from spooled.worker.context import AsyncJobContext, AsyncSignal


@pytest.fixture
def offline() -> SpooledClient:
    return SpooledClient(api_key="sp_test_never-used-0000", base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("concurrency", 0, ValueError),
        ("concurrency", 101, ValueError),
        ("concurrency", 2.5, TypeError),
        ("concurrency", True, TypeError),
        ("poll_interval", 0, ValueError),
        ("poll_interval", "1", TypeError),
        ("lease_duration", 4, ValueError),
        ("lease_duration", 3601, ValueError),
        ("heartbeat_fraction", 0, ValueError),
        ("heartbeat_fraction", 1.1, ValueError),
        ("shutdown_timeout", -1, ValueError),
        ("hostname", "no spaces", ValueError),
        ("hostname", ".dot", ValueError),
        ("worker_id", "a/b", ValueError),
        ("worker_type", "x" * 51, ValueError),
        ("version", 1, ValueError),
        ("wakeups", "yes", ValueError),
        ("wakeups", None, TypeError),
        ("wakeups", 1, TypeError),
        ("metadata", {"a": object()}, ValueError),
        ("metadata", {"a": "x" * 70_000}, ValueError),
    ],
)
def test_a_bad_option_is_refused_by_name(
    offline: SpooledClient, option: str, value: Any, error: type[Exception]
):
    with pytest.raises(error, match=option):
        SpooledWorker(offline, "q", **{option: value})


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a b", "a/b", "x" * 101])
def test_a_bad_queue_name_is_refused(offline: SpooledClient, name: str):
    with pytest.raises(ValueError, match="queue_name"):
        SpooledWorker(offline, name)


@pytest.mark.parametrize("name", ["emails", "a.b_c-d", "Ünïcode", "x" * 100, "_"])
def test_a_good_queue_name_is_taken(offline: SpooledClient, name: str):
    assert SpooledWorker(offline, queue_name=name).queue_name == name


def test_an_unknown_option_names_the_nearest(offline: SpooledClient):
    with pytest.raises(TypeError, match=r"'concurency'; did you mean 'concurrency'\?"):
        SpooledWorker(offline, "q", concurency=3)  # type: ignore[call-arg]


def test_the_client_comes_first():
    with pytest.raises(TypeError, match="SpooledClient"):
        SpooledWorker("my-queue", "q")  # type: ignore[arg-type]


def test_defaults_are_those_of_the_guide(offline: SpooledClient):
    options = WorkerOptions("q")
    assert (options.concurrency, options.poll_interval, options.lease_duration) == (5, 1.0, 30)
    assert options.wakeups == "auto"
    assert (options.heartbeat_fraction, options.shutdown_timeout, options.worker_type) == (
        0.5,
        30.0,
        "python",
    )


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("web-1.example.org", "web-1.example.org"),
        ("mein Rechner", "mein-Rechner"),
        ("-x-", "x"),
        ("…", "localhost"),
    ],
)
def test_hostnames_are_brought_into_the_servers_alphabet(name: str, registered: str):
    assert registrable_hostname(name) == registered


def test_worker_ids_are_new_for_each_start_and_valid():
    options = WorkerOptions("q")
    assert options.new_worker_id() != options.new_worker_id()
    WorkerOptions("q", worker_id=options.new_worker_id())
    assert WorkerOptions("q", worker_id="mine").new_worker_id() == "mine"


def test_unknown_events_are_refused_when_they_are_registered(offline: SpooledClient):
    worker = SpooledWorker(offline, "q")
    with pytest.raises(ValueError, match="did you mean 'job:completed'"):
        worker.on("job:complete")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="callable"):
        worker.on("started", "not a function")  # type: ignore[call-overload]


async def test_both_workers_take_either_client():
    async with AsyncSpooledClient(api_key="sp_test_never-used-0000") as client:
        assert SpooledWorker(client, "q").state == "idle"
        assert AsyncSpooledWorker(client, "q").state == "idle"


def context(kind: type[JobContext[Any]] = JobContext, **changes: Any) -> JobContext[Any]:
    given: dict[str, Any] = {
        "job_id": "j1", "queue_name": "q", "payload": {"card": "4111"}, "retry_count": 1, "max_retries": 3,
        "timeout_seconds": 300, "lease_id": "l1", "signal": threading.Event(),
    }  # fmt: skip
    return kind(**{**given, **changes})


def test_the_payload_is_not_in_the_repr():
    assert repr(context()) == "<JobContext job_id='j1' queue_name='q' attempt=2>"


def test_context_logs_carry_the_job(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, "spooled.worker.job"):
        context().log("warning", "low on paper", {"sheets": 3})
        context().progress(50, "Halfway done")
    first, second = caplog.records
    assert (first.levelname, first.getMessage()) == ("WARNING", "[j1] low on paper {'sheets': 3}")
    assert (first.job_id, first.queue_name, first.attempt) == ("j1", "q", 2)  # type: ignore[attr-defined]
    assert second.getMessage() == "[j1] 50% Halfway done"


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="'loud'"):
        context().log("loud", "x")


def test_jobs_do_not_leave_loggers_behind():
    before = len(logging.root.manager.loggerDict)
    for number in range(50):
        context(job_id=f"j{number}").log("info", "x")
    assert len(logging.root.manager.loggerDict) <= before + 1


async def test_async_context_methods_may_be_awaited_or_not():
    ctx = context(AsyncJobContext, signal=AsyncSignal())
    await ctx.log("info", "x")  # type: ignore[func-returns-value]
    ctx.log("info", "x")
    await ctx.progress(1.5)  # type: ignore[func-returns-value]
