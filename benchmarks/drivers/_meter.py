"""What every driver measures with. Standard library only, because it runs in every peer's environment.

A driver is a process that works until it is terminated. What it has to say goes to its standard output as lines of
JSON, written past `sys.stdout`, which some peers put their logs in place of.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def read_config() -> dict[str, Any]:
    """Return the driver's only argument."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    return config


def tell(**what: object) -> None:
    """Write one line that the parent reads."""
    os.write(1, json.dumps(what).encode() + b"\n")


class Meter:
    """Counts jobs, and looks at the clock, the CPU, the threads and the memory at the right ones.

    Args:
        config: `mode` is `drain` (tell once, after `jobs` jobs) or `calm` (tell about each job).
        forks: Whether jobs run in child processes of this one.
    """

    def __init__(self, config: dict[str, Any], *, forks: bool = False) -> None:
        self._jobs: int = config["jobs"]
        self._calm = config["mode"] == "calm"
        self._root = os.getpid()
        self._lock: Any = multiprocessing.Lock() if forks else threading.Lock()
        self._count: Any = multiprocessing.Value("q", 0, lock=False) if forks else _Number()
        self._started: Any = multiprocessing.Array("d", 2, lock=False) if forks else [0.0, 0.0]
        self._threads: Any = multiprocessing.Value("q", 0, lock=False) if forks else _Number()
        self._looks = {self._jobs // 4, self._jobs // 2, self._jobs * 3 // 4}
        self._memory_after = set(config.get("memory_after", ()))

    def tick(self, number: int) -> None:
        """A job's handler was called; `number` is what its payload says."""
        if self._calm:
            tell(job=number, at=time.monotonic())
            return
        with self._lock:
            self._count.value = count = self._count.value + 1
            if count == 1:
                self._started[:] = time.monotonic(), self._cpu()
            elif count in self._looks:
                self._threads.value = max(self._threads.value, self._thread_count())
            if count in self._memory_after:
                tell(memory_after=count, bytes=self._memory())
            if count == self._jobs:
                seconds, cpu = time.monotonic() - self._started[0], self._cpu() - self._started[1]
                threads = max(self._threads.value, self._thread_count())
                tell(
                    done=count, seconds=seconds, cpu=cpu, threads=threads, memory=self._memory(), **versions()
                )

    def _cpu(self) -> float:
        """Return seconds of CPU of this process tree. Children are told in hundredths, this process exactly."""
        own = time.process_time()
        me = os.getpid()
        for process in _tree(self._root):
            if process != me:
                fields = _stat(process)
                own += (int(fields[11]) + int(fields[12])) / TICK if fields else 0.0
        return own

    def _thread_count(self) -> int:
        return sum(int(fields[17]) for process in _tree(self._root) if (fields := _stat(process)))

    def _memory(self) -> int:
        """Resident bytes of the process tree; what forked processes share counts once for each."""
        return sum(int(fields[21]) * PAGE for process in _tree(self._root) if (fields := _stat(process)))


WARM_UP = 50
"""Operations that do not count, because connections are made for them."""


class Times:
    """Measures operations: `with times:` around each."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._began = 0.0
        self._first = (0.0, 0.0)

    def __enter__(self) -> None:
        if len(self._seconds) == WARM_UP:
            self._first = time.monotonic(), time.process_time()
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds.append(time.perf_counter() - self._began)

    def tell(self) -> None:
        """Write what was measured as one line that the parent reads."""
        seconds, cpu = time.monotonic() - self._first[0], time.process_time() - self._first[1]
        counted = sorted(self._seconds[WARM_UP:])
        tell(
            published=len(counted),
            seconds=seconds,
            cpu=cpu,
            p50=counted[len(counted) // 2],
            p99=counted[int(len(counted) * 0.99)],
        )


def publish(count: int, enqueue: Callable[[int], object]) -> None:
    """Enqueue so many jobs, one after the other, and tell how long it took."""
    times = Times()
    for number in range(WARM_UP + count):
        with times:
            enqueue(number)
    times.tell()


class _Number:
    value = 0


def versions() -> dict[str, str]:
    return {"python": sys.version.split()[0]}


def _tree(root: int) -> list[int]:
    found = [root]
    for process in found:
        for tasks in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(child) for child in tasks.read_text().split()]
            except OSError:  # it has just ended
                continue
    return found


def _stat(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command's name."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
