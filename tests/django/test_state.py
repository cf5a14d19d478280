"""What a job activates in Django is not active in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from spooled import AsyncSpooledClient, SpooledClient
from spooled.testing import drain
from spooled.worker import AsyncSpooledWorker, SpooledWorker
from spooled_contrib.django._database import DatabaseCleanup
from spooled_contrib.server import EmbeddedServer
from tests.worker.conftest import Outside

State = tuple[Any, ...]
OPTIONS: dict[str, Any] = {"concurrency": 1, "poll_interval": 0.05, "middleware": [DatabaseCleanup()]}


def state() -> State:
    return (
        translation.get_language(),
        timezone.get_current_timezone_name(),
        get_urlconf(),
        get_script_prefix(),
    )


def change() -> None:
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    set_urlconf("somewhere.else")
    set_script_prefix("/prefix/")


def threads(server: EmbeddedServer, seen: list[State], run: Callable[[SpooledWorker], object]) -> None:
    def handler(ctx: Any) -> None:
        seen.append(state())
        change()

    with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = SpooledWorker(client, "q", **OPTIONS)
        worker.process(handler)
        run(worker)


def coroutines(server: EmbeddedServer, seen: list[State], *, in_threads: bool) -> None:
    async def coroutine(ctx: Any) -> None:
        seen.append(await sync_to_async(state)())
        await sync_to_async(change)()
        assert translation.get_language() == "de", "within a job it is active everywhere"

    def function(ctx: Any) -> None:
        seen.append(state())
        change()

    async def main() -> None:
        async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
            worker = AsyncSpooledWorker(client, "q", **OPTIONS)
            worker.process(function if in_threads else coroutine)
            await worker.start(burst=True)

    asyncio.run(main())


RUNNERS = [
    pytest.param(lambda server, seen: threads(server, seen, lambda one: one.start(burst=True)), id="threads"),
    pytest.param(lambda server, seen: threads(server, seen, drain), id="drain_jobs"),
    pytest.param(lambda server, seen: coroutines(server, seen, in_threads=False), id="coroutines"),
    pytest.param(lambda server, seen: coroutines(server, seen, in_threads=True), id="the management command"),
]


@pytest.mark.parametrize("run", RUNNERS)
def test_nothing_is_left_active_for_the_next_job(
    run: Callable[[EmbeddedServer, list[State]], None], spooled_server: EmbeddedServer, outside: Outside
) -> None:
    ids = outside.enqueue_many(3)
    before, seen = state(), []
    run(spooled_server, seen)
    assert [outside.status(job_id) for job_id in ids] == ["completed"] * 3
    assert seen == [before] * 3
    assert state() == before
