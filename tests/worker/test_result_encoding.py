"""When a result is encoded: while what it is read from is open, and after the last who may change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.codec import register_json_form
from spooled.worker import FallbackResult, Middleware
from spooled.worker.context import JobContext
from spooled.worker.signature import prepare_result
from tests.waiting import wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


class Session:
    """A connection to a database, whose rows are read when they are looked at."""

    def __init__(self) -> None:
        self.open = False
        self.log: list[str] = []


class Rows:
    def __init__(self, session: Session) -> None:
        self._session = session

    def read(self) -> list[int]:
        if not self._session.open:
            raise RuntimeError("the session is closed")
        return [1, 2]


register_json_form(Rows, Rows.read)


class Opening(Middleware):
    def __init__(self, session: Session) -> None:
        self._session = session

    @contextmanager
    def around(self, ctx: JobContext[Any]) -> Iterator[None]:
        self._session.open = True
        try:
            yield
        except Exception as error:
            self._session.log.append(f"rollback {type(error).__name__}")
            raise
        else:
            self._session.log.append("commit")
        finally:
            self._session.open = False


class Counting(Middleware):
    """Adds to the result, in place."""

    def run(self, ctx: JobContext[Any], call_next: Callable[[], object]) -> object:
        return self._counted(call_next())

    async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Awaitable[object]]) -> object:
        return self._counted(await call_next())

    def _counted(self, result: Any) -> object:
        result["count"] = len(result)
        return result


@both
def test_what_a_middleware_has_opened_is_open(kind: str, client: SpooledClient, outside: Outside) -> None:
    session = Session()
    job_id = outside.enqueue()
    with Running(kind, client, lambda ctx: {"rows": Rows(session)}, middleware=[Opening(session)]):
        wait_until(lambda: outside.status(job_id) == "completed", "the rows are read")
    assert outside.job(job_id)["result"] == {"rows": [1, 2]}
    assert session.log == ["commit"]


@both
def test_a_result_that_cannot_be_sent_is_a_failure_for_the_middleware_too(
    kind: str, client: SpooledClient, outside: Outside
) -> None:
    session = Session()
    job_id = outside.enqueue()
    with Running(kind, client, lambda ctx: {"what": object()}, middleware=[Opening(session)]):
        wait_until(lambda: outside.job(job_id)["last_error"], "the job has failed")
    assert outside.job(job_id)["last_error"].startswith("the job ran, but its result cannot be sent")
    assert session.log == ["rollback UnserialisableResultError"]


@both
def test_a_middleware_may_change_the_result_before_it_is_encoded(
    kind: str, client: SpooledClient, outside: Outside
) -> None:
    session = Session()
    job_id = outside.enqueue()
    layers = [Opening(session), Counting(), Opening(Session())]
    with Running(kind, client, lambda ctx: {"rows": Rows(session)}, middleware=layers):
        wait_until(lambda: outside.status(job_id) == "completed", "the rows are read")
    assert outside.job(job_id)["result"] == {"rows": [1, 2], "count": 1}


@both
def test_middleware_sees_the_value_of_a_result_that_an_adapter_has_prepared(
    kind: str, client: SpooledClient, outside: Outside
) -> None:
    job_id = outside.enqueue()
    with Running(kind, client, lambda ctx: prepare_result({"a": 1}), middleware=[Counting()]):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"] == {"a": 1, "count": 1}


@both
def test_a_prepared_fallback_is_kept(kind: str, client: SpooledClient, outside: Outside) -> None:
    job_id = outside.enqueue()
    large = FallbackResult("x" * 3_000_000, lambda error: "too large")
    with Running(kind, client, lambda ctx: prepare_result(large), middleware=[Opening(Session())]):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"] == "too large"
