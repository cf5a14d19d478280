"""What is told at the end, to people and to machines."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spooled_contrib.server.demo._ledger import Check, Ledger
from spooled_contrib.server.demo._work import Planned

LARGEST = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """All there is to tell."""

    python: str
    total: int
    seconds: float
    ledger: Ledger
    planned: dict[str, Planned]
    checks: list[Check]

    @property
    def is_proven(self) -> bool:
        return all(check.holds for check in self.checks)

    @property
    def jobs_per_second(self) -> float:
        return (len(self.ledger.completed) + len(self.ledger.dead)) / self.seconds

    def largest(self) -> list[tuple[str, dict[str, int]]]:
        """Return the modules with the most lines."""
        return sorted(self.ledger.modules.items(), key=lambda item: (-item[1]["lines"], item[0]))[:LARGEST]


def print_report(console: Console, outcome: Outcome) -> None:
    """Tables for people."""
    ledger = outcome.ledger
    modules = Table(title="Largest modules", title_justify="left", box=None, pad_edge=False)
    modules.add_column("module", no_wrap=True)
    for name in ("lines", "functions", "classes", "imports"):
        modules.add_column(name, justify="right")
    for path, counts in outcome.largest():
        modules.add_row(
            escape(path), *(f"{counts[name]:,}" for name in ("lines", "functions", "classes", "imports"))
        )
    totals = ledger.totals
    modules.add_row(
        f"[bold]all {len(ledger.modules):,}[/]",
        *(f"[bold]{totals[name]:,}[/]" for name in ("lines", "functions", "classes", "imports")),
    )
    console.print()
    console.print(modules)

    dead = Table(title="Dead letters", title_justify="left", box=None, pad_edge=False)
    dead.add_column("job")
    dead.add_column("runs", justify="right")
    dead.add_column("last error", overflow="fold")
    for job in ledger.dead:
        plan = outcome.planned.get(job.id)
        dead.add_row(
            escape(plan.label if plan else f"unexpected: {job.id}"),
            f"{job.retry_count + 1}",
            _printable(job.last_error or ""),
        )
    console.print()
    console.print(dead)

    proof = Table(
        title="Every job is accounted for?", title_justify="left", box=None, show_header=False, pad_edge=False
    )
    for check in outcome.checks:
        if check.holds:
            proof.add_row("[green]yes[/]", escape(check.statement))
        else:
            proof.add_row("[bold red]NO[/]", f"{escape(check.statement)} [red]{_printable(check.found)}[/]")
    console.print()
    console.print(proof)
    console.print()
    ended = len(ledger.completed) + len(ledger.dead)
    verdict = (
        "[bold green]all accounted for[/]" if outcome.is_proven else "[bold red]NOT all accounted for[/]"
    )
    console.print(
        f"{ended:,} jobs in {outcome.seconds:.1f} s, {outcome.jobs_per_second:.0f} jobs/s, "
        f"{ledger.retried} retries: {verdict}",
        highlight=False,
    )


def print_json(outcome: Outcome) -> None:
    """One JSON document on stdout."""
    ledger = outcome.ledger
    document: dict[str, Any] = {
        "python": outcome.python,
        "enqueued": outcome.total,
        "completed": len(ledger.completed),
        "dead": len(ledger.dead),
        "retried": ledger.retried,
        "seconds": round(outcome.seconds, 3),
        "jobs_per_second": round(outcome.jobs_per_second, 1),
        "totals": ledger.totals,
        "largest": [{"path": path, **counts} for path, counts in outcome.largest()],
        "dead_letters": [
            {
                "id": job.id,
                "planned": outcome.planned[job.id].label if job.id in outcome.planned else None,
                "runs": job.retry_count + 1,
                "last_error": job.last_error,
            }
            for job in ledger.dead
        ],
        "proof": [
            {
                "statement": check.statement,
                "holds": check.holds,
                "found": None if check.holds else check.found,
            }
            for check in outcome.checks
        ],
        "proven": outcome.is_proven,
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _printable(text: str) -> str:
    """Error texts come from jobs: no control characters, and no markup of rich."""
    return escape("".join(char if char.isprintable() else " " for char in text))
