"""`spooled queues`: list, stats, pause and resume."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from spooled.cli import _output
from spooled.cli._connection import connect
from spooled.cli._parser import add_commands, add_connection, add_json
from spooled.cli._table import Column, table
from spooled.cli.failure import EXIT_CODES, Exit

if TYPE_CHECKING:
    from spooled.models import JobStats, QueueStats

_EXAMPLES = f"""\
examples:
  spooled queues list
  spooled queues stats
  spooled queues stats emails --json | jq '.queues[0].pending_jobs'
  spooled queues pause emails --reason "mail server down"
  spooled queues resume emails

{EXIT_CODES}"""

_LIST_COLUMNS = (
    Column("QUEUE", least=12),
    Column("STATE"),
    Column("MAX RETRIES", right=True),
    Column("TIMEOUT", right=True),
    Column("RATE LIMIT", right=True),
)
_STATS_COLUMNS = (
    Column("QUEUE", least=12),
    Column("PENDING", right=True),
    Column("LATER", right=True),
    Column("RUNNING", right=True),
    Column("DEAD", right=True),
    Column("DONE 24H", right=True),
    Column("AVG TIME", right=True),
    Column("OLDEST", right=True),
    Column("WORKERS", right=True),
)


_MOST = 100
"""How many queues the server lists; it has no second page of them (contract api-v1 §4)."""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "queues",
        help="list, pause and resume queues, and see their numbers",
        description="List, pause and resume queues, and see their numbers.",
        epilog=_EXAMPLES,
    )
    add_connection(parser, quiet=True)
    add_json(parser, quiet=True)
    actions = add_commands(parser)

    def command(name: str, text: str, more: str = "") -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.{more}", epilog=_EXAMPLES
        )
        return made

    listing = command("list", "list the queues")
    stats = command("stats", "show how much waits, runs and has failed for good", " The busiest come first.")
    stats.add_argument("queues", metavar="QUEUE", nargs="*", help="these queues (default: all)")
    pause = command(
        "pause", "stop handing out jobs of a queue", " Jobs that run go on, and new jobs are still accepted."
    )
    pause.add_argument("queue", metavar="QUEUE", help="the queue's name")
    pause.add_argument("--reason", metavar="TEXT", help="kept with the queue")
    resume = command("resume", "hand out jobs of a paused queue again")
    resume.add_argument("queue", metavar="QUEUE", help="the queue's name")
    for made, run in ((listing, _list), (stats, _stats), (pause, _pause), (resume, _resume)):
        add_json(made)
        add_connection(made)
        made.set_defaults(run=run)


def _list(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args) as client:
        queues = client.queues.list()
    if hasattr(args, "json"):
        _output.write_json({"queues": msgspec.to_builtins(list(queues))})
    elif not queues:
        _output.write("no queues: the first job makes one")
    else:
        rows = [
            (
                queue.queue_name,
                "active" if queue.enabled else "paused",
                queue.max_retries,
                f"{queue.default_timeout} s",
                queue.rate_limit,
            )
            for queue in queues
        ]
        _output.write(table(_LIST_COLUMNS, rows, _output.columns()))
    _say_more(args, len(queues))
    return Exit.DONE


def _stats(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args) as client:
        listed = [] if args.queues else [queue.queue_name for queue in client.queues.list()]
        names = args.queues or listed
        # The queue's own numbers say nothing of dead letters and of jobs that wait for their time.
        stats = [(client.queues.get_stats(name), client.jobs.get_stats(name)) for name in names]
    if listed:
        stats.sort(key=_busyness, reverse=True)
    if hasattr(args, "json"):
        _output.write_json(
            {
                "queues": [
                    msgspec.to_builtins(queue) | {"jobs": msgspec.to_builtins(jobs)} for queue, jobs in stats
                ]
            }
        )
    elif not stats:
        _output.write("no queues: the first job makes one")
    else:
        _output.write(
            table(_STATS_COLUMNS, [_numbers(queue, jobs) for queue, jobs in stats], _output.columns())
        )
    _say_more(args, len(listed))
    return Exit.DONE


def _say_more(args: argparse.Namespace, listed: int) -> None:
    if listed >= _MOST:
        text = f"the first {listed} by name; the server lists no more: see others with spooled queues stats QUEUE"
        _output.say_more(text, json=hasattr(args, "json"))


def _busyness(numbers: tuple[QueueStats, JobStats]) -> int:
    _, jobs = numbers
    return jobs.pending + jobs.scheduled + jobs.processing


def _numbers(stats: QueueStats, jobs: JobStats) -> tuple[object, ...]:
    average, oldest = stats.avg_processing_time_ms, stats.max_job_age_seconds
    return (
        stats.queue_name,
        stats.pending_jobs,
        jobs.scheduled,
        stats.processing_jobs,
        jobs.deadletter,
        stats.completed_jobs_24h,
        None if average is None else f"{average:.0f} ms" if average < 10_000 else f"{average / 1000:.0f} s",
        None if oldest is None else f"{oldest} s",
        stats.active_workers,
    )


def _pause(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args, f"queue {args.queue}") as client:
        answer = client.queues.pause(args.queue, reason=args.reason)
    if hasattr(args, "json"):
        _output.write_json(msgspec.to_builtins(answer))
    else:
        _output.write(f"queue {args.queue} is paused; go on with: spooled queues resume {args.queue}")
    return Exit.DONE


def _resume(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args, f"queue {args.queue}") as client:
        answer = client.queues.resume(args.queue)
    if hasattr(args, "json"):
        _output.write_json(msgspec.to_builtins(answer))
    else:
        _output.write(f"queue {args.queue} is active again, after {answer.paused_duration_secs} s")
    return Exit.DONE
