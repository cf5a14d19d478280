"""One child process as its worker sees it: how it is started, told, heard and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from spooled._interpreter import interpreter_options
from spooled.worker._log import WorkerLogger
from spooled.worker._process_messages import (
    FromChild,
    Setup,
    ToChild,
    Unframer,
    decode_from_child,
    frame,
)

logger = WorkerLogger("spooled.worker")

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from spooled.worker._process_child import main; main({descriptor})"
)


class ChildProcess:
    """A child process. It leads a process group of its own, so that what its handlers start ends with it.

    All methods and callbacks are called on the I/O loop.

    Args:
        setup: The first message.
        heard: Called with each message of the child.
        gone: Called once when the child has ended and its last message was heard, or when it could not be started.
    """

    def __init__(self, setup: Setup, heard: Callable[[FromChild], None], gone: Callable[[], None]) -> None:
        self._heard = heard
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._unsent = [frame(setup)]
        self._transport: asyncio.WriteTransport | None = None
        # Held while the child is killed or reaped: its number may be another process's right after.
        self._reaping = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_wanted = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.exit_code: int | None = None
        """How it ended, negative for a signal; None while it lives and when it could not be started."""
        self.error: Exception | None = None
        """Why it could not be started."""
        self.task = self._loop.create_task(self._live())

    @property
    def pid(self) -> int | None:
        """The id of the process; None before it is started."""
        return None if self._process is None else self._process.pid

    def send(self, message: ToChild) -> None:
        """Send a message, as soon as the child takes it. Does nothing when it has ended."""
        if self._transport is None:
            self._unsent.append(frame(message))
        elif not self._transport.is_closing():
            self._transport.write(frame(message))

    def kill(self) -> None:
        """End it, and what its handlers have started in its process group. `gone` is called when that is done."""
        with self._reaping:
            self._kill_wanted = True
            if self._process is not None and self._process.returncode is None:
                _kill_group(self._process.pid)

    # --- its life ---------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self.error = error
            return self._gone()
        try:
            ours.setblocking(False)
            self._start_thread(theirs)
            pipe = _Pipe(self._loop, self._receive)
            transport, _ = await self._loop.create_unix_connection(lambda: pipe, sock=ours)
            self._transport = transport
            transport.write(b"".join(self._unsent))
            self._unsent.clear()
            await self._ended
            # What it has sent is still read; after that comes the end, whoever else has the other end open.
            with suppress(OSError):
                ours.shutdown(socket.SHUT_RD)
            await pipe.closed
        except Exception as error:
            self.error = error
            self.kill()
        except BaseException:
            self.kill()
            raise
        finally:
            ours.close()
        return self._gone()

    def _start_thread(self, theirs: socket.socket) -> None:
        # The kernel tells a child of the end of the *thread* that has started it, so this thread stays.
        thread = threading.Thread(
            target=self._attend, args=(theirs,), name="spooled-child-process", daemon=True
        )
        try:
            thread.start()
        except BaseException:
            theirs.close()
            raise

    def _receive(self, content: bytes) -> None:
        try:
            self._heard(decode_from_child(content))
        except msgspec.DecodeError:
            logger.exception("a child process has sent what cannot be read; ending it")
            self.kill()

    # --- in a thread of its own -------------------------------------------------------------------------------

    def _attend(self, theirs: socket.socket) -> None:
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - this Python
                    _command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
            with self._reaping:
                self._process = process
                if self._kill_wanted:
                    _kill_group(process.pid)
            _wait_unreaped(process)
            with self._reaping:
                # What it has left behind. Until it is reaped, no other group can have its number.
                _kill_group(process.pid)
                self.exit_code = process.wait()
        except Exception as error:
            self.error = error
        finally:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_resolve, self._ended)


class _Pipe(asyncio.Protocol):
    """Reads messages."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._unframer = Unframer()
        self.closed: asyncio.Future[None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        for content in self._unframer.feed(data):
            self._receive(content)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        _resolve(self.closed)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _command(descriptor: int) -> list[str]:
    path = [one or str(Path.cwd()) for one in sys.path]
    program = _PROGRAM.format(path=path, descriptor=descriptor)
    return [sys.executable, *interpreter_options(), "-c", program]


def _kill_group(pid: int) -> None:
    """Kill a process that is not reaped yet, and its group, if it leads one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _wait_unreaped(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "waitid"):
        with suppress(ChildProcessError):  # reaped by someone else
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()
