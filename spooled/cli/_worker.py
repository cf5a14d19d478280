"""`spooled worker MODULE:WORKER`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from spooled.cli._logs import LEVELS
from spooled.cli._parser import add_connection

_VARIABLES = {
    "api_key": "SPOOLED_API_KEY",
    "base_url": "SPOOLED_BASE_URL",
    "request_timeout": "SPOOLED_TIMEOUT",
}

_DESCRIPTION = """\
Import MODULE and run its worker until SIGTERM or Ctrl-C.

WORKER is a SpooledWorker or an AsyncSpooledWorker, or a function without arguments that returns one; it may
have dots. The current directory is importable. The worker talks to the server that its own client names;
a client that is made without arguments takes --api-key and --base-url from here."""

_EPILOG = """\
examples:
  spooled worker tasks:worker
  spooled worker shop.tasks:make_worker --log-level debug
  spooled worker tasks:worker --wait 60            when the server may come up later than the worker

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
  0    stopped by one signal, its jobs finished or given back
  1    an error: the module raised, the worker has no handler, jobs could not be given back
  2    the command line makes no sense: no such module, attribute or worker
  3    the server refuses the API key
  4    the server cannot be reached at the start (later, the worker keeps trying)
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
    add_connection(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from spooled.cli import _logs, _running, _target

    # The module makes the client, so the options reach it the way that its own settings would.
    for option in ("api_key", "base_url", "request_timeout"):
        if hasattr(args, option):
            os.environ[_VARIABLES[option]] = str(getattr(args, option))
    worker = _target.load(args.target)
    _logs.set_up(args.log_level)
    return _running.run(worker, args.wait)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number
