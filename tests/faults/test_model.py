"""The worker's decisions against a model of the server: leases, pacing and the meaning of answers, without any I/O.

The machine is a small simulation. A worker made of the pure modules talks, over a network whose state hypothesis
picks, to a server that is nothing but the rules of the contract (lifecycle §3, api-v1 §3.7). Time moves from one
event to the next. What the engine adds around the pure modules is written out here once more, as short as it goes.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spooled.errors import NetworkError, RateLimitError, SpooledError, create_error_from_response
from spooled.worker._ack_policy import Decision, Operation, classify, is_own_ack, may_have_arrived
from spooled.worker._backoff import Backoff
from spooled.worker._lease_table import SHORTEST_RETRY_DELAY, Lease, LeaseState, LeaseTable
from spooled.worker._pacing import ClaimPacer, Load, claim_size

LEASE = 30.0
ACK_TIMEOUT = 10.0
CONCURRENCY = 3
AHEAD = 2
"""Jobs that begin during a claim, at most; twice as many may wait for a slot."""
ROUND_TRIP = 0.005
US, RIVAL = "us", "rival"

Done = Callable[[Any], None]


def refusal(status: int, code: str, message: str) -> SpooledError:
    return create_error_from_response(status, {"code": code, "message": message})


def error_of(lease_id: str) -> str:
    """What a failed run says; each says something else."""
    return f"boom under {lease_id}"


@dataclass
class Job:
    """One row of the model server."""

    id: str
    max_retries: int
    status: str = "pending"
    retries: int = 0
    worker: str | None = None
    lease_id: str | None = None
    last_error: str | None = None
    end: float = 0.0
    not_before: float = 0.0

    def give_up_lease(self, error: str) -> None:
        dead = self.retries >= self.max_retries
        self.status, self.retries = ("deadletter", self.retries) if dead else ("pending", self.retries + 1)
        self.worker, self.lease_id, self.last_error = None, None, error


class Server:
    """What the contract says, and a list of what was accepted."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.accepted: set[tuple[str, Operation]] = set()
        self._numbers = itertools.count(1)

    def create(self, max_retries: int) -> None:
        job = Job(f"job{len(self.jobs)}", max_retries)
        self.jobs[job.id] = job

    def claim(self, now: float, worker: str, limit: int) -> list[tuple[str, str]]:
        free = [job for job in self.jobs.values() if job.status == "pending" and job.not_before <= now]
        for job in free[:limit]:
            job.status, job.worker, job.end = "processing", worker, now + LEASE
            job.lease_id = f"lease{next(self._numbers)}"
        return [(job.id, str(job.lease_id)) for job in free[:limit]]

    def ask(
        self, now: float, operation: Operation, worker: str, job_id: str, lease: str
    ) -> SpooledError | None:
        job = self.jobs[job_id]
        if job.worker != worker:
            return refusal(404, "NOT_FOUND", "Job not found")
        if job.status == "processing" and (job.end <= now or job.lease_id != lease):
            return refusal(409, "LEASE_EXPIRED", "The lease does not match the job's current lease")
        if job.status != "processing":
            return refusal(409, "CONFLICT", f"Job is already {job.status}")
        if operation is Operation.HEARTBEAT:
            job.end = now + LEASE
            return None
        self.accepted.add((lease, operation))
        if operation is Operation.COMPLETE:
            job.status = "completed"  # assignment and lease stay
        else:
            job.not_before = now + min(2**job.retries, 60)
            job.give_up_lease(error_of(lease))
        return None

    def sweep(self, now: float) -> None:
        for job in self.jobs.values():
            if job.status == "processing" and job.end <= now:
                job.give_up_lease("Lease expired (worker timeout)")


@dataclass(eq=False)
class Execution:
    lease: Lease
    running: bool = True
    settling: bool = False
    told: list[str] = field(default_factory=list)


class Network:
    """Carries one request in the way that it is told to. The caller learns the answer or a `SpooledError`."""

    STATES = (
        "good",
        "slow",
        "broken",
        "answers lost",
        "answers never come",
        "requests lost",
        "overtaken",
        "refused",
        "limited",
    )

    def __init__(self, at: Callable[[float, Callable[[], None]], None]) -> None:
        self.state = "good"
        self._at = at

    def call(self, ask: Callable[[], Any], timeout: float, done: Done) -> None:
        broken = NetworkError("broken")
        match self.state:
            case "good":
                done(ask())
            case "slow":
                self._at(timeout * 0.3, lambda: self._answer_later(ask(), timeout * 0.3, done))
            case "broken":
                ask()
                self._at(ROUND_TRIP, lambda: done(refusal(503, "INTERNAL_ERROR", "broken")))
            case "answers lost":
                ask()
                self._at(ROUND_TRIP, lambda: done(broken))
            case "answers never come":
                ask()
                self._at(timeout, lambda: done(broken))
            case "requests lost":
                self._at(timeout, lambda: done(broken))
            case "overtaken":
                # Delivered after the caller has given up on it, and has perhaps asked again.
                self._at(timeout, lambda: done(broken))
                self._at(timeout + 1.0, ask)
            case "refused":
                self._at(ROUND_TRIP, lambda: done(broken))
            case "limited":
                limited = RateLimitError("slow down", 429)
                limited.server_wait = 2.0
                self._at(ROUND_TRIP, lambda: done(limited))

    def _answer_later(self, answer: Any, delay: float, done: Done) -> None:
        self._at(delay, lambda: done(answer))


