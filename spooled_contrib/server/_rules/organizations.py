"""Organizations, and the server's own one (contract section 8)."""

from __future__ import annotations

import json
import re
import uuid

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._events import KEY_CHANGED
from spooled_contrib.server._keys import key_hash, key_prefix
from spooled_contrib.server._rules import api_keys, quotas
from spooled_contrib.server._storage import Row, Tx

DEVELOPMENT_ORGANIZATION_ID = "00000000-0000-4000-8000-000000000001"
SERVER_KEY_ID = "00000000-0000-4000-8000-000000000002"

COLUMNS = "id, name, slug, plan_tier, billing_email, settings, created_at, updated_at"
_SLUG = re.compile(r"[a-z0-9-]{1,100}")


def check_slug(slug: str) -> None:
    if not _SLUG.fullmatch(slug) or slug.startswith("-") or slug.endswith("-"):
        raise refuse.invalid(
            "slug",
            "must have 1 to 100 of a-z, 0-9 and '-', and not start or end with '-'",
            code="format",
        )


def ensure_server_key(tx: Tx, key: str) -> None:
    """Make the server's organization, and let exactly `key` in as its own key.

    There is one such key. A server that is started with another one shuts out the one before, the public development
    key above all.
    """
    tx.execute(
        f"INSERT INTO organizations ({COLUMNS}) VALUES (?, 'Development', 'development', ?, NULL, '{{}}', ?, ?) "  # noqa: S608
        "ON CONFLICT (id) DO NOTHING",
        (DEVELOPMENT_ORGANIZATION_ID, quotas.PLAN, tx.now, tx.now),
    )
    # The same text may have been made through the API before; the server's key takes its place.
    for (replaced,) in tx.change(
        "DELETE FROM api_keys WHERE key_hash = ? AND id <> ? RETURNING id", (key_hash(key), SERVER_KEY_ID)
    ):
        tx.tell(KEY_CHANGED, replaced)
    tx.tell(KEY_CHANGED, SERVER_KEY_ID)
    tx.execute(
        "INSERT INTO api_keys (id, organization_id, name, key_hash, key_prefix, queues, is_active, created_at) "
        "VALUES (?, ?, 'Server key', ?, ?, '[\"*\"]', 1, ?) ON CONFLICT (id) DO UPDATE SET "
        "key_hash = excluded.key_hash, key_prefix = excluded.key_prefix, queues = excluded.queues, is_active = 1, "
        "expires_at = NULL",
        (SERVER_KEY_ID, DEVELOPMENT_ORGANIZATION_ID, key_hash(key), key_prefix(key), tx.now),
    )


def create(
    tx: Tx, name: str, slug: str, billing_email: str | None, key: str, webhook_token: str
) -> tuple[Row, Row]:
    """An organization and its first key; (organization as `COLUMNS`, key as `api_keys.COLUMNS`).

    Raises:
        RefusalError: 409 when the slug or the e-mail address is taken.
    """
    if tx.select_one("SELECT 1 FROM organizations WHERE slug = ?", (slug,)) is not None:
        raise refuse.conflict(f"The slug {slug!r} is taken")
    if (
        billing_email is not None
        and tx.select_one("SELECT 1 FROM organizations WHERE billing_email = ?", (billing_email,)) is not None
    ):
        raise refuse.conflict("The billing_email is used by another organization")
    organization_id = str(uuid.uuid4())
    rows = tx.change(
        f"INSERT INTO organizations ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        f"ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
        (
            organization_id,
            name,
            slug,
            quotas.PLAN,
            billing_email,
            json.dumps({"webhook_token": webhook_token}),
            tx.now,
            tx.now,
        ),
    )
    if not rows:  # taken since it was looked up
        raise refuse.conflict("The slug or the billing_email is taken")
    first_key = api_keys.insert(tx, organization_id, "Initial Admin Key", key, ["*"], None, None)
    return rows[0], first_key


def get(tx: Tx, organization_id: str) -> Row:
    row = tx.select_one(f"SELECT {COLUMNS} FROM organizations WHERE id = ?", (organization_id,))  # noqa: S608
    if row is None:
        raise refuse.not_found()
    return row


def usage(tx: Tx, organization_id: str) -> dict[str, int]:
    """What counts against each cap now."""
    return {
        "jobs_today": quotas.jobs_today(tx, organization_id),
        "active_jobs": quotas.active_jobs(tx, organization_id),
        "queues": quotas.queues(tx, organization_id),
        "workers": quotas.workers(tx, organization_id),
        "api_keys": quotas.api_keys(tx, organization_id),
    }
