"""Invoices as PDF."""

from __future__ import annotations

import io

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from shop.models import Order


def render(order: Order) -> bytes:
    """The invoice of an order."""
    data = io.BytesIO()
    # Invariant, so that the same order gives the same bytes.
    canvas = Canvas(data, pagesize=A4, invariant=1)
    canvas.setTitle(f"Invoice {order.pk}")
    canvas.setFont("Helvetica-Bold", 18)
    canvas.drawString(72, 750, f"Invoice {order.pk}")
    canvas.setFont("Helvetica", 12)
    lines = [
        f"For {order.customer}",
        f"{order.quantity} x {order.product.name} at {order.product.price_cents / 100:.2f}",
        f"Total {order.total_cents / 100:.2f}",
    ]
    for number, line in enumerate(lines):
        canvas.drawString(72, 710 - 20 * number, line)
    canvas.save()
    return data.getvalue()
