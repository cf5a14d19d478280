"""`Retry`, `Snooze` and `Discard`, and handing jobs back at a shutdown."""

from __future__ import annotations

import datetime as dt
from typing import Any

import httpx
import pytest

from spooled import SpooledClient
from spooled.worker import Discard, Fail, JobContext, Retry, Snooze, SpooledWorker
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running
from tests.worker.test_lifecycle import Gate

both = pytest.mark.parametrize("kind", KINDS)


def raising(error: BaseException) -> Any:
    def handler(ctx: JobContext[Any]) -> None:
        raise error

    return handler


def run_once(kind: str, client: SpooledClient, outside: Outside, job_id: str, handler: Any) -> Running:
    with Running(kind, client, handler) as running:
        wait_until(lambda: running.of("job:failed") or running.of("job:completed"))
    return running


@both
@pytest.mark.parametrize(
    ("error", "outcome", "left"), [(Retry(3600, "busy"), "retried", 2), (Snooze(3600, "early"), "snoozed", 3)]
)
def test_the_job_is_replaced_by_a_copy_that_starts_later(
    kind: str, client: SpooledClient, outside: Outside, error: Any, outcome: str, left: int
):
    before = dt.datetime.now(dt.UTC)
    job_id = outside.enqueue(
        payload={"n": 1}, priority=7, tags=["a"], timeout_seconds=60, expires_at="2100-01-01T00:00:00Z"
    )
    running = run_once(kind, client, outside, job_id, raising(error))
    original = outside.job(job_id)
    assert original["status"] == "completed"
    note = original["result"]["spooled"]
    assert (note["outcome"], note["reason"]) == (outcome, error.reason)
    copy = outside.job(note["successor"])
    assert (copy["status"], copy["retry_count"], copy["max_retries"]) == ("scheduled", 0, left)
    assert (copy["payload"], copy["priority"], copy["tags"]) == ({"n": 1}, 7, ["a"])
    assert (copy["timeout_seconds"], copy["expires_at"][:4]) == (60, "2100")
    due = dt.datetime.fromisoformat(copy["scheduled_at"])
    assert before + dt.timedelta(seconds=3600) <= due <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3600)
    (event,) = running.of("job:failed")
    assert (event.error, event.will_retry) == (f"{type(error).__name__}: {error.reason}", True)


@both
def test_a_discarded_job_ends_without_being_retried(kind: str, client: SpooledClient, outside: Outside):
    job_id = outside.enqueue()
    running = run_once(kind, client, outside, job_id, raising(Discard("the user is gone")))
    job = outside.job(job_id)
    assert job["status"] == "completed"
    assert job["result"] == {"spooled": {"outcome": "discarded", "reason": "the user is gone"}}
    (event,) = running.of("job:failed")
    assert (event.error, event.will_retry) == ("Discard: the user is gone", False)


@both
def test_a_retry_without_attempts_left_dead_letters_but_a_snooze_does_not(
    kind: str, client: SpooledClient, outside: Outside
):
    last = outside.enqueue(max_retries=0)
    run_once(kind, client, outside, last, raising(Retry(60, "again")))
    assert (outside.status(last), outside.job(last)["last_error"]) == ("deadletter", "Retry: again")
    snoozed = outside.enqueue(max_retries=0)
    run_once(kind, client, outside, snoozed, raising(Snooze(60)))
    copy = outside.job(outside.job(snoozed)["result"]["spooled"]["successor"])
    assert (copy["status"], copy["max_retries"]) == ("scheduled", 0)


@both
def test_a_job_that_others_wait_for_is_never_replaced(kind: str, client: SpooledClient, outside: Outside):
    parent = outside.enqueue()
    outside.enqueue(parent_job_id=parent)
    run_once(kind, client, outside, parent, raising(Snooze(3600, "not yet")))
    job = outside.job(parent)
    assert (job["status"], job["retry_count"], job["last_error"]) == ("pending", 1, "Snooze: not yet")
    assert outside.counts()["total"] == 2


