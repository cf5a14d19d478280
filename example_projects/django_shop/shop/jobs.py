"""Jobs in Spooled's own style: found by `manage.py spooled_worker`, because this module is called jobs.py."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.core.files.base import ContentFile
from django.db.models import F, Sum
from django.utils import timezone
from spooled_contrib.django import job

from shop.invoices import render
from shop.models import DailyReport, Order


@dataclass
class Invoice:
    """The order's number and no copy of the order, which may have changed when the job runs."""

    order: int


@job("invoices", max_retries=5, timeout_seconds=60)
def make_invoice(invoice: Invoice) -> str:
    order = Order.objects.select_related("product").get(pk=invoice.order)
    if not order.invoice:  # a job may run twice: an invoice is made once
        order.invoice.save(f"invoice-{order.pk}.pdf", ContentFile(render(order)))
    return order.invoice.name


@job("reports", max_retries=10)
def report_of_day(day: dt.date) -> dict[str, int]:
    """Adds up a day's orders, and asks for the next day's report."""
    orders = Order.objects.filter(placed_at__date=day)
    total = orders.aggregate(total=Sum(F("quantity") * F("product__price_cents")))["total"] or 0
    report = {"orders": orders.count(), "total_cents": total}
    DailyReport.objects.update_or_create(day=day, defaults=report)
    ask_for_report(day + dt.timedelta(days=1))
    return report


def ask_for_report(day: dt.date) -> None:
    """The report of a day is made after its end. Its key makes sure that it is asked for once only."""
    midnight = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), timezone.get_current_timezone())
    report_of_day.enqueue_on_commit(day, scheduled_at=midnight, idempotency_key=f"report-{day}")
