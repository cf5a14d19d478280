"""The outbox under several servers on one database: who may send what, and what a dead one leaves behind."""

from __future__ import annotations

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server._events import DELIVERIES_DUE, Hub
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._rules import attempts, webhooks
from spooled_contrib.server._rules.attempts import Outcome, after_attempt
from spooled_contrib.server._storage.sqlite import SqliteStorage

ORGANIZATION = "o"
LEASE_SECONDS = attempts.LEASE / 1_000_000


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def storage(clock):
    storage = SqliteStorage(":memory:", clock=clock, hub=Hub())
    await storage.open()
    new = webhooks.Change(name="w", url="https://hooks.invalid/", events=["job.created"], secret="hush")
    await storage.write(lambda tx: webhooks.create(tx, ORGANIZATION, Limits(), new))
    yield storage
    await storage.close()


async def emit(storage, number=1):
    def write(tx):
        items = [{"n": index} for index in range(number)]
        webhooks.emit_each(tx, ORGANIZATION, webhooks.JOB_CREATED, items)

    await storage.write(write)


def claim(storage, limit=64, in_flight=None):
    return storage.write(lambda tx: attempts.claim_due(tx, limit, in_flight or {}))


async def test_a_delivery_is_given_to_one_sender_at_a_time(storage, clock):
    await emit(storage, 3)
    first, second = await claim(storage, 2), await claim(storage, 2)
    assert [len(first), len(second)] == [2, 1]
    assert await claim(storage) == []
    clock.advance(LEASE_SECONDS - 1)
    assert await claim(storage) == []


async def test_what_a_dead_sender_had_is_due_again_with_the_same_number(storage, clock):
    await emit(storage)
    (lost,) = await claim(storage)
    clock.advance(LEASE_SECONDS)
    (again,) = await claim(storage)
    assert (again.id, again.attempt) == (lost.id, 1)
    # What the first one says now does not count any more.
    assert not await storage.write(lambda tx: attempts.settle(tx, lost, Outcome(500, "", "late")))
    assert await storage.write(lambda tx: attempts.settle(tx, again, Outcome(200, "")))
    assert await storage.read(attempts.next_due) is None


async def test_one_webhook_takes_its_share_and_leaves_the_rest_to_others(storage):
    await emit(storage, 30)
    new = webhooks.Change(name="w2", url="https://hooks.invalid/2", events=["job.started"])
    second = (await storage.write(lambda tx: webhooks.create(tx, ORGANIZATION, Limits(), new)))[0]
    await storage.write(lambda tx: webhooks.emit(tx, ORGANIZATION, webhooks.JOB_STARTED, {}))
    taken = await claim(storage, 20)
    assert len(taken) == attempts.IN_FLIGHT_EACH
    busy = {taken[0].webhook_id: len(taken)}
    assert [delivery.webhook_id for delivery in await claim(storage, 20, busy)] == [second]
    assert await claim(storage, 20, busy) == []
    assert len(await claim(storage, 20)) == 14


async def test_a_heap_of_deliveries_to_a_disabled_webhook_is_cleared_at_once(storage):
    await emit(storage, 5)
    await storage.write(lambda tx: tx.execute("UPDATE webhooks SET enabled = 0"))
    new = webhooks.Change(name="w2", url="https://hooks.invalid/2", events=["job.started"])
    await storage.write(lambda tx: webhooks.create(tx, ORGANIZATION, Limits(), new))
    await storage.write(lambda tx: webhooks.emit(tx, ORGANIZATION, webhooks.JOB_STARTED, {}))
    assert [delivery.event for delivery in await claim(storage, 2)] == ["job.started"]


async def test_what_is_given_back_is_due_at_once(storage):
    await emit(storage)
    taken = await claim(storage)
    await storage.write(lambda tx: attempts.release(tx, taken))
    assert [delivery.id for delivery in await claim(storage)] == [delivery.id for delivery in taken]


async def test_nothing_is_written_or_looked_at_for_who_has_no_webhook_for_it(storage):
    def items():
        raise AssertionError("nobody wants to know")
        yield

    await storage.write(lambda tx: webhooks.emit_each(tx, "nobody", webhooks.JOB_CREATED, items()))
    await storage.write(lambda tx: webhooks.emit_each(tx, ORGANIZATION, webhooks.JOB_STARTED, items()))
    assert await storage.read(attempts.next_due) is None


async def test_an_outbox_that_is_rolled_back_wakes_nobody(storage):
    hub, woken = Hub(), []
    hub.inside[DELIVERIES_DUE.type] = woken.append
    storage._writer._hub = hub

    def fail(tx):
        webhooks.emit(tx, ORGANIZATION, webhooks.JOB_CREATED, {})
        raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await storage.write(fail)
    assert woken == []
    await emit(storage)
    assert woken == [{}]
    assert len(await claim(storage)) == 1


async def test_secrets_do_not_show_in_a_repr(storage):
    await emit(storage)
    (delivery,) = await claim(storage)
    assert delivery.secret == "hush"
    change = webhooks.Change(name="w", url="https://hooks.invalid/token", secret="hush")
    for text in (repr(delivery), repr(change)):
        assert "hush" not in text
        assert "hooks.invalid" not in text


@pytest.mark.parametrize(
    ("attempt", "outcome", "once", "wanted"),
    [
        (1, Outcome(200), False, ("success", 0)),
        (1, Outcome(error="x"), False, ("pending", 1)),
        (2, Outcome(error="x"), False, ("pending", 2)),
        (4, Outcome(error="x"), False, ("pending", 8)),
        (5, Outcome(error="x"), False, ("failed", 0)),
        (6, Outcome(error="x"), False, ("failed", 0)),
        (1, Outcome(error="x", final=True), False, ("failed", 0)),
        (1, Outcome(error="x"), True, ("failed", 0)),
    ],
)
def test_what_follows_an_attempt(attempt, outcome, once, wanted):
    assert after_attempt(outcome, attempt, once=once) == wanted
