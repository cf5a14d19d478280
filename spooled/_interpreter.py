"""How this Python was started, for processes that are to be started alike."""

from __future__ import annotations

import io
import sys

_FLAGS = {
    "bytes_warning": "b",
    "debug": "d",
    "dont_write_bytecode": "B",
    "ignore_environment": "E",
    "isolated": "I",
    "no_site": "S",
    "no_user_site": "s",
    "optimize": "O",
    "quiet": "q",
    "safe_path": "P",
    "verbose": "v",
}
"""Of `sys.flags`, and the option that sets each."""


def interpreter_options() -> list[str]:
    """Return the options that this Python was started with, such as `-O` and `-W error`."""
    counts = [(letter, int(getattr(sys.flags, name))) for name, letter in _FLAGS.items()]
    flags = [f"-{letter * count}" for letter, count in counts if count]
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through:
        flags.append("-u")
    warnings = [f"-W{option}" for option in sys.warnoptions]
    implementation = [f"-X{name}" if on is True else f"-X{name}={on}" for name, on in sys._xoptions.items()]
    return [*flags, *warnings, *implementation]
