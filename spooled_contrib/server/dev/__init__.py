"""The `spooled dev` command: a server, its page and your workers in one terminal."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from spooled_contrib.server.command import missing_packages, port_number

_DESCRIPTION = """\
Run an embedded server with its page, and beside it workers that restart when a *.py file changes. Each line of
output says whose it is. Ctrl-C lets running jobs finish and then stops everything; a second one cuts them off."""

_EPILOG = """\
examples:
  spooled dev                                       a server and its page
  spooled dev tasks:worker                          and a worker
  spooled dev main:spooled mails:worker             and two
  spooled dev --db dev.db tasks:worker              keep the jobs for the next time
  spooled dev --run "uvicorn main:app --reload"     and other commands, such as an application with its own worker
  spooled dev --run "celery -A proj worker"

Workers and commands find the server through SPOOLED_BASE_URL and SPOOLED_API_KEY, and Celery through
CELERY_BROKER_URL. What else you run, in another terminal, needs the same: the first lines say how.

exit codes:
  0    stopped with Ctrl-C or SIGTERM
  1    the server cannot be started
  n    the exit code of the first worker or command that ended by itself; the others are stopped then"""


def add_dev(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register the command. Its parser sets `run`, a function from the parsed arguments to an exit code."""
    parser = subparsers.add_parser(
        "dev", help="server, page and workers in one terminal", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument(
        "targets", nargs="*", metavar="MODULE:WORKER", help="workers, each as for `spooled worker`"
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=8080,
        help="port of the server; 0 picks a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--db", metavar="FILE", default=":memory:", help="keep jobs in this file (default: in memory)"
    )
    parser.add_argument(
        "--no-reload",
        dest="reload",
        action="store_false",
        help="do not watch files (default: watch, where watchfiles is installed)",
    )
    parser.add_argument(
        "--reload-dir",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder to watch; may be repeated (default: the current one)",
    )
    parser.add_argument(
        "--run",
        dest="commands",
        action="append",
        type=_words,
        default=[],
        metavar="COMMAND",
        help="a command to run beside the server, in quotes; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until a signal, or until a worker ends; the exit code."""
    missing = missing_packages("dev")
    if missing:
        return missing
    # Imported here: `spooled --help` shall not wait for a server.
    from spooled_contrib.server.dev._run import run_dev

    return run_dev(
        targets=args.targets,
        commands=args.commands,
        port=args.port,
        db=args.db,
        reload=args.reload,
        folders=args.reload_dir or [],
    )


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: {error}") from None
    if not words:
        raise argparse.ArgumentTypeError("there is no command in it")
    return words
