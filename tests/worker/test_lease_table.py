"""The lease table against a simple model: whatever happens, a held lease is renewed in time or reported lost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from spooled.worker._lease_table import LATEST_BEAT, Lease, LeaseState, LeaseTable


def lease(duration: float = 30.0) -> Lease:
    return Lease("job", "lease", "worker", duration, 0.0)


def held(table: LeaseTable, duration: float = 30.0, since: float = 0.0) -> Lease:
    one = lease(duration)
    table.hold(one, since=since)
    return one


@given(st.floats(0.01, 1.0), st.floats(5, 3600), st.floats(0, 0.999), st.floats(0, 1e6))
def test_a_beat_is_due_well_before_the_end_whatever_the_fraction(
    fraction: float, duration: float, chance: float, since: float
):
    table = LeaseTable(fraction, random=lambda: chance)
    one = held(table, duration, since)
    assert one.next_beat_at > since
    assert one.next_beat_at <= since + duration * LATEST_BEAT + 1e-6
    assert one.next_beat_at <= since + duration * fraction + 1e-6


def test_the_end_counts_from_when_the_claim_was_sent():
    assert held(LeaseTable(), 30.0, since=100.0).expires_at == 130.0


def test_a_due_lease_is_handed_out_once_until_its_beat_is_answered():
    table = LeaseTable(0.5, random=lambda: 0.0)
    one = held(table)
    assert table.due(14.9) == []
    assert table.due(15.0) == [one]
    assert table.due(16.0) == []
    table.renewed(one, sent_at=15.0)
    assert one.expires_at == 45.0
    assert table.due(29.9) == []
    assert table.due(30.0) == [one]


def test_a_missed_beat_is_due_again_soon():
    table = LeaseTable(0.5, random=lambda: 0.0)
    one = held(table)
    table.due(15.0)
    table.missed(one, now=18.0)
    assert 18.0 < one.next_beat_at <= 18.5
    assert table.due(18.5) == [one]


def test_a_server_that_refuses_connections_is_not_flooded_as_a_lease_ends():
    table = LeaseTable(0.5, random=lambda: 0.0)
    one = held(table)
    beats, now = 0, 15.0
    while not table.over(now):
        if table.due(now):
            beats += 1
            table.missed(one, now=now + 0.001)
        now += 0.001
    assert 20 <= beats <= 45


def test_a_lease_is_over_at_the_very_instant_of_its_end():
    table = LeaseTable()
    one = held(table)
    assert table.over(29.999) == []
    assert table.over(30.0) == [one]
    assert table.due(30.0) == []


def test_a_loss_is_reported_once_and_never_after_a_release():
    table = LeaseTable()
    one = held(table)
    assert table.lose(one)
    assert not table.lose(one)
    two = held(table)
    table.release(two)
    assert not table.lose(two)
    assert two.state is LeaseState.RELEASED


def test_releasing_a_lost_lease_does_not_bring_it_back():
    table = LeaseTable()
    one = held(table)
    table.lose(one)
    table.release(one)
    assert one.state is LeaseState.LOST


def test_nothing_is_due_while_nothing_is_held():
    assert LeaseTable().next_due() is None


@given(st.floats(5, 3600), st.floats(0, 1))
def test_a_beat_may_take_less_than_half_of_what_is_left(duration: float, passed: float):
    table = LeaseTable()
    one = held(table, duration)
    now = duration * passed
    assert table.beat_timeout(one, now) <= max(0.1, one.remaining(now) / 2)


class LeaseMachine(RuleBasedStateMachine):
    """Time moves on; beats succeed, fail or are refused; jobs are settled."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(0.5)
        self.now = 0.0
        self.server_end: dict[Lease, float] = {}
        self.beating: dict[Lease, float] = {}
        self.losses: dict[Lease, int] = {}

    @rule(target=leases, duration=st.floats(5, 60), latency=st.floats(0, 2))
    def claim(self, duration: float, latency: float) -> Lease:
        one = lease(duration)
        self.table.hold(one, since=self.now)
        self.server_end[one] = self.now + latency + duration
        return one

    @rule(step=st.floats(0.01, 20))
    def time_passes(self, step: float) -> None:
        self.now += step
        for one in self.table.over(self.now):
            if self.table.lose(one):
                self.losses[one] = self.losses.get(one, 0) + 1
        for one in self.table.due(self.now):
            assert one not in self.beating, "the same lease is renewed twice at once"
            self.beating[one] = self.now

    @rule(one=leases)
    def beat_accepted(self, one: Lease) -> None:
        if one in self.beating and one.state is LeaseState.HELD:
            self.server_end[one] = self.now + one.duration
            self.table.renewed(one, sent_at=self.beating.pop(one))

    @rule(one=leases)
    def beat_failed(self, one: Lease) -> None:
        if one in self.beating and one.state is LeaseState.HELD:
            del self.beating[one]
            self.table.missed(one, now=self.now)

    @rule(one=leases)
    def beat_refused(self, one: Lease) -> None:
        if self.beating.pop(one, None) is not None and self.table.lose(one):
            self.losses[one] = self.losses.get(one, 0) + 1

    @rule(one=leases)
    def settle(self, one: Lease) -> None:
        self.table.release(one)

    @invariant()
    def what_is_held_is_known_to_the_table(self) -> None:
        for one in self.server_end:
            assert (one in set(self.table)) == (one.state is LeaseState.HELD)

    @invariant()
    def our_end_is_never_after_the_servers(self) -> None:
        for one in self.table:
            assert one.expires_at <= self.server_end[one] + 1e-6

    @invariant()
    def a_loss_is_reported_at_most_once(self) -> None:
        assert all(count == 1 for count in self.losses.values())
        assert all(one.state is LeaseState.LOST for one in self.losses)

    @invariant()
    def something_is_due_while_anything_is_held(self) -> None:
        due = self.table.next_due()
        if len(self.table):
            assert due is not None
            assert due <= max(one.expires_at for one in self.table)
            assert math.isfinite(due)
        else:
            assert due is None


TestLeaseMachine = LeaseMachine.TestCase


def test_remaining_is_never_negative():
    assert lease().remaining(1000.0) == 0


@pytest.mark.parametrize("fraction", [0.5, 0.8, 1.0])
def test_a_fraction_of_one_is_brought_down(fraction: float):
    one = held(LeaseTable(fraction, random=lambda: 0.0), 10.0)
    assert one.next_beat_at == 10.0 * min(fraction, LATEST_BEAT)