@both
def test_a_job_with_a_completion_webhook_is_never_replaced(
    kind: str, client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue(completion_webhook="https://hooks.invalid/done")
    run_once(kind, client, outside, job_id, raising(Retry(3600)))
    assert (outside.status(job_id), outside.job(job_id)["retry_count"]) == ("pending", 1)


def losing(server: EmbeddedServer, path_end: str, times: int) -> SpooledClient:
    """A client whose first answers to some requests are lost on the way back."""

    class Losing(httpx.HTTPTransport):
        left = times

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and request.url.path.endswith(path_end) and self.left:
                self.left -= 1
                response.read()
                raise httpx.ReadError("the answer got lost")
            return response

    return SpooledClient(api_key=server.api_key, base_url=server.url, transport=Losing())


@pytest.mark.single_acks
@pytest.mark.parametrize("path_end", ["/api/v1/jobs", "/complete"])
def test_answers_that_get_lost_do_not_make_a_second_copy(
    server: EmbeddedServer, outside: Outside, path_end: str
):
    job_id = outside.enqueue()
    with losing(server, path_end, 2) as client:
        run_once("threads", client, outside, job_id, raising(Snooze(3600)))
    assert outside.status(job_id) == "completed"
    assert outside.counts() == {**outside.counts(), "completed": 1, "scheduled": 1, "total": 2}


@pytest.mark.single_acks
def test_a_copy_is_withdrawn_when_the_original_was_lost_meanwhile(server: EmbeddedServer, outside: Outside):
    job_id = outside.enqueue()

    class Late(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/complete"):
                return httpx.Response(409, json={"code": "LEASE_EXPIRED", "message": "The lease has expired"})
            return super().handle_request(request)

    with (
        SpooledClient(api_key=server.api_key, base_url=server.url, transport=Late()) as client,
        Running("threads", client, raising(Snooze(3600))) as running,
    ):
        wait_until(lambda: running.of("job:lease_lost"))
    assert outside.status(job_id) == "processing"
    assert outside.counts()["cancelled"] == 1
    assert outside.counts()["scheduled"] == 0


@both
def test_a_deploy_costs_no_attempt_even_the_last(kind: str, client: SpooledClient, outside: Outside):
    job_id, gate = outside.enqueue(max_retries=0), Gate(kind)
    with Running(kind, client, gate) as running:
        gate.entered.wait(HOPELESS)
        running.stop(timeout=0)
    copy = outside.job(outside.job(job_id)["result"]["spooled"]["successor"])
    assert (copy["status"], copy["max_retries"]) == ("pending", 0)


@both
def test_a_deploy_never_dead_letters_a_job_that_cannot_be_replaced(
    kind: str, client: SpooledClient, outside: Outside
):
    parent, gate = outside.enqueue(max_retries=0), Gate(kind)
    child = outside.enqueue(parent_job_id=parent)
    with Running(kind, client, gate) as running:
        gate.entered.wait(HOPELESS)
        running.stop(timeout=0)
    assert outside.status(parent) == "pending"
    assert outside.status(child) == "pending"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Retry(-1), ValueError),
        (lambda: Snooze(dt.timedelta(seconds=-1)), ValueError),
        (lambda: Snooze(dt.datetime(2030, 1, 1)), ValueError),
        (lambda: Retry("soon"), TypeError),
        (lambda: Retry(True), TypeError),
    ],
)
def test_times_that_make_no_sense_are_refused(make: Any, error: type[Exception]):
    with pytest.raises(error, match=r"Retry|Snooze"):
        make()


def test_fail_says_the_error_itself(outside: Outside, client: SpooledClient):
    worker = SpooledWorker(client, "q")

    @worker.process
    def handle(ctx):
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Fail("shop.Declined: no\n\nand why") from error

    job = outside.enqueue(max_retries=0)
    worker.start(burst=True)
    assert outside.status(job) == "deadletter"
    assert outside.job(job)["last_error"] == "shop.Declined: no\n\nand why"


@both
@pytest.mark.parametrize("control", [Retry(3600), Snooze(3600)], ids=["retry", "snooze"])
@pytest.mark.parametrize("payload", [{"n": 1, "done": 5}, [], None, 0], ids=str)
def test_a_copy_may_have_a_payload_of_its_own(
    kind: str, client: SpooledClient, outside: Outside, control: Exception, payload: object
):
    def handler(ctx: JobContext[Any]) -> None:
        ctx.reenqueue_payload = payload
        raise control

    job_id = outside.enqueue(payload={"n": 1})
    run_once(kind, client, outside, job_id, handler)
    original = outside.job(job_id)
    copy = outside.job(original["result"]["spooled"]["successor"])
    assert (original["payload"], copy["payload"]) == ({"n": 1}, payload)


@both
def test_a_job_that_is_cut_off_goes_on_from_where_it_was(kind: str, client: SpooledClient, outside: Outside):
    gate = Gate(kind)

    def handler(ctx: JobContext[Any]) -> Any:
        ctx.reenqueue_payload = {"done": 5}
        return gate(ctx)

    job_id = outside.enqueue(payload={"done": 0})
    with Running(kind, client, handler) as running:
        gate.entered.wait(HOPELESS)
        running.stop(timeout=0)
    copy = outside.job(outside.job(job_id)["result"]["spooled"]["successor"])
    assert (copy["payload"], copy["status"]) == ({"done": 5}, "pending")


@both
def test_a_failed_job_keeps_its_payload(kind: str, client: SpooledClient, outside: Outside):
    def handler(ctx: JobContext[Any]) -> None:
        ctx.reenqueue_payload = "not for this"
        raise RuntimeError("no")

    job_id = outside.enqueue(payload={"n": 1})
    run_once(kind, client, outside, job_id, handler)
    assert (outside.job(job_id)["payload"], outside.counts()["total"]) == ({"n": 1}, 1)
