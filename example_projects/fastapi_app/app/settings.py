"""Settings, all from the environment. Those of Spooled are read by Spooled: SPOOLED_API_KEY, SPOOLED_BASE_URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where things are.

    Attributes:
        folder: Keeps the database and the pictures.
        smtp_host: The mail server.
        smtp_port: Its port.
        smtp_timeout: Seconds that it may take to answer. Keep it below the worker's shutdown_timeout (20 s), so that
            a stop does not have to give back a mail that is half sent.
        sender: Who mails come from.
        admin_token: Opens /spooled/queues. Without one it stays shut.
    """

    folder: Path
    smtp_host: str
    smtp_port: int
    smtp_timeout: float
    sender: str
    admin_token: str = field(repr=False)

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        return cls(
            folder=Path(environment.get("APP_FOLDER", "data")),
            smtp_host=environment.get("SMTP_HOST", "127.0.0.1"),
            smtp_port=int(environment.get("SMTP_PORT", "8025")),
            smtp_timeout=float(environment.get("SMTP_TIMEOUT", "10")),
            sender=environment.get("MAIL_FROM", "hello@example.org"),
            admin_token=environment.get("ADMIN_TOKEN", ""),
        )
