"""Handlers by job type, and payloads with a type."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field

from spooled import AsyncSpooledClient, SpooledClient
from spooled.codec import Codec, PayloadError
from spooled.worker import (
    AsyncJobContext,
    AsyncSpooledWorker,
    JobContext,
    JobLogFilter,
    SpooledWorker,
    current_job,
)
from spooled.worker._routing import is_sync, payload_type_of
from spooled_contrib.server import EmbeddedServer
from tests.waiting import wait_until
from tests.worker.conftest import Outside


@dataclasses.dataclass
class Mail:
    to: str
    urgent: bool = False


class Typed(TypedDict):
    to: str


class Record(msgspec.Struct):
    to: str


class Model(BaseModel):
    to: str


def worker_on(client: SpooledClient, **options: Any) -> SpooledWorker:
    return SpooledWorker(client, "q", poll_interval=0.05, **options)


def test_jobs_go_to_the_handler_of_their_type_and_others_to_process(client: SpooledClient, outside: Outside):
    worker = worker_on(client)
    worker.handler("welcome")(lambda ctx: "welcome")
    worker.handler("goodbye")(lambda ctx: "goodbye")
    worker.process(lambda ctx: "anything else")
    jobs = {
        kind: outside.enqueue(payload=payload)
        for kind, payload in {
            "welcome": {"job_type": "welcome"},
            "goodbye": {"job_type": "goodbye", "x": 1},
            "anything else": {"job_type": "unheard of"},
        }.items()
    }
    plain = outside.enqueue(payload=[1])
    odd = outside.enqueue(payload={"job_type": ["welcome"]})
    with worker:
        wait_until(lambda: outside.counts()["completed"] == 5)
    assert {kind: outside.job(job)["result"] for kind, job in jobs.items()} == {kind: kind for kind in jobs}
    assert outside.job(plain)["result"] == outside.job(odd)["result"] == "anything else"


def test_a_job_that_nobody_handles_fails_and_says_what_would_be_handled(
    client: SpooledClient, outside: Outside
):
    worker = worker_on(client)
    worker.handler("welcome")(lambda ctx: None)
    worker.handler("bill")(lambda ctx: None)
    unknown = outside.enqueue(payload={"job_type": "wlcome"}, max_retries=0)
    untyped = outside.enqueue(payload={}, max_retries=0)
    with worker:
        wait_until(lambda: outside.counts()["deadletter"] == 2)
        assert worker.active_job_count == 0
    assert outside.job(unknown)["last_error"] == (
        "no handler for job_type 'wlcome'; this worker handles 'bill', 'welcome'"
    )
    assert outside.job(untyped)["last_error"].startswith("the payload names no job_type")


def test_one_handler_a_type(client: SpooledClient):
    worker = worker_on(client)
    worker.handler("a")(lambda ctx: 1)
    with pytest.raises(ValueError, match="for jobs of type 'a'"):
        worker.handler("a")(lambda ctx: 2)


def send(ctx: JobContext[Mail]) -> dict[str, Any]:
    return {"to": ctx.payload.to, "urgent": ctx.payload.urgent}


async def send_async(ctx: AsyncJobContext[Mail]) -> dict[str, Any]:
    return {"to": ctx.payload.to, "urgent": ctx.payload.urgent}


def test_a_payload_gets_the_type_that_the_handler_declares(client: SpooledClient, outside: Outside):
    worker = worker_on(client)
    worker.process(send)
    good = outside.enqueue(payload={"to": "ada"})
    bad = outside.enqueue(payload={"too": "ada"}, max_retries=0)
    with worker:
        wait_until(lambda: outside.counts()["completed"] + outside.counts()["deadletter"] == 2)
    assert outside.job(good)["result"] == {"to": "ada", "urgent": False}
    error = outside.job(bad)["last_error"]
    assert error.startswith("PayloadError: the payload is no Mail")
    assert "`to`" in error


async def test_coroutines_and_plain_functions_side_by_side(server: EmbeddedServer, outside: Outside):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)
        threads: set[str] = set()
        worker.handler("coroutine")(send_async)

        @worker.handler("thread")
        def plain(ctx: Any) -> str:
            threads.add(threading.current_thread().name)
            return "from a thread"

        one = await client.jobs.create(queue_name="q", payload={"job_type": "coroutine", "to": "ada"})
        two = await client.jobs.create(queue_name="q", payload={"job_type": "thread"})
        async with worker:
            while (await client.jobs.get_stats(queue_name="q")).completed < 2:
                pass
        assert (await client.jobs.get(one.id)).result == {"to": "ada", "urgent": False}
        assert (await client.jobs.get(two.id)).result == "from a thread"
        assert threads.isdisjoint({threading.main_thread().name})


class Price(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cents: int = Field(0, alias="amountCents")


class Receipt(BaseModel):
    total: int = Field(serialization_alias="totalCents")


def test_models_are_read_and_dumped_by_their_own_rules(client: SpooledClient):
    worker = worker_on(client)

    @worker.handler("one")
    def one(ctx: JobContext[Price]) -> Receipt:
        return Receipt(total=ctx.payload.cents)

    @worker.handler("several")
    def several(ctx: JobContext[dict[int, list[Price] | Price]]) -> Any:
        return [Receipt(total=ctx.payload[7].cents)]  # type: ignore[union-attr]

    @worker.process
    def other(ctx: JobContext[Annotated[int, Field(gt=0)]]) -> list[Receipt]:
        return [Receipt(total=ctx.payload)]

    made = [
        client.jobs.create(queue_name="q", payload=payload, max_retries=0).id
        for payload in (
            {"job_type": "one", "amountCents": 5},
            {"job_type": "several", "7": Price(amountCents=6)},
            7,
            -7,
        )
    ]
    worker.start(burst=True)
    jobs = [client.jobs.get(one) for one in made]
    assert [job.result for job in jobs] == [{"totalCents": 5}, [{"totalCents": 6}], [{"totalCents": 7}], None]
    assert "greater than 0, got -7" in str(jobs[3].last_error)


@pytest.mark.parametrize("kind", [Mail, Typed, Record, Model])
def test_every_usual_kind_of_type_can_be_read(kind: Any):
    read = Codec(kind).load({"to": "ada"})
    assert (read["to"] if kind is Typed else read.to) == "ada"
    with pytest.raises(PayloadError, match=kind.__name__):
        Codec(kind).load({"to": 7})
    with pytest.raises(PayloadError, match=kind.__name__):
        Codec(kind).load(None)


class PlainCallable:
    def __call__(self, ctx: JobContext[Mail]) -> None: ...


class AsyncCallable:
    async def __call__(self, ctx: Any) -> None: ...


def test_the_payload_type_is_found():
    def bare(ctx): ...
    def untyped(ctx: JobContext) -> None: ...
    def any_payload(ctx: JobContext[Any]) -> None: ...
    def other(ctx: int) -> None: ...

    assert payload_type_of(send) is Mail
    assert payload_type_of(send_async) is Mail
    assert payload_type_of(functools.partial(send)) is Mail
    assert payload_type_of(PlainCallable()) is None or payload_type_of(PlainCallable()) is Mail
    for handler in (bare, untyped, any_payload, other, print, lambda ctx: None):
        assert payload_type_of(handler) is None


def test_a_type_that_cannot_be_found_is_an_error_that_says_what_to_do(client: SpooledClient):
    @dataclasses.dataclass
    class Local:
        to: str

    def handler(ctx: JobContext[Local]) -> None: ...

    with pytest.raises(TypeError, match=r"payload=TheType"):
        worker_on(client).process(handler)
    worker_on(client).handler("x", payload=Local)(handler)


def test_what_runs_in_threads_and_what_does_not():
    assert is_sync(send)
    assert is_sync(functools.partial(send))
    assert is_sync(PlainCallable())
    assert is_sync(print)
    assert not is_sync(send_async)
    assert not is_sync(functools.partial(send_async))
    assert not is_sync(AsyncCallable())


def test_the_current_job_and_its_log_records(
    client: SpooledClient, outside: Outside, caplog: pytest.LogCaptureFixture
):
    log = logging.getLogger("somewhere.deep.in.the.users.code")
    caplog.handler.addFilter(JobLogFilter())
    worker = worker_on(client)
    seen: list[JobContext[Any] | None] = []

    def deep() -> None:
        seen.append(current_job())
        log.warning("working")

    worker.process(lambda ctx: deep())
    job_id = outside.enqueue()
    with caplog.at_level(logging.INFO), worker:
        wait_until(lambda: outside.status(job_id) == "completed")
    log.warning("outside")
    assert current_job() is None
    assert seen[0] is not None
    assert seen[0].job_id == job_id
    inside, after = [record for record in caplog.records if record.name == log.name]
    assert (inside.job_id, inside.queue_name, inside.attempt) == (job_id, "q", 1)  # type: ignore[attr-defined]
    assert (after.job_id, after.attempt) == ("", 0)  # type: ignore[attr-defined]


async def test_the_current_job_follows_coroutines(server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)
        seen: list[tuple[str, str | None]] = []

        @worker.process
        async def handle(ctx: Any) -> None:
            found = current_job()
            seen.append((ctx.job_id, found and found.job_id))
            if len(seen) == 3:
                worker.stop()

        for _ in range(3):
            await client.jobs.create(queue_name="q", payload={})
        await worker.start()
    assert all(mine == found for mine, found in seen)
