"""Know whether the database can be written, and say once when that changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from spooled_contrib.server._storage import Storage
from spooled_contrib.server._storage.errors import (
    DatabaseOutageError,
    OperationTimeoutError,
    StorageFailedError,
    UncertainCommitError,
)

logger = logging.getLogger("spooled.server.database")

PROBE_SECONDS = 1.0
"""How long the answer of a probe is good for, and how often is looked whether an outage is over."""

PATIENCE_SECONDS = 5.0
"""How long a probe may take."""

LONGEST_QUIET_SECONDS = 60.0
"""An outage that comes again within this time is said to be over only after it stayed away for longer each time."""

NO_ANSWER = "the database does not answer"


class DatabaseHealth:
    """The state of one server's database. Belongs to its event loop.

    Nothing is probed while nobody asks and nothing fails. A failure that an operation met counts at once; from then on
    the database is probed each second until it can be written again.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._now = asyncio.get_running_loop().time
        self._outage: StorageFailedError | None = None
        self._proved_at = self._failed_at = self._over_at = float("-inf")
        self._quiet = PROBE_SECONDS
        self._causes: set[str] = set()
        self._refused = self._uncertain = 0
        self._probe: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def reason(self) -> str | None:
        """Why the database cannot be used, in words for clients; None as long as nothing else is known."""
        return None if self._outage is None else self._outage.reason

    def require_usable(self) -> None:
        """Return unless it is known that the database cannot be used and that to try would take seconds.

        Raises:
            DatabaseOutageError: It is.
        """
        outage = self._outage
        if isinstance(outage, DatabaseOutageError) and outage.slow:
            raise outage.again()

    async def check(self) -> str | None:
        """Return why the database cannot be written, None if it can. Probes at most once a second for all callers."""
        if self._outage is None and self._now() >= self._proved_at + PROBE_SECONDS:
            await self._probe_now()
        return self.reason

    def failed(self, error: StorageFailedError) -> None:
        """Take in that an operation failed (`Hub.database_failed`)."""
        if isinstance(error, (DatabaseOutageError, UncertainCommitError)):
            self._down(error)

    def refused(self, error: StorageFailedError) -> None:
        """Count a request that was answered with this error."""
        if isinstance(error, UncertainCommitError):
            self._uncertain += 1
        else:
            self._refused += 1

    async def stop(self) -> None:
        """Probe no more."""
        for task in (self._watch, self._probe):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _probe_now(self) -> None:
        """Wait for the probe that is under way, or for a new one."""
        if self._probe is None:
            self._probe = asyncio.ensure_future(self._run_probe())
        done, _ = await asyncio.wait({self._probe}, timeout=PATIENCE_SECONDS)
        if not done and self._outage is None:
            self._down(OperationTimeoutError(f"no answer within {PATIENCE_SECONDS:g} s", reason=NO_ANSWER))

    async def _run_probe(self) -> None:
        began = self._now()
        try:
            await self._storage.probe()
        except StorageFailedError as error:
            self._down(error)
        except Exception as error:
            logger.debug("the probe of the database failed", exc_info=error)
            self._down(StorageFailedError(f"{type(error).__name__}: {error}"))
        else:
            self._proved_at = self._now()
            # A disk that is nearly full has room for a probe, and none for what was refused a moment ago.
            if began >= self._failed_at + PROBE_SECONDS:
                self._outage = None
        finally:
            self._probe = None

    def _down(self, error: StorageFailedError) -> None:
        self._failed_at = self._now()
        self._outage = error
        if error.reason not in self._causes:
            again = ", now for another reason" if self._causes else ""
            detail = " ".join(str(error).split())
            logger.error(
                "the database cannot be used%s: %s. Requests are answered 503 until it can be used again",
                again,
                detail,
            )
            self._causes.add(error.reason)
        if self._watch is None:
            recent = self._now() < self._over_at + LONGEST_QUIET_SECONDS
            self._quiet = min(2 * self._quiet, LONGEST_QUIET_SECONDS) if recent else PROBE_SECONDS
            self._watch = asyncio.ensure_future(self._watch_it())

    async def _watch_it(self) -> None:
        while self._outage is not None or self._now() < self._failed_at + self._quiet:
            await asyncio.sleep(PROBE_SECONDS)
            await self._probe_now()
        logger.info(
            "the database can be used again; %d requests were refused meanwhile%s",
            self._refused,
            f", and of {self._uncertain} it is not known whether they were carried out"
            if self._uncertain
            else "",
        )
        self._causes.clear()
        self._refused = self._uncertain = 0
        self._over_at = self._now()
        self._watch = None
