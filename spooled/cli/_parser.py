"""argparse with one-line errors, "did you mean", and options that work before and after the sub-command."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from spooled.cli import _output
from spooled.cli.failure import Exit


class Parser(argparse.ArgumentParser):
    """The parser of the command, and, because argparse makes them of the same class, of each sub-command."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        # `--que` must not silently mean `--queue`: in a script it would break with the next new option.
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)
        # The innermost parser wins, and so can be asked about its options when one is unknown.
        self.set_defaults(parser_used=self)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override] # argparse overloads it for namespaces we do not use
        parsed, extras = self.parse_known_args(args, namespace)
        if extras and not getattr(parsed, "ignore_extras", False):
            used: Parser = parsed.parser_used
            known = used._option_string_actions
            option = next((extra.split("=")[0] for extra in extras if extra.startswith("-")), None)
            if option is None:
                used.error(f"unexpected argument {extras[0]!r}")
            used.error(f"unknown option {option}{suggestion(option, known)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        end = "" if message.endswith("?") else "."
        _output.print_error(f"{f'{command}: ' if command else ''}{message}{end} See {self.prog} --help")
        raise SystemExit(Exit.USAGE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is None or value in choices:
            return
        names = [str(choice) for choice in choices]
        if isinstance(action, argparse._SubParsersAction):
            message = f"unknown command {value!r}"
            raise argparse.ArgumentError(None, f"{message}{suggestion(value, names) or _one_of(names)}")
        raise argparse.ArgumentError(action, f"{value!r} is not{_one_of(names)}{suggestion(value, names)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """`. Did you mean ...?` when one of the known names is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f". Did you mean {close[0]}?" if close else ""


def add_commands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Any]:
    """Let the parser have sub-commands. Without one it shows its help."""
    parser.set_defaults(run=None)
    return parser.add_subparsers(title="commands", metavar="COMMAND", dest=argparse.SUPPRESS)


def add_connection(parser: argparse.ArgumentParser, *, quiet: bool = False, timeout: bool = True) -> None:
    """Add the options that say which server to talk to.

    They are given no default, so that a sub-command where one is absent does not undo the same option in front
    of the sub-command.

    Args:
        parser: Where they are added.
        quiet: Accept them without listing them in the help.
        timeout: Also accept `--timeout` for `--request-timeout`; False where it means something else.
    """
    group = parser.add_argument_group("connection")

    def add(*names: str, metavar: str, text: str, kind: Any = str, dest: str | None = None) -> None:
        group.add_argument(
            *names,
            metavar=metavar,
            type=kind,
            dest=dest,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS if quiet else text,
        )

    add(
        "--api-key",
        metavar="KEY",
        text="API key (environment: SPOOLED_API_KEY; safer, because others can see your command lines)",
    )
    add(
        "--base-url",
        metavar="URL",
        text="the server's address (environment: SPOOLED_BASE_URL; default: https://api.spooled.cloud)",
    )
    names = ("--timeout", "--request-timeout") if timeout else ("--request-timeout",)
    add(
        *names,
        metavar="SECONDS",
        kind=seconds,
        dest="request_timeout",
        text="how long a request may take (environment: SPOOLED_TIMEOUT; default: 30)",
    )


def add_json(parser: argparse.ArgumentParser, *, quiet: bool = False) -> None:
    """Add `--json`."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS if quiet else "print one JSON document instead of a table",
    )


def seconds(text: str) -> float:
    """Return a number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def whole_number(low: int, high: int) -> Any:
    """The type of an option that takes a whole number in that range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return number

    return read


def _one_of(names: Sequence[str]) -> str:
    return f" one of {', '.join(names)}"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
        super().__init__(prog, max_help_position=28, width=max(40, min(room, 100) - 2))
