"""The outbox in the admin: refused rows with their reason, "Send again" and "Drop"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.test import override_settings
from django.utils.html import escape
from shop.jobs import gate

from spooled_contrib.django import get_client
from spooled_contrib.django._outbox import relay
from spooled_contrib.django.models import OutboxEntry
from tests.django.test_admin import client
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db", "outbox")

LIST = "/admin/spooled/outboxentry/"


@pytest.fixture
def outbox(spooled_django: Any) -> Iterator[None]:
    with override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": True}):
        LogEntry.objects.all().delete()
        yield


@pytest.fixture
def refused() -> OutboxEntry:
    gate.enqueue_on_commit("x", idempotency_key="bad")
    OutboxEntry.objects.update(parameters={"queue_name": "gates", "payload": 1, "colour": "<red>"})
    assert relay(get_client(), "default") == 0
    gate.enqueue_on_commit("x", idempotency_key="good")
    return OutboxEntry.objects.get(idempotency_key="bad")


def test_the_list_shows_why(refused: OutboxEntry) -> None:
    ada = client("view_outboxentry")
    page = ada.get(LIST).content.decode()
    assert escape(refused.last_error) in page
    assert page.count('name="_selected_action"') in (0, 2)  # no action, no boxes
    assert "good" not in ada.get(LIST, {"state": "refused"}).content.decode()
    assert str(refused.pk) in ada.get(f"{LIST}{refused.pk}/change/").content.decode()
    assert client("view_queue").get(LIST).status_code == 403


@pytest.mark.parametrize("parameters", [[1], None, "text", {}])
def test_rows_that_make_no_sense_are_shown(refused: OutboxEntry, parameters: Any) -> None:
    from django.db.models import JSONField, Value

    OutboxEntry.objects.filter(pk=refused.pk).update(parameters=Value(parameters, JSONField()))
    ada = client(superuser=True)
    assert ada.get(LIST).status_code == 200
    assert ada.get(f"{LIST}{refused.pk}/change/").status_code == 200
    assert ada.get(f"{LIST}{refused.pk}/delete/").status_code == 200


def test_send_again_needs_a_permission_and_leaves_an_entry(refused: OutboxEntry, outside: Outside) -> None:
    post = {"action": "send_again", "_selected_action": [entry.pk for entry in OutboxEntry.objects.all()]}
    watching = client("view_outboxentry")
    assert "send_again" not in watching.get(LIST).content.decode()
    watching.post(LIST, post)
    refused.refresh_from_db()
    assert refused.attempts == 1

    OutboxEntry.objects.filter(pk=refused.pk).update(
        parameters={"queue_name": "gates", "payload": 1, "idempotency_key": "bad"}
    )
    ada = client("view_outboxentry", "change_outboxentry")
    page = ada.get(LIST).content.decode()
    assert "Send again" in page
    assert "delete_selected" not in page
    done = ada.post(LIST, post, follow=True).content.decode()
    assert "1 entry will be sent again." in done
    refused.refresh_from_db()
    assert (refused.attempts, refused.last_error, refused.next_attempt_at) == (0, "", None)
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id) == (CHANGE, str(refused.pk))
    assert relay(get_client(), "default") == 2
    assert outside.counts("gates")["total"] == 2


def test_send_again_leaves_alone_what_waits(refused: OutboxEntry) -> None:
    waiting = OutboxEntry.objects.get(idempotency_key="good")
    ada = client(superuser=True)
    post = {"action": "send_again", "_selected_action": [waiting.pk]}
    assert "No refused entry is selected." in ada.post(LIST, post, follow=True).content.decode()
    assert LogEntry.objects.count() == 0


def test_drop_asks_first_and_leaves_an_entry(refused: OutboxEntry, outside: Outside) -> None:
    post = {"action": "delete_selected", "_selected_action": [refused.pk]}
    client("view_outboxentry", "change_outboxentry").post(LIST, post | {"post": "yes"})
    assert OutboxEntry.objects.count() == 2
    ada = client("view_outboxentry", "delete_outboxentry")
    assert "Drop: delete without sending" in ada.get(LIST).content.decode()
    assert "Are you sure" in ada.post(LIST, post).content.decode()
    assert OutboxEntry.objects.count() == 2
    ada.post(LIST, post | {"post": "yes"})
    assert [entry.idempotency_key for entry in OutboxEntry.objects.all()] == ["good"]
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id) == (DELETION, str(refused.pk))
    assert relay(get_client(), "default") == 1
