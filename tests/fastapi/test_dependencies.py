"""Handlers' dependencies behave as in endpoints."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection

from spooled.codec import register_json_form
from spooled.models import Job
from spooled.worker import AsyncJobContext, Discard, JobContext, Retry
from spooled_contrib.fastapi import JobDep, Spooled, SpooledDep
from spooled_contrib.server import EmbeddedServer
from tests.fastapi.models import Email, Invoice, Strict, get_user
from tests.waiting import HOPELESS, wait_until

LOG: list[str] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    LOG.clear()


async def connection() -> str:
    LOG.append("connect")
    return "connection"


async def session(conn: Annotated[str, Depends(connection)], job: JobDep) -> AsyncGenerator[str, None]:
    LOG.append(f"begin for {job.queue_name}")
    try:
        yield f"session on {conn}"
    except Exception as error:
        LOG.append(f"rollback {type(error).__name__}")
        raise
    else:
        LOG.append("commit")
    finally:
        LOG.append("close")


def tempdir() -> Generator[str, None, None]:
    LOG.append("make directory")
    yield "/somewhere"
    LOG.append("remove directory")


def clock(conn: Annotated[str, Depends(connection)]) -> str:
    return threading.current_thread().name


Session = Annotated[str, Depends(session)]


def run(server: EmbeddedServer, spooled: Spooled, app: FastAPI, job: Any, payload: Any = None) -> Job:
    with TestClient(app):
        job.enqueue_sync(payload)
        (done,) = spooled.drain_sync()
    return done


@pytest.fixture
def spooled(server: EmbeddedServer) -> Spooled:
    return Spooled(server.api_key, base_url=server.url)


@pytest.fixture
def app(spooled: Spooled) -> FastAPI:
    return FastAPI(lifespan=spooled.lifespan)


@pytest.mark.parametrize("plain", [False, True])
def test_nested_async_sync_and_yield(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI, plain: bool
) -> None:
    async def coroutine(
        email: Email,
        s: Session,
        where: Annotated[str, Depends(tempdir)],
        thread: Annotated[str, Depends(clock)],
    ) -> list[str]:
        LOG.append("run")
        return [email.to, s, where]

    def function(
        email: Email,
        s: Session,
        where: Annotated[str, Depends(tempdir)],
        thread: Annotated[str, Depends(clock)],
    ) -> list[str]:
        LOG.append("run")
        assert (
            "spooled-emails" in threading.current_thread().name
        )  # a thread of the worker's, not the application's
        return [email.to, s, where]

    job = spooled.job("emails")(function if plain else coroutine)
    done = run(server, spooled, app, job, Email(to="ada"))
    assert done.result == ["ada", "session on connection", "/somewhere"], done.last_error
    # `connection` is solved once for one job, and what was opened last is closed first.
    assert LOG == [
        "connect",
        "begin for emails",
        "make directory",
        "run",
        "remove directory",
        "commit",
        "close",
    ]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("no"), Retry(after=60), Discard("never")])
def test_cleanup_sees_the_handlers_exception(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI, plain: bool, error: Exception
) -> None:
    async def coroutine(email: Email, s: Session) -> None:
        raise error

    def function(email: Email, s: Session) -> None:
        raise error

    job = spooled.job("emails", max_retries=0)(function if plain else coroutine)
    with TestClient(app):
        job.enqueue_sync(Email(to="ada"))
        spooled.drain_sync()
    assert LOG[-2:] == [f"rollback {type(error).__name__}", "close"]


async def swallowing() -> AsyncGenerator[None, None]:
    try:
        yield
    except RuntimeError:
        LOG.append("swallowed")


@pytest.mark.parametrize("plain", [False, True])
def test_a_dependency_that_swallows_the_exception_does_not_make_the_job_a_success(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI, plain: bool
) -> None:
    async def coroutine(email: Email, s: Annotated[None, Depends(swallowing)]) -> None:
        raise RuntimeError("broken")

    def function(email: Email, s: Annotated[None, Depends(swallowing)]) -> None:
        raise RuntimeError("broken")

    job = spooled.job("emails", max_retries=0)(function if plain else coroutine)
    done = run(server, spooled, app, job, Email(to="ada"))
    assert LOG == ["swallowed"]
    assert done.status == "deadletter"
    assert "broken" in str(done.last_error)


async def failing_commit() -> AsyncGenerator[None, None]:
    yield
    raise RuntimeError("commit failed")


@pytest.mark.parametrize("plain", [False, True])
def test_a_cleanup_that_fails_fails_the_job(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI, plain: bool
) -> None:
    async def coroutine(email: Email, s: Annotated[None, Depends(failing_commit)]) -> None: ...
    def function(email: Email, s: Annotated[None, Depends(failing_commit)]) -> None: ...

    job = spooled.job("emails", max_retries=0)(function if plain else coroutine)
    done = run(server, spooled, app, job, Email(to="ada"))
    assert done.status == "deadletter"
    assert "commit failed" in str(done.last_error)


def test_overrides_are_honoured(server: EmbeddedServer, spooled: Spooled, app: FastAPI) -> None:
    @spooled.job("emails")
    async def send(email: Email, s: Session) -> str:
        return s

    app.dependency_overrides[connection] = lambda: "another connection"
    assert run(server, spooled, app, send, Email(to="ada")).result == "session on another connection"


def test_an_override_that_needs_a_request_fails_the_job_and_says_so(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI
) -> None:
    @spooled.job("emails", max_retries=0)
    async def send(email: Email, s: Annotated[str, Depends(connection)]) -> str:
        return s

    def needs_query(q: str) -> str:
        return q

    app.dependency_overrides[connection] = needs_query
    done = run(server, spooled, app, send, Email(to="ada"))
    assert "a job has no query parameters" in str(done.last_error)
    app.dependency_overrides[connection] = get_user
    with TestClient(app):
        send.enqueue_sync(Email(to="ada"))
        (done,) = spooled.drain_sync()
    assert "request" in str(done.last_error)


def test_parameters_as_defaults_and_the_context_anywhere(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI
) -> None:
    @spooled.job("emails")
    async def send(
        email: Email, ctx: AsyncJobContext[Any], client: SpooledDep, conn: str = Depends(connection)
    ) -> list[Any]:
        return [ctx.attempt, ctx.payload.to, conn, (await client.jobs.get(ctx.job_id)).status]

    assert run(server, spooled, app, send, Email(to="ada")).result == [1, "ada", "connection", "processing"]


def test_plain_functions_get_the_context_of_threads(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI
) -> None:
    @spooled.job("emails")
    def send(ctx: JobContext[Invoice]) -> list[Any]:
        return [ctx.payload.number, ctx.signal.wait(0), type(ctx.signal) is threading.Event]

    assert run(server, spooled, app, send, Invoice(7)).result == [7, False, True]


def ask(conn: HTTPConnection) -> list[str]:
    questions: list[Callable[[], object]] = [
        lambda: conn.url,
        lambda: conn.base_url,
        lambda: conn.headers["x-user"],
        lambda: conn.headers.get("x-user"),
        lambda: "x-user" in conn.headers,
        lambda: dict(conn.cookies),
        lambda: len(conn.query_params),
        lambda: conn.query_params.getlist("q"),
    ]
    answers = []
    for question in questions:
        with pytest.raises(RuntimeError) as caught:
            question()
        answers.append(str(caught.value).partition(":")[0])
    return answers


def test_a_jobs_connection_never_looks_like_an_empty_request(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI
) -> None:
    @spooled.job("emails")
    async def send(email: Email, seen: Annotated[list[str], Depends(ask)]) -> list[str]:
        return seen

    done = run(server, spooled, app, send, Email(to="ada"))
    assert done.result == [
        f"a job has no {what}"
        for what in ("URL", "base URL", *["headers"] * 3, "cookies", *["query parameters"] * 2)
    ]


def test_a_payload_that_does_not_fit_is_refused_where_it_is_enqueued(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI
) -> None:
    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    with TestClient(app):
        with pytest.raises(ValueError, match="no Email"):
            send.enqueue_sync({"too": "ada"})  # type: ignore[arg-type]
        send.enqueue_sync({"to": "ada"})  # type: ignore[arg-type] # it fits
        assert len(spooled.drain_sync()) == 1


def test_a_payload_from_elsewhere_that_does_not_fit_fails_the_job(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI
) -> None:
    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    with TestClient(app):
        runtime = spooled.runtime
        assert runtime is not None
        runtime.run_sync(
            lambda: runtime.client.jobs.create(queue_name="emails", payload={"too": 1}, max_retries=0)
        )
        (done,) = spooled.drain_sync()
    assert "no Email" in str(done.last_error)


def test_job_types_share_a_queue(server: EmbeddedServer, spooled: Spooled, app: FastAPI) -> None:
    @spooled.job("mail", "welcome")
    async def welcome(email: Strict) -> str:
        return f"welcome {email.to}"

    @spooled.job("mail", "bill")
    def bill(invoice: Invoice) -> str:
        return f"bill {invoice.number}"

    @spooled.job("mail")
    async def rest(payload: dict[str, Any]) -> str:
        return "rest"

    with TestClient(app):
        welcome.enqueue_sync(Strict(to="ada"))
        bill.enqueue_sync(Invoice(3))
        rest.enqueue_sync({})
        done = spooled.drain_sync()
    assert sorted(job.result for job in done) == ["bill 3", "rest", "welcome ada"]


async def test_the_sync_variant_refuses_to_block_the_loop(spooled: Spooled, app: FastAPI) -> None:
    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    async with spooled.lifespan(app):
        with pytest.raises(RuntimeError, match="would block the event loop"):
            send.enqueue_sync(Email(to="ada"))


RELEASE = threading.Event()


def blocking() -> None:
    LOG.append("blocked")
    assert RELEASE.wait(HOPELESS)


def blocking_before() -> Generator[None, None, None]:
    LOG.append("blocked")
    assert RELEASE.wait(HOPELESS)
    yield
    LOG.append("left")


def blocking_after() -> Generator[None, None, None]:
    yield
    LOG.append("blocked")
    assert RELEASE.wait(HOPELESS)
    LOG.append("left")


@pytest.mark.parametrize("dependency", [blocking, blocking_before, blocking_after])
@pytest.mark.parametrize("plain", [False, True])
def test_a_dependency_that_blocks_does_not_hold_up_the_end(
    server: EmbeddedServer, dependency: Any, plain: bool
) -> None:
    RELEASE.clear()
    spooled = Spooled(server.api_key, base_url=server.url, run_worker=True, shutdown_timeout=0.1)

    async def coroutine(email: Email, wait: None = Depends(dependency)) -> None: ...
    def function(email: Email, wait: None = Depends(dependency)) -> None: ...

    job = spooled.job("emails")(function if plain else coroutine)
    with TestClient(FastAPI(lifespan=spooled.lifespan)):
        job.enqueue_sync(Email(to="ada"))
        wait_until(lambda: "blocked" in LOG)
    # We are here although it still blocks.
    assert "left" not in LOG
    RELEASE.set()
    if dependency is not blocking:
        wait_until(lambda: "left" in LOG)  # and what it had opened is closed all the same


def test_jobs_in_plain_dependencies_leave_threads_for_endpoints(server: EmbeddedServer) -> None:
    RELEASE.clear()
    spooled = Spooled(server.api_key, base_url=server.url, run_worker=True)
    app = FastAPI(lifespan=spooled.lifespan)

    @spooled.job("emails", concurrency=50)
    async def send(email: Email, wait: None = Depends(blocking)) -> None: ...

    @app.get("/")
    def plain_endpoint() -> str:
        return "answered"

    with TestClient(app) as client:
        for _ in range(50):
            send.enqueue_sync(Email(to="ada"))
        wait_until(lambda: len(LOG) == 50)
        assert client.get("/").json() == "answered"
        RELEASE.set()


class Rows:
    """Reads from its session when it is looked at."""

    def __init__(self, session: list[str]) -> None:
        self._session = session

    def read(self) -> list[str]:
        if not self._session:
            raise RuntimeError("the session is closed")
        return list(self._session)


register_json_form(Rows, Rows.read)


async def lazy_session() -> AsyncGenerator[list[str], None]:
    session = ["a row"]
    try:
        yield session
        LOG.append("commit")
    except Exception as error:
        LOG.append(f"rollback {type(error).__name__}")
        raise
    finally:
        session.clear()


@pytest.mark.parametrize("plain", [False, True])
def test_a_result_is_encoded_before_its_dependencies_close(
    server: EmbeddedServer, spooled: Spooled, app: FastAPI, plain: bool
) -> None:
    async def coroutine(
        payload: dict[str, bool], session: Annotated[list[str], Depends(lazy_session)]
    ) -> dict[str, object]:
        return {"rows": Rows(session), "more": object() if payload["spoiled"] else None}

    def function(
        payload: dict[str, bool], session: Annotated[list[str], Depends(lazy_session)]
    ) -> dict[str, object]:
        return {"rows": Rows(session), "more": object() if payload["spoiled"] else None}

    job = spooled.job("reports", max_retries=0)(function if plain else coroutine)
    done = run(server, spooled, app, job, {"spoiled": False})
    assert (done.result, done.last_error) == ({"rows": ["a row"], "more": None}, None)
    assert LOG == ["commit"]
    LOG.clear()
    failed = run(server, spooled, app, job, {"spoiled": True})
    assert "its result cannot be sent" in str(failed.last_error)
    assert LOG == ["rollback UnserialisableResultError"]
