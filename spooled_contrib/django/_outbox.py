"""The transactional outbox: jobs as rows of the transaction that wants them, sent by the worker.

A row exists if and only if its transaction has committed. It is deleted when the server has taken the job. A crash
in between sends it twice, under the same idempotency key, so that there is one job all the same.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from typing import Any

from django.db import connections, router, transaction
from django.db.models import F

from spooled import SpooledClient
from spooled.errors import SpooledError, ValidationError
from spooled_contrib.django._database import tidy
from spooled_contrib.django.models import OutboxEntry

logger = logging.getLogger("spooled.django")

INTERVAL = 0.5
"""Seconds between two looks into the table."""

BATCH = 100

_TIMES = ("scheduled_at", "expires_at")


def put(parameters: dict[str, Any], using: str | None) -> None:
    """Write a job into the outbox of this transaction's database. One whose key waits there already is not added."""
    form = {name: _text(value) if name in _TIMES else value for name, value in parameters.items()}
    entry = OutboxEntry(idempotency_key=parameters["idempotency_key"], parameters=form)
    OutboxEntry.objects.using(using or router.db_for_write(OutboxEntry)).bulk_create(
        [entry], ignore_conflicts=True
    )


def relay(client: SpooledClient, using: str) -> int:
    """Send what is in the outbox, oldest first, and return how many jobs the server has taken.

    Several may run at the same time: rows that one is sending are skipped by the others, where the database can.

    Raises:
        SpooledError: The server cannot be reached; everything stays as it was.
    """
    sent = 0
    last = 0
    while True:
        with transaction.atomic(using=using):
            rows = OutboxEntry.objects.using(using).filter(id__gt=last).order_by("id")
            if connections[using].features.has_select_for_update_skip_locked:
                rows = rows.select_for_update(skip_locked=True)
            batch = list(rows[:BATCH])
            done, away = _send_all(client, batch, using)
            # Before anything is raised, which would undo it: what the server has taken need not be sent again.
            OutboxEntry.objects.using(using).filter(pk__in=done).delete()
        sent += len(done)
        if away is not None:
            raise away
        if len(batch) < BATCH:
            return sent
        last = batch[-1].pk


def _send_all(
    client: SpooledClient, batch: list[OutboxEntry], using: str
) -> tuple[list[int], SpooledError | None]:
    """Those that need no more sending, and what has kept the rest from it."""
    done: list[int] = []
    for entry in batch:
        try:
            taken = _send(client, entry, using)
        except SpooledError as error:
            return done, error
        if taken:
            done.append(entry.pk)
    return done, None


def _send(client: SpooledClient, entry: OutboxEntry, using: str) -> bool:
    parameters: dict[str, Any] = {
        name: dt.datetime.fromisoformat(value) if name in _TIMES else value
        for name, value in entry.parameters.items()
    }
    try:
        client.jobs.create(**parameters)
    except ValidationError as error:
        # It will be refused again; the others must not wait for it. It stays, to be looked at.
        if entry.last_error != str(error):
            logger.error("outbox entry %s is refused and stays in the outbox: %s", entry.pk, error)
        OutboxEntry.objects.using(using).filter(pk=entry.pk).update(
            attempts=F("attempts") + 1, last_error=str(error)
        )
        return False
    return True


class Relay:
    """Sends the outbox from a thread of the worker's process.

    Args:
        client: Sends the jobs.
        using: Aliases of the databases to look into.
    """

    def __init__(self, client: SpooledClient, using: list[str]) -> None:
        self._client = client
        self._using = using
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spooled-outbox", daemon=True)
        self._troubled = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is there, and end."""
        self._stopping.set()
        self._thread.join()

    def send(self) -> None:
        """Send what is there now. Never raises."""
        for alias in self._using:
            self._relay(alias)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            self.send()
            if stopping:
                connections.close_all()
                return
            self._stopping.wait(INTERVAL)

    def _relay(self, alias: str) -> None:
        tidy()
        try:
            sent = relay(self._client, alias)
        except SpooledError as error:
            self._complain("the outbox of database %r waits: %s", alias, error)
        except Exception as error:
            # Its database may be away, or not migrated yet; the worker goes on, and so does this.
            self._complain("the outbox of database %r cannot be sent: %s", alias, error)
        else:
            if self._troubled:
                logger.info("the outbox of database %r is sent again", alias)
            self._troubled = False
            if sent:
                logger.debug("sent %d jobs from the outbox of database %r", sent, alias)

    def _complain(self, text: str, alias: str, error: Exception) -> None:
        # Once, and not twice a second.
        logger.log(logging.DEBUG if self._troubled else logging.ERROR, text, alias, error)
        self._troubled = True


def _text(value: Any) -> str:
    moment = dt.datetime.now(dt.UTC) + value if isinstance(value, dt.timedelta) else value
    return str(moment.isoformat())
