"""Which storage a server's `db` setting names."""

from __future__ import annotations

from spooled.clock import Clock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._settings import ServerSettings, is_postgres
from spooled_contrib.server._storage import Storage
from spooled_contrib.server._storage.errors import StorageUnavailableError
from spooled_contrib.server._storage.sqlite import SqliteStorage


def storage_for(settings: ServerSettings, clock: Clock, hub: Hub) -> Storage:
    """A storage that is not open yet.

    Raises:
        StorageUnavailableError: PostgreSQL is named, and its driver is not installed.
    """
    if not is_postgres(settings.db):
        return SqliteStorage(settings.db, clock=clock, hub=hub, synchronous=settings.synchronous)
    try:
        from spooled_contrib.server._storage.postgres.storage import PostgresStorage
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == "spooled_contrib":
            raise
        raise StorageUnavailableError(
            f'a PostgreSQL database needs psycopg: pip install "spooled-contrib[postgres]" ({error})'
        ) from error
    return PostgresStorage(settings.db, clock=clock, hub=hub)
