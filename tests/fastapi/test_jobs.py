"""Declaring jobs: by queue and type, in one module or several, and what is refused."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Response, WebSocket
from fastapi.security import OAuth2PasswordBearer

from spooled.worker import AsyncJobContext, JobContext
from spooled_contrib.fastapi import JobRouter, Spooled
from tests.fastapi.models import Email, Invoice, Mailer, MailerDep, get_body, get_greeting, get_page, get_user


def test_a_job_is_still_the_function_that_was_decorated() -> None:
    spooled = Spooled()

    @spooled.job("sums")
    def add(numbers: list[int], extra: Annotated[int, Depends(lambda: 5)]) -> int:
        """Adds."""
        return sum(numbers) + extra

    assert add([1, 2], 3) == 6
    assert (add.queue_name, add.job_type, add.__name__, add.__doc__) == ("sums", None, "add", "Adds.")
    assert "sums" in repr(add)


def test_the_payload_type_is_read_from_either_shape() -> None:
    spooled = Spooled()

    @spooled.job("a")
    async def by_payload(email: Email) -> None: ...

    @spooled.job("b")
    async def by_context(ctx: AsyncJobContext[Email]) -> None: ...

    @spooled.job("c")
    def plain(ctx: JobContext[Invoice], mailer: MailerDep) -> None: ...

    @spooled.job("d")
    def bare(ctx: JobContext) -> None: ...

    @spooled.job("e")
    def nothing() -> None: ...

    @spooled.job("f")
    def anything(payload: Any) -> None: ...

    types = [job.definition.payload_type for job in (by_payload, by_context, plain, bare, nothing, anything)]
    assert types == [Email, Email, Invoice, None, None, None]


def test_jobs_of_several_modules_are_brought_together() -> None:
    emails, invoices, nested = JobRouter(), JobRouter(), JobRouter()

    @emails.job("emails", "welcome")
    async def welcome(email: Email) -> None: ...

    @nested.job("invoices")
    async def invoice(invoice: Invoice) -> None: ...

    invoices.include_router(nested)
    spooled = Spooled()
    spooled.include_router(emails)
    spooled.include_router(invoices)

    @emails.job("emails", "goodbye")
    async def goodbye(email: Email) -> None: ...

    assert spooled.jobs == [welcome, invoice, goodbye]


async def test_a_job_of_a_router_that_nobody_includes_says_so() -> None:
    router = JobRouter()

    @router.job("emails")
    async def welcome(email: Email) -> None: ...

    with pytest.raises(
        RuntimeError, match=r"welcome belongs to a JobRouter that no application uses.*include_router"
    ):
        await welcome.enqueue(Email(to="ada"))


async def test_enqueueing_outside_of_the_lifespan_says_how_to_get_into_it() -> None:
    spooled = Spooled()

    @spooled.job("emails")
    async def welcome(email: Email) -> None: ...

    with pytest.raises(RuntimeError, match=r"lifespan has not begun.*with TestClient\(app\)"):
        await welcome.enqueue(Email(to="ada"))


def test_two_functions_for_the_same_jobs_are_refused_wherever_they_meet() -> None:
    spooled, router = Spooled(), JobRouter()

    @spooled.job("emails", "welcome")
    async def one(email: Email) -> None: ...

    @router.job("emails", "welcome")
    async def two(email: Email) -> None: ...

    with pytest.raises(ValueError, match=r"two and .*one both take jobs of type 'welcome' of queue 'emails'"):
        spooled.include_router(router)
    assert spooled.jobs == [one]

    @router.job("emails")
    def three(email: Email) -> None: ...

    with pytest.raises(ValueError, match=r"four and .*three both take all other jobs"):

        @router.job("emails")
        def four(email: Email) -> None: ...


def test_a_router_does_not_include_itself() -> None:
    one, two = JobRouter(), JobRouter()
    one.include_router(two)
    with pytest.raises(ValueError, match="cannot include itself"):
        two.include_router(one)
    with pytest.raises(ValueError, match="cannot include itself"):
        one.include_router(one)


def test_the_concurrency_of_a_queue_is_said_once() -> None:
    spooled = Spooled()

    @spooled.job("emails", "one", concurrency=5)
    async def one(email: Email) -> None: ...

    @spooled.job("emails", "same", concurrency=5)
    async def same(email: Email) -> None: ...

    with pytest.raises(ValueError, match=r"'emails' has concurrency 5 by .*one and 7 by .*other"):

        @spooled.job("emails", "other", concurrency=7)
        async def other(email: Email) -> None: ...


@pytest.mark.parametrize("value", [0, 101, -1])
def test_an_impossible_concurrency_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 100"):

        @Spooled().job("emails", concurrency=value)
        async def send(email: Email) -> None: ...


def test_bad_names_are_refused_at_the_decorator() -> None:
    spooled = Spooled()
    with pytest.raises(ValueError, match="queue_name must be"):

        @spooled.job(".hidden")
        async def one(email: Email) -> None: ...

    with pytest.raises(TypeError, match="job_type must be text"):

        @spooled.job("emails", "")
        async def two(email: Email) -> None: ...

    with pytest.raises(TypeError, match="no default 'retries'"):

        @spooled.job("emails", retries=3)  # type: ignore[call-arg]
        async def three(email: Email) -> None: ...


def _socket(socket: WebSocket) -> None: ...
def _response(response: Response) -> None: ...
def _tasks(tasks: BackgroundTasks) -> None: ...


@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        (
            get_user,
            r"depends on get_user, which needs the Request as 'request'; a job has no HTTP request. .*HTTPConnection",
        ),
        (
            get_greeting,
            r"depends on get_user \(by way of get_greeting -> get_user\), which needs the Request",
        ),
        (get_page, r"needs 'limit' from the query; a job has no HTTP request"),
        (get_body, r"needs 'email' from the body"),
        (_socket, "needs the WebSocket"),
        (_response, "needs the Response"),
        (_tasks, "needs BackgroundTasks"),
        (OAuth2PasswordBearer(tokenUrl="token"), "needs the caller's credentials"),
    ],
)
def test_a_dependency_that_needs_a_request_is_refused_at_the_decorator(dependency: Any, message: str) -> None:
    spooled = Spooled()
    with pytest.raises(TypeError, match=message):

        @spooled.job("emails")
        async def send(email: Email, value: object = Depends(dependency)) -> None: ...

    assert spooled.jobs == []


def test_a_parameter_that_nothing_fills_is_refused() -> None:
    with pytest.raises(TypeError, match=r"send has a parameter 'subject' that nothing fills"):

        @Spooled().job("emails")
        async def send(email: Email, subject: str) -> None: ...


def test_a_dependency_cannot_be_the_first_parameter() -> None:
    with pytest.raises(TypeError, match=r"first parameter of .*send is a dependency"):

        @Spooled().job("emails")
        async def send(mailer: MailerDep) -> None: ...


def test_a_parameter_with_a_default_is_left_alone() -> None:
    @Spooled().job("emails")
    async def send(email: Email, subject: str = "Hello") -> None: ...

    assert not send.dependencies


def test_a_misspelt_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match="no option 'base_ur'; did you mean 'base_url'"):
        Spooled(base_ur="http://localhost")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'lease'"):
        Spooled(worker={"lease": 5})  # type: ignore[typeddict-unknown-key]


def test_nothing_is_read_or_connected_before_the_lifespan() -> None:
    spooled = Spooled()  # no API key anywhere
    FastAPI(lifespan=spooled.lifespan).include_router(spooled.router)
    assert spooled.runtime is None
    assert Mailer  # the module imports
