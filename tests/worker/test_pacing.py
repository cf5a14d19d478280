from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spooled.worker._pacing import (
    ACKS_AT_ONCE,
    AHEAD_LIMIT,
    CLAIM_LIMIT,
    FAILURE_CAP,
    FIRST_PAUSE,
    PUSH_PAUSE,
    RESULTS_LIMIT,
    ClaimPacer,
    Load,
    Tempo,
    claim_size,
    should_batch,
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
    pacer.wake()
    assert pacer.pause == 0
    pacer.failed(retry_after=30)
    pacer.wake()
    assert pacer.pause >= 30


LOADS = st.builds(
    Load,
    running=st.integers(0, 300),
    waiting=st.integers(0, 300),
    unsettled=st.integers(0, 600),
    results=st.integers(0, 2 * RESULTS_LIMIT),
    failing=st.integers(0, 2),
)


@given(st.integers(1, 100), LOADS, st.integers(0, 50), st.integers(0, 100))
def test_claims_never_ask_for_more_than_there_is_room_for(
    concurrency: int, load: Load, ahead: int, acks_under_way: int
):
    size = claim_size(concurrency, load, ahead=ahead, acks_under_way=acks_under_way)
    assert 0 <= size <= CLAIM_LIMIT
    if size:
        held = load.running + load.waiting + size
        assert held <= concurrency + 2 * ahead
        assert held + load.unsettled <= 2 * (concurrency + 2 * ahead) + acks_under_way
        assert load.waiting < max(1, ahead), "what is here lasts until the answer"
        assert load.results <= RESULTS_LIMIT


@given(st.integers(1, 100), LOADS, st.integers(0, 50), st.integers(0, 100))
def test_nothing_is_claimed_ahead_while_acks_fail(
    concurrency: int, load: Load, ahead: int, acks_under_way: int
):
    load = replace(load, failing=1)
    size = claim_size(concurrency, load, ahead=ahead, acks_under_way=acks_under_way)
    assert size == claim_size(concurrency, load)
    if size:
        assert load.waiting == 0
        assert load.running + size <= concurrency
        assert load.running + size + load.unsettled <= 2 * concurrency


def test_acks_on_their_way_do_not_take_slots_until_there_are_many():
    assert claim_size(10, Load(unsettled=10)) == 10
    assert claim_size(10, Load(running=10)) == 0


def test_a_server_that_is_slow_to_take_acks_is_asked_for_many_jobs_at_once_or_none():
    # Otherwise each accepted ack would be followed by a claim of one job: two requests for each.
    assert claim_size(10, Load(unsettled=13)) == 0
    assert claim_size(10, Load(unsettled=12)) == 8
    # Free slots that acks do not stand in the way of are filled at once, however few.
    assert claim_size(10, Load(running=9)) == 1


def test_results_that_cannot_be_sent_stop_claims():
    assert claim_size(10, Load(unsettled=1, results=RESULTS_LIMIT)) == 10
    assert claim_size(10, Load(unsettled=1, results=RESULTS_LIMIT + 1)) == 0


def test_claims_go_out_ahead_of_free_slots_while_what_is_here_does_not_last():
    assert claim_size(10, Load(running=10, waiting=5), ahead=5) == 0
    assert claim_size(10, Load(running=10, waiting=4), ahead=5) == 6
    assert claim_size(10, Load(), ahead=5) == 20
    # What was claimed ahead begins first when nothing is to be ahead any more.
    assert claim_size(10, Load(running=9, waiting=1), ahead=0) == 0


# --- how far to be ahead ------------------------------------------------------------------------------------


def paced(concurrency: int = 10, *, run: float, claim: float = 0.05, lease: float = 30) -> Tempo:
    tempo = Tempo(concurrency, lease)
    tempo.acked(0.001)
    tempo.claimed(10, 10, claim)
    turn_over(tempo, run)
    return tempo


def turn_over(tempo: Tempo, run: float = 0.001, slots: int = 100) -> None:
    for _ in range(slots):
        tempo.ran(run)


def test_nothing_is_claimed_ahead_before_a_claim_was_filled_a_handler_has_ended_and_an_ack_was_accepted():
    tempo = Tempo(10, 30)
    assert tempo.ahead([]) == 0
    tempo.claimed(10, 10, 0.05)
    assert tempo.ahead([]) == 0
    turn_over(tempo)
    assert tempo.ahead([]) == 0
    tempo.acked(0.05)
    assert tempo.ahead([]) > 0
    tempo.claimed(10, 9, 0.05)
    turn_over(tempo)
    assert tempo.ahead([]) == 0, "nothing more waits, so another worker may be idle"
    tempo.claimed(1, 1, 0.05)
    turn_over(tempo)
    assert tempo.ahead([]) > 0
    tempo.failed()
    assert tempo.ahead([]) == 0


def test_as_many_jobs_are_ahead_as_begin_during_a_claim():
    assert paced(10, run=0.05, claim=0.05).ahead([]) == 10
    assert paced(10, run=0.1, claim=0.05).ahead([]) == 5
    assert paced(10, run=0.21, claim=0.05).ahead([]) == 0
    assert paced(1, run=0.01, claim=0.05).ahead([]) == 5
    assert paced(10, run=1e-9, claim=0.05).ahead([]) == AHEAD_LIMIT / 2


@given(st.integers(1, 100), st.floats(1, 3600), st.floats(0, 0.249))
def test_handlers_that_take_seconds_have_nothing_waiting_behind_them(
    concurrency: int, run: float, claim: float
):
    assert paced(concurrency, run=run, claim=claim).ahead([]) == 0


@given(st.integers(1, 100), st.floats(0, 3600), st.floats(0, 60), st.integers(5, 3600), st.integers(0, 120))
def test_what_is_claimed_ahead_begins_before_half_of_its_lease_is_over(
    concurrency: int, run: float, claim: float, lease: int, blocked: int
):
    tempo = paced(concurrency, run=run, claim=claim, lease=lease)
    ahead = tempo.ahead([1e9] * blocked)
    assert 0 <= 2 * ahead <= AHEAD_LIMIT
    if ahead:
        flowing = concurrency - blocked
        assert flowing > 0
        assert claim + 2 * ahead * run / flowing <= lease / 2 + 1e-6


def test_slots_that_are_blocked_do_not_count():
    tempo = paced(10, run=0.05, claim=0.05)
    assert tempo.ahead([0.01] * 9 + [0.21]) == 9
    assert tempo.ahead([0.21] * 10) == 0


def test_what_a_claim_has_brought_must_turn_out_to_be_quick_before_more_is_claimed_ahead():
    tempo = paced(3, run=0.001)
    tempo.claimed(3, 3, 0.05)
    assert tempo.ahead([]) == 0
    turn_over(tempo, slots=2)
    assert tempo.ahead([]) == 0
    turn_over(tempo, slots=1)
    assert tempo.ahead([]) > 0


@given(st.lists(st.floats(0, 0.01), max_size=50), st.floats(10, 1000))
def test_one_long_run_is_believed_at_once_and_quick_ones_slowly(quick: list[float], long: float):
    tempo = Tempo(10, 30)
    tempo.claimed(10, 10, 0.05)
    tempo.acked(0.05)
    for seconds in quick:
        tempo.ran(seconds)
    tempo.ran(long)
    for _ in range(10):
        assert tempo.ahead([]) == 0
        tempo.ran(0.001)
    for _ in range(400):
        tempo.ran(0.001)
    assert tempo.ahead([]) > 0


def test_far_servers_get_more_acks_at_once_and_slow_ones_do_not():
    near, far = Tempo(10, 30), Tempo(10, 30)
    assert near.acks_at_once() == 18
    near.acked(0.001)
    for _ in range(20):
        near.acked(0.5)
    assert near.acks_at_once() == 18
    far.acked(0.03)
    assert far.acks_at_once() == 60
    far.acked(10)
    for _ in range(500):
        far.acked(10)
    assert far.acks_at_once() == ACKS_AT_ONCE


def test_an_announcement_is_followed_at_once_until_such_looks_find_nothing():
    pacer = steady()
    pacer.claimed(asked=5, got=0)
    assert pacer.announced()
    assert pacer.pause == 0
    looks = []
    for _ in range(8):
        pacer.claimed(asked=5, got=0)
        pacer.announced()
        looks.append(pacer.pause)
    assert looks == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.32, 0.32]
    pacer.claimed(asked=5, got=1)
    pacer.announced()
    assert pacer.pause == 0


