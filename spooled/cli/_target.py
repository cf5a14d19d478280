"""Finds the worker that `spooled worker MODULE:WORKER` names."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from spooled.cli._parser import suggestion
from spooled.cli.failure import CommandError, Exit

if TYPE_CHECKING:
    from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, SpooledWorker, WorkerGroup

    AnyWorker = SpooledWorker | AsyncSpooledWorker | WorkerGroup | AsyncWorkerGroup


def load(target: str) -> AnyWorker:
    """Import the module and return the worker or group, calling the factory if it is one.

    An object with a method `__spooled_worker__(module)`, such as an adapter's plugin, is asked for its workers.

    The current directory is importable, as with `python -m`.

    Raises:
        CommandError: There is no such module, attribute or worker, or the user's code raised.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise CommandError(_shape(target), Exit.USAGE)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import(module_name)
    return _worker(_attribute(module, path), f"{module_name}:{path}", module)


def broken(what: str, error: BaseException) -> CommandError:
    """The user's own code raised: show where, without the frames of the import machinery and of ours.

    Args:
        what: Whose code: `module tasks`, `tasks:make_worker`.
        error: What it raised; shown on stderr with its causes, if any of that is the user's.

    Returns:
        What to raise.
    """
    frames = _user_frames(error)
    if frames or isinstance(error, SyntaxError):
        shown = traceback.TracebackException.from_exception(error)
        shown.stack = traceback.StackSummary.from_list(frames)
        # An error without frames, such as that of the syntax, would come without its heading.
        head = "" if frames else "Traceback (most recent call last):\n"
        sys.stderr.write(head + "".join(shown.format()))
    return CommandError(f"{what} raised {type(error).__name__}{f': {error}' if str(error) else ''}")


def _shape(target: str) -> str:
    stem = target.partition(":")[0] or "shop.tasks"
    if stem.endswith(".py") or "/" in stem:
        stem = stem.removesuffix(".py").strip("./").replace("/", ".")
    return f"{target!r} does not say where the worker is; write MODULE:WORKER, as in {stem or 'tasks'}:worker"


def _import(name: str) -> ModuleType:
    if "/" in name or name.endswith(".py"):
        raise CommandError(
            f"{name!r} is a file; name the module, as in {_shape(name).rpartition(' ')[2]}", Exit.USAGE
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            near = suggestion(name, _nearby(name))
            raise CommandError(
                f"no module named {missing!r}, looking from {Path.cwd()}{near}", Exit.USAGE
            ) from error
        raise broken(f"module {name}", error) from error
    except (TypeError, ValueError) as error:
        if not _user_frames(error):
            # `.tasks`, `..` and the like.
            raise CommandError(f"{name!r} is not a module's name: {error}", Exit.USAGE) from error
        raise broken(f"module {name}", error) from error
    except Exception as error:
        raise broken(f"module {name}", error) from error
    except SystemExit as error:
        raise CommandError(f"module {name} ended the process while it was imported: {error!r}") from error


def _attribute(module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            owner = f"module {module.__name__}" if found is module else f"{type(found).__name__} in {path!r}"
            near = suggestion(name, [known for known in dir(found) if not known.startswith("_")])
            if not near and found is module:
                near = _workers_in(module)
            raise CommandError(f"{owner} has no {name!r}{near}", Exit.USAGE) from error
    return found


def _worker(found: object, target: str, module: ModuleType) -> AnyWorker:
    worker = _given(found, target, module)
    if worker is not None:
        return worker
    if inspect.iscoroutinefunction(found):
        raise CommandError(
            f"{target} is a coroutine function; name a worker, or a plain function that returns one",
            Exit.USAGE,
        )
    if not callable(found) or not _takes_nothing(found):
        what = "takes arguments" if callable(found) else f"is a {type(found).__name__}"
        raise CommandError(
            f"{target} {what}; it must be a SpooledWorker, an AsyncSpooledWorker, a group of them, "
            f"or a function without arguments that returns one{_workers_in(module)}",
            Exit.USAGE,
        )
    try:
        made = found()
    except Exception as error:
        raise broken(target, error) from error
    worker = _given(made, target, module)
    if worker is None:
        raise CommandError(_no_worker(f"{target}()", made), Exit.USAGE)
    return worker


def _given(found: object, target: str, module: ModuleType) -> AnyWorker | None:
    """The worker that it is, or gives as a plugin; None when it does neither."""
    if isinstance(found, _kinds()):
        return cast("AnyWorker", found)
    plugin = getattr(type(found), "__spooled_worker__", None)
    return None if plugin is None else _from_plugin(plugin, found, target, module)


def _no_worker(what: str, found: object) -> str:
    return f"{what} returned a {type(found).__name__}, not a SpooledWorker, an AsyncSpooledWorker or a group"


def _kinds() -> tuple[type, ...]:
    from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, SpooledWorker, WorkerGroup

    return SpooledWorker, AsyncSpooledWorker, WorkerGroup, AsyncWorkerGroup


def _from_plugin(
    plugin: Callable[[Any, ModuleType], object], found: object, target: str, module: ModuleType
) -> AnyWorker:
    try:
        made = plugin(found, module)
    except (TypeError, ValueError, RuntimeError) as error:
        # What is wrong with the user's set-up, said by the adapter.
        raise CommandError(str(error), Exit.USAGE) from error
    except Exception as error:
        raise broken(target, error) from error
    if not isinstance(made, _kinds()):
        what = f"{target}: {type(found).__name__}.__spooled_worker__()"
        raise CommandError(_no_worker(what, made), Exit.USAGE)
    return cast("AnyWorker", made)


def _takes_nothing(function: object) -> bool:
    assert callable(function)
    if isinstance(function, type) and function.__module__.startswith("spooled."):
        return False
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _workers_in(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, _kinds()) or hasattr(type(value), "__spooled_worker__")
    ]
    return f". It has: {', '.join(sorted(names))}" if names else ""


def _nearby(name: str) -> list[str]:
    """Modules in the directory where the misspelt part would be."""
    parent, _, _ = name.rpartition(".")
    folder = Path.cwd().joinpath(*parent.split("."))
    prefix = f"{parent}." if parent else ""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    return [
        prefix + entry.stem
        for entry in entries
        if entry.suffix == ".py" or (entry.is_dir() and entry.name.isidentifier())
    ]


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    ours, loops = str(Path(__file__).parent), str(Path(asyncio.__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen importlib")) and frame.filename != importlib.__file__
    ]
    # Coroutines are run by us: how the loop came to them says nothing.
    return list(itertools.dropwhile(lambda frame: frame.filename.startswith(loops), frames))
