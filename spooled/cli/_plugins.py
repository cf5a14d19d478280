"""Commands of other packages, found by the entry-point group `spooled.commands`.

The value of an entry point takes the action that `add_subparsers` returned, adds a parser named like the entry
point and gives it `set_defaults(run=...)`, a function of the parsed arguments that returns an exit code.
"""

from __future__ import annotations

import argparse
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from spooled.cli.failure import CommandError, Exit

GROUP = "spooled.commands"


def find() -> dict[str, EntryPoint]:
    """Return the commands that installed packages offer, by name. Nothing is imported yet."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def add(commands: argparse._SubParsersAction[Any], point: EntryPoint) -> None:
    """Add the command, or, when it cannot be loaded, one in its place that says why."""
    try:
        point.load()(commands)
    except Exception as error:
        # Whatever a plugin does wrong, the other commands must work.
        if point.name in commands.choices:
            raise
        failure = failure_of(point, error)
        stub = commands.add_parser(point.name, add_help=False, help=f"(not available: {failure.message})")
        stub.set_defaults(run=_refusal(failure), ignore_extras=True)
    else:
        parser = commands.choices.get(point.name)
        if parser is not None:
            parser.set_defaults(plugin=point)


def failure_of(point: EntryPoint, error: Exception) -> CommandError:
    """Return why the command cannot be used, and what to install."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    extra = _extra(point)
    if missing and not _is_ours(missing, point):
        if extra:
            return CommandError(f'needs {missing}: pip install "spooled-contrib[{extra}]"')
        return CommandError(f"{_origin(point)} needs {missing}, which is not installed")
    return CommandError(f"{_origin(point)} cannot be loaded: {type(error).__name__}: {error}")


def _refusal(failure: CommandError) -> Any:
    def run(args: argparse.Namespace) -> int:
        raise CommandError(f"{args.parser_used.prog.partition(' ')[2]}: {failure.message}", Exit.ERROR)

    return run


def _extra(point: EntryPoint) -> str | None:
    """The extra of this distribution that the command belongs to: extras are named like their adapters."""
    parts = point.module.split(".")
    return parts[1] if parts[0] == "spooled_contrib" and len(parts) > 1 else None


def _is_ours(module: str, point: EntryPoint) -> bool:
    """Return whether the missing module is the plugin itself, so that no other package would bring it."""
    return module.split(".")[0] in ("spooled", point.module.split(".")[0])


def _origin(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist is not None else point.value
