"""Tasks of all kinds: plain, retried, chained, in groups and chords, scheduled."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from celery import chain, chord, group

from shop.app import app

PRICES = {"teapot": 2450, "cup": 690, "spoon": 150}


class ProviderBusyError(Exception):
    """The payment provider asks to come back later."""


@app.task
def price(product: str, quantity: int) -> int:
    return PRICES[product] * quantity


@app.task
def total(prices: list[int]) -> int:
    return sum(prices)


@app.task
def with_tax(amount: int) -> int:
    return round(amount * 1.2)


# Twice busy, then it works: a real provider's errors would come from its client.
@app.task(
    bind=True, autoretry_for=(ProviderBusyError,), retry_backoff=True, retry_jitter=False, max_retries=5
)
def charge(self: Any, amount: int) -> str:
    if self.request.retries < 2:
        raise ProviderBusyError(f"attempt {self.request.retries + 1}")
    return f"charged {amount / 100:.2f} at attempt {self.request.retries + 1}"


@app.task
def remind(customer: str, due: str) -> str:
    late = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(due)
    return f"reminded {customer}, {late.total_seconds():.0f} s after the time"


@app.task(ignore_result=True)
def count_stock() -> None:
    """Beat's. It leaves a line, so that something can be seen."""
    path = Path("data") / "stock.txt"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{dt.datetime.now(dt.UTC):%H:%M:%S} 3 products\n")


def order(basket: dict[str, int]) -> Any:
    """Prices side by side, their sum, tax, and the charge: a chord in a chain."""
    prices = group(price.s(product, quantity) for product, quantity in basket.items())
    return chain(chord(prices, total.s()), with_tax.s(), charge.s())()
