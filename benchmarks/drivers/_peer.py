"""What the drivers of Redis queues have in common."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from _meter import publish, tell


def drive(config: dict[str, Any], enqueue: Callable[[int], object], work: Callable[[], object]) -> None:
    """Do what the mode asks for.

    Args:
        config: The driver's argument.
        enqueue: Enqueues one job with this number.
        work: Runs the worker until the process is terminated.
    """
    if config["mode"] == "produce":
        for number in range(config["jobs"]):
            time.sleep(random.uniform(*config["interval"]))
            enqueue(number)
            tell(job=number, at=time.monotonic())
        return
    if config["mode"] == "publish":
        publish(config["jobs"], enqueue)
        return
    if config["mode"] == "drain":
        for number in range(config["jobs"]):
            enqueue(number)
    tell(ready=True)
    work()
