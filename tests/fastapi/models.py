"""Types and dependencies that the tests' handlers name; annotations are resolved in the module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict


class Email(BaseModel):
    to: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: str


@dataclass
class Invoice:
    number: int


class Mailer:
    """Remembers what it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[str] = []


async def get_mailer() -> Mailer:
    return Mailer()


MailerDep = Annotated[Mailer, Depends(get_mailer)]


def get_user(request: Request) -> str:
    return request.headers["x-user"]


def get_greeting(user: Annotated[str, Depends(get_user)]) -> str:
    return f"hello {user}"


def get_page(limit: int = 10) -> int:
    return limit


def get_body(email: Email) -> Email:
    return email
