"""Everything on this machine, in one process: a Spooled server, a mail server that prints, the application.

python run.py [--port 8000] [--mail-port 8025] [--folder data]
"""

from __future__ import annotations

import argparse
import email
import os
from email import policy
from pathlib import Path

import uvicorn
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from spooled_contrib.server import EmbeddedServer


class PrintMails:
    """A mail server that delivers to the terminal."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        mail = email.message_from_bytes(content, policy=policy.default)
        text = mail.get_body().get_content().strip()  # type: ignore[union-attr] # it has one
        print(f"--- mail to {mail['To']}: {mail['Subject']}\n{text}\n---", flush=True)
        return "250 OK"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the example with everything it needs.")
    parser.add_argument("--port", type=int, default=8000, help="the application's port (default: 8000)")
    parser.add_argument("--mail-port", type=int, default=8025, help="the mail server's port (default: 8025)")
    parser.add_argument("--folder", type=Path, default=Path("data"), help="keeps the data (default: data)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    mails = Controller(PrintMails(), hostname="127.0.0.1", port=options.mail_port)
    mails.start()
    try:
        with EmbeddedServer(db=str(options.folder / "jobs.db")) as server:
            os.environ |= {
                "APP_FOLDER": str(options.folder),
                # Both, so that no mail leaves this machine if the shell has settings of a real mail server.
                "SMTP_HOST": "127.0.0.1",
                "SMTP_PORT": str(options.mail_port),
                "SPOOLED_API_KEY": server.api_key,
                "SPOOLED_BASE_URL": server.url,
                "SPOOLED_RUN_WORKER": "1",
            }
            print(
                f"The application  http://127.0.0.1:{options.port}/docs\n"
                f"Spooled          {server.url}\n"
                f"Mails            are printed here (SMTP on 127.0.0.1:{options.mail_port})\n"
                "Ctrl-C ends it all.",
                flush=True,
            )
            # Returns after Ctrl-C, when running jobs have finished. Spooled and the mail server, which they need, are
            # still there until then.
            uvicorn.run("app.main:app", port=options.port, log_level="warning")
    finally:
        mails.stop()


if __name__ == "__main__":
    main()
