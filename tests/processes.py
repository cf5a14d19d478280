"""Programs under test as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from tests.waiting import HOPELESS, wait_until


class Process:
    """Python in a session of its own; what it prints is read as it comes. It ends with the `with` block.

    Attributes:
        popen: The process itself.
        lines: What it and its children have printed so far, line by line.
        errors: What of that came on stderr, if the two are kept apart.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
        apart: bool = False,
    ) -> None:
        """Start it.

        Args:
            arguments: Python's own.
            cwd: Its folder; ours, unless another is given.
            environment: All of it; ours, unless another is given.
            stdin: What it reads there; nothing, unless given.
            apart: Keep stderr apart from stdout.
        """
        self.popen = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        streams = ((self.popen.stdout, self.lines), (self.popen.stderr, self.errors))
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True) for pair in streams if pair[0]
        ]
        for reader in self._readers:
            reader.start()
        if self.popen.stdin is not None:
            with self.popen.stdin as stream:
                stream.write(stdin or "")

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        with stream:
            # Not `extend`, which a list may carry out at the end only.
            for line in stream:
                lines.append(line)  # noqa: PERF402

    @property
    def log(self) -> str:
        """All that it has printed so far."""
        return "".join([*self.lines, *self.errors])

    @property
    def ended(self) -> bool:
        """Whether it has ended, whatever its children do."""
        return self.popen.poll() is not None

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until it has printed the text, so many times in all.

        Raises:
            AssertionError: It ended without.
        """
        self._wait(lambda: self.log.count(text) >= times, text)

    def find(self, pattern: str) -> str:
        """What the pattern finds (its first group, if it has one), once it has been printed.

        Raises:
            AssertionError: It ended without.
        """
        self._wait(lambda: bool(re.search(pattern, self.log)), pattern)
        found = re.search(pattern, self.log)
        assert found
        return found.group(found.re.groups and 1)

    def _wait(self, said: Callable[[], bool], what: str) -> None:
        def decided() -> bool:
            # Looked at first: what it printed before it ended has then been seen.
            ended = not any(reader.is_alive() for reader in self._readers)
            found = said()
            assert found or not ended, f"it ended without {what!r}; it said:\n{self.log}"
            return found

        wait_until(decided, what)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.popen.terminate()

    def wait(self) -> int:
        """Wait for its end, and for the last of what it printed; returns the exit code."""
        code = self.popen.wait(HOPELESS)
        for reader in self._readers:
            reader.join(HOPELESS)
            assert not reader.is_alive(), f"it has ended, and a child of its has not; it said:\n{self.log}"
        return code

    def kill(self) -> None:
        """End it and its children at once."""
        # Also after its own end: a child may have outlived it.
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