class WorkerOnABadNetwork(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.server = Server()
        self.network, self.claims = (
            Network(lambda delay, action: self.at(self.now + delay, action)) for _ in range(2)
        )
        self.table = LeaseTable(0.5, random=lambda: 0.5)
        self.pacer = ClaimPacer(1.0, random=lambda: 0.5)
        self.executions: dict[Lease, Execution] = {}
        self.slots: list[Execution] = []
        self.waiting: list[Execution] = []
        self.again: set[Execution] = set()
        self.ahead = 0
        self.unanswered: set[Lease] = set()
        self.claiming = self.stopping = False
        self.not_before = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.create(1, CONCURRENCY)
        self.claim()

    # --- time -----------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def move(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = self.table.next_due()
            soonest = min(
                self._events[0][0] if self._events else until, until if due is None else max(due, self.now)
            )
            if soonest > until:
                soonest = until
            self.now = soonest
            self.keep_leases()
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            elif self.now >= until:
                return

    # --- the worker -----------------------------------------------------------------------------------------

    def unsettled(self) -> int:
        return sum(execution.settling for execution in self.executions.values())

    def claim(self) -> None:
        load = Load(len(self.slots), len(self.waiting), self.unsettled(), failing=len(self.again))
        asked = claim_size(CONCURRENCY, load, ahead=self.ahead)
        if self.claiming or self.stopping or not asked or self.now < self.not_before:
            return
        self.claiming = True
        sent_at = self.now

        def done(answer: Any) -> None:
            self.claiming = False
            if isinstance(answer, SpooledError):
                self.pacer.failed(answer.server_wait)
                assert self.pacer.pause >= (answer.server_wait or 0.0)
                assert self.pacer.pause > 0, "a failing server is left alone for a while"
            else:
                self.pacer.claimed(asked, len(answer))
                assert len(answer) < asked or self.pacer.pause == 0, "a full claim says that more may wait"
                for job_id, lease_id in answer:
                    self.begin(job_id, lease_id, sent_at)
            self.not_before = self.now + self.pacer.pause
            self.at(self.not_before, self.claim)

        self.claims.call(lambda: self.server.claim(self.now, US, asked), LEASE / 2, done)

    def begin(self, job_id: str, lease_id: str, sent_at: float) -> None:
        lease = Lease(job_id, lease_id, US, LEASE, sent_at + LEASE)
        self.table.hold(lease, since=sent_at)
        execution = self.executions[lease] = Execution(lease)
        self.waiting.append(execution)
        self.begin_waiting()

    def begin_waiting(self) -> None:
        while self.waiting and len(self.slots) < CONCURRENCY:
            self.slots.append(self.waiting.pop(0))

    def keep_leases(self) -> None:
        for lease in self.table.over(self.now):
            assert lease in self.unanswered, "a lease runs out only when nobody answers its renewals"
            self.lose(lease)
        for lease in self.table.due(self.now):
            self.beat(lease)

    def beat(self, lease: Lease) -> None:
        sent_at, timeout = self.now, self.table.beat_timeout(lease, self.now)
        self.unanswered.add(lease)
        assert timeout <= max(0.1, lease.remaining(self.now)), "a beat ends before its lease"

        def done(answer: SpooledError | None) -> None:
            if answer is None:
                self.unanswered.discard(lease)
                self.table.renewed(lease, sent_at=sent_at)
            elif lease.state is LeaseState.HELD:
                if classify(Operation.HEARTBEAT, answer, replay=False) is Decision.LOST:
                    self.lose(lease)
                else:
                    self.table.missed(lease, now=self.now)
                    assert not lease.beating, "a beat that failed is sent again"

        self.network.call(lambda: self.ask(Operation.HEARTBEAT, lease), timeout, done)

    def ask(self, operation: Operation, lease: Lease) -> SpooledError | None:
        return self.server.ask(self.now, operation, US, lease.job_id, lease.lease_id)

    def lose(self, lease: Lease) -> None:
        execution = self.executions.get(lease)
        if self.table.lose(lease) and execution is not None and not execution.settling:
            if execution in self.waiting:
                self.waiting.remove(execution)
            self.settled(execution, "lost")

    def settle(self, execution: Execution, operation: Operation) -> None:
        execution.settling = True
        lease, backoff, replay = execution.lease, Backoff(0.1, 5.0, random=lambda: 0.5), False

        def attempt() -> None:
            self.network.call(lambda: self.ask(operation, lease), ACK_TIMEOUT, done)

        def done(answer: SpooledError | None) -> None:
            nonlocal replay
            if answer is None:
                self.settled(execution, "done")
                return
            decision = classify(operation, answer, replay=replay)
            if decision is Decision.DONE:
                assert replay, "no earlier attempt can have landed"
                self.look_who_settled(execution, operation)
                return
            decided = answer.status_code in (404, 409)
            assert decision is (Decision.LOST if decided else Decision.AGAIN), (
                f"{operation}: {answer} is {decision}"
            )
            if decided:
                self.check_lost(lease, operation)
            if decided or lease.expires_at <= self.now:
                self.settled(execution, "lost")
                return
            replay = replay or may_have_arrived(answer)
            self.again.add(execution)
            self.at(self.now + max(backoff.next(), answer.server_wait or 0.0), attempt)

        attempt()

    def look_who_settled(self, execution: Execution, operation: Operation) -> None:
        """The same worker may have run the job again, and then the same answer is about that later run."""
        lease = execution.lease
        answered_at = self.now

        def looked(job: Any) -> None:
            accepted = (lease.lease_id, operation) in self.server.accepted
            if isinstance(job, SpooledError):
                # Nobody can tell. It is taken as done, which is only ever wrong when the lease had run out.
                assert accepted or lease.expires_at <= answered_at
                self.settled(execution, "done")
                return
            ours = is_own_ack(operation, job, lease_id=lease.lease_id, error=error_of(lease.lease_id))
            # A later run may have left its own error, which hides that ours had been taken; never the other way.
            assert ours == accepted or (operation is Operation.FAIL and accepted), (
                f"{operation} of {lease}: {ours}"
            )
            self.settled(execution, "done" if ours else "lost")

        self.network.call(lambda: dataclasses.replace(self.server.jobs[lease.job_id]), ACK_TIMEOUT, looked)

    def check_lost(self, lease: Lease, operation: Operation) -> None:
        """An ack is "lost" when the job is not ours any more, which is never so while our clock says that it is."""
        if lease.expires_at > self.now:
            # It landed, and a later claim of the same worker hid that when the answer was made; by the time the
            # answer arrives, that claim may be over as well.
            assert operation is Operation.FAIL
            assert (lease.lease_id, Operation.FAIL) in self.server.accepted
            assert self.server.jobs[lease.job_id].lease_id != lease.lease_id

    def settled(self, execution: Execution, how: str) -> None:
        self.table.release(execution.lease)
        self.again.discard(execution)
        del self.executions[execution.lease]
        execution.told.append(how)
        assert len(execution.told) == 1, f"told twice: {execution}"
        self.claim()

    # --- what happens ---------------------------------------------------------------------------------------

    @rule(max_retries=st.integers(0, 2), count=st.integers(1, 5))
    def create(self, max_retries: int, count: int) -> None:
        for _ in range(count):
            self.server.create(max_retries)

    @rule(state=st.sampled_from(Network.STATES), claims=st.sampled_from(["the same", *Network.STATES]))
    def the_network_becomes(self, state: str, claims: str) -> None:
        self.network.state = state
        self.claims.state = state if claims == "the same" else claims

    @rule(ahead=st.integers(0, AHEAD))
    def the_tempo_becomes(self, ahead: int) -> None:
        self.ahead = ahead

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 10.0, 16.0, 31.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.move(seconds)

    @precondition(lambda self: self.slots)
    @rule(operation=st.sampled_from([Operation.COMPLETE, Operation.FAIL]), which=st.integers(0, CONCURRENCY))
    def a_handler_returns(self, operation: Operation, which: int) -> None:
        execution = self.slots.pop(which % len(self.slots))
        execution.running = False
        if execution.lease in self.executions:
            self.settle(execution, operation)
        self.begin_waiting()
        self.claim()

    @precondition(lambda self: len(self.table))
    @rule(state=st.sampled_from(Network.STATES), sweeps=st.booleans())
    def a_lease_ends_and_the_network_changes(self, state: str, sweeps: bool) -> None:
        """The narrow moment: acks that failed before it are sent again after it."""
        self.move(min(lease.expires_at for lease in self.table) - self.now)
        if sweeps:
            self.server.sweep(self.now)
        self.network.state = self.claims.state = state

    @precondition(lambda self: self.slots)
    @rule(
        operation=st.sampled_from([Operation.COMPLETE, Operation.FAIL]),
        first=st.sampled_from(Network.STATES),
        seconds=st.sampled_from([ROUND_TRIP, 2.5, ACK_TIMEOUT, LEASE]),
        then=st.sampled_from(["good", *Network.STATES]),
        again=st.sampled_from([ROUND_TRIP, 2.5, ACK_TIMEOUT]),
    )
    def an_ack_meets_two_faults(
        self, operation: Operation, first: str, seconds: float, then: str, again: float
    ) -> None:
        """Said at once, because the answer to an ack that is sent again is what all this is about."""
        self.network.state = first
        self.a_handler_returns(operation, 0)
        self.move(seconds)
        self.server.sweep(self.now)
        self.network.state = then
        self.move(again)
        self.network.state = "good"

    @precondition(lambda self: self.slots)
    @rule(
        operation=st.sampled_from([Operation.COMPLETE, Operation.FAIL]),
        first=st.sampled_from(Network.STATES),
        rerun=st.sampled_from([None, Operation.COMPLETE, Operation.FAIL]),
    )
    def a_lease_ends_between_two_tries_of_an_ack(
        self, operation: Operation, first: str, rerun: Operation | None
    ) -> None:
        """The job goes back and perhaps comes again, to this worker, and is over before the first ack gets through."""
        self.network.state = first
        lease = self.slots[0].lease
        self.a_handler_returns(operation, 0)
        self.move(max(0.0, lease.expires_at - self.now))
        self.server.sweep(self.now)
        self.network.state = self.claims.state = "good"
        if rerun is not None:
            self.not_before = self.now
            self.claim()
            if self.slots:
                self.a_handler_returns(rerun, len(self.slots) - 1)
        self.move(ACK_TIMEOUT)

    @rule()
    def the_server_sweeps(self) -> None:
        self.server.sweep(self.now)

    @rule(completes=st.booleans())
    def a_rival_claims(self, completes: bool) -> None:
        for job_id, lease_id in self.server.claim(self.now, RIVAL, 1):
            if completes:
                assert self.server.ask(self.now, Operation.COMPLETE, RIVAL, job_id, lease_id) is None

    @precondition(lambda self: self.now > 100 and self.executions)
    @rule()
    def the_worker_is_told_to_stop(self) -> None:
        self.stopping = True

    # --- what must be true ----------------------------------------------------------------------------------

    @invariant()
    def what_the_worker_believes_is_so(self) -> None:
        """A lease that lives here lives on the server too, and is the job's only one, until its ack has landed."""
        for lease in self.table:
            job = self.server.jobs[lease.job_id]
            landed = {(lease.lease_id, Operation.COMPLETE), (lease.lease_id, Operation.FAIL)}
            if lease.expires_at > self.now and not landed & self.server.accepted:
                assert (job.status, job.worker, job.lease_id) == ("processing", US, lease.lease_id)
                assert job.end >= lease.expires_at

    @invariant()
    def no_lease_is_forgotten(self) -> None:
        """Each is being renewed or will be, before it ends; each unsettled execution holds one or is being acked.

        Only when a beat failed in its very last moments, there is no time for another.
        """
        self.keep_leases()
        for lease in self.table:
            assert lease.state is LeaseState.HELD
            assert lease.expires_at > self.now
            last_moment = lease.expires_at + SHORTEST_RETRY_DELAY
            assert lease.beating or self.now < lease.next_beat_at < last_moment
        for lease, execution in self.executions.items():
            assert execution.settling or lease in set(self.table)

    @invariant()
    def no_more_is_taken_on_than_there_is_room_for(self) -> None:
        assert len(self.slots) <= CONCURRENCY
        assert len(self.waiting) <= 2 * AHEAD
        held = len(self.slots) + len(self.waiting) + self.unsettled()
        assert held <= 2 * (CONCURRENCY + 2 * AHEAD)
        assert not self.waiting or len(self.slots) == CONCURRENCY, "no slot is free while a job waits for one"

    def teardown(self) -> None:
        """On a good network everything comes to its end."""
        self.stopping = True
        self.network.state = self.claims.state = "good"
        self.move(LEASE)  # a claim that is still on its way brings jobs
        while self.slots:
            self.a_handler_returns(Operation.COMPLETE, 0)
        self.move(3 * LEASE)
        self.server.sweep(self.now)
        assert not self.executions
        assert not len(self.table)
        assert not [job for job in self.server.jobs.values() if job.status == "processing"]


WorkerOnABadNetwork.TestCase.settings = settings(max_examples=400, stateful_step_count=30, deadline=None)
TestWorkerOnABadNetwork = WorkerOnABadNetwork.TestCase
