"""`spooled worker MODULE:WORKER`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from spooled.cli._logs import LEVELS
from spooled.cli._parser import add_connection
from spooled.cli.failure import CommandError, Exit

_VARIABLES = {
    "api_key": "SPOOLED_API_KEY",
    "base_url": "SPOOLED_BASE_URL",
    "request_timeout": "SPOOLED_TIMEOUT",
}

_DESCRIPTION = """\
Import MODULE and run its worker until SIGTERM or Ctrl-C.

WORKER is a SpooledWorker, an AsyncSpooledWorker, a group of them, an adapter's object such as the Spooled of a
FastAPI application, or a function without arguments that returns one of these; it may have dots. The current directory
is importable. The worker talks to the server that its own client names; a client that is made without arguments
takes --api-key and --base-url from here."""

_EPILOG = """\
examples:
  spooled worker tasks:worker
  spooled worker shop.tasks:make_worker --log-level debug
  spooled worker tasks:worker --wait 60            when the server may come up later than the worker
  spooled worker tasks:worker --burst              work off what is due, and end
  spooled worker tasks:worker --isolation process  run handlers in child processes
  spooled worker main:spooled --reload             while you write the code (pip install "spooled-contrib[reload]")

where tasks.py is, for example:

  from spooled import SpooledClient
  from spooled.worker import SpooledWorker

  worker = SpooledWorker(SpooledClient(), "emails")   # key and server from SPOOLED_API_KEY, SPOOLED_BASE_URL

  @worker.process
  def send(ctx):
      print("to", ctx.payload["to"])

signals:
  the first SIGTERM or SIGINT (Ctrl-C) stops claiming and lets the running jobs finish, for at most the worker's
  shutdown_timeout; the second cuts them off and gives them back; a third ends the process on the spot

exit codes:
  0    stopped by one signal, its jobs finished or given back; with --burst and --max-jobs: done
  1    an error: the module raised, the worker has no handler, jobs could not be given back
  2    the command line makes no sense: no such module, attribute or worker
  3    the server refuses the API key
  4    the server cannot be reached at the start (later, the worker keeps trying)
  5    a handler ignored its time-out (--on-stuck exit); its job runs again when its lease is over
  130  cut off by a second SIGINT; 143 by a second SIGTERM"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "worker", help="run a worker", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument("target", metavar="MODULE:WORKER", help="as in shop.tasks:worker")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        metavar="LEVEL",
        help=f"least severe log level to show: {', '.join(LEVELS)} (default: info)",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="keep trying to reach the server for so long at the start (default: give up at once)",
    )
    parser.add_argument(
        "--burst", action="store_true", help="end when nothing that is due is left (default: wait for more)"
    )
    parser.add_argument(
        "--max-jobs",
        type=_count,
        metavar="N",
        help="end after N jobs; no more are claimed (default: no limit)",
    )
    parser.add_argument(
        "--on-stuck",
        choices=("keep", "fail", "exit"),
        help="what to do about a handler that ignores its time-out: keep its lease, fail its job, or drain and exit "
        "with code 5, for a supervisor (default: what the worker says, which is keep)",
    )
    parser.add_argument(
        "--isolation",
        choices=("thread", "process"),
        help="where plain handlers run: in threads, or in child processes, which a time-out kills and which use all "
        "cores; they import the handlers by module and name (default: what the worker says, which is thread)",
    )
    parser.add_argument(
        "--max-jobs-per-child",
        type=_count,
        metavar="N",
        help="replace a child process after N jobs; implies --isolation process (default: no limit)",
    )
    parser.add_argument(
        "--max-memory-per-child",
        type=_count,
        metavar="MIB",
        help="replace a child process after a job that left it with more than MIB of resident memory; implies "
        "--isolation process (default: no limit)",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="restart the worker when a *.py file changes; running jobs are finished first",
    )
    parser.add_argument(
        "--reload-dir",
        action="append",
        type=_folder,
        metavar="DIR",
        help="folder to watch; implies --reload; may be repeated (default: the current one)",
    )
    add_connection(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from spooled.cli import _logs, _target, running, supervised

    supervised.adopt()
    # The module makes the client, so the options reach it the way that its own settings would.
    for option in ("api_key", "base_url", "request_timeout"):
        if hasattr(args, option):
            os.environ[_VARIABLES[option]] = str(getattr(args, option))
    if args.reload or args.reload_dir:
        from spooled.cli import reload
        from spooled.cli.children import Child

        _logs.set_up(args.log_level)
        command = _child(args)
        return reload.run(lambda ended: Child(command, ended), args.reload_dir or [Path.cwd()])
    changes = _isolation(args)
    if args.on_stuck is not None:
        changes["on_stuck"] = args.on_stuck
    worker = _target.load(args.target)
    _logs.set_up(args.log_level)
    members: Sequence[Any] = getattr(worker, "workers", (worker,))
    for one in members:
        one._override(partial(_logs.set_up, args.log_level), **changes)
    try:
        return running.run(
            worker, args.wait, burst=args.burst, max_jobs=args.max_jobs, owns_process=args.owns_process
        )
    except CommandError:
        raise
    except Exception as error:
        # The user's own start(), or an application's that an adapter runs the worker in.
        raise _target.broken(args.target, error) from error


def _isolation(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options about child processes that are on the command line."""
    limits = {
        name: getattr(args, name)
        for name in ("max_jobs_per_child", "max_memory_per_child")
        if getattr(args, name) is not None
    }
    if limits and args.isolation == "thread":
        raise CommandError("limits of child processes need --isolation process", Exit.USAGE)
    if args.isolation == "thread":
        # Nor those that the worker was made with.
        limits = {"max_jobs_per_child": None, "max_memory_per_child": None}
    isolation = "process" if limits and not args.isolation else args.isolation
    return {**limits, "isolation": isolation} if isolation else limits


def _child(args: argparse.Namespace) -> list[str]:
    """Return the same command without --reload; the connection is in the environment by now."""
    from spooled.cli.children import python_command

    command = python_command("spooled", "worker", args.target, "--wait", str(args.wait))
    if args.log_level is not None:
        command += ["--log-level", args.log_level]
    if args.burst:
        command.append("--burst")
    for option in ("max_jobs", "on_stuck", "isolation", "max_jobs_per_child", "max_memory_per_child"):
        if (value := getattr(args, option)) is not None:
            command += [f"--{option.replace('_', '-')}", str(value)]
    return command


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return path


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number
