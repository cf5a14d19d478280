"""`manage.py spooled_worker`: run the jobs of this project."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections, router

from spooled import AsyncSpooledClient
from spooled.cli import reload as reloading
from spooled.cli import running, supervised
from spooled.cli.failure import CommandError as SpooledCommandError
from spooled.cli.failure import Exit
from spooled.worker import AsyncWorkerGroup, WorkerState
from spooled_contrib.django import _processes, _supervised_worker, conf
from spooled_contrib.django._client import new_async_client, new_client
from spooled_contrib.django._jobs import Job
from spooled_contrib.django._probes import Probes
from spooled_contrib.django._task_queues import task_queues
from spooled_contrib.django._workers import (
    NothingToDoError,
    concurrency_of,
    find_queues,
    make_async_workers,
)

if TYPE_CHECKING:
    from spooled_contrib.django._outbox_relay import Relays

LEVELS = {0: logging.CRITICAL, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}

LIMITS = {"concurrency": (1, 100), "processes": (1, 64), "max_jobs": (1, 10**9), "health_port": (0, 65535)}
"""Of the options that are whole numbers."""

Queues = Mapping[str, list[Job[Any, ..., Any]]]


class Command(BaseCommand):
    """Finds the jobs of all installed apps and works on their queues until SIGTERM or Ctrl-C."""

    help = (
        "Run the jobs that @job declares in the apps' jobs.py, and Django Tasks of Spooled backends. "
        "The first SIGTERM or SIGINT lets running jobs finish, for at most SPOOLED['SHUTDOWN_TIMEOUT'] seconds; the "
        "second cuts them off and gives them back."
    )
    requires_system_checks = ["spooled"]
    owns_process = False
    """Whether the process ends with this command; not so after `call_command`."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as the command of this process."""
        self.owns_process = True
        super().run_from_argv(argv)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--queue", action="append", default=[], metavar="NAME", help="Only this queue; may be repeated."
        )
        parser.add_argument(
            "--exclude", action="append", default=[], metavar="NAME", help="Not this queue; may be repeated."
        )
        parser.add_argument(
            "--concurrency",
            type=_number(*LIMITS["concurrency"]),
            metavar="N",
            help="Jobs of each queue that run at the same time in one process, 1 to 100. Default: the settings'.",
        )
        parser.add_argument(
            "--processes",
            type=_number(*LIMITS["processes"]),
            default=1,
            metavar="N",
            help="Run N processes, and start one again when it dies. Default: 1.",
        )
        parser.add_argument(
            "--autoreload",
            action="store_true",
            help='Restart when a *.py file changes; running jobs are finished first. Needs "spooled-contrib[reload]".',
        )
        parser.add_argument("--burst", action="store_true", help="End when nothing that is due is left.")
        parser.add_argument(
            "--max-jobs",
            type=_number(*LIMITS["max_jobs"]),
            metavar="N",
            help="End after N jobs; no more are claimed.",
        )
        parser.add_argument(
            "--wait",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="Keep trying to reach the server for so long at the start. Default: give up at once.",
        )
        parser.add_argument("--list", action="store_true", help="Print the jobs that are found, and end.")
        parser.add_argument("--json", action="store_true", help="With --list: print JSON.")
        parser.add_argument(
            "--health-port",
            type=_number(*LIMITS["health_port"]),
            metavar="P",
            help="Answer /health/live, /health/ready and /health/drain on this port.",
        )
        parser.add_argument(
            "--health-host",
            default="127.0.0.1",
            metavar="HOST",
            help="The address for it. Default: 127.0.0.1; containers need 0.0.0.0.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """See `help`."""
        _log(options["verbosity"])
        options |= _numbers(options)
        # A process that was started to be one worker is one, whatever a subclass makes of the options.
        several = (options["processes"] > 1 or options["autoreload"]) and supervised.current() is None
        if several and not options["list"]:
            self._supervise(args, options)
            return
        try:
            queues = find_queues(options["queue"], options["exclude"])
            if options["list"]:
                self._list(queues, options["json"])
                return
            client = new_async_client()
        except (NothingToDoError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        with self._probes(options) as watched, _tidied():
            workers = make_async_workers(client, queues, options["concurrency"])
            group = _Group(client, workers, _outbox())
            watched.append(group)
            try:
                code = running.run(
                    group,
                    options["wait"],
                    burst=options["burst"],
                    max_jobs=options["max_jobs"],
                    owns_process=self.owns_process,
                )
            except SpooledCommandError as error:
                raise CommandError(error.message, returncode=error.code) from error
        if code:
            sys.exit(code)

    def _supervise(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if options["autoreload"] and options["processes"] > 1:
            raise CommandError("--autoreload is for one process: leave --processes out")
        if options["health_port"] and options["processes"] > 1:
            raise CommandError(
                "--health-port is for one process: run several commands instead of --processes"
            )
        if threading.current_thread() is not threading.main_thread():
            raise CommandError(
                "several processes and autoreload need the main thread, which gets the signals"
            )
        one = {**options, "processes": 1, "autoreload": False}
        if not options["autoreload"]:
            # Done by this process, unless it was told not to; new code has to be checked anew.
            one["skip_checks"] = True
        launch = _supervised_worker.launcher(self, args, one)
        try:
            if options["autoreload"]:
                code = reloading.run(launch, [Path(getattr(settings, "BASE_DIR", None) or Path.cwd())])
            else:
                code = _processes.run(launch, options["processes"])
        except SpooledCommandError as error:
            raise CommandError(
                error.message.replace("--reload", "--autoreload"), returncode=Exit.USAGE
            ) from None
        except OSError as error:
            raise CommandError(f"cannot start a worker process: {error}") from error
        if code:
            sys.exit(code)

    @contextlib.contextmanager
    def _probes(self, options: dict[str, Any]) -> Iterator[list[AsyncWorkerGroup]]:
        watched: list[AsyncWorkerGroup] = []
        port = options["health_port"]
        if port is None:
            yield watched
            return

        def state() -> tuple[str, bool, int]:
            if not watched:
                return "starting", False, 0
            return watched[0].state.value, watched[0].is_ready(), watched[0].active_job_count

        try:
            probes = Probes(options["health_host"], port, state)
        except OSError as error:
            where = f"{options['health_host']}:{port}"
            raise CommandError(f"--health-port: cannot listen on {where}: {error.strerror}") from error
        with probes:
            if options["verbosity"]:
                self.stderr.write(f"probes on http://{options['health_host']}:{probes.port}/health/live")
            yield watched

    def _list(self, queues: Queues, as_json: bool) -> None:
        tasks = task_queues()
        if as_json:
            document = [
                {
                    "queue": name,
                    "concurrency": concurrency_of(name, jobs),
                    "tasks": name in tasks or not jobs,
                    "jobs": [{"job_type": one.job_type, "function": one.path} for one in jobs],
                }
                for name, jobs in queues.items()
            ]
            self.stdout.write(json.dumps(document, indent=2))
            return
        for name, jobs in queues.items():
            number = concurrency_of(name, jobs)
            self.stdout.write(f"{name} ({number} at a time)")
            for one in jobs:
                self.stdout.write(f"  {one.job_type or '(any type)':<20} {one.path}")
            if name in tasks or not jobs:
                self.stdout.write(f"  {'(Django Tasks)':<20} any function with @task")


class _Group(AsyncWorkerGroup):
    """The workers, with a client that belongs to their loop. A burst begins when the outbox has been sent.

    The outbox is sent from `start` to its end, in which signals are heard.
    """

    def __init__(self, client: AsyncSpooledClient, workers: list[Any], outbox: Relays | None) -> None:
        super().__init__(*workers)
        self._client = client
        self._outbox = outbox
        self._waiting = False
        self._stop_asked = False

    @property
    def state(self) -> WorkerState:
        """As the base class; while a burst waits for the outbox, it is starting and can be stopped."""
        return WorkerState.STARTING if self._waiting else super().state

    async def start(self, *, burst: bool = False, max_jobs: int | None = None) -> None:
        async with self._client:
            if self._outbox is not None:
                self._outbox.start()
            try:
                await self._run_workers(burst, max_jobs)
            finally:
                if self._outbox is not None:
                    await asyncio.to_thread(self._outbox.finish)

    async def _run_workers(self, burst: bool, max_jobs: int | None) -> None:
        self._waiting = burst and self._outbox is not None
        while self._waiting and not self._stop_asked:
            self._waiting = self._outbox is not None and not self._outbox.have_looked()
            await asyncio.sleep(0.02 if self._waiting else 0)
        if self._stop_asked:
            return
        await super().start(burst=burst, max_jobs=max_jobs)
        # What handlers have left to asgiref's thread is finished before the loop is closed.
        await asyncio.sleep(0)

    def stop(self, timeout: float | None = None) -> Any:
        """As the base class."""
        self._stop_asked = True
        if self._outbox is not None:
            self._outbox.end_after(conf.current().shutdown_timeout if timeout is None else timeout)
        return super().stop(timeout)


def _outbox() -> Relays | None:
    """Make the outbox's relays, if the project has one."""
    if not conf.current().outbox:
        return None
    from spooled_contrib.django._outbox_relay import Relays
    from spooled_contrib.django.models import OutboxEntry

    using = [alias for alias in connections if router.allow_migrate_model(alias, OutboxEntry)]
    with new_client() as client:
        return Relays(client, using)


@contextlib.contextmanager
def _tidied() -> Iterator[None]:
    # Handlers' threads open their own connections; this thread's was for start-up.
    connections.close_all()
    yield


def _log(verbosity: int) -> None:
    """Show what the worker says, unless the project has decided where logs go."""
    logger = logging.getLogger("spooled")
    if verbosity == 1 and logger.level != logging.NOTSET:
        return
    logger.setLevel(LEVELS[verbosity])
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.lstrip("-").isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _numbers(options: Mapping[str, Any]) -> dict[str, int | None]:
    """Check the whole numbers among the options, which `call_command` passes as they are."""
    checked: dict[str, int | None] = {}
    for name, limits in LIMITS.items():
        value = options[name]
        try:
            checked[name] = None if value is None else _number(*limits)(str(value))
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"--{name.replace('_', '-')}: {error}") from None
    return {**checked, "processes": checked["processes"] or 1}
