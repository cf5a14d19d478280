"""Results in each way of running a Celery app's tasks: Celery's pools and Spooled's worker, both message protocols."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import NotRegistered, Reject, TaskRevokedError
from celery.result import AsyncResult
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError
from kombu.pools import reset as reset_pools

from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import needs, url_of
from tests.kombu.result_ways import PATIENCE, Ways
from tests.processes import Process
from tests.waiting import wait_until
from tests.worker.conftest import Outside

GEVENT = needs("gevent")
WAYS = [
    pytest.param(("prefork", 2), id="prefork-2"),
    pytest.param(("threads", 1), id="threads-1"),
    pytest.param(("solo", 2), id="solo-2"),
    pytest.param(("gevent", 2), id="gevent-2", marks=GEVENT.marks),
    pytest.param(("bridge", 2), id="bridge-2"),
    pytest.param(("bridge", 1), id="bridge-1"),
]


class Running:
    """A worker that runs, and where its tasks are."""

    def __init__(self, server: EmbeddedServer, ways: Ways, process: Process, way: str, protocol: int) -> None:
        self.server, self.ways, self.process = server, ways, process
        self.way, self.protocol = way, protocol

    @property
    def log(self) -> str:
        return self.process.log


@pytest.fixture(scope="module", params=WAYS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    way, protocol = request.param
    with EmbeddedServer() as server:
        ways = Ways(tmp_path_factory.mktemp("ways"), url_of(server), task_protocol=protocol)
        with ways.run(way) as process:
            ways.wait_until_ready(process)
            yield Running(server, ways, process, way, protocol)


@pytest.fixture
def app(running: Running) -> Iterator[Celery]:
    made = running.ways.app()
    yield made
    made.backend.close()
    made.pool.force_close_all()
    made.close()
    reset_pools()


@pytest.fixture
def outside(running: Running) -> Iterator[Outside]:
    looking = Outside(running.server)
    yield looking
    looking.http.close()


def get(result: Any) -> Any:
    return result.get(timeout=PATIENCE, interval=0.05)


def jobs_of(outside: Outside, task_id: str) -> list[dict[str, Any]]:
    return list(outside.http.get("/jobs", params={"tag": f"id:{task_id}"}).json())


def test_a_success(app: Celery, running: Running, outside: Outside) -> None:
    result = app.tasks["add"].delay(1, 2)
    assert get(result) == 3, running.log
    assert result.status == "SUCCESS"
    assert get(app.tasks["late"].delay(21)) == 42
    (job,) = jobs_of(outside, result.id)
    full = outside.job(job["id"])
    assert '"result": 3' in full["result"]["celery"]
    assert (full["status"], job["job_type"]) == ("completed", "add")


@pytest.mark.parametrize("value", [None, 0, "", False, [], "nul \0 and \U0001f600"])
def test_results_that_are_nothing_or_odd(app: Celery, running: Running, value: Any) -> None:
    result = app.tasks["noted"].delay(value)
    assert get(result) == value, running.log
    assert result.status == "SUCCESS"


def test_a_failure(app: Celery, running: Running) -> None:
    result = app.tasks["fail"].delay("broken")
    with pytest.raises(ValueError, match="broken"):
        get(result)
    assert result.status == "FAILURE"
    assert "raise ValueError(text * times)" in result.traceback


def test_wrong_arguments(app: Celery, running: Running) -> None:
    with pytest.raises(TypeError, match="add"):
        get(app.send_task("add", (1, 2, 3, 4)))


def test_retries_more_than_a_page_of_them(app: Celery, running: Running, outside: Outside) -> None:
    result = app.tasks["retried"].delay(12)
    assert get(result) == 12, running.log
    with pytest.raises(KeyError, match="never"):
        get(app.tasks["gives_up"].delay())
    assert not outside.http.get("/jobs", params={"tag": f"state:{result.id}"}).json()


def test_a_task_that_waits_for_its_retry_says_so(app: Celery, running: Running) -> None:
    result = app.tasks["retried"].delay(1, 3600)
    wait_until(lambda: isinstance(result.result, KeyError), running.log)
    assert result.status == "RETRY"
    assert "not yet" in str(result.result)


def test_chains_groups_and_chords(app: Celery, running: Running) -> None:
    add, total = app.tasks["add"], app.tasks["total"]
    assert get(chain(add.s(1, 2), add.s(10), add.s(100))()) == 113, running.log
    assert get(group(add.s(n, n) for n in range(5))()) == [0, 2, 4, 6, 8]
    assert get(chord([add.s(n, 1) for n in range(4)])(total.s())) == 10
    assert get(chain(group(add.s(n, 1) for n in range(3)), total.s(), add.s(1))()) == 7


def test_failures_in_chains_and_chords(app: Celery, running: Running) -> None:
    add, fail, total = app.tasks["add"], app.tasks["fail"], app.tasks["total"]
    if running.protocol == 2:  # in protocol 1 a chain's next task is a callback, and hears of no failure
        broken = chain(fail.si("first"), add.si(1, 1))()
        with pytest.raises(ValueError, match="first"):
            get(broken)
    failed = chord([add.s(1, 1), fail.s("part")])(total.s())
    with pytest.raises(Exception, match="part"):
        get(failed)


def test_a_chord_of_tasks_that_ignore_their_results(app: Celery, running: Running) -> None:
    quiet, total = app.tasks["quiet"], app.tasks["total"]
    assert get(chord([quiet.s(n) for n in range(3)])(total.s())) == 3, running.log
    assert get(quiet.delay()) is None


@pytest.mark.parametrize("count", [1, 11, 101])
def test_any_number_of_states(app: Celery, running: Running, outside: Outside, count: int) -> None:
    result = app.tasks["steps"].delay(count)
    wait_until(lambda: result.info == {"step": count - 1}, running.log)
    assert result.status == "PROGRESS"
    # They do not pile up: those that wait count for a server's plan.
    query = {"queue_name": "celery-results", "tag": f"state:{result.id}", "status": "pending"}
    wait_until(lambda: len(outside.http.get("/jobs", params=query).json()) == 1, running.log)
    (running.ways.folder / "open").touch()
    assert get(result) == count
    wait_until(lambda: not outside.http.get("/jobs", params=query).json(), running.log)
    (running.ways.folder / "open").unlink()


@pytest.mark.parametrize("state", ["SUCCESS", "FAILED_BY_HAND"])
def test_a_state_of_a_task_that_then_ignores_itself(app: Celery, running: Running, state: str) -> None:
    result = app.tasks["ignored"].delay(state)
    wait_until(lambda: result.status == state, running.log)
    assert result.info == {"by": "hand"}


def test_tasks_that_say_nothing_are_completed(app: Celery, running: Running, outside: Outside) -> None:
    ignored, quiet = app.tasks["ignored"].delay(), app.tasks["quiet"].delay()
    for result in (ignored, quiet):
        wait_until(lambda result=result: jobs_of(outside, result.id)[0]["status"] == "completed", running.log)
    assert ignored.status == "PENDING"  # as on every backend


def test_a_rejected_message(app: Celery, running: Running) -> None:
    with pytest.raises(Reject):
        get(app.tasks["rejected"].delay())


def test_a_task_that_replaces_itself(app: Celery, running: Running) -> None:
    assert get(app.tasks["handed_on"].delay(1)) == 2, running.log


def test_an_unknown_task(app: Celery, running: Running, outside: Outside) -> None:
    result = app.send_task("no.such", (1,))
    with pytest.raises(NotRegistered, match=r"no\.such"):
        get(result)
    assert result.status == "FAILURE"
    (job,) = jobs_of(outside, result.id)
    assert (job["status"], job["attempt"]) == ("completed", 0)


def test_a_message_that_the_app_does_not_accept(app: Celery, running: Running, outside: Outside) -> None:
    result = app.tasks["noted"].apply_async(({1, 2},), serializer="pickle")
    with pytest.raises(ContentDisallowed):
        get(result)
    assert [job["attempt"] for job in jobs_of(outside, result.id)] == [0]


def test_a_message_that_cannot_be_decoded(app: Celery, running: Running, outside: Outside) -> None:
    # As the app's own, but cut short on its way.
    sent = app.tasks["noted"].apply_async(("x",), countdown=3600)
    (job,) = jobs_of(outside, sent.id)
    full = outside.job(job["id"])
    outside.http.delete(f"/jobs/{job['id']}")
    message = full["payload"]["kombu"]
    payload = {**full["payload"], "kombu": {**message, "body": message["body"][:-9]}}
    outside.enqueue("celery", payload, tags=full["tags"])
    with pytest.raises(DecodeError):
        get(sent)


def test_a_message_with_a_broken_eta(app: Celery, running: Running, outside: Outside) -> None:
    if running.way == "bridge":
        pytest.skip("the bridge reads no ETA: it has passed when the job is claimed")
    sent = app.tasks["noted"].apply_async(("x",), countdown=3600)
    (job,) = jobs_of(outside, sent.id)
    full = outside.job(job["id"])
    outside.http.delete(f"/jobs/{job['id']}")
    eta = json.loads(json.dumps(full["payload"]).replace(_eta_of(full), "never"))
    outside.enqueue("celery", eta, tags=full["tags"])
    with pytest.raises(Reject):
        get(sent)


def _eta_of(job: dict[str, Any]) -> str:
    message = job["payload"]["kombu"]
    return str(message["headers"].get("eta") or json.loads(message["body"])["eta"])


def test_an_expired_task(app: Celery, running: Running) -> None:
    result = app.tasks["noted"].apply_async(("expired",), expires=dt.datetime.now(dt.UTC) - dt.timedelta(1))
    with pytest.raises(TaskRevokedError):
        get(result)
    assert result.status == "REVOKED"
    assert "expired" not in running.ways.notes


def test_a_cancelled_task(app: Celery, running: Running, outside: Outside) -> None:
    result = app.tasks["add"].apply_async((1,), countdown=3600)
    (job,) = jobs_of(outside, result.id)
    outside.http.delete(f"/jobs/{job['id']}")
    with pytest.raises(TaskRevokedError):
        get(result)


def test_a_result_that_the_server_does_not_take(app: Celery, running: Running, outside: Outside) -> None:
    result = app.tasks["big"].delay(3_000_000, f"big {running.protocol}")
    with pytest.raises(EncodeError, match=r"30000\d\d|30001\d\d|30002\d\d"):
        get(result)
    assert result.status == "FAILURE"
    assert "2097152" in str(result.result)
    assert running.ways.notes.count(f"big {running.protocol}") == 1
    assert [job["status"] for job in jobs_of(outside, result.id)] == ["completed"]
    just = app.tasks["big"].delay(1_900_000, "just")
    assert len(get(just)) == 1_900_000


def test_a_failure_that_the_server_does_not_take(app: Celery, running: Running) -> None:
    result = app.tasks["fail"].delay("long", 1_000_000)
    with pytest.raises(ValueError, match="characters are left out"):
        get(result)
    deep = app.tasks["deep"].delay(500_000)
    with pytest.raises(ValueError, match="bottom"):
        get(deep)
    assert len(deep.traceback) < 100_000


def test_native_joins_and_messages(app: Celery, running: Running) -> None:
    seen: list[Any] = []
    results = group(app.tasks["add"].s(n, 1) for n in range(30))()
    assert results.join_native(timeout=PATIENCE, on_message=seen.append) == list(range(1, 31))
    assert {one["status"] for one in seen} == {"SUCCESS"}
    assert len(dict(results.iter_native(timeout=PATIENCE))) == 30
    one = app.tasks["add"].delay(1, 1)
    assert one.get(timeout=PATIENCE, on_message=seen.append) == 2
    assert seen[-1]["task_id"] == one.id


def test_an_id_that_nobody_has(app: Celery, running: Running) -> None:
    assert AsyncResult("nobody", app=app).status == "PENDING"
