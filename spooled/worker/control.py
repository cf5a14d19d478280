"""What a handler raises to decide about its own job: `Retry`, `Snooze`, `Discard`.

The REST API has no such requests (contract lifecycle §4), so they are made of those that it has. `Retry` and
`Snooze` create a *successor*, a copy of the job that starts later, under an idempotency key that belongs to this run;
then they complete the original with a result that names the successor. What that costs:

- the copy has a new id, and counts against the daily quota; its retry count starts again from 0 with as many retries
  as were left;
- three more requests: a claimed job carries neither priority nor tags, so the original is read first;
- the original ends as `completed`, with `{"spooled": {"outcome": ..., "successor": ..., "reason": ...}}` as its result.

A job of a workflow, one that others depend on, and one with a completion webhook are never replaced: something else
watches their ids. For those, and when no copy can be made, the job fails in the ordinary way and is retried
with the server's own delay.
"""

from __future__ import annotations

import datetime as dt


class Fail(Exception):  # noqa: N818 - says what to do, as the others here do
    """Fail the job with exactly this text. Like any failure, it is retried while there are retries left.

    For adapters whose error texts have a form of their own; `raise Fail(text) from error` logs the error itself.

    Args:
        text: What is kept as the job's last error; cut to 2,048 characters (contract lifecycle §4).
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class JobControl(Exception):  # noqa: N818 - control flow, not an error
    """What `Retry`, `Snooze` and `Discard` have in common.

    Attributes:
        reason: Why, in words; kept with the job.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Later(JobControl):
    """A control exception that names a time. Use `Retry` or `Snooze`."""

    def __init__(self, after: float | dt.timedelta | dt.datetime, reason: str = "") -> None:
        super().__init__(reason)
        self.after = after
        if isinstance(after, dt.datetime):
            if after.tzinfo is None:
                raise ValueError(
                    f"{type(self).__name__}(after={after!r}): a datetime needs a time zone, "
                    "for example datetime.now(timezone.utc) + timedelta(hours=1)"
                )
        elif isinstance(after, bool) or not isinstance(after, int | float | dt.timedelta):
            raise TypeError(
                f"{type(self).__name__}(after=...) takes seconds, a timedelta or a datetime, got {after!r}"
            )
        elif (after.total_seconds() if isinstance(after, dt.timedelta) else after) < 0:
            raise ValueError(f"{type(self).__name__}(after={after!r}): the time must not be negative")

    def due(self, now: dt.datetime) -> dt.datetime:
        """When the job should run again."""
        if isinstance(self.after, dt.datetime):
            return self.after
        delay = self.after if isinstance(self.after, dt.timedelta) else dt.timedelta(seconds=self.after)
        return now + delay


class Retry(Later):
    """Run the job again at a time of the handler's choosing. Costs one attempt, as any failure does.

    When no attempt is left, the job is dead-lettered like after any other failure.

    Args:
        after: Seconds from now, a timedelta, or an aware datetime.
        reason: Why.

    Raises:
        ValueError: `after` is negative, or a datetime without a time zone.
        TypeError: `after` is something else.
    """


class Snooze(Later):
    """Run the job again later without costing an attempt: it is not broken, its time has not come.

    Arguments and errors are those of `Retry`.
    """


class Discard(JobControl):
    """Stop here: the job is useless, and retrying it would be too. It ends as completed, with the reason as result.

    Args:
        reason: Why.
    """
