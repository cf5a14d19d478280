"""Settings, all from the environment. Those of Spooled are read by Spooled: SPOOLED_API_KEY, SPOOLED_BASE_URL."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where things are.

    Attributes:
        folder: Keeps the database and the pictures.
        smtp_host: The mail server.
        smtp_port: Its port.
        sender: Who mails come from.
        admin_token: Opens /spooled/queues. Without one it stays shut.
    """

    folder: Path = field(default_factory=lambda: Path(os.environ.get("APP_FOLDER", "data")))
    smtp_host: str = field(default_factory=lambda: os.environ.get("SMTP_HOST", "127.0.0.1"))
    smtp_port: int = field(default_factory=lambda: int(os.environ.get("SMTP_PORT", "8025")))
    sender: str = field(default_factory=lambda: os.environ.get("MAIL_FROM", "hello@example.org"))
    admin_token: str = field(default_factory=lambda: os.environ.get("ADMIN_TOKEN", ""), repr=False)
