"""Making the tables, and bringing older ones up to date."""

from __future__ import annotations

import psycopg

from spooled_contrib.server._storage import Row
from spooled_contrib.server._storage.errors import StorageUnavailableError
from spooled_contrib.server._storage.postgres.connecting import Address, check_version
from spooled_contrib.server._storage.postgres.sql import to_ddl
from spooled_contrib.server._storage.schema import STEPS

_VERSION = "schema_version"

# Which servers run, which of them have somebody listening, and which one leads until when. Not worth a log: it is
# written again within seconds.
_COORDINATION = {
    "servers": """
CREATE UNLOGGED TABLE servers (
    id TEXT PRIMARY KEY,
    listening BIGINT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
)
""",
    "leader": """
CREATE UNLOGGED TABLE leader (
    role TEXT PRIMARY KEY,
    server_id TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
)
""",
}
# Rows of jobs change a few times and then rest. The default would let dead versions grow with the table.
_TUNING = (
    "ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)"
)


def migrate(connection: psycopg.Connection[Row], address: Address) -> str:
    """Bring the schema up to date, in one transaction, and one server at a time; the schema's name.

    Raises:
        StorageUnavailableError: the database is too old or read-only, or its tables are somebody else's.
        psycopg.Error: a statement was refused.
    """
    check_version(address, connection.info.server_version)
    with connection.transaction():
        row = connection.execute(
            "SELECT current_schema(), pg_is_in_recovery(), "
            "pg_advisory_xact_lock(hashtextextended('spooled migration ' || COALESCE(current_schema(), ''), 0))"
        ).fetchone()
        assert row is not None
        schema, standby = row[0], row[1]
        if standby:
            raise StorageUnavailableError(
                f"the database {address.shown} is a read-only standby. Name the primary"
            )
        if schema is None:
            raise StorageUnavailableError(
                f"the database {address.shown} has no schema to put tables in: the search_path names none that exists"
            )
        version = _version(connection, address, schema)
        for table, statement in _COORDINATION.items():
            # Asked first: who may not create tables may still use a database that has them all.
            if not connection.execute(
                "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = %s", (schema, table)
            ).fetchone():
                connection.execute(statement)
        if version == len(STEPS):
            return str(schema)
        for step in STEPS[version:]:
            connection.execute(to_ddl(step))
        connection.execute(_TUNING)
        connection.execute(
            "INSERT INTO meta (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (_VERSION, str(len(STEPS))),
        )
    return str(schema)


def _version(connection: psycopg.Connection[Row], address: Address, schema: str) -> int:
    tables = {
        row[0]
        for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
    }
    if "meta" not in tables and "jobs" not in tables:
        return 0
    row = None
    if {"meta", "jobs"} <= tables:
        try:
            with connection.transaction():
                row = connection.execute("SELECT value FROM meta WHERE name = %s", (_VERSION,)).fetchone()
        except psycopg.errors.UndefinedColumn:
            row = None  # somebody else's table of that name
    version = 0 if row is None else int(row[0])
    if not 1 <= version <= len(STEPS):
        raise StorageUnavailableError(
            f"the tables in schema {schema!r} of {address.shown} were not made by this version of the server "
            f"(schema {version}, expected at most {len(STEPS)}). Name another database, or a schema of its own: "
            "?options=-csearch_path%3Dspooled"
        )
    return version
