"""The `spooled server` command. Importing this module is cheap: what serves is imported when it is asked to."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

from spooled_contrib.server._plans import PLAN_NAMES

_NEEDED = ("httptools", "jwt", "starlette", "uvicorn", "websockets")


def add_server(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register the command. Its parser sets `run`, a function from the parsed arguments to an exit code.

    Exit codes: 0 stopped by SIGTERM or SIGINT; 1 the address or the database cannot be used; 2 the arguments are
    refused. Each flag can be given as an environment variable; a flag wins.
    """
    parser = subparsers.add_parser(
        "server",
        help="run an embedded Spooled server",
        description="Run a Spooled server on this machine: a real one, in one process, on one SQLite file; "
        "or any number of them on one PostgreSQL database.",
        epilog="When connections are accepted, one line of JSON on standard output says so: "
        '{"event":"listening","url":...}. Everything for humans goes to standard error.',
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("SPOOLED_SERVER_HOST") or "127.0.0.1",
        help="address to listen on; one that other machines can reach needs --api-key (default: %(default)s; "
        "environment: SPOOLED_SERVER_HOST)",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=os.environ.get("SPOOLED_SERVER_PORT") or "8080",
        help="port to listen on; 0 picks a free one (default: %(default)s; environment: SPOOLED_SERVER_PORT)",
    )
    parser.add_argument(
        "--db",
        metavar="FILE|URL",
        default=os.environ.get("SPOOLED_SERVER_DB") or ":memory:",
        # The value in the environment is not shown as the default: it may hold a password.
        help="SQLite file, postgresql://user:password@host/name, or :memory: to keep nothing (default: :memory:; "
        "environment: SPOOLED_SERVER_DB)",
    )
    parser.add_argument(
        "--page",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve a page for people at / (default: yes)",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        default=os.environ.get("SPOOLED_SERVER_API_KEY") or None,
        help="the server's own key, at least 10 characters (default: a public key for development, which is only "
        "accepted on this machine; environment: SPOOLED_SERVER_API_KEY)",
    )
    parser.add_argument(
        "--sync-full",
        action="store_true",
        help="fsync each group of writes: survives a power cut, not only the death of the process",
    )
    parser.add_argument(
        "--open-registration",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let anybody who reaches the server create an organization with a key of its own (default: no)",
    )
    parser.add_argument(
        "--ack-batches",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="tell workers that they may send acks in batches (default: yes)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that the server is called by, such as jobs.example.org or '*.example.org'; may be repeated "
        "(default: on this machine its own names only, elsewhere any)",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="let web pages of another site call the server, such as http://localhost:3000; may be repeated",
    )
    parser.add_argument(
        "--allow-private-webhooks",
        action="store_true",
        help="let webhooks call this machine and private networks, not only public addresses",
    )
    parser.add_argument(
        "--plan",
        choices=PLAN_NAMES,
        default=os.environ.get("SPOOLED_SERVER_PLAN") or None,
        help="enforce the limits of one of Spooled's plans (default: unlimited; environment: SPOOLED_SERVER_PLAN)",
    )
    parser.add_argument(
        "--requests-per-second",
        type=_positive(float),
        metavar="N",
        help="answer 429 to an organization that sends more (default: no limit)",
    )
    parser.add_argument(
        "--active-jobs",
        type=_positive(int),
        metavar="N",
        help="answer 429 to an organization that has this many unfinished jobs (default: no limit)",
    )
    parser.set_defaults(run=run)
    _add_backup(parser)


def _add_backup(server: argparse.ArgumentParser) -> None:
    # Without a command, the server is run.
    commands = server.add_subparsers(title="commands", metavar="[COMMAND]", dest=argparse.SUPPRESS)
    parser = commands.add_parser(
        "backup",
        help="copy the database of a server, running or not, to a file",
        description="Copy the SQLite file of a server, which may be running and busy, to a file that a server can be "
        "started on. The copy is of one moment: every job that was answered before it began is in it. It is checked, "
        "and it is there as a whole or not at all.",
        epilog="Exit codes: 0 the backup was made and is sound; 1 it was not made; 2 the arguments are refused.",
    )
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="the server's file, instead of --db")
    parser.add_argument("target", metavar="TARGET", help="the file to write")
    parser.add_argument(
        "--db",
        metavar="FILE",
        # No default: it would win over one that was given before the command.
        default=argparse.SUPPRESS,
        help="the server's file (environment: SPOOLED_SERVER_DB)",
    )
    parser.add_argument("--force", action="store_true", help="replace TARGET if it exists")
    parser.add_argument(
        "--json", action="store_true", help="print a line of JSON about it on standard output"
    )
    parser.set_defaults(run=run_backup)


def run_backup(args: argparse.Namespace) -> int:
    """Copy a server's database; the exit code."""
    from spooled_contrib.server._backup import run as back_up

    return back_up(
        args.db if args.source is None else args.source, args.target, force=args.force, as_json=args.json
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    missing = missing_packages("server")
    if missing:
        return missing
    from spooled_contrib.server._limits import Limits
    from spooled_contrib.server._process import serve
    from spooled_contrib.server._settings import ServerSettings

    settings = ServerSettings(
        host=args.host,
        port=args.port,
        db=args.db,
        page=args.page,
        api_key=args.api_key,
        synchronous="FULL" if args.sync_full else "NORMAL",
        open_registration=args.open_registration,
        allowed_hosts=tuple(args.allow_host),
        allowed_origins=tuple(origin.lower() for origin in args.allow_origin),
        plan=args.plan,
        metrics_token=os.environ.get("SPOOLED_SERVER_METRICS_TOKEN") or None,
        admin_key=os.environ.get("SPOOLED_SERVER_ADMIN_KEY") or None,
        allow_private_webhooks=args.allow_private_webhooks,
        ack_batches=args.ack_batches,
        limits=Limits(requests_per_second=args.requests_per_second, active_jobs=args.active_jobs),
    )
    return serve(settings)


def missing_packages(command: str) -> int:
    """Say what is not installed; the exit code, 0 when nothing is missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return 0
    print(  # noqa: T201
        f'spooled {command}: {", ".join(missing)} not installed: pip install "spooled-contrib[server]"',
        file=sys.stderr,
    )
    return 1


def port_number(text: str) -> int:
    """Return a port from the command line."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")
    return int(text)


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 1e9:
            raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
        return value

    return parse
