"""The `spooled demo` command: a thousand real jobs on an embedded server, and a proof that none was lost."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """\
Start an embedded server on a temporary database file, enqueue a job for each file of this Python's standard
library, and three that must fail; run them with a worker; then prove, from what the server says, that every job
is accounted for. Takes about 20 seconds and needs no network."""

_EPILOG = """\
examples:
  spooled demo
  spooled demo --limit 100
  spooled demo --json | jq .proof

exit codes:
  0    every job is accounted for
  1    the numbers do not add up; the output says which
  130  stopped with Ctrl-C"""


def add_demo(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register the command. Its parser sets `run`, a function from the parsed arguments to an exit code."""
    parser = subparsers.add_parser(
        "demo", help="watch a thousand real jobs run", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument(
        "--limit",
        type=_at_least_one,
        metavar="N",
        help="enqueue only N files (and the three jobs that must fail)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print only a summary, as one JSON document",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit code."""
    # Imported here: `spooled --help` shall not wait for a server and a terminal library.
    from spooled_contrib.server.demo._run import run_demo

    return run_demo(limit=args.limit, as_json=getattr(args, "json", False))


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number
