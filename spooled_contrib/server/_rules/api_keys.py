"""API keys of an organization (contract section 8)."""

from __future__ import annotations

import json
import uuid

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._events import KEY_CHANGED
from spooled_contrib.server._keys import key_hash, key_prefix
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._rules import quotas
from spooled_contrib.server._storage import Row, Tx

COLUMNS = (
    "id, organization_id, name, key_hash, key_prefix, queues, rate_limit, is_active, created_at, last_used, "
    "expires_at"
)


class KeyChange(Struct, kw_only=True):
    """What to change about a key. None keeps."""

    name: str | None = None
    queues: list[str] | None = None
    rate_limit: int | None = None
    is_active: bool | None = None


def insert(
    tx: Tx,
    organization_id: str,
    name: str,
    key: str,
    queues: list[str],
    rate_limit: int | None,
    expires_at: int | None,
) -> Row:
    return tx.change(
        f"INSERT INTO api_keys ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, NULL, ?) RETURNING {COLUMNS}",  # noqa: S608
        (
            str(uuid.uuid4()),
            organization_id,
            name,
            key_hash(key),
            key_prefix(key),
            json.dumps(queues),
            rate_limit,
            tx.now,
            expires_at,
        ),
    )[0]


def create(
    tx: Tx,
    organization_id: str,
    limits: Limits,
    *,
    name: str,
    key: str,
    queues: list[str],
    rate_limit: int | None,
    expires_at: int | None,
) -> Row:
    if expires_at is not None and expires_at <= tx.now:
        raise refuse.invalid("expires_at", "must be in the future", code="range")
    quotas.check_api_key(tx, organization_id, limits)
    return insert(tx, organization_id, name, key, queues, rate_limit, expires_at)


def list_keys(tx: Tx, organization_id: str) -> list[Row]:
    return tx.select(
        f"SELECT {COLUMNS} FROM api_keys WHERE organization_id = ? ORDER BY created_at DESC, id",  # noqa: S608
        (organization_id,),
    )


def get_key(tx: Tx, organization_id: str, key_id: str) -> Row:
    row = tx.select_one(
        f"SELECT {COLUMNS} FROM api_keys WHERE id = ? AND organization_id = ?",  # noqa: S608
        (key_id, organization_id),
    )
    if row is None:
        raise refuse.not_found()
    return row


def change_key(tx: Tx, organization_id: str, limits: Limits, key_id: str, change: KeyChange) -> Row:
    row = get_key(tx, organization_id, key_id)
    tx.tell(KEY_CHANGED, key_id)
    if change.is_active and not row[7]:
        quotas.check_api_key(tx, organization_id, limits)
    return tx.change(
        "UPDATE api_keys SET name = COALESCE(?, name), queues = COALESCE(?, queues), "  # noqa: S608
        "rate_limit = COALESCE(?, rate_limit), is_active = COALESCE(?, is_active) "
        f"WHERE id = ? AND organization_id = ? RETURNING {COLUMNS}",
        (
            change.name,
            None if change.queues is None else json.dumps(change.queues),
            change.rate_limit,
            None if change.is_active is None else int(change.is_active),
            key_id,
            organization_id,
        ),
    )[0]


def revoke(tx: Tx, organization_id: str, key_id: str) -> None:
    """Soft: the row stays and is listed as inactive."""
    get_key(tx, organization_id, key_id)
    tx.execute("UPDATE api_keys SET is_active = 0 WHERE id = ?", (key_id,))
    tx.tell(KEY_CHANGED, key_id)


def find_by_hash(tx: Tx, digest: str) -> Row | None:
    return tx.select_one(f"SELECT {COLUMNS} FROM api_keys WHERE key_hash = ?", (digest,))  # noqa: S608


def find_by_id(tx: Tx, key_id: str) -> Row | None:
    return tx.select_one(f"SELECT {COLUMNS} FROM api_keys WHERE id = ?", (key_id,))  # noqa: S608


def touch(tx: Tx, key_id: str) -> None:
    tx.execute("UPDATE api_keys SET last_used = ? WHERE id = ?", (tx.now, key_id))
