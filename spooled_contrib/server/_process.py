"""A server as a process: what it prints, how it stops, how it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from urllib.parse import urlsplit

from spooled.clock import SystemClock
from spooled_contrib.server._embedded import new_event_loop
from spooled_contrib.server._runtime import Runtime
from spooled_contrib.server._settings import (
    DEVELOPMENT_KEY,
    AddressUnavailableError,
    ServerConfigurationError,
    ServerSettings,
)
from spooled_contrib.server._storage.errors import StorageUnavailableError

MOST_FILES = 65_536
"""Every connection is an open file, and shells commonly allow 1,024 of them."""

CANNOT_SERVE = 1
REFUSED = 2


def serve(settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    _allow_many_connections()
    _log_to_stderr()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: ServerSettings) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        stopping.set()
        # A second signal means "now": let it do what it does by default.
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        # Not every loop can (Windows); there Ctrl-C still ends the process.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop, number)
    runtime = Runtime(settings, SystemClock())
    try:
        url = await runtime.start()
    except ServerConfigurationError as error:
        _say(str(error))
        return REFUSED
    except (AddressUnavailableError, StorageUnavailableError) as error:
        _say(str(error))
        return CANNOT_SERVE
    _announce(url, settings)
    await stopping.wait()
    _say("stopping")
    await runtime.stop()
    return 0


def _log_to_stderr() -> None:
    """Print warnings with their time, and when an outage of the database is over."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("spooled.server").addHandler(handler)
    logging.getLogger("spooled.server.database").setLevel(logging.INFO)


def _allow_many_connections() -> None:
    """Take as many files as this process may have without asking anybody."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems have a lower limit of their own beside the one they tell.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _announce(url: str, settings: ServerSettings) -> None:
    _say(f"listening on {url}")
    if settings.page:
        _say(f"open {url}/ in a browser to see queues and jobs")
    if settings.effective_key == DEVELOPMENT_KEY:
        _say(f"the API key is the public development key: {DEVELOPMENT_KEY}")
    if settings.db == ":memory:":
        _say("jobs are kept in memory and are gone when the server stops; pass --db FILE to keep them")
    parts = urlsplit(url)
    line = {
        "event": "listening",
        "url": url,
        "host": parts.hostname,
        "port": parts.port,
        "pid": os.getpid(),
        "db": settings.shown_db,
    }
    # Whoever started the server may have gone away without reading.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(line), flush=True)  # noqa: T201


def _say(message: str) -> None:
    print(f"spooled server: {message}", file=sys.stderr, flush=True)  # noqa: T201
