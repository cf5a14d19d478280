"""The table, for the terminal, for `RESULTS.md` and as JSON."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._bars import Bar
from benchmarks._runs import Row

RESULTS = Path(__file__).parent / "RESULTS.md"

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("rate", "jobs/s", ",.0f"),
    ("cpu_ms", "CPU ms/job", ".2f"),
    ("requests", "requests/job", ".2f"),
    ("pickup_p50", "pick-up p50 ms", ",.1f"),
    ("pickup_p99", "p99 ms", ",.0f"),
    ("idle", "idle requests/s", ",.2f"),
    ("threads", "threads", ".0f"),
    ("memory", "RSS MB", ".0f"),
    ("memory_10000", "RSS MB @10k", ".0f"),
    ("memory_100000", "RSS MB @100k", ".0f"),
    ("publish_rate", "jobs/s", ",.0f"),
    ("publish_p50", "p50 ms", ",.2f"),
    ("publish_p99", "p99 ms", ",.2f"),
    ("publish_cpu", "CPU us/job", ",.0f"),
)


def machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cells(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and texts. Columns that nothing was measured for are left out."""
    shown = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    lines = []
    for row in rows:
        values = [row.get(name) for name, _, _ in shown]
        if all(value is None for value in values):
            continue
        name = row.contender.name + (f" (no {', '.join(sorted(row.lacks))} yet)" if row.lacks else "")
        texts = [
            "" if value is None else format(value, form)
            for value, (_, _, form) in zip(values, shown, strict=True)
        ]
        lines.append([name, row.target, *texts])
    return ["", "against", *(title for _, title, _ in shown)], lines


def show(rows: list[Row], producers: list[Row], bars: list[Bar]) -> None:
    console = Console(width=None if Console().is_terminal else 160)
    for title, some in (
        ("Workers: no-op jobs, medians", rows),
        ("Producers: one thread, medians", producers),
    ):
        headings, lines = cells(some)
        table = Table(title=title)
        for index, heading in enumerate(headings):
            table.add_column(heading, justify="left" if index < 2 else "right")
        for line in lines:
            table.add_row(*line)
        if lines:
            console.print(table)
    for bar in bars:
        colour = "dim" if bar.value is None else "green" if bar.passed else "red" if bar.decides else "yellow"
        console.print(str(bar), style=colour, highlight=False)


def as_json(rows: list[Row], bars: list[Bar], versions: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "versions": versions,
        "rows": [
            {
                "worker": row.contender.name,
                "against": row.target,
                "median": {name: row.get(name) for name in row.values},
                "all": row.values,
            }
            for row in rows
        ],
        "bars": [
            {"text": bar.text, "value": bar.value, "passed": bar.passed, "decides": bar.decides}
            for bar in bars
        ],
    }


def _table(rows: list[Row]) -> list[str]:
    headings, lines = cells(rows)
    table = ["| " + " | ".join(line) + " |" for line in (headings, *lines)]
    table.insert(1, "|---|---|" + "---:|" * (len(headings) - 2))
    return table


def write(
    rows: list[Row],
    producers: list[Row],
    bars: list[Bar],
    versions: dict[str, dict[str, str]],
    command: str,
) -> None:
    """Keep this run in `RESULTS.md`."""
    about = machine()
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    peers = [
        f"- {name}: " + ", ".join(f"{package} {version}" for package, version in known.items())
        for name, known in sorted(versions.items())
    ]
    text = [
        "# Benchmark results",
        "",
        "Written by the benchmark itself; do not edit. To repeat it:",
        "",
        "```",
        command,
        "```",
        "",
        f"{today}, {about['cores']} cores, {about['memory_gb']} GiB of memory, Python {about['python']},",
        f"{about['system']}. Worker and server share the cores.",
        "",
        "## Workers",
        "",
        *_table(rows),
        "",
        "- *against*: `stub` answers from memory and counts requests, so what is left is the worker's own cost;",
        "  `batches` is the stub with acks in batches, `far` the stub with 50 ms for a request and its answer, `tls`",
        "  the stub over TLS; `server` is the embedded server (acks in batches, database in memory); `redis` is a",
        "  Redis without persistence.",
        "- *jobs/s*, *CPU ms/job*: from the first handler call to the last; user and system time, with children.",
        "- *requests/job* and *idle requests/s*: HTTP requests to the stub, or commands to Redis.",
        "- *pick-up*: from the answer to the producer until the handler is called, single jobs at random intervals.",
        "- *threads*: the operating system's, of all processes of the worker. *RSS* likewise; memory that forked",
        "  processes share is counted for each.",
        "- Settings: concurrency 10 unless the name says otherwise. *official defaults* is 5 slots and a pause of 1 s;",
        "  *official best* has a pause of 1 ms. Acks, retries and prefetch are each library's defaults; peers store no",
        "  results.",
        "",
        "## Producers",
        "",
        "One thread or coroutine enqueues one job after the other: `jobs.create`, `.delay()`, `.send()`.",
        "",
        *_table(producers),
        "",
        "Versions:",
        "",
        *peers,
        "",
        "Bars (`FAIL` makes the benchmark fail, `fail` depends on the machine and does not):",
        "",
        "```",
        *(str(bar) for bar in bars),
        "```",
        "",
    ]
    RESULTS.write_text("\n".join(text))
