"""Billing."""

from __future__ import annotations

from datetime import datetime

from spooled.models._model import Model


class BillingStatus(Model, frozen=True):
    """The plan and its subscription."""

    plan_tier: str = ""
    stripe_subscription_id: str | None = None
    stripe_subscription_status: str | None = None
    stripe_current_period_end: datetime | None = None
    stripe_cancel_at_period_end: bool | None = None
    has_stripe_customer: bool = False


class BillingPortal(Model, frozen=True):
    """Answer to `billing.create_portal`: a page for the user's browser. Whoever has `url` is let in."""

    url: str

    def __repr__(self) -> str:
        return "BillingPortal(url='***')"
