"""What is seen while the jobs run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the demo is. All counts but `retried` are the server's."""

    total: int
    pending: int = 0
    running: int = 0
    done: int = 0
    dead: int = 0
    retried: int = 0
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """Jobs ended in a second."""
        return (self.done + self.dead) / self.elapsed if self.elapsed > 0 else 0.0


class Display(Protocol):
    """Shows progress between `with` and its end."""

    def show(self, progress: Progress) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveDisplay:
    """A panel that is drawn again in place, for terminals."""

    def __init__(self, console: Console, total: int) -> None:
        self._live = Live(_panel(Progress(total)), console=console, refresh_per_second=8)

    def show(self, progress: Progress) -> None:
        self._live.update(_panel(progress))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class LineDisplay:
    """A line now and then, for files and logs."""

    EVERY = 2.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        ended = progress.done + progress.dead == progress.total
        if now < self._next and not ended:
            return
        self._next = now + self.EVERY
        self._console.print(
            f"{progress.elapsed:5.1f} s  pending {progress.pending}  running {progress.running}  done {progress.done}  "
            f"retried {progress.retried}  dead {progress.dead}  {progress.rate:.0f} jobs/s",
            highlight=False,
            soft_wrap=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class NoDisplay(LineDisplay):
    """Nothing, for machines."""

    def show(self, progress: Progress) -> None:
        del progress


def _panel(progress: Progress) -> Panel:
    numbers = Table.grid(padding=(0, 2), expand=True)
    cells = (
        ("pending", f"{progress.pending}", ""),
        ("running", f"{progress.running}", "cyan"),
        ("done", f"{progress.done}", "green"),
        ("retried", f"{progress.retried}", "yellow"),
        ("dead", f"{progress.dead}", "red"),
        ("jobs/s", f"{progress.rate:.0f}", ""),
        ("elapsed", f"{progress.elapsed:.0f} s", ""),
    )
    for _ in cells:
        numbers.add_column(justify="center")
    numbers.add_row(*(f"[bold {style}]{value}[/]" for _, value, style in cells))
    numbers.add_row(*(f"[dim]{name}[/]" for name, _, _ in cells))
    bar = ProgressBar(total=max(progress.total, 1), completed=progress.done + progress.dead)
    return Panel(Group(bar, "", numbers), title=f"{progress.total} jobs", width=78)
