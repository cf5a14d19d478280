"""Programs that run beside the server: started in sessions of their own, so that Ctrl-C reaches them through us."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from spooled.cli import children


class Child:
    """One program, whose output is told line by line. It ends when this process does, however that ends.

    Args:
        name: What its lines are marked with.
        command: The program and its arguments. It calls `supervised.adopt()`.
        environment: All of its environment.
        tell: Called with each line, from a thread.
        ended: Called once, with the child, after its last line.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        tell: Callable[[str, str], None],
        ended: Callable[[Child], None],
    ) -> None:
        self.name = name
        self._tell = tell
        self._ended = ended
        self._child = children.Child(
            command,
            lambda _: None,
            environment=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        threading.Thread(target=self._follow, name=f"spooled-dev-{name}", daemon=True).start()

    @property
    def exit_code(self) -> int:
        """As a shell tells it: 128 and the number of the signal that ended it."""
        return self._child.exit_code

    def stop(self) -> None:
        """Ask it to finish; a second time, to hurry."""
        self._child.stop()

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _follow(self) -> None:
        stream = self._child.process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                self._tell(self.name, line.rstrip("\n"))
        self._child.process.wait()
        self._ended(self)
