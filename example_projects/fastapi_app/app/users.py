"""Signing up, and the mail that follows."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from spooled_contrib.fastapi import JobRouter
from starlette.requests import HTTPConnection

from app.settings import Settings
from app.store import StoreDep

router = APIRouter(tags=["users"])
jobs = JobRouter()


class SignUp(BaseModel):
    email: str
    name: str


class Accepted(BaseModel):
    user: int
    job: str


class WelcomeMail(BaseModel):
    """What the job is given: the id and no copy of the user, who may change until it runs."""

    user: int


class Mailer:
    """Sends mails over one connection."""

    def __init__(self, smtp: smtplib.SMTP, sender: str) -> None:
        self._smtp = smtp
        self._sender = sender

    def send(self, to: str, subject: str, text: str) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        message.set_content(text)
        self._smtp.send_message(message)


def get_mailer(conn: HTTPConnection) -> Iterator[Mailer]:
    settings: Settings = conn.state.settings
    with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=60) as smtp:
        yield Mailer(smtp, settings.sender)


MailerDep = Annotated[Mailer, Depends(get_mailer)]


# A plain function: smtplib blocks, so it belongs into one of the worker's threads.
@jobs.job("emails", "welcome", concurrency=5, max_retries=5)
def send_welcome(mail: WelcomeMail, store: StoreDep, mailer: MailerDep) -> dict[str, str]:
    address, name = store.user(mail.user)
    mailer.send(address, "Welcome!", f"Hello {name},\n\ngood to have you here.\n")
    return {"sent_to": address}


@router.post("/signup", status_code=202)
def sign_up(user: SignUp, store: StoreDep) -> Accepted:
    number = store.add_user(user.email, user.name)
    # First the commit, then the job: a worker may be quicker than the end of this request.
    store.commit()
    # With this key, signing up twice sends one mail.
    job = send_welcome.enqueue_sync(WelcomeMail(user=number), idempotency_key=f"welcome-{number}")
    return Accepted(user=number, job=job.id)
