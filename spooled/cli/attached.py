"""`python -m spooled.cli.attached PROGRAM [ARGUMENT...]`: a program that ends with its supervisor.

For programs that know nothing of a supervisor. It gets the signals that the supervisor passes on, and SIGTERM when the
supervisor is gone; if that does not end it, it and what it has started are killed.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from spooled.cli import supervised
from spooled.cli.signals import listen_for_signals, stop_signals

GRACE = 60.0
"""Seconds that the program has when its supervisor is gone."""

CANNOT_RUN = 127


def run(command: Sequence[str]) -> int:
    """Run the program; its exit code, as a shell tells it."""
    supervised.adopt()
    events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    with listen_for_signals(stop_signals(), events.put):
        try:
            program = subprocess.Popen(command)  # noqa: S603 - the user's own command line
        except OSError as error:
            print(f"cannot run {command[0]}: {error.strerror}", flush=True)  # noqa: T201
            return CANNOT_RUN

        def wait() -> None:
            program.wait()
            events.put(None)

        threading.Thread(target=wait, name="spooled-program", daemon=True).start()
        while (number := events.get()) is not None:
            program.send_signal(number)
            if supervised.is_gone():
                killer = threading.Timer(GRACE, os.killpg, (os.getpgrp(), signal.SIGKILL))
                killer.daemon = True
                killer.start()
    code = program.returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
