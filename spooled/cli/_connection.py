"""The client that a command talks through."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spooled.cli.failure import failure_of

if TYPE_CHECKING:
    from spooled.client import SpooledClient


@contextmanager
def connect(args: argparse.Namespace, what: str = "") -> Iterator[SpooledClient]:
    """A client for the server that the options and the environment name.

    Args:
        args: The parsed command line.
        what: What the command is about, to be named when the server does not know it.

    Raises:
        CommandError: What the client raised while it was in use, in one line.
    """
    # Imported here, because it takes longer than everything else that `spooled --help` does.
    from spooled.client import SpooledClient
    from spooled.config import DEFAULT_BASE_URL
    from spooled.errors import SpooledError

    options: dict[str, Any] = {
        "api_key": getattr(args, "api_key", None),
        "base_url": getattr(args, "base_url", None),
        "timeout": getattr(args, "request_timeout", None),
    }
    if not any(name.startswith("SPOOLED_RETRY_") for name in os.environ):
        # Somebody is waiting: the client's own patience of seconds is meant for programs.
        options["retry"] = {"max_retries": 2, "base_delay": 0.2}
    base_url = options["base_url"] or os.environ.get("SPOOLED_BASE_URL") or DEFAULT_BASE_URL
    try:
        with SpooledClient(**options) as client:
            yield client
    except SpooledError as error:
        raise failure_of(error, base_url, what) from error
