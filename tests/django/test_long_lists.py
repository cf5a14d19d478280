"""Lists of more than the server gives at once, in tests of projects and in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, TestCase
from shop import tasks
from shop.jobs import Invoice, make_invoice

from spooled_contrib.django import get_client
from spooled_contrib.django.admin import PURGE
from spooled_contrib.django.testing import SpooledTestMixin, drain_jobs


def enqueue_many(count: int) -> None:
    jobs = [
        {"payload": {"job_type": "shop.tasks.add", "backend": "default", "args": [n], "kwargs": {}}}
        for n in range(count)
    ]
    for start in range(0, count, 100):
        get_client().jobs.bulk_enqueue(queue_name="default", jobs=jobs[start : start + 100])


@pytest.mark.usefixtures("database")
class CapturedJobs(SpooledTestMixin, TestCase):
    def test_150_jobs_in_a_block(self) -> None:
        enqueue_many(150)
        with self.captured_jobs() as jobs:
            for n in range(150):
                make_invoice.enqueue_on_commit(Invoice(n))
        assert len(jobs) == 150
        assert {job.queue_name for job in jobs} == {"invoices"}
        payloads = [get_client().jobs.get(job.id).payload["order"] for job in jobs]
        assert payloads == list(range(150))

    def test_jobs_that_were_there_are_not_captured(self) -> None:
        enqueue_many(101)
        with self.captured_jobs() as jobs:
            enqueue_many(1)
        assert len(jobs) == 1
        with self.captured_jobs() as jobs:
            """Nothing happens."""
        assert jobs == []

    def test_150_jobs_are_drained(self) -> None:
        with self.captured_jobs() as jobs:
            enqueue_many(150)
        done = self.drain_jobs()
        assert {job.id for job in done} == {job.id for job in jobs}
        assert sorted(int(job.result) for job in done) == list(range(150))  # type: ignore[call-overload] # a number


class FewAtOnce:
    """A client whose purge deletes two at most, as a server's own limit may have it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.jobs = self
        self.dlq = self

    def purge(self, **options: Any) -> Any:
        return self._client.jobs.dlq.purge(**options, limit=2)


def test_all_dead_letters_of_a_queue_are_deleted(spooled_django: Any) -> None:
    for _ in range(5):
        tasks.decline_once.enqueue(1)
    drain_jobs()
    client = get_client()
    assert client.jobs.get_stats("default").deadletter == 5
    PURGE.run(FewAtOnce(client), "default")  # type: ignore[arg-type] # as much of one as is needed
    assert client.jobs.get_stats("default").deadletter == 0


@pytest.fixture
def ada(db: None) -> Client:
    User.objects.filter(username="ada").delete()
    made = Client()
    made.force_login(User.objects.create_superuser("ada"))
    return made


@pytest.mark.parametrize("count", [99, 101])
def test_more_queues_than_the_server_lists(spooled_django: Any, ada: Client, count: int) -> None:
    for n in range(count):
        get_client().jobs.create(queue_name=f"queue-{n:03}", payload=None)
    page = ada.get("/admin/spooled/queue/", {"o": "75"}).content.decode()
    assert ("These are the first 100 queues by name" in page) is (count > 100)
    # The jobs of one that is not in the list are found, and the filter still names it.
    last = f"queue-{count - 1:03}"
    page = ada.get("/admin/spooled/queuedjob/", {"queue": last}).content.decode()
    assert page.count('name="selected"') == 1
    assert f"<option selected>{last}</option>" in page


def test_a_long_history_says_that_it_is_cut(spooled_django: Any, ada: Client) -> None:
    client = get_client()
    job_id = client.jobs.create(queue_name="q", payload=None, max_retries=0).id
    said = "These are the first 500 events"
    for runs in (1, 170):
        for _ in range(runs):
            (job,) = client.jobs.claim(queue_name="q", worker_id="w").jobs
            client.jobs.fail(job_id, worker_id="w", lease_id=str(job.lease_id), error="no")
            client.jobs.retry(job_id)
        page = ada.get(f"/admin/spooled/queuedjob/{job_id}/change/").content.decode()
        assert page.count("<tr><td>") == min(500, 1 + 3 * (runs if runs == 1 else runs + 1))
        assert (said in page) is (runs == 170)
