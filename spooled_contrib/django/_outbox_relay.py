"""The threads of the worker's process that send the outboxes, one for each database."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Sequence

from django.db import DatabaseError, connections

from spooled import SpooledClient
from spooled.config import RetryConfig
from spooled.errors import SpooledError
from spooled_contrib.django._database import close_stale
from spooled_contrib.django._outbox import Sender

logger = logging.getLogger("spooled.django")

INTERVAL = 0.5
"""Seconds between two looks into a table."""

LONGEST_PAUSE = 15.0
"""Seconds between two looks when there is trouble, at most; a server may ask for more."""

LONGEST_WAIT = 3600.0
"""Seconds that a server may ask to wait."""

LAST_PASS = 5.0
"""Seconds in which rows that the last jobs have written are sent at the end."""

LAST_REQUESTS = 1.0
"""Seconds after that for the requests that are under way."""

AFTER_SHUTDOWN = 8.0
"""Seconds after the workers' `shutdown_timeout` in which both must be over."""


class Relays:
    """Send the outboxes of several databases, from `start` to `finish`. None of them waits for another.

    Args:
        client: Its options are used, with a client of this object's own.
        using: Aliases of the databases.
    """

    def __init__(self, client: SpooledClient, using: Sequence[str]) -> None:
        # Trying again is this module's task: it can be interrupted, and its log says what is going on.
        config = client.config.replace(retry=RetryConfig(max_retries=0))
        self._client = SpooledClient(config=config)
        self._relays = [Relay(self._client, alias) for alias in using]
        self._end_by = math.inf

    def start(self) -> None:
        """Start, without waiting for any database or the server."""
        for relay in self._relays:
            relay.start()

    def finish(self) -> None:
        """Send what is left and end, within `LAST_PASS` + `LAST_REQUESTS` seconds, whatever can be reached."""
        for relay in self._relays:
            relay.stop()
        give_up_at = min(time.monotonic() + LAST_PASS, self._end_by - LAST_REQUESTS)
        for relay in self._relays:
            relay.wait(give_up_at - time.monotonic())
        for relay in self._relays:
            relay.interrupt()
        give_up_at = time.monotonic() + LAST_REQUESTS
        if all(relay.wait(give_up_at - time.monotonic()) for relay in self._relays):
            self._client.close()
        else:
            logger.warning(
                "the outbox could not be sent to its end before the worker ended; the rows stay, and the next worker "
                "sends them"
            )

    def end_after(self, shutdown_timeout: float) -> None:
        """Note that the workers have been asked to stop, and how many seconds their jobs get.

        The end of the outbox then waits for what hangs no longer than `AFTER_SHUTDOWN` seconds after that.
        """
        self._end_by = time.monotonic() + shutdown_timeout + AFTER_SHUTDOWN

    def have_looked(self) -> bool:
        """Return whether every outbox has been sent once, or could not be."""
        return all(relay.has_looked for relay in self._relays)


class Relay:
    """Sends the outbox of one database from a thread. The thread is a daemon: it may wait for what never answers."""

    def __init__(self, client: SpooledClient, using: str) -> None:
        self._using = using
        self._sender = Sender(client, using)
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"spooled-outbox-{using}", daemon=True)
        self._server = _Trouble()
        self._database = _Trouble()

    @property
    def has_looked(self) -> bool:
        """Whether the first pass is over."""
        return self._looked.is_set()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for one more pass and then the end; where there is trouble already, for the end."""
        self._stopping.set()

    def interrupt(self) -> None:
        """Ask for the end after the requests that are under way."""
        self._sender.interrupt()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether it has come."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            pause = self._pass()
            self._looked.set()
            if last or (self._stopping.wait(pause) and (self._server or self._database)):
                break
        connections.close_all()

    def _pass(self) -> float:
        """Send what is due. Return the seconds until the next pass."""
        close_stale()
        before = self._sender.sent
        wait = 0.0
        try:
            self._sender.send()
        except SpooledError as error:
            self._end_database_trouble()
            if self._sender.sent > before:
                self._server.over()
            cause = f"{type(error).__name__} {error.status_code} {error.code}"
            wait = self._server.begin(cause)
            if self._server.is_news:
                logger.error("the outbox of database %r waits: %s", self._using, error)
            else:
                logger.debug("the outbox of database %r waits: %s", self._using, error)
            wait = max(wait, min(error.server_wait or 0.0, LONGEST_WAIT))
        except Exception as error:
            # Its database may be away, or not migrated yet; the worker goes on, and so does this.
            wait = self._database.begin(f"{type(error).__name__} {error}")
            level = logging.ERROR if self._database.is_news else logging.DEBUG
            logger.log(
                level,
                "the outbox of database %r cannot be sent: %s; trying again from time to time",
                self._using,
                str(error).strip() or type(error).__name__,
                exc_info=None if isinstance(error, DatabaseError) else error,
            )
        else:
            self._end_database_trouble()
            if self._sender.sent > before:
                if self._server.over():
                    logger.info("the outbox of database %r is sent again", self._using)
                logger.debug(
                    "sent %d jobs from the outbox of database %r", self._sender.sent - before, self._using
                )
            # A pass without a row says nothing about the server.
            wait = self._server.pause
        return max(wait, INTERVAL)

    def _end_database_trouble(self) -> None:
        if self._database.over():
            logger.info("the outbox of database %r can be read again", self._using)


class _Trouble:
    """A trouble that may have several causes, one after the other. True as long as it lasts.

    Attributes:
        pause: Seconds to wait before the next attempt; 0 when all is well.
        is_news: Whether the latest cause had not been there since all was well.
    """

    def __init__(self) -> None:
        self.pause = 0.0
        self.is_news = False
        self._causes: set[str] = set()

    def begin(self, cause: str) -> float:
        """Note that it is there, or still there; return the pause."""
        # Numbers are ports, process ids, times: not another cause.
        cause = re.sub(r"\d+", "#", cause)
        self.is_news = cause not in self._causes
        self._causes.add(cause)
        self.pause = min(max(INTERVAL, self.pause * 2), LONGEST_PAUSE)
        return self.pause

    def over(self) -> bool:
        """Note that all is well; return whether it was not."""
        was = bool(self)
        self.pause = 0.0
        self._causes.clear()
        return was

    def __bool__(self) -> bool:
        return self.pause > 0
