"""Signing up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.dependencies import StoreDep
from app.mail.jobs import WelcomeMail, send_welcome

router = APIRouter(tags=["users"])


class SignUp(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
    name: Annotated[str, Field(min_length=1, max_length=100)]


class SignedUp(BaseModel):
    user: int
    job: str


# A plain function too: the database blocks. Hence `enqueue_sync`; a coroutine would `await send_welcome.enqueue(...)`.
@router.post("/signup", status_code=202)
def sign_up(person: SignUp, store: StoreDep) -> SignedUp:
    user = store.add_user(person.email, person.name)
    # First the commit, then the job: a worker may be quicker than the end of this request. If Spooled cannot be
    # reached now, the user gets an error and tries again, which finds the user and enqueues the mail.
    store.commit()
    # The key makes a double click one mail.
    job = send_welcome.enqueue_sync(WelcomeMail(user=user), idempotency_key=f"welcome-{user}")
    return SignedUp(user=user, job=job.id)
