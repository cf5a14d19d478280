"""`spooled jobs create`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from spooled.cli import _output
from spooled.cli._connection import connect
from spooled.cli._parser import add_connection, add_json, whole_number
from spooled.cli._times import moment, moment_or_span, span
from spooled.cli.failure import EXIT_CODES, CommandError, Exit

_DESCRIPTION = """\
Put a job on a queue and print its id.

PAYLOAD is JSON: as an argument, from a file with @FILE, or from standard input with -. Default: {}"""

_EXAMPLES = f"""\
examples:
  spooled jobs create emails '{{"to": "ada@example.org"}}'
  spooled jobs create reports @report.json --priority 10 --delay 15m
  spooled jobs create reports @report.json --at 2026-12-24T18:00 --expires 2d
  jq -c .order order.json | spooled jobs create orders - --idempotency-key order-4711
  spooled jobs create emails '{{}}' --tag newsletter --tag december

{EXIT_CODES}"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "create", help="put a job on a queue", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    parser.add_argument("queue", metavar="QUEUE", help="the queue's name")
    parser.add_argument("payload", metavar="PAYLOAD", nargs="?", default="{}", help="JSON, @FILE or -")
    parser.add_argument(
        "--priority", type=whole_number(-100, 100), metavar="N", help="-100 to 100, larger first (default: 0)"
    )
    parser.add_argument(
        "--max-retries",
        type=whole_number(0, 100),
        metavar="N",
        help="runs after the first, 0 to 100 (default: the queue's, usually 3)",
    )
    parser.add_argument(
        "--timeout",
        type=_whole_seconds,
        metavar="TIME",
        help="how long the job may run, up to 1d (default: the queue's, usually 300 s); "
        "for the time a request may take there is --request-timeout",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--delay", type=_span, metavar="TIME", help="start no earlier than in 30s, 15m, 2h, 1d"
    )
    start.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="start no earlier than at this time, as in 2026-12-24T18:00Z; local time when it has no offset",
    )
    parser.add_argument(
        "--expires",
        type=_moment_or_span,
        metavar="TIME",
        help="do not start after this time, or later than in 2h",
    )
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="create nothing when a job with this key exists, on any queue",
    )
    parser.add_argument("--tag", action="append", metavar="TAG", help="a tag, or NAME=VALUE; may be repeated")
    add_json(parser)
    add_connection(parser, timeout=False)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    params: dict[str, Any] = {"queue_name": args.queue, "payload": _payload(args.payload)}
    if args.delay is not None:
        args.at = datetime.now(UTC) + args.delay
    chosen = {
        "priority": args.priority,
        "max_retries": args.max_retries,
        "timeout_seconds": args.timeout,
        "scheduled_at": args.at,
        "expires_at": args.expires,
        "idempotency_key": args.idempotency_key,
        "tags": _tags(args.tag),
    }
    params.update({name: value for name, value in chosen.items() if value is not None})
    with connect(args) as client:
        answer = client.jobs.create(params)
    if hasattr(args, "json"):
        _output.write_json({"id": answer.id, "created": answer.created})
    elif answer.created:
        _output.write(f"created job {answer.id} on queue {args.queue}")
    else:
        _output.write(f"job {answer.id} exists with this idempotency key; nothing was created")
    return Exit.DONE


def _payload(text: str) -> Any:
    source = "payload"
    try:
        if text == "-":
            source, text = "standard input", sys.stdin.read()
        elif text.startswith("@"):
            source = text[1:]
            text = Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot read the payload from {source}: {error.strerror}", Exit.USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{source} is not UTF-8 text", Exit.USAGE) from error
    try:
        return json.loads(text, parse_constant=_not_json)
    except ValueError as error:
        hint = ""
        if source == "payload":
            hint = """; put quotes around it for the shell, as in '{"to": "ada@example.org"}'"""
        where = str(error).replace(": line", " at line").partition(" (char")[0]
        raise CommandError(f"{source} is not JSON: {where}{hint}", Exit.USAGE) from error
    except RecursionError as error:
        raise CommandError(f"{source} is nested too deeply", Exit.USAGE) from error


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _tags(given: list[str] | None) -> list[str] | dict[str, str] | None:
    """Tags are a list, or a mapping when they are NAME=VALUE: the server takes either, but not both at once."""
    if not given:
        return None
    pairs = [tag.partition("=") for tag in given]
    if all(equals for _, equals, _ in pairs):
        return {name: value for name, _, value in pairs}
    if any(equals for _, equals, _ in pairs):
        raise CommandError("--tag: either plain tags or NAME=VALUE, not both in one job", Exit.USAGE)
    return given


def _whole_seconds(text: str) -> int:
    try:
        number = span(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 1 <= number <= 86_400 or number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1s to 1d")
    return int(number)


def _span(text: str) -> Any:
    return _checked(span, text)


def _moment(text: str) -> Any:
    return _checked(moment, text)


def _moment_or_span(text: str) -> Any:
    return _checked(moment_or_span, text)


def _checked(read: Any, text: str) -> Any:
    # argparse shows the text of its own error only.
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
