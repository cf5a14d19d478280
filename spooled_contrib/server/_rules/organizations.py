"""Organizations, and the server's own one (contract section 8)."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import uuid
from typing import Any

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._events import KEY_CHANGED
from spooled_contrib.server._keys import key_hash, key_prefix
from spooled_contrib.server._plans import PlanRow
from spooled_contrib.server._rules import api_keys, quotas
from spooled_contrib.server._storage import Row, Tx

DEVELOPMENT_ORGANIZATION_ID = "00000000-0000-4000-8000-000000000001"
SERVER_KEY_ID = "00000000-0000-4000-8000-000000000002"

COLUMNS = "id, name, slug, plan_tier, billing_email, settings, created_at, updated_at"
WEBHOOK_TOKEN = "webhook_token"  # noqa: S105 - where it is kept among the settings
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
    tx: Tx,
    name: str,
    slug: str,
    billing_email: str | None,
    key: str,
    webhook_token: str,
    plan: str | None = None,
) -> tuple[Row, Row]:
    """Return an organization and its first key; (organization as `COLUMNS`, key as `api_keys.COLUMNS`).

    Raises:
        RefusalError: 409 when the slug or the e-mail address is taken.
    """
    if not slug_is_free(tx, slug):
        raise refuse.conflict(f"The slug {slug!r} is taken")
    if billing_email is not None:
        _check_email_is_free(tx, billing_email, "")
    organization_id = str(uuid.uuid4())
    rows = tx.change(
        f"INSERT INTO organizations ({COLUMNS}, assigned_plan) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        f"ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
        (
            organization_id,
            name,
            slug,
            quotas.PLAN,
            billing_email,
            json.dumps({WEBHOOK_TOKEN: webhook_token}),
            tx.now,
            tx.now,
            plan,
        ),
    )
    if not rows:  # taken since it was looked up
        raise refuse.conflict("The slug or the billing_email is taken")
    first_key = api_keys.insert(tx, organization_id, "Initial Admin Key", key, ["*"], None, None)
    return rows[0], first_key


def get(tx: Tx, organization_id: str) -> Row:
    """`COLUMNS`.

    Raises:
        RefusalError: 404 when unknown or deleted.
    """
    row = tx.select_one(
        f"SELECT {COLUMNS} FROM organizations WHERE id = ? AND deleted_at IS NULL",  # noqa: S608
        (organization_id,),
    )
    if row is None:
        raise refuse.not_found()
    return row


def usage(tx: Tx, organization_id: str) -> dict[str, int]:
    """Return what counts against each cap now."""
    return {
        "jobs_today": quotas.jobs_today(tx, organization_id),
        "active_jobs": quotas.active_jobs(tx, organization_id),
        "queues": quotas.queues(tx, organization_id),
        "workers": quotas.workers(tx, organization_id),
        "api_keys": quotas.api_keys(tx, organization_id),
        "schedules": quotas.schedules(tx, organization_id),
        "workflows": quotas.workflows(tx, organization_id),
        "webhooks": quotas.webhooks(tx, organization_id),
    }


def webhook_token(tx: Tx, organization_id: str) -> str | None:
    """Return the token that opens the organization's inbound webhook; None when there was never one."""
    token = json.loads(get(tx, organization_id)[5]).get(WEBHOOK_TOKEN)
    return token if isinstance(token, str) and token else None


def set_webhook_token(tx: Tx, organization_id: str, token: str) -> None:
    settings = {**json.loads(get(tx, organization_id)[5]), WEBHOOK_TOKEN: token}
    tx.execute(
        "UPDATE organizations SET settings = ?, updated_at = ? WHERE id = ?",
        (json.dumps(settings), tx.now, organization_id),
    )


def change(
    tx: Tx,
    organization_id: str,
    name: str | None,
    billing_email: str | None,
    settings: dict[str, Any] | None,
) -> Row:
    """Change what is given; `COLUMNS`. `settings` replaces all settings but the webhook token.

    Raises:
        RefusalError: 404; 409 when another organization has the e-mail address.
    """
    row = get(tx, organization_id)
    if billing_email is not None:
        _check_email_is_free(tx, billing_email, organization_id)
    kept = json.loads(row[5])
    if settings is not None:
        settings = {key: value for key, value in settings.items() if key != WEBHOOK_TOKEN}
        if WEBHOOK_TOKEN in kept:
            settings[WEBHOOK_TOKEN] = kept[WEBHOOK_TOKEN]
    return tx.change(
        "UPDATE organizations SET name = COALESCE(?, name), billing_email = COALESCE(?, billing_email), "  # noqa: S608
        f"settings = COALESCE(?, settings), updated_at = ? WHERE id = ? RETURNING {COLUMNS}",
        (
            name,
            billing_email,
            None if settings is None else json.dumps(settings),
            tx.now,
            organization_id,
        ),
    )[0]


def delete(tx: Tx, organization_id: str) -> None:
    """Close an organization: its keys open nothing any more, its name and address are free. Its rows stay.

    Raises:
        RefusalError: 404; 409 while it has unfinished jobs, live workers or active schedules, and always for the
            server's own.
    """
    get(tx, organization_id)
    if organization_id == DEVELOPMENT_ORGANIZATION_ID:
        raise refuse.conflict("The server's own organization cannot be deleted")
    for what, count in (
        ("active jobs", quotas.active_jobs(tx, organization_id)),
        ("active workers", quotas.workers(tx, organization_id)),
        ("active schedules", quotas.schedules(tx, organization_id)),
    ):
        if count:
            raise refuse.conflict(f"The organization has {count} {what}")
    tx.execute(
        "UPDATE organizations SET deleted_at = ?, updated_at = ?, slug = slug || '-' || id, billing_email = NULL "
        "WHERE id = ?",
        (tx.now, tx.now, organization_id),
    )
    for (key_id,) in tx.change(
        "UPDATE api_keys SET is_active = 0 WHERE organization_id = ? RETURNING id", (organization_id,)
    ):
        tx.tell(KEY_CHANGED, key_id)
    tx.execute("UPDATE webhooks SET enabled = 0 WHERE organization_id = ?", (organization_id,))


def plans(tx: Tx) -> list[PlanRow]:
    """The organizations that have a plan or limits of their own: id, plan and limits."""
    rows = tx.select(
        "SELECT id, assigned_plan, custom_limits FROM organizations "
        "WHERE assigned_plan IS NOT NULL OR custom_limits IS NOT NULL"
    )
    return [(row[0], row[1], None if row[2] is None else json.loads(row[2])) for row in rows]


def slug_is_free(tx: Tx, slug: str) -> bool:
    return tx.select_one("SELECT 1 FROM organizations WHERE slug = ?", (slug,)) is None


def free_slug(tx: Tx, wanted: str) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, ... that nobody has."""
    candidates = itertools.chain([wanted], (f"{wanted[:90]}-{number}" for number in itertools.count(2)))
    return next(slug for slug in candidates if slug_is_free(tx, slug))


def slug_of(name: str) -> str:
    """Return a slug made of a name; `organization` when nothing of the name can be in one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:90].strip("-") or "organization"


def email_is_known(tx: Tx, email: str) -> bool:
    return tx.select_one("SELECT 1 FROM organizations WHERE billing_email = ?", (email,)) is not None


def _check_email_is_free(tx: Tx, email: str, organization_id: str) -> None:
    row = tx.select_one("SELECT id FROM organizations WHERE billing_email = ?", (email,))
    if row is not None and row[0] != organization_id:
        raise refuse.conflict("The billing_email is used by another organization")
