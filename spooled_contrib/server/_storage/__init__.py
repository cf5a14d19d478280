"""What the rules ask of a database, and nothing more.

The rules of the queue (who may claim, what an ack does, when a job is dead) are plain functions that take a `Tx`.
A storage runs them: `write` inside a transaction that is durable when the call returns, `read` against a state at
least as new as every write answered before it. SQLite is one storage; another one only has to offer this module's
interface and pass the same conformance suite.

The SQL that the rules send is portable on purpose: `?` placeholders (an adapter for a driver with another style
rewrites them), `RETURNING`, `ON CONFLICT`, partial indexes, integers for flags and for time. What cannot be said
portably is in `Dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from spooled_contrib.server._events import Event

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Dialect:
    """The few fragments of SQL that differ between databases."""

    skip_locked: str
    """Appended to the sub-select of a claim, so that claimers never wait for each other. Empty with one writer."""

    has_tag: str
    """A condition with one `?`: the JSON in `jobs.tags` is an array containing it, or an object with that key."""


class Tx(Protocol):
    """One operation's view of the database. Everything it does becomes visible together, or not at all."""

    @property
    def now(self) -> int:
        """The operation's time: microseconds since the Unix epoch, from the server's clock."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def listening(self) -> bool:
        """Somebody is subscribed to events. Where building an event costs, ask first."""

    def select(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Rows of a statement that changes nothing."""

    def select_one(self, sql: str, params: Sequence[object] = ()) -> Row | None:
        """The first row of a statement that changes nothing."""

    def change(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Rows of a changing statement with `RETURNING`."""

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run a changing statement; how many rows it changed."""

    def execute_many(self, sql: str, params: Iterable[Sequence[object]]) -> None:
        """Run a changing statement once for each parameter set."""

    def emit(self, event: Event) -> None:
        """Publish an event once, and only if, this operation is committed."""


class Storage(Protocol):
    """Runs rules against one database. Its coroutines belong to the event loop that called `open`."""

    async def open(self) -> None:
        """Connect and bring the schema up to date.

        Raises:
            StorageUnavailableError: the database cannot be used; the message says which, why and what to do.
        """

    async def close(self) -> None:
        """Finish what was accepted, then let go of the database."""

    async def write(self, operation: Callable[[Tx], T]) -> T:
        """Run `operation` in a transaction. When this returns the change is committed; when it raises there is none.

        `operation` may run more than once (a group that failed is taken apart), so it must have no other effects.
        """

    async def read(self, operation: Callable[[Tx], T]) -> T:
        """Run `operation`, which changes nothing, on a state that includes every write answered so far."""


class StorageUnavailableError(Exception):
    """The database cannot be opened or used. The message is one line for a human."""
