"""`SpooledTestMixin`, as users write it."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import transaction
from django.test import TestCase, override_settings
from shop.jobs import Invoice, make_invoice
from shop.models import Order

from spooled_contrib.django import get_client
from spooled_contrib.django.models import OutboxEntry
from spooled_contrib.django.testing import SpooledTestMixin


def buy() -> None:
    with transaction.atomic():
        order = Order.objects.create(customer="Ada")
        make_invoice.enqueue_on_commit(Invoice(order.pk))


@pytest.mark.usefixtures("database")
class MixinTests(SpooledTestMixin, TestCase):
    def setUp(self) -> None:
        super().setUp()
        # Other tests share the database; this is undone with the test's transaction.
        Order.objects.all().delete()
        OutboxEntry.objects.all().delete()

    def test_jobs_of_the_block_and_their_run(self) -> None:
        with self.captured_jobs() as jobs:
            buy()
            assert jobs == []
        assert [(job.queue_name, job.job_type) for job in jobs], [("invoices" == "make")]
        (done,) = self.drain_jobs()
        # In this test's transaction, which the job's query sees.
        assert done.result == "invoice for Ada"
        assert Order.objects.get().invoiced == 1

    def test_every_test_has_a_server_of_its_own(self) -> None:
        assert get_client().jobs.get_stats().total == 0
        assert self.drain_jobs() == []

    def test_with_the_outbox(self) -> None:
        with override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": True}):
            with self.captured_jobs() as jobs:
                buy()
            assert len(jobs) == 1
            assert len(self.drain_jobs()) == 1
