"""Lists of more than a page: every job once, whatever happens to the list meanwhile."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled._http._paging import OldestFirst
from spooled.clock import ManualClock
from spooled.models import Page
from spooled_contrib.server import EmbeddedServer

from .conftest import Client, Kind, make_client, result

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


async def entries(iterated: Any) -> AsyncIterator[Any]:
    """What an iteration of either client gives."""
    if hasattr(iterated, "__aiter__"):
        async for entry in iterated:
            yield entry
    else:
        for entry in iterated:
            yield entry


async def enqueue(client: Client, queue: str, count: int) -> list[str]:
    ids: list[str] = []
    for start in range(0, count, 100):
        jobs = [{"payload": n} for n in range(start, min(count, start + 100))]
        answer = await result(client.jobs.bulk_enqueue(queue_name=queue, jobs=jobs))
        ids += [one.job_id for one in answer.succeeded]
    return ids


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 150, 201])
async def test_all_jobs_oldest_first(client: Client, queue: str, count: int) -> None:
    ids = await enqueue(client, queue, count)
    assert [job.id async for job in entries(client.jobs.iterate(queue_name=queue))] == ids
    assert [job.id async for job in entries(client.jobs.iterate({"queue_name": queue}))] == ids


async def test_filters(client: Client, queue: str) -> None:
    old = await enqueue(client, queue, 101)
    moment = (await result(client.jobs.get(old[-1]))).created_at + dt.timedelta(microseconds=1)
    await result(client.jobs.cancel(old[0]))
    new = await enqueue(client, queue, 101)

    async def ids(**filters: Any) -> list[str]:
        return [job.id async for job in entries(client.jobs.iterate(queue_name=queue, **filters))]

    assert await ids(status="pending") == old[1:] + new
    assert await ids(status=["cancelled"]) == old[:1]
    assert await ids(created_after=moment) == new
    assert await ids(created_before=moment) == old
    assert await ids(q="no such job") == []


async def test_the_loop_may_change_what_it_looks_for(client: Client, queue: str) -> None:
    """Each one drops out of the list before the next page is asked for."""
    ids = await enqueue(client, queue, 250)
    seen = []
    async for job in entries(client.jobs.iterate(queue_name=queue, status="pending")):
        seen.append(job.id)
        await result(client.jobs.cancel(job.id))
    assert seen == ids
    assert (await result(client.jobs.get_stats(queue))).cancelled == 250


async def test_jobs_of_one_moment(kind: Kind) -> None:
    """A clock that stands still has no order in time."""
    with EmbeddedServer(clock=ManualClock()) as server:
        client = make_client(kind, api_key=server.api_key, base_url=server.url)
        ids = await enqueue(client, "q", 350)
        assert [job.id async for job in entries(client.jobs.iterate())] == ids
        seen = []
        async for job in entries(client.jobs.iterate(status="pending")):
            seen.append(job.id)
            await result(client.jobs.cancel(job.id))
        assert sorted(seen) == sorted(ids)  # of one moment, so in any order
        await result(client.close())


async def test_jobs_that_are_created_meanwhile(client: Client, queue: str) -> None:
    ids = await enqueue(client, queue, 100)
    seen = []
    async for job in entries(client.jobs.iterate(queue_name=queue)):
        if len(seen) in (50, 150):
            ids += await enqueue(client, queue, 100)
        seen.append(job.id)
    # The second hundred comes after the last page was read, or not.
    assert seen == ids[: len(seen)]
    assert len(seen) >= 100


async def test_long_histories(client: Client, queue: str) -> None:
    """Each run leaves several events, and a page has 500."""
    await result(client.jobs.create(queue_name=queue, payload=None, max_retries=0))
    for _ in range(170):
        (job,) = (await result(client.jobs.claim(queue_name=queue, worker_id="w"))).jobs
        await result(client.jobs.fail(job.id, worker_id="w", lease_id=str(job.lease_id), error="no"))
        await result(client.jobs.retry(job.id))
    events = [event async for event in entries(client.jobs.iterate_history(job.id))]
    kinds = [event.event_type for event in events]
    assert (kinds[0], kinds.count("claimed"), kinds.count("deadlettered")) == ("created", 170, 170)
    assert len(events) > 500
    assert len({event.id for event in events}) == len(events)


class OldServer:
    """A server from before `X-Has-More`: newest first, whatever it is asked for; limit and offset are all it knows."""

    def __init__(self, count: int) -> None:
        self.jobs = [
            {
                "id": f"job-{n}",
                "queue_name": "q",
                "status": "pending",
                "priority": 0,
                "retry_count": 0,
                "max_retries": 3,
                "job_type": "",
                "created_at": (START + dt.timedelta(seconds=n)).isoformat(),
            }
            for n in reversed(range(count))
        ]
        self.requests = 0
        self.between: Callable[[], object] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        offset, limit = (int(request.url.params[name]) for name in ("offset", "limit"))
        page = self.jobs[offset : offset + limit]
        answer = httpx.Response(200, text=json.dumps(page))
        self.between()
        return answer


@pytest.mark.parametrize("count", [0, 99, 100, 101, 350])
async def test_an_older_server(mocked: Callable[..., Client], count: int) -> None:
    server = OldServer(count)
    found = [job.id async for job in entries(mocked(server).jobs.iterate())]
    assert found == [f"job-{n}" for n in reversed(range(count))]


async def test_an_older_server_whose_list_changes(mocked: Callable[..., Client]) -> None:
    server = OldServer(350)
    server.between = lambda: server.jobs.__delitem__(slice(0, 30))
    found = [job.id async for job in entries(mocked(server).jobs.iterate())]
    assert len(found) == len(set(found))
    # What was removed before it was read does not count; of what is left nothing is missing.
    assert {job["id"] for job in server.jobs} <= set(found)


class Entry(NamedTuple):
    id: str
    created_at: dt.datetime


CHANGES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 40), max_size=6),  # positions to remove
        st.lists(st.integers(0, 2), max_size=6),  # new ones, so many microseconds after the last
    ),
    max_size=12,
)


@given(gaps=st.lists(st.integers(0, 2), max_size=40), changes=CHANGES, new=st.booleans())
def test_nothing_is_lost_or_met_twice(
    gaps: list[int], changes: list[tuple[list[int], list[int]]], new: bool
) -> None:
    """Entries come and go between two requests, in a list of either kind of server, with pages of five."""
    entries: list[Entry] = []
    moment = START

    def add(steps: list[int]) -> None:
        nonlocal moment
        for microseconds in steps:
            moment += dt.timedelta(microseconds=microseconds)
            entries.append(Entry(str(len(names)), moment))
            names.append(entries[-1].id)

    names: list[str] = []
    add(gaps)
    lasting = set(names)
    pages = OldestFirst(size=5)
    found: list[str] = []
    for number in range(500):
        asked = pages.query()
        if new:
            after = asked.get("created_after", START)
            listed = [entry for entry in entries if entry.created_at >= after]
        else:
            listed = entries[::-1]
        end = asked["offset"] + asked["limit"]
        page = Page(listed[asked["offset"] : end], has_more=len(listed) > end if new else None)
        found += [entry.id for entry in pages.take(page)]
        if pages.done:
            break
        removed, added = changes[number] if number < len(changes) else ([], [])
        for position in removed:
            if position < len(entries):
                lasting.discard(entries.pop(position).id)
        add(added)
    assert pages.done
    assert len(found) == len(set(found))
    assert lasting <= set(found)


def test_the_last_page_is_known() -> None:
    full: Page[int] = Page(range(3))
    assert not full.is_last(3)
    assert full.is_last(4)
    assert Page(range(3), has_more=False).is_last(3)
    assert not Page(range(3), has_more=True).is_last(4)
    assert Page((), has_more=True).is_last(4)
