"""How a project with jobs is tested: the real queue, and nothing that runs by itself."""

from __future__ import annotations

import datetime as dt

from django.core import mail
from django.test import TestCase
from shop.jobs import report_of_day
from shop.models import DailyReport, Order, Product
from spooled_contrib.django.testing import SpooledTestMixin


class ShopTests(SpooledTestMixin, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.teapot = Product.objects.create(name="teapot", price_cents=2450, stock=6)

    def order(self, quantity: int) -> int:
        wanted = {"product": "teapot", "quantity": quantity, "customer": "ada@example.org"}
        return self.client.post("/orders/", wanted, content_type="application/json").status_code

    def test_an_order_gets_its_invoice(self) -> None:
        with self.captured_jobs() as jobs:
            self.assertEqual(self.order(1), 201)
        self.assertEqual([job.queue_name for job in jobs], ["invoices"])
        (done,) = self.drain_jobs()
        self.assertEqual(done.status, "completed")
        answer = self.client.get(f"/orders/{Order.objects.get().pk}/invoice.pdf")
        self.assertTrue(b"".join(answer.streaming_content).startswith(b"%PDF"))

    def test_few_teapots_are_told_to_the_manager(self) -> None:
        with self.captured_jobs() as jobs:
            self.order(2)
        self.assertEqual(sorted(job.queue_name for job in jobs), ["invoices", "mails"])
        self.drain_jobs()
        self.assertEqual([sent.subject for sent in mail.outbox], ["teapot: 4 left"])

    def test_what_is_not_there_is_not_sold(self) -> None:
        with self.captured_jobs() as jobs:
            self.assertEqual(self.order(7), 409)
        self.assertEqual(jobs, [])
        self.assertEqual(Order.objects.count(), 0)

    def test_a_report_asks_for_the_next_one(self) -> None:
        self.order(2)
        today = dt.datetime.now(dt.UTC).date()
        with self.captured_jobs():
            report_of_day.enqueue(today)
            done = self.drain_jobs()
        self.assertEqual(done[-1].result, {"orders": 1, "total_cents": 4900})
        self.assertEqual(DailyReport.objects.get().day, today)
