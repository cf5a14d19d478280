"""What the rules ask of a database, and nothing more.

The rules of the queue (who may claim, what an ack does, when a job is dead) are plain functions that take a `Tx`.
A storage runs them: `write` inside a transaction that is durable when the call returns, `read` against a state at
least as new as every write answered before it. SQLite is one storage; another one only has to offer this module's
interface and pass the same conformance suite.

The SQL that the rules send is portable on purpose: `?` placeholders (an adapter for a driver with another style
rewrites them), `RETURNING`, `ON CONFLICT`, partial indexes, integers for flags and for time. What cannot be said
portably is in `Dialect`.

Rules must be right when several servers run them on one database at the same time. Four things are enough for that:

* a change whose WHERE repeats what it relies on, and which looks at how many rows it changed;
* `SELECT ...{for_update}` for a row that is read in order to be changed: nobody else changes it before the end;
* `tx.serialize(name)` where the rule depends on rows that do not exist yet, such as a quota that is counted;
* `tx.tally(...)` for counters that many operations share, so that they are not held for longer than a commit.

What SQLite forgives and others do not: an empty `IN ()`, a text with a NUL character, a parameter that starts a
recursive query (select the row instead), and the place of absent values in an order (`NULLS FIRST`, `NULLS LAST`).

Each statement sees everything that was committed before it began, not only before the operation began. A storage
with one writer makes the first three unnecessary, and they cost nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from spooled.clock import Clock
from spooled_contrib.server._events import Event

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Dialect:
    """The few fragments of SQL that differ between databases."""

    for_update: str
    """Appended to a select: its rows stay as they are until the operation ends. Waits for who changes one of them, and
    then asks the condition again. Empty with one writer."""

    skip_locked: str
    """Like `for_update`, but rows that somebody else holds are left out, not waited for. Empty with one writer."""

    any_of: str
    """A condition with `{column}` and `{select}`: the column is one of what the select finds. The select, which may
    lock rows, runs exactly once, and rows are found through the index on the column."""

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
        """Return the first row of a statement that changes nothing."""

    def change(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Rows of a changing statement with `RETURNING`."""

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run a changing statement; how many rows it changed."""

    def execute_many(self, sql: str, params: Iterable[Sequence[object]]) -> None:
        """Run a changing statement once for each parameter set. What comes of it is not told, so a storage may send it
        together with the next statement: over a network that is much cheaper than `execute`."""

    def tally(self, sql: str, amount: int, key: Sequence[object]) -> None:
        """Add `amount` by `sql`, an UPDATE whose first `?` is the amount and whose others are `key`.

        Amounts of operations that are committed together are added up and written once, right before the commit, in
        one order for all: so a counter that everybody shares makes nobody wait for long. Until then no select sees it.
        """

    def serialize(self, name: str) -> None:
        """Go on when no other operation that serialized on the same name is under way. Lasts until the end."""

    def emit(self, event: Event) -> None:
        """Publish an event once, and only if, this operation is committed."""

    def tell(self, topic: str, text: str) -> None:
        """Let every server on this database hear `text` (`Hub.on`), once and only if this operation is committed."""


class Storage(Protocol):
    """Runs rules against one database. Its coroutines belong to the event loop that called `open`."""

    @property
    def clock(self) -> Clock:
        """The time that rules are run at. Servers that share a database share it."""

    @property
    def leads(self) -> bool:
        """Whether this server does what is done once for each database: the sweeps."""

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

        Raises:
            DatabaseOutageError, OperationTimeoutError: Nothing was committed.
            UncertainCommitError: The exception to the rule above: nobody can know.
        """

    async def read(self, operation: Callable[[Tx], T]) -> T:
        """Run `operation`, which changes nothing, on a state that includes every write answered so far.

        Raises:
            DatabaseOutageError: The database cannot be read.
            OperationTimeoutError: It took too long.
        """

    async def probe(self) -> None:
        """Prove that a change can be committed now. Waits for no search. Not to be called while one is under way.

        Raises:
            StorageFailedError: It cannot; see `reason`.
        """


def prove_write(tx: Tx) -> None:
    """Change one row, which says nothing. Where another server changes it at this moment, the commit is the proof."""
    row = "SELECT name FROM meta WHERE name = 'probe'" + tx.dialect.skip_locked  # noqa: S608
    changed = tx.dialect.any_of.format(column="name", select=row)
    tx.execute(f"UPDATE meta SET value = ? WHERE {changed}", (str(tx.now),))  # noqa: S608
