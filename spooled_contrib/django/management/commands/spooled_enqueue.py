"""`manage.py spooled_enqueue`: put a job on a queue by hand."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from spooled.definition import JobDefinition, PayloadError
from spooled.errors import SpooledError
from spooled_contrib.django._client import new_client
from spooled_contrib.django._jobs import registry


class Command(BaseCommand):
    """Enqueues one job; when a @job takes it, its payload is checked first."""

    help = "Put a job on a queue and print its id. The payload is checked against the job that will take it."
    requires_system_checks = ["spooled"]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("queue", help="The queue's name.")
        parser.add_argument("payload", nargs="?", default="null", help="JSON. Default: null.")
        parser.add_argument("--job-type", metavar="TYPE", help="For queues with several kinds of jobs.")
        parser.add_argument(
            "--priority", type=int, metavar="N", help="-100 to 100, larger first. Default: 0."
        )
        parser.add_argument(
            "--delay", type=float, metavar="SECONDS", help="Start no earlier than in so long."
        )
        parser.add_argument(
            "--idempotency-key", metavar="KEY", help="Create nothing when a job with it exists."
        )
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """See `help`."""
        try:
            payload = json.loads(options["payload"])
        except ValueError as error:
            raise CommandError(f"the payload is not JSON: {error}") from error
        queue, kind = options["queue"], options["job_type"]
        definition = JobDefinition[Any](queue, kind)
        for one in registry.discover():
            if (one.queue_name, one.job_type) == (queue, kind):
                definition = one.definition
        try:
            with new_client() as client:
                answer = client.jobs.create(
                    **definition.parameters(
                        payload,
                        priority=options["priority"],
                        delay=options["delay"],
                        idempotency_key=options["idempotency_key"],
                    )
                )
        except (PayloadError, TypeError, ImproperlyConfigured, SpooledError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"id": answer.id, "created": answer.created}))
        elif answer.created:
            self.stdout.write(f"created job {answer.id} on queue {queue}")
        else:
            self.stdout.write(f"job {answer.id} exists with this idempotency key; nothing was created")
