"""A job gets what an endpoint with the same annotation gets as its body, and answers as an endpoint does."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from typing import Annotated, Any, Literal

import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from spooled.definition import PayloadError
from spooled.worker import AsyncJobContext, JobContext
from spooled_contrib.fastapi import Job, Spooled
from spooled_contrib.server import EmbeddedServer


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    order_id: uuid.UUID
    amount: int = Field(0, alias="amountCents")
    at: dt.datetime | None = None
    tags: set[str] = set()


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    amount: int


class Answer(BaseModel):
    total: int = Field(serialization_alias="totalCents")
    token: SecretStr = SecretStr("")


class LongAnswer(Answer):
    password: str = "hunter2"


class Login(BaseModel):
    token: SecretStr


class Own(BaseModel):
    kind: str = Field(alias="job_type")


@dataclasses.dataclass
class Basket:
    orders: list[Order]
    note: str = ""


Payment = Annotated[Card | Cash, Field(discriminator="kind")]
Positive = Annotated[int, Field(gt=0)]
ORDER = Order(
    orderId=uuid.UUID(int=7), amountCents=500, at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), tags={"a"}
)  # type: ignore[call-arg]

BODIES: list[tuple[Any, Any]] = [
    (Order, ORDER),
    (list[Order], [ORDER, ORDER]),
    (dict[str, Order], {"a": ORDER}),
    (dict[int, Order], {1: ORDER}),
    (Order | None, ORDER),
    (Card | Cash, Cash(amount=5)),
    (Payment, Card(number="42")),
    (list[Payment], [Card(number="42"), Cash(amount=5)]),
    (Basket, Basket([ORDER], "soon")),
    (Annotated[Order, Body()], ORDER),
    (Annotated[int, Body(gt=0)], 5),
    (Positive, 5),
    (dict[str, Any], {"a": [1, None, {"b": 2.5}]}),
    (dict[int, str], {1: "a"}),
    (uuid.UUID, ORDER.order_id),
    (dt.datetime, ORDER.at),
    (list[int], [1, 2]),
    (set[str], {"a"}),
    (str, "text"),
    (Any, {"a": 1}),
]


@pytest.mark.parametrize(("annotation", "value"), BODIES, ids=lambda one: repr(one)[:60])
def test_a_job_gets_what_an_endpoint_gets(annotation: Any, value: Any) -> None:
    spooled, app = Spooled(), FastAPI()
    got: list[Any] = []

    def take(body: Any) -> None:
        got.append(body)

    take.__annotations__ = {"body": annotation, "return": None}
    job = spooled.job("q")(take)
    sent = job.definition.parameters(value)["payload"]

    take.__annotations__ = {"body": Annotated[annotation, Body()], "return": None}
    app.post("/")(take)
    assert TestClient(app).post("/", json=sent).status_code == 200
    assert got == [value]
    assert job.definition.read(sent) == value
    assert type(job.definition.read(sent)) is type(got[0])


def _jobs() -> tuple[Spooled, list[Any], dict[str, Job[Any, ..., Any]]]:
    spooled, got = Spooled(), list[Any]()

    @spooled.job("orders", "one", max_retries=0)
    async def one(order: Order) -> Answer:
        got.append(order)
        return LongAnswer(total=order.amount, token=SecretStr("hunter2"))

    @spooled.job("orders", "payment", max_retries=0)
    def payment(ctx: JobContext[Payment]) -> dict[str, Answer]:
        got.append(ctx.payload)
        return {"a": Answer(total=1)}

    @spooled.job("baskets", max_retries=0)
    async def basket(ctx: AsyncJobContext[Basket]) -> Any:
        got.append(ctx.payload)
        return Answer(total=2)

    @spooled.job("unannotated", max_retries=0)
    def unannotated(order):  # type: ignore[no-untyped-def]
        got.append(order)

    @spooled.job("default", max_retries=0)
    def default(order: Order = ORDER) -> list[Answer]:
        got.append(order)
        return [Answer(total=3)]

    @spooled.job("misfit", max_retries=0)
    def misfit(number: Annotated[int, Body(gt=0)] = 3) -> Answer:
        got.append(number)
        return "no answer"  # type: ignore[return-value]

    jobs: Any = {job.queue_name if job.job_type is None else job.job_type: job for job in spooled.jobs}
    return spooled, got, jobs


def test_payloads_and_results_through_a_server(spooled_server: EmbeddedServer) -> None:
    spooled, got, jobs = _jobs()
    app = FastAPI(lifespan=spooled.lifespan)

    @app.post("/")
    def enqueue() -> None:
        jobs["one"].enqueue_sync(ORDER)
        jobs["payment"].enqueue_sync(Cash(amount=5))
        jobs["baskets"].enqueue_sync(Basket([ORDER]))
        jobs["unannotated"].enqueue_sync({"a": 1})
        jobs["default"].enqueue_sync()
        jobs["misfit"].enqueue_sync()
        with pytest.raises(PayloadError, match=r"job 'one' for queue 'orders': the payload is no Order"):
            jobs["one"].enqueue_sync({"orderId": "x"})

    with spooled.testing(spooled_server), TestClient(app) as client:
        client.post("/").raise_for_status()
        done = {_name(job): job for job in spooled.drain_sync()}
    expected = [ORDER, Cash(amount=5), Basket([ORDER]), {"a": 1}, ORDER, 3]
    assert len(got) == len(expected)
    assert all(one in got for one in expected)
    assert done["one"].result == {"totalCents": 500, "token": "**********"}
    assert done["payment"].result == {"a": {"totalCents": 1, "token": ""}}
    assert done["baskets"].result == {"totalCents": 2, "token": ""}
    assert done["default"].result == [{"totalCents": 3, "token": ""}]
    assert done["misfit"].status == "deadletter"
    assert "result cannot be sent: it is no Answer" in str(done["misfit"].last_error)


def _name(job: Any) -> str:
    typed = isinstance(job.payload, dict) and "job_type" in job.payload
    return str(job.payload["job_type"] if typed else job.queue_name)


def test_what_would_be_lost_is_refused_where_it_is_declared_or_enqueued() -> None:
    spooled = Spooled()

    @spooled.job("logins")
    async def log_in(login: Login) -> None: ...

    with pytest.raises(PayloadError, match=r"a job for queue 'logins': payload\.token is a SecretStr"):
        log_in.definition.parameters(Login(token=SecretStr("hunter2")))

    with pytest.raises(
        TypeError, match=r"typed: the payload has a field 'job_type' of its own.*Literal\['t'\]"
    ):

        @spooled.job("q", "t")
        async def typed(own: Own) -> None: ...

    with pytest.raises(TypeError, match=r"odd: a payload cannot be read as EmbeddedServer"):

        @spooled.job("q")
        async def odd(server: EmbeddedServer) -> None: ...

    for options in ({"max_retries": -1}, {"priority": 1000}, {"timeout_seconds": 0}, {"tags": object()}):
        with pytest.raises(ValueError, match=next(iter(options))):

            @spooled.job("q", **options)  # type: ignore[arg-type]
            async def never(order: Order) -> None: ...

    assert spooled.jobs == [log_in]
