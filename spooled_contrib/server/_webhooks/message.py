"""What goes over the wire for one delivery: body, headers, signature. Pure functions."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import msgspec

from spooled_contrib.server._rules.attempts import Delivery

USER_AGENT = "Spooled-OutgoingWebhook/1.0"

_LONGEST_VALUE = 300
"""Characters of one value in a chat message."""

_LONGEST_TEXT = 1900
"""Characters of a chat message. Discord takes 2000."""

_encode = msgspec.json.Encoder().encode


def body(delivery: Delivery) -> bytes:
    """Return the request's body in the webhook's format. `json` is the stored envelope, byte for byte."""
    if delivery.format == "json":
        return delivery.payload.encode()
    envelope = json.loads(delivery.payload)
    title, facts = str(envelope["event"]), _facts(envelope["data"])
    if delivery.format == "slack":
        lines = [f"*{_slack(title)}*", *(f"{_slack(name)}: {_slack(value)}" for name, value in facts)]
        return _encode({"text": _cut("\n".join(lines), _LONGEST_TEXT)})
    if delivery.format == "discord":
        lines = [f"**{title}**", *(f"{name}: {value}" for name, value in facts)]
        # What is in a job must not ping anybody.
        return _encode({"content": _cut("\n".join(lines), _LONGEST_TEXT), "allowed_mentions": {"parse": []}})
    return _encode(_teams_card(title, facts))


def _teams_card(title: str, facts: list[tuple[str, str]]) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium"},
            {"type": "FactSet", "facts": [{"title": name, "value": value} for name, value in facts]},
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _facts(data: Any) -> list[tuple[str, str]]:
    members = data.items() if isinstance(data, dict) else [("data", data)]
    return [(str(name), _value(value)) for name, value in members if value is not None]


def _value(value: Any) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _LONGEST_VALUE)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def headers(delivery: Delivery, content: bytes, now: int) -> dict[str, str]:
    """Return the headers of an attempt made at `now` (seconds since the epoch)."""
    found = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "x-spooled-event": delivery.event,
        "x-spooled-delivery-attempt": str(delivery.attempt),
    }
    # A job's completion webhook has a timestamp only along with a signature.
    if delivery.webhook_id is not None or delivery.secret is not None:
        found["x-spooled-timestamp"] = str(now)
    if delivery.secret is not None:
        found["x-spooled-signature"] = signature(delivery.secret, now, content)
    return found


def signature(secret: str, timestamp: int, content: bytes) -> str:
    """Return what a receiver computes from its secret, the timestamp header and the raw body, and compares."""
    signed = str(timestamp).encode() + b"." + content
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