def test_announcements_that_come_before_the_look_change_nothing():
    chances = iter([1.0, 0.75, 0.5, 0.25, 0.1, 0.0, 0.0])
    pacer = ClaimPacer(1.0, random=lambda: next(chances))
    pacer.announced()
    pacer.claimed(asked=1, got=0)
    pacer.announced()
    pause = pacer.pause
    assert pause > 0
    for _ in range(3):
        pacer.announced()
        assert pacer.pause == pause


def test_looks_that_were_not_announced_do_not_count_as_vain():
    pacer = steady()
    for _ in range(8):
        pacer.wake()
        pacer.claimed(asked=1, got=0)
    pacer.announced()
    assert pacer.pause == 0


def test_an_announcement_does_not_end_a_back_off():
    pacer = steady()
    pacer.failed(retry_after=30)
    assert not pacer.announced()
    assert pacer.pause >= 30


def test_a_relaxed_pacer_asks_an_empty_queue_rarely_and_goes_back_when_told():
    pacer = steady(poll_interval=1.0)
    pacer.set_push_active(True)
    for _ in range(20):
        pacer.claimed(asked=1, got=0)
    assert pacer.pause == PUSH_PAUSE
    pacer.set_push_active(False)
    assert pacer.pause == 1.0
    pacer.claimed(asked=1, got=0)
    assert pacer.pause == 1.0


def test_a_small_claim_waits_for_company_only_while_acks_are_on_their_way():
    assert should_batch(5, concurrency=10, unsettled=1)
    assert not should_batch(8, concurrency=10, unsettled=1)
    assert not should_batch(1, concurrency=10, unsettled=0)
