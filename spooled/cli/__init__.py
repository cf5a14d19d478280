"""The `spooled` command. Nothing of it is imported by `import spooled`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

from spooled._version import __version__
from spooled.cli import _output
from spooled.cli._parser import Parser, add_commands, add_connection, add_json
from spooled.cli.failure import EXIT_CODES, CommandError, Exit

__all__ = ["main"]

_DESCRIPTION = """\
Spooled job queues from the command line: enqueue and inspect jobs, run workers, run a server.

The commands talk to Spooled Cloud, or to the server that SPOOLED_BASE_URL or --base-url names."""

_EXAMPLES = """\
examples:
  spooled server --db jobs.db                             a server on this machine
  spooled jobs create emails '{"to": "ada@example.org"}'  enqueue a job
  spooled worker shop.tasks:worker                        run a worker
  spooled jobs list --status deadletter                   see what failed for good
  spooled demo                                            watch a thousand jobs run

Each command has its own help: spooled jobs create --help

"""

_WITH_VALUE = frozenset({"--api-key", "--base-url", "--timeout", "--request-timeout"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: The words after the command's name. Default: those of this process, which ends with the command.
    """
    _output.tolerate_any_text()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv), owns_process=argv is None)
        sys.stdout.flush()
    except CommandError as failure:
        _output.print_error(failure.message)
        return failure.code
    except BrokenPipeError:
        # As in `spooled jobs list | head`: the reader has seen enough.
        _output.discard(sys.stdout)
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return code


def _run(argv: list[str], *, owns_process: bool) -> int:
    parser = _parser(argv)
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:
        # After --help, --version and mistakes argparse wants to end the process.
        return end.code if isinstance(end.code, int) else Exit.DONE
    args.owns_process = owns_process
    if args.run is None:
        args.parser_used.print_help()
        return Exit.DONE if args.parser_used is parser else Exit.USAGE
    try:
        return int(args.run(args))
    except ModuleNotFoundError as error:
        if not hasattr(args, "plugin"):
            raise
        from spooled.cli import _plugins

        failure = _plugins.failure_of(args.plugin, error)
        raise CommandError(f"{args.parser_used.prog.partition(' ')[2]}: {failure.message}") from error


def _parser(argv: list[str]) -> Parser:
    from spooled.cli import _jobs, _queues, _schedules, _worker, _workers, _workflows

    parser = Parser(prog="spooled", description=_DESCRIPTION, epilog=_EXAMPLES + EXIT_CODES)
    parser.add_argument(
        "--version", action="version", version=f"spooled {__version__} (Python {platform.python_version()})"
    )
    add_connection(parser)
    add_json(parser, quiet=True)
    commands = add_commands(parser)
    for module in (_worker, _jobs, _queues, _workers, _schedules, _workflows):
        module.add(commands)

    wanted = _command(argv)
    if wanted in commands.choices:
        # Looking for plugins and importing them takes longer than many commands.
        return parser
    from spooled.cli import _plugins

    points = _plugins.find()
    for name in [wanted] if wanted in points else sorted(points):
        if name not in commands.choices:
            _plugins.add(commands, points[name])
    return parser


def _command(argv: list[str]) -> str:
    """The first word of the command line that is neither an option nor an option's value."""
    words = iter(argv)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
