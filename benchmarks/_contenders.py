"""Who is measured, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contender:
    """One library with one setting.

    Attributes:
        name: Shown, and matched by `--only`.
        environment: Which of the virtual environments it runs in.
        script: The driver.
        config: What the driver is told besides the mode.
        targets: The servers it is measured against.
        further: Servers that it is also measured against, unless the run is to be quick.
        jobs: Enough for a second or two.
        fixed: Whether `jobs` must not be scaled, because the setting itself limits the rate.
        calm: Whether to measure pick-up and what it asks for when idle.
        alone: Whether it is so busy when idle that the pick-up of others would suffer from it.
        quick: Whether it is part of `--quick`.
        memory: Whether its memory is measured in a full run.
        publishes: The server to measure producers against; none if empty.
    """

    name: str
    environment: str
    script: str
    config: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("redis",)
    further: tuple[str, ...] = ()
    jobs: int = 2000
    fixed: bool = False
    calm: bool = False
    alone: bool = False
    quick: bool = False
    memory: bool = False
    publishes: str = ""


def _spooled(name: str, environment: str, kind: str, options: dict[str, Any], **more: Any) -> Contender:
    config = {"kind": kind, "options": options, "without": more.pop("without", ())}
    return Contender(name, environment, "spooled_worker", config, **{"targets": ("stub", "server"), **more})


def _ours(name: str, kind: str, transport: str, concurrency: int = 10, **more: Any) -> Contender:
    options = {"concurrency": concurrency, "transport": transport, **more.pop("options", {})}
    return _spooled(name, "ours", kind, options, **more)


def _official(name: str, kind: str, concurrency: int, **more: Any) -> Contender:
    # The pause after every claim is what limits it. With next to none it is as fast as it gets.
    return _spooled(name, "official", kind, {"concurrency": concurrency, "poll_interval": 0.001}, **more)


PLAIN = ("uvloop",)
"""Packages that an installation without extras does not have."""

CONTENDERS = (
    _ours(
        "ours threaded fast",
        "threaded",
        "aiohttp",
        jobs=8000,
        calm=True,
        quick=True,
        memory=True,
        targets=("stub", "batches", "server"),
        further=("far", "tls"),
    ),
    _ours(
        "ours threaded plain",
        "threaded",
        "auto",
        jobs=6000,
        calm=True,
        quick=True,
        without=PLAIN,
        further=("far", "tls"),
        publishes="stub",
    ),
    _ours("ours threaded httpx", "threaded", "httpx", jobs=2000),
    _ours("ours async fast", "async", "aiohttp", jobs=8000, calm=True, quick=True, memory=True),
    _ours(
        "ours async plain",
        "async",
        "auto",
        jobs=6000,
        calm=True,
        quick=True,
        without=PLAIN,
        publishes="stub",
    ),
    _ours("ours async httpx", "async", "httpx", jobs=2000),
    _ours("ours threaded fast c=50", "threaded", "aiohttp", 50, jobs=8000),
    _ours("ours async fast c=50", "async", "aiohttp", 50, jobs=8000, quick=True),
    _ours(
        "ours threaded fast wake-ups",
        "threaded",
        "aiohttp",
        jobs=8000,
        calm=True,
        quick=True,
        options={"wakeups": True},
    ),
    _spooled("official defaults", "official", "threaded", {}, jobs=25, fixed=True, calm=True),
    _official(
        "official best threaded",
        "threaded",
        10,
        jobs=1500,
        calm=True,
        alone=True,
        memory=True,
        further=("far", "tls"),
        publishes="stub",
    ),
    _official("official best threaded c=50", "threaded", 50, jobs=1500),
    _official("official best async", "async", 10, jobs=1500, publishes="stub"),
    Contender(
        "ours celery on spooled",
        "ours",
        "celery_worker",
        {"pool": "threads", "concurrency": 10},
        targets=("server",),
        calm=True,
        publishes="server",
    ),
    Contender(
        "celery threads",
        "celery",
        "celery_worker",
        {"pool": "threads", "concurrency": 10},
        calm=True,
        publishes="redis",
    ),
    Contender("celery prefork", "celery", "celery_worker", {"pool": "prefork", "concurrency": 10}),
    Contender("celery solo", "celery", "celery_worker", {"pool": "solo", "concurrency": 1}, memory=True),
    Contender(
        "dramatiq",
        "dramatiq",
        "dramatiq_worker",
        {"concurrency": 10},
        jobs=4000,
        calm=True,
        memory=True,
        publishes="redis",
    ),
    Contender(
        "huey",
        "huey",
        "huey_worker",
        {"concurrency": 10},
        jobs=4000,
        calm=True,
        memory=True,
        publishes="redis",
    ),
    Contender("taskiq", "taskiq", "taskiq_worker", {"concurrency": 10}, jobs=4000, calm=True, memory=True),
)
