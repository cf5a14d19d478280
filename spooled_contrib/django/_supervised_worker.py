"""`python -m spooled_contrib.django._supervised_worker`: one worker process of `--processes` or `--autoreload`.

It is told by its supervisor, through a pipe, which command to run and with which options. Nothing is read from the
command line: how the supervisor came by its options (an abbreviation, `call_command`, a subclass with defaults of its
own) makes no difference.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, SystemCheckError

from spooled.cli import supervised
from spooled.cli.children import Child, python_command

NOT_PASSED_ON = frozenset({"stdout", "stderr"})
"""Options of `call_command` that mean objects of this process."""

Launch = Callable[[Callable[[Child], None]], Child]


def launcher(command: BaseCommand, args: tuple[Any, ...], options: Mapping[str, Any]) -> Launch:
    """Return a function that starts a process in which the command runs with these arguments.

    The process has this one's settings module, import path, environment, folder and Python options. It makes a new
    object of the command's class and calls that, so what a subclass does happens there as well.

    Raises:
        CommandError: Another process cannot have these settings, this command or these options.
    """
    module, name = _importable(type(command))
    message = json.dumps(
        {
            "settings": _settings_module(),
            # Its settings modules are read by an importer of its own, which its setup() installs.
            "configurations": "configurations" in sys.modules and "DJANGO_CONFIGURATION" in os.environ,
            "path": [os.fspath(entry) for entry in sys.path],
            "python_path": os.environ.get("PYTHONPATH"),
            "program": sys.argv[0] if sys.argv else "",
            "module": module,
            "class": name,
            # Values may be of any type, as of `type=Path`; the classes are importable after django.setup() only.
            "call": _pickled(args, options).hex(),
        }
    ).encode()
    # Until the process has its message, so that it finds this package and Django; -P keeps the current folder out.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path}
    line = python_command(__name__, module, options=["-P"])

    def launch(ended: Callable[[Child], None]) -> Child:
        return Child(line, ended, message=message, environment=environment)

    return launch


def main() -> None:
    """Run what the supervisor says."""
    supervisor = supervised.adopt()
    if supervisor is None:
        sys.exit("this module is run by `manage.py spooled_worker --processes N`, never by hand")
    told = json.loads(supervisor.message)
    if told["python_path"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = told["python_path"]
    os.environ["DJANGO_SETTINGS_MODULE"] = told["settings"]
    sys.path[:] = told["path"]
    # Settings and applications look there for which command is running.
    sys.argv = [told["program"], told["module"].rpartition(".")[2]]

    importlib.import_module("configurations" if told["configurations"] else "django").setup()
    command = getattr(importlib.import_module(told["module"]), told["class"])()
    command.owns_process = True
    args, options = pickle.loads(bytes.fromhex(told["call"]))  # noqa: S301 - from the supervisor's own pipe
    try:
        command.execute(*args, **options)
    except CommandError as error:
        if options.get("traceback"):
            raise
        name = "" if isinstance(error, SystemCheckError) else f"{type(error).__name__}: "
        command.stderr.write(f"{name}{error}")
        sys.exit(error.returncode)


def _settings_module() -> str:
    module = getattr(settings, "SETTINGS_MODULE", None)
    if not isinstance(module, str):
        raise CommandError(
            "several processes and autoreload need a settings module: these settings exist in this process only "
            "(settings.configure() or override_settings()). Set DJANGO_SETTINGS_MODULE, or run one process"
        )
    return module


def _importable(kind: type[BaseCommand]) -> tuple[str, str]:
    module, name = kind.__module__, kind.__qualname__
    try:
        if module != "__main__" and getattr(importlib.import_module(module), name, None) is kind:
            return module, name
    except ImportError:
        pass
    raise CommandError(
        f"several processes and autoreload need a command that can be imported, and {module}.{name} cannot: "
        "move the class to a module, or run one process"
    )


def _pickled(args: tuple[Any, ...], options: Mapping[str, Any]) -> bytes:
    passed_on = {name: value for name, value in options.items() if name not in NOT_PASSED_ON}
    for name, value in passed_on.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise CommandError(
                f"the option {name!r} cannot be passed on to another process: a {type(value).__name__}; {error}"
            ) from error
    return pickle.dumps((args, passed_on))


if __name__ == "__main__":
    main()
