"""The outbox's table: write a row, claim rows to send, delete what was sent, keep what was refused.

Every function is one short transaction, or a part of the caller's. Nothing is locked when it returns: a claim is a time
in the row, so that a sender that dies holds nothing for longer than `CLAIM` seconds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.db.models import Q, QuerySet
from django.utils import timezone

from spooled_contrib.django.models import OutboxEntry

logger = logging.getLogger("spooled.django")

T = TypeVar("T")

BATCH = 100

CLAIM = 15.0
"""Seconds for which a claim holds unless it is renewed."""

FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 3600.0
"""Seconds until a refused row is tried again: after the first refusal, and at most."""

TIMES = ("scheduled_at", "expires_at")
"""Parameters that are text in the table."""

_REASON_LIMIT = 2000


def digest_of(key: str) -> str:
    """Return what tells keys apart in every database: collations may ignore case, accents and trailing spaces."""
    return hashlib.sha256(key.encode()).hexdigest()


def put(parameters: dict[str, Any], using: str | None) -> None:
    """Write a job into the outbox of this transaction's database.

    A job whose key waits there already is not added, as the server would not; a waiting one that the server has refused
    is replaced.
    """
    alias = using or router.db_for_write(OutboxEntry)
    key = parameters["idempotency_key"]
    form = {name: _text(value) if name in TIMES else value for name, value in parameters.items()}
    _begin(alias)
    with transaction.atomic(using=alias, savepoint=False):
        # Not `bulk_create(ignore_conflicts=True)`: MySQL and SQLite would ignore all other errors with it.
        for attempt in range(3):
            try:
                with transaction.atomic(using=alias):
                    OutboxEntry.objects.using(alias).create(
                        idempotency_key=key, key_digest=digest_of(key), parameters=form
                    )
                return
            except IntegrityError:
                if _waits(alias, digest_of(key), form):
                    return
                # The other row was sent and deleted in between; any other cause comes again.
                if attempt == 2:
                    raise


def _begin(using: str) -> None:
    """Begin a transaction on SQLite where autocommit is off: there, the end of a savepoint would commit without one."""
    connection = connections[using]
    if connection.vendor != "sqlite" or connection.in_atomic_block or connection.get_autocommit():
        return
    if not connection.connection.in_transaction:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")


def _waits(using: str, digest: str, form: dict[str, Any]) -> bool:
    """Return whether there is a row with this key; if it was refused, it gets the new parameters."""
    same = OutboxEntry.objects.using(using).filter(key_digest=digest)
    # Both lock the row, and so look at what has been committed since this transaction began.
    replaced = same.exclude(last_error="").update(
        parameters=form, attempts=0, last_error="", next_attempt_at=None
    )
    return replaced > 0 or same.select_for_update().values_list("pk").first() is not None


def claim(using: str, after: int) -> tuple[str, list[OutboxEntry]]:
    """Claim up to `BATCH` rows that are due, oldest first.

    Args:
        using: The database's alias.
        after: Only rows with a larger id.

    Returns:
        What names the claim, and the rows: none when nothing is due, or when others were quicker.
    """
    token = uuid.uuid4().hex

    def take() -> list[OutboxEntry]:
        now = timezone.now()
        rows = OutboxEntry.objects.using(using)
        due = rows.filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))
        with _briefly(using):
            # Without a lock. An idle outbox writes nothing.
            ids = list(due.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not ids:
            return []
        with _briefly(using):
            features = connections[using].features
            if features.has_select_for_update_skip_locked:
                free = due.filter(pk__in=ids).select_for_update(skip_locked=True)
                ids = list(free.values_list("pk", flat=True))
            # On SQLite the first statement of a transaction must write, if any does: a reader cannot become a writer
            # when another one has written meanwhile.
            due.filter(pk__in=ids).update(claimed_by=token, next_attempt_at=now + dt.timedelta(seconds=CLAIM))
        with _briefly(using):
            return list(rows.filter(claimed_by=token).order_by("pk"))

    return token, _reconnecting(using, take)


def renew(using: str, token: str) -> None:
    """Keep the rows of a claim for `CLAIM` seconds from now."""
    _update_claim(using, token, timezone.now() + dt.timedelta(seconds=CLAIM), token)


def release(using: str, token: str) -> None:
    """Let others have the rows of a claim that are left."""
    _update_claim(using, token, None, None)


def delete(using: str, ids: Iterable[int]) -> None:
    """Delete rows whose jobs the server has."""

    def forget() -> None:
        with _briefly(using):
            OutboxEntry.objects.using(using).filter(pk__in=list(ids)).delete()

    _reconnecting(using, forget)


def keep(using: str, token: str, entry: OutboxEntry, reason: str) -> None:
    """Note in a claimed row why it was refused, and when it is tried again."""
    attempts = entry.attempts + 1
    pause = min(FIRST_BACKOFF * 2 ** min(attempts - 1, 30), LONGEST_BACKOFF)
    said = reason.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\0")[:_REASON_LIMIT]
    if entry.last_error != said:
        logger.error(
            "outbox entry %s of database %r is refused; it stays in the outbox, to be tried again later: %s",
            entry.pk,
            using,
            said,
        )
        entry.last_error = said

    def note(text: str) -> None:
        with _briefly(using):
            OutboxEntry.objects.using(using).filter(pk=entry.pk, claimed_by=token).update(
                attempts=attempts,
                last_error=text,
                next_attempt_at=timezone.now() + dt.timedelta(seconds=pause),
                claimed_by=None,
            )

    try:
        _reconnecting(using, lambda: note(said))
    except DatabaseError:
        # A character that the table's encoding does not have must not keep the row from being put aside.
        plain = said.encode("ascii", "backslashreplace").decode()[:_REASON_LIMIT]
        if plain == said:
            raise
        note(plain)


def _update_claim(using: str, token: str, until: dt.datetime | None, claimed_by: str | None) -> None:
    def update() -> None:
        rows: QuerySet[OutboxEntry] = OutboxEntry.objects.using(using).filter(claimed_by=token)
        with _briefly(using):
            rows.update(next_attempt_at=until, claimed_by=claimed_by)

    _reconnecting(using, update)


@contextlib.contextmanager
def _briefly(using: str) -> Iterator[None]:
    """Run the block in a transaction that is over when it ends, also where autocommit is off."""
    connection = connections[using]
    nested = connection.in_atomic_block
    try:
        with transaction.atomic(using=using):
            yield
    except BaseException:
        if not nested and connection.connection is not None and not connection.get_autocommit():
            connection.rollback()
        raise
    if not nested and not connection.get_autocommit():
        connection.commit()


def _reconnecting(using: str, step: Callable[[], T]) -> T:
    """Do it once more on a new connection when the old one has been closed by the other side."""
    try:
        return step()
    except (InterfaceError, OperationalError):
        connection = connections[using]
        if connection.in_atomic_block or (connection.connection is not None and connection.is_usable()):
            raise
        connection.close()
        return step()


def _text(value: Any) -> str:
    moment = dt.datetime.now(dt.UTC) + value if isinstance(value, dt.timedelta) else value
    return str(moment.isoformat())
