"""For tests of projects: a Spooled server for each test, and jobs that run when the test says so.

    class SignUpTests(SpooledTestMixin, TestCase):
        def test_a_mail_is_sent(self):
            with self.captured_jobs() as jobs:
                sign_up("ada@example.org")
            self.assertEqual([job.queue_name for job in jobs], ["emails"])
            (done,) = self.drain_jobs()
            self.assertEqual(done.status, "completed")

With pytest, the fixture `spooled_django` does the same; it needs no import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.db import connections, router
from django.test import override_settings
from django.utils.module_loading import import_string

from spooled import Job, SpooledClient
from spooled.models import JobSummary
from spooled.testing import drain
from spooled_contrib.django import conf
from spooled_contrib.django._client import get_client
from spooled_contrib.django._workers import NothingToDoError, find_queues, make_plain_workers

SERVER = "spooled_contrib.server.EmbeddedServer"
"""What makes the server: a class whose instances are context managers, and have `url` and `api_key`."""


class Server(Protocol):
    """A server to test against."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...


@contextlib.contextmanager
def using_server(server: Server) -> Generator[None, None, None]:
    """Point the project at a server, for as long as the block lasts; all other settings stay."""
    before = getattr(settings, "SPOOLED", {})
    with override_settings(SPOOLED={**before, "API_KEY": server.api_key, "BASE_URL": server.url}):
        yield


def drain_jobs() -> list[Job]:
    """Run the jobs that are due on all queues of this project, until none is left; see `spooled.testing.drain`.

    The outbox is sent first and in between. Handlers run in this thread, and so in the transaction of a `TestCase`.

    Returns:
        The jobs in the order in which they ended, each once and in its last state.
    """
    try:
        queues = find_queues()
    except NothingToDoError:
        return []
    done: dict[str, Job] = {}
    with SpooledClient(config=get_client().config) as client:
        while True:
            sent = _send_outbox(client)
            ended = drain(*make_plain_workers(client, queues))
            for job in ended:
                done.pop(job.id, None)
                done[job.id] = job
            # Only the outbox makes a second look worth it: draining ends when all queues are empty.
            if not conf.current().outbox or (not sent and not ended):
                return list(done.values())


def _send_outbox(client: SpooledClient) -> int:
    if not conf.current().outbox:
        return 0
    from spooled_contrib.django._outbox import relay
    from spooled_contrib.django.models import OutboxEntry

    return sum(
        relay(client, alias) for alias in connections if router.allow_migrate_model(alias, OutboxEntry)
    )


if TYPE_CHECKING:
    from django.test import TestCase

    _Base = TestCase
else:
    _Base = object


class SpooledTestMixin(_Base):
    """Before Django's `TestCase` or `TransactionTestCase`: every test has a fresh server of its own.

    Attributes:
        spooled_server: The server, with `url` and `api_key`.
    """

    spooled_server: Any

    def setUp(self) -> None:
        self.spooled_server = import_string(SERVER)()
        self.spooled_server.start()
        self.addCleanup(self.spooled_server.stop)
        pointed = using_server(self.spooled_server)
        pointed.__enter__()
        self.addCleanup(pointed.__exit__, None, None, None)
        super().setUp()

    def drain_jobs(self) -> list[Job]:
        """See `drain_jobs`."""
        return drain_jobs()

    @contextlib.contextmanager
    def captured_jobs(self, using: str = "default") -> Generator[list[JobSummary], None, None]:
        """Run what waits for the commit, which a `TestCase` never does, and collect the jobs of the block.

        The list is filled when the block ends, oldest job first. A `TransactionTestCase` commits by itself; there it
        only collects.
        """
        before = {job.id for job in get_client().jobs.iterate()}
        found: list[JobSummary] = []
        capture: Callable[..., Any] = getattr(self, "captureOnCommitCallbacks", _no_capture)
        with capture(using=using, execute=True):
            yield found
        _send_outbox(get_client())
        found += [job for job in get_client().jobs.iterate() if job.id not in before]


@contextlib.contextmanager
def _no_capture(using: str, execute: bool) -> Generator[None, None, None]:  # noqa: ARG001
    yield
