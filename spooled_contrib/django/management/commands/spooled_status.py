"""`manage.py spooled_status`: how this project's queues are doing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from spooled.errors import SpooledError
from spooled_contrib.django import conf
from spooled_contrib.django._client import new_client
from spooled_contrib.django._jobs import registry
from spooled_contrib.django._task_queues import takes_any_queue, task_queues

STATES = ("pending", "scheduled", "processing", "completed", "deadletter", "cancelled")


class Command(BaseCommand):
    """Prints the jobs of each queue by state, and the outbox."""

    help = "Show the jobs of this project's queues by state, the workers on them, and the outbox."
    requires_system_checks = ["spooled"]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """See `help`."""
        queues = {one.queue_name for one in registry.discover()} | task_queues()
        if takes_any_queue():
            queues.update(conf.current().queues or ())
        names = sorted(queues)
        try:
            with new_client() as client:
                address = client.config.base_url
                rows: list[dict[str, Any]] = []
                for name in names:
                    stats = client.jobs.get_stats(name)
                    rows.append(
                        {
                            "queue": name,
                            **{state: getattr(stats, state) for state in STATES},
                            # The list of workers ends at 100, and has those that are gone.
                            "workers": client.queues.get_stats(name).active_workers,
                        }
                    )
        except (ImproperlyConfigured, SpooledError) as error:
            raise CommandError(str(error)) from error
        waiting = self._outbox()
        if options["json"]:
            self.stdout.write(json.dumps({"server": address, "queues": rows, "outbox": waiting}, indent=2))
            return
        self.stdout.write(f"server  {address}")
        if waiting is not None:
            self.stdout.write(f"outbox  {waiting} waiting")
        width = max([len("queue"), *(len(name) for name in names)])
        columns = (*STATES, "workers")
        self.stdout.write("")
        self.stdout.write("  ".join(["queue".ljust(width), *columns]))
        for row in rows:
            numbers = (str(row[column]).rjust(len(column)) for column in columns)
            self.stdout.write("  ".join([row["queue"].ljust(width), *numbers]))
        if not rows:
            self.stdout.write("no jobs are declared")

    def _outbox(self) -> int | None:
        if not conf.current().outbox:
            return None
        from spooled_contrib.django.models import OutboxEntry

        return OutboxEntry.objects.count()
