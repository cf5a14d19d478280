"""The transactional outbox: jobs as rows of the transaction that wants them, sent by the worker.

A row exists if and only if its transaction has committed. It is deleted when the server has taken the job. A crash
in between sends it twice, under the same idempotency key, so that there is one job all the same. The database and the
server are never waited for at the same time: rows are claimed, sent, and deleted.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import queue
import threading
import time
from collections import deque
from typing import Any

from django.db import DatabaseError

from spooled import SpooledClient
from spooled.errors import QuotaExceededError, RateLimitError, SpooledError, ValidationError
from spooled_contrib.django import _outbox_table as table
from spooled_contrib.django.models import OutboxEntry

CONNECTIONS = 4
"""Queues that are sent side by side. Within a queue one row follows the other."""

STUBBORN = 3
"""Passes in a row that end at the same place before the next one starts behind it."""

_REMEMBERED = 10_000

Result = tuple[OutboxEntry, str | None]
"""A row with the reason of its refusal, or with None when the server has its job."""


def relay(client: SpooledClient, using: str) -> int:
    """Send what is due in the outbox of a database, and return how many jobs the server has taken.

    Raises:
        SpooledError: The server cannot be reached or takes nothing; what was not sent stays as it was.
    """
    return Sender(client, using).send()


class Sender:
    """Sends the outbox of one database, pass after pass, and remembers which rows made trouble.

    What the server says about a row puts the row aside, with the reason and a back-off, and the others go on. What it
    says about all rows, or does not say, ends the pass and is not held against any row. In between are answers such as
    500, of which nobody knows: a row that has failed so is put aside when it fails again after others have got through,
    and others get a chance to when passes keep ending at the same row.

    Args:
        client: Sends the jobs.
        using: The database's alias.
    """

    def __init__(self, client: SpooledClient, using: str) -> None:
        self._client = client
        self._using = using
        self._interrupted = threading.Event()
        self._lock = threading.Lock()
        self._sent = 0
        self._trouble: SpooledError | None = None
        # For rows that have failed for an unknown reason: how many had been sent by then.
        self._failed: dict[int, int] = {}
        self._barren_passes = 0
        self._last_failed = 0

    @property
    def sent(self) -> int:
        """Jobs that the server has taken from this sender so far."""
        return self._sent

    def interrupt(self) -> None:
        """End the pass that is under way after the requests that are under way."""
        self._interrupted.set()

    def send(self) -> int:
        """Send what is due, oldest first, and return how many jobs the server has taken.

        Several senders may work on one table at the same time; each row is claimed by one of them.

        Raises:
            SpooledError: The server cannot be reached or takes nothing now.
            DatabaseError: The database cannot be asked.
        """
        before = self._sent
        behind = after = self._last_failed if self._barren_passes >= STUBBORN else 0
        self._trouble = None
        while not self._interrupted.is_set():
            token, rows = table.claim(self._using, after)
            if not rows:
                if not after or after != behind:
                    break
                # There is nothing behind it, so from the beginning.
                behind = after = 0
                continue
            after = rows[-1].pk
            trouble = self._send_batch(token, rows)
            if trouble is not None:
                self._barren_passes = 0 if self._sent > before else self._barren_passes + 1
                raise trouble
        # Also when it began behind rows that failed: their turn is in the next pass.
        self._barren_passes = 0
        return self._sent - before

    def _send_batch(self, token: str, rows: list[OutboxEntry]) -> SpooledError | None:
        """Send claimed rows, and return what has kept some of them from being sent."""
        lanes: dict[str, list[OutboxEntry]] = {}
        for entry in rows:
            lanes.setdefault(_queue_of(entry), []).append(entry)
        waiting = deque(lanes.values())
        results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        busy = min(CONNECTIONS, len(waiting))
        for _ in range(busy):
            # Daemons, because a server that never answers must not keep the process from ending.
            threading.Thread(
                target=self._send_lanes, args=(waiting, results), name="spooled-outbox-send", daemon=True
            ).start()
        news: list[Result] = []
        look_at = time.monotonic() + table.CLAIM / 3
        while busy:
            with contextlib.suppress(queue.Empty):
                one = results.get(timeout=max(0.0, look_at - time.monotonic()))
                if one is None:
                    busy -= 1
                else:
                    news.append(one)
            if time.monotonic() >= look_at:
                # Requests may take longer than a claim. If the database is in trouble, the end will tell.
                with contextlib.suppress(DatabaseError):
                    self._settle(token, news)
                    news.clear()
                    table.renew(self._using, token)
                look_at = time.monotonic() + table.CLAIM / 3
        self._settle(token, news)
        if len(news) < len(rows):
            table.release(self._using, token)
        return self._trouble

    def _send_lanes(
        self, waiting: deque[list[OutboxEntry]], results: queue.SimpleQueue[Result | None]
    ) -> None:
        try:
            while True:
                try:
                    lane = waiting.popleft()
                except IndexError:
                    return
                for entry in lane:
                    if self._trouble is not None or self._interrupted.is_set():
                        return
                    result = self._send_one(entry)
                    if result is not None:
                        results.put(result)
        finally:
            results.put(None)

    def _send_one(self, entry: OutboxEntry) -> Result | None:
        """Return what has become of a row; None when it stays as it was, because of trouble."""
        try:
            _create(self._client, entry)
        except SpooledError as error:
            if not _is_about_the_row(error) and not self._is_stubborn(entry.pk, error):
                self._trouble = self._trouble or error
                return None
            # Another one every time, and of no use later.
            error.request_id = None
            reason = str(error)
        except Exception as error:
            # Parameters that this release does not know or cannot read, or a fault of its own.
            reason = f"{type(error).__name__}: {error}"
        else:
            with self._lock:
                self._sent += 1
                self._failed.pop(entry.pk, None)
            return entry, None
        with self._lock:
            self._failed.pop(entry.pk, None)
        return entry, reason

    def _is_stubborn(self, pk: int, error: SpooledError) -> bool:
        """Return whether a row fails again for an unknown reason while others get through."""
        if isinstance(error, RateLimitError) or not error.is_retryable():
            return False
        with self._lock:
            if pk in self._failed and self._failed[pk] < self._sent:
                return True
            if len(self._failed) >= _REMEMBERED:
                self._failed.clear()
            self._failed.setdefault(pk, self._sent)
            self._last_failed = pk
            return False

    def _settle(self, token: str, news: list[Result]) -> None:
        taken = [entry.pk for entry, reason in news if reason is None]
        if taken:
            table.delete(self._using, taken)
        for entry, reason in news:
            if reason is not None:
                table.keep(self._using, token, entry, reason)


def _queue_of(entry: OutboxEntry) -> str:
    parameters: object = entry.parameters
    return str(parameters.get("queue_name")) if isinstance(parameters, dict) else ""


def _create(client: SpooledClient, entry: OutboxEntry) -> None:
    given: object = entry.parameters
    if not isinstance(given, dict):
        raise TypeError(f"the parameters of a job must be a JSON object, got {type(given).__name__}")
    parameters: dict[str, Any] = {
        name: dt.datetime.fromisoformat(value) if name in table.TIMES and value is not None else value
        for name, value in given.items()
    }
    # Never without a key: it is what makes one job of a row that is sent twice.
    parameters["idempotency_key"] = parameters.get("idempotency_key") or entry.idempotency_key
    client.jobs.create(**parameters)


def _is_about_the_row(error: SpooledError) -> bool:
    """Return whether this one row is refused. Other answers are about the key, the address, the time or the server."""
    if isinstance(error, QuotaExceededError):
        # Only a new queue is refused then, not a job on a known one.
        return error.resource == "queues"
    if isinstance(error, ValidationError):
        return True
    return 400 <= error.status_code < 500 and error.status_code not in (401, 404, 405, 407, 408, 425, 429)
