from hypothesis import given
from hypothesis import strategies as st

from spooled.worker._pacing import (
    FAILURE_CAP,
    FIRST_PAUSE,
    RELAXED_PAUSE,
    ClaimPacer,
    claim_size,
    worth_lingering,
)


def steady(poll_interval: float = 1.0) -> ClaimPacer:
    return ClaimPacer(poll_interval, random=lambda: 1.0)


def test_the_first_claim_goes_out_at_once():
    assert steady().pause == 0


def test_a_full_claim_is_followed_by_another_without_a_pause():
    pacer = steady()
    pacer.claimed(asked=10, got=10)
    assert pacer.pause == 0


def test_an_idle_queue_is_asked_less_and_less_up_to_the_poll_interval():
    pacer = steady(poll_interval=1.0)
    pauses = []
    for _ in range(8):
        pacer.claimed(asked=5, got=0)
        pauses.append(pacer.pause)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_a_job_found_makes_the_next_looks_quick_again():
    pacer = steady()
    for _ in range(8):
        pacer.claimed(asked=5, got=0)
    pacer.claimed(asked=5, got=1)
    assert pacer.pause == FIRST_PAUSE


def test_a_poll_interval_shorter_than_the_first_pause_is_honoured():
    pacer = steady(poll_interval=0.01)
    pacer.claimed(asked=1, got=0)
    assert pacer.pause == 0.01


@given(st.floats(0, 0.999), st.integers(1, 50))
def test_pauses_are_jittered_and_never_above_the_poll_interval(chance: float, empty_claims: int):
    pacer = ClaimPacer(2.0, random=lambda: chance)
    for _ in range(empty_claims):
        pacer.claimed(asked=1, got=0)
        assert 0 < pacer.pause <= 2.0


def test_failures_back_off_up_to_a_cap_and_are_forgotten_after_a_success():
    pacer = steady()
    for _ in range(100):
        pacer.failed()
    assert pacer.pause == FAILURE_CAP
    assert pacer.failures == 100
    pacer.claimed(asked=1, got=1)
    assert pacer.failures == 0
    pacer.failed()
    assert pacer.pause == 1.0


@given(st.floats(0, 3600), st.integers(0, 20))
def test_a_time_to_wait_that_the_server_names_is_never_cut(retry_after: float, earlier_failures: int):
    pacer = ClaimPacer(0.5)
    for _ in range(earlier_failures):
        pacer.failed()
    pacer.failed(retry_after)
    assert pacer.pause >= retry_after


def test_a_hint_of_work_ends_an_idle_pause_but_not_a_back_off():
    pacer = steady()
    pacer.claimed(asked=1, got=0)
    pacer.hint()
    assert pacer.pause == 0
    pacer.failed(retry_after=30)
    pacer.hint()
    assert pacer.pause >= 30


@given(st.integers(1, 100), st.integers(0, 300), st.integers(0, 300))
def test_claims_never_ask_for_more_than_there_is_room_for(concurrency: int, running: int, unsettled: int):
    size = claim_size(concurrency, running, unsettled)
    assert 0 <= size <= 100
    assert size + running <= max(concurrency, running)
    if unsettled >= 2 * concurrency:
        assert size == 0


def test_acks_on_their_way_do_not_take_slots_until_there_are_many():
    assert claim_size(10, running=0, unsettled=10) == 10
    assert claim_size(10, running=10, unsettled=0) == 0


def test_a_server_that_is_slow_to_take_acks_is_asked_for_many_jobs_at_once_or_none():
    # Otherwise each accepted ack would be followed by a claim of one job: two requests for each.
    assert claim_size(10, running=0, unsettled=13) == 0
    assert claim_size(10, running=0, unsettled=12) == 8
    # Free slots that acks do not stand in the way of are filled at once, however few.
    assert claim_size(10, running=9, unsettled=0) == 1


def test_a_relaxed_pacer_asks_an_empty_queue_rarely_and_goes_back_when_told():
    pacer = steady(poll_interval=1.0)
    pacer.relax(True)
    for _ in range(20):
        pacer.claimed(asked=1, got=0)
    assert pacer.pause == RELAXED_PAUSE
    pacer.relax(False)
    assert pacer.pause == 1.0
    pacer.claimed(asked=1, got=0)
    assert pacer.pause == 1.0


def test_a_small_claim_waits_for_company_only_while_acks_are_on_their_way():
    assert worth_lingering(5, concurrency=10, unsettled=1)
    assert not worth_lingering(8, concurrency=10, unsettled=1)
    assert not worth_lingering(1, concurrency=10, unsettled=0)
