"""Sending a mail."""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Annotated

from fastapi import Depends

from app.dependencies import SettingsDep


class Mailer:
    """Sends mails over one connection."""

    def __init__(self, smtp: smtplib.SMTP, sender: str) -> None:
        self._smtp = smtp
        self._sender = sender

    def send(self, to: str, subject: str, text: str, key: str) -> None:
        """Send one mail.

        Args:
            to: The address.
            subject: One line.
            text: The body.
            key: Mails with the same key are the same mail.
        """
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        # A process that is killed between the mail server's answer and its own to Spooled will send again. With the
        # same Message-ID, mail programs know the second for what it is.
        message["Message-ID"] = f"<{key}@{self._sender.rpartition('@')[2]}>"
        message.set_content(text)
        self._smtp.send_message(message)


def get_mailer(settings: SettingsDep) -> Iterator[Mailer]:
    """A mailer for one job; afterwards the connection is closed, whether the mail could be sent or not."""
    smtp = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=settings.smtp_timeout)
    try:
        yield Mailer(smtp, settings.sender)
    finally:
        # What is raised here fails the job. That a mail server says goodbye badly must not send the mail once more.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.quit()
        smtp.close()


MailerDep = Annotated[Mailer, Depends(get_mailer)]
