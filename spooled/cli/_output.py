"""The only place of the command line that writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from spooled.cli._text import safe_block, safe_json, safe_line


def write(text: str = "") -> None:
    """A line of a result, for people. What is not safe for a terminal is escaped."""
    sys.stdout.write(safe_block(text) + "\n")


def write_json(document: Any) -> None:
    """The one JSON document that a command with `--json` prints."""
    import json

    sys.stdout.write(safe_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n")


def print_error(text: str) -> None:
    """One line on stderr: what went wrong and what to do."""
    sys.stderr.write(f"spooled: {safe_line(text)}\n")
    sys.stderr.flush()


def say_more(text: str, *, json: bool) -> None:
    """Say that a list is longer than what is shown: below a table, or on stderr where stdout is one JSON document."""
    if json:
        print_error(text)
    else:
        write(text)


def columns() -> int | None:
    """Return the columns to keep within; None when nobody looks, because a file or a pipe should get everything."""
    import shutil

    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def tolerate_any_text() -> None:
    """Let text that the terminal's encoding has no character for be escaped and not end the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def discard(stream: TextIO) -> None:
    """Send what is left in the stream's buffer nowhere: its reader has gone, and exit would flush it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
