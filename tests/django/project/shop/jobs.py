import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from django.db import connection
from django.db.models import F

from shop.models import Order
from spooled.worker import AsyncJobContext, JobContext
from spooled_contrib.django import job
from tests.waiting import wait_until


@dataclass
class Invoice:
    order: int


@job("invoices", "make")
def make_invoice(invoice: Invoice) -> str:
    order = Order.objects.get(pk=invoice.order)
    Order.objects.filter(pk=order.pk).update(invoiced=F("invoiced") + 1)
    return f"invoice for {order.customer}"


@job("invoices", "remind", concurrency=3)
async def remind(ctx: AsyncJobContext[Invoice]) -> str:
    order = await Order.objects.aget(pk=ctx.payload.order)
    await asyncio.sleep(0)
    return f"reminded {order.customer}, attempt {ctx.attempt}"


@job("gates")
def gate(ctx: JobContext[str]) -> int:
    """Waits until the test lets it go."""
    folder = Path(ctx.payload)
    (folder / f"begun-{os.getpid()}").touch()
    wait_until((folder / "open").exists, "the test lets it go")
    return os.getpid()


@job("sql")
def run_sql(statement: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


@job("broken", max_retries=0)
def broken() -> None:
    raise RuntimeError("no")
