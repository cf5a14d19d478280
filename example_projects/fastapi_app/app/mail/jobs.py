"""Jobs that send mails."""

from __future__ import annotations

from pydantic import BaseModel
from spooled.worker import Discard
from spooled_contrib.fastapi import JobRouter

from app.dependencies import StoreDep
from app.mail.mailer import MailerDep

jobs = JobRouter()


class WelcomeMail(BaseModel):
    """What the job is given: the id, and no copy of the user, who may change until it runs."""

    user: int


# A plain function: smtplib blocks, so it belongs into one of the worker's threads, not on the event loop.
@jobs.job("emails", "welcome", concurrency=5, max_retries=5)
def send_welcome(mail: WelcomeMail, store: StoreDep, mailer: MailerDep) -> dict[str, str]:
    user = store.user(mail.user)
    if user is None:
        # An exception would be tried again, but nobody comes back by that.
        raise Discard(f"user {mail.user} is gone")
    mailer.send(
        user.email, "Welcome!", f"Hello {user.name},\n\ngood to have you here.\n", key=f"welcome-{mail.user}"
    )
    return {"sent_to": user.email}
