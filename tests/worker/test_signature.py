"""Reading what a handler asks for."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from spooled.worker import AsyncJobContext, JobContext
from spooled.worker.signature import signature_of

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Email:
    to: str


def context(ctx: JobContext[Email]) -> None: ...
def any_context(ctx: JobContext[Any]) -> None: ...
def bare_context(ctx: JobContext) -> None: ...
async def coroutine(ctx: AsyncJobContext[Email]) -> None: ...
def payload(email: Email) -> None: ...
def any_payload(email: Any) -> None: ...
def unannotated(ctx): ...  # type: ignore[no-untyped-def]
def unannotated_payload(order): ...  # type: ignore[no-untyped-def]
def nothing() -> None: ...
def options(**options: int) -> None: ...


class Handler:
    def method(self, email: Email) -> None: ...

    async def __call__(self, email: Email) -> None: ...


@pytest.mark.parametrize(
    ("handler", "first", "kind"),
    [
        (context, "context", Email),
        (any_context, "context", None),
        (bare_context, "context", None),
        (coroutine, "context", Email),
        (payload, "payload", Email),
        (any_payload, "payload", None),
        (unannotated, "context", None),
        (unannotated_payload, "payload", None),
        (nothing, "nothing", None),
        (options, "nothing", None),
        (Handler().method, "payload", Email),
        (Handler(), "payload", Email),
        (functools.partial(payload), "payload", Email),
    ],
)
def test_the_first_parameter(handler: Any, first: str, kind: Any) -> None:
    signature = signature_of(handler)
    assert (signature.first, signature.payload_type) == (first, kind)
    assert signature.coroutine is (handler is coroutine or isinstance(handler, Handler))


def test_further_parameters() -> None:
    def handler(
        email: Email,
        ctx: JobContext[Any],
        mailer: Annotated[str, "x"],
        again: AsyncJobContext[Email],
        n: int = 3,
    ) -> None: ...

    signature = signature_of(handler)
    assert signature.contexts == ("ctx", "again")
    assert [(one.name, one.annotation) for one in signature.others] == [
        ("mailer", Annotated[str, "x"]),
        ("n", int),
    ]


def test_an_annotation_that_cannot_be_found_is_named() -> None:
    def handler(amount: Decimal) -> None: ...

    with pytest.raises(
        TypeError, match=r"annotation of .*handler cannot be resolved .*Decimal.*module level"
    ):
        signature_of(handler)


def test_what_is_no_function() -> None:
    with pytest.raises(TypeError, match="must be a function that takes the job context, got 3"):
        signature_of(3)  # type: ignore[arg-type]


def test_the_default_and_the_result() -> None:
    def handler(email: Email = Email("ada")) -> list[Email]: ...  # type: ignore[empty-body] # noqa: B008

    signature = signature_of(handler)
    assert (signature.default, signature.result_type) == (Email("ada"), list[Email])
    signature = signature_of(payload)
    assert (signature.default, signature.result_type) == (inspect.Parameter.empty, None)
