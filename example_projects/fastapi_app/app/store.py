"""The database, as a dependency that endpoints and jobs share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, email TEXT UNIQUE NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, filename TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS thumbnails (
    image TEXT NOT NULL REFERENCES images, size INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    PRIMARY KEY (image, size)
);
"""


class Store:
    """One connection, and what is asked of it."""

    def __init__(self, path: Path) -> None:
        # FastAPI may open it in one thread and use it in the next, but never in two at once.
        self._db = sqlite3.connect(path, check_same_thread=False)

    def create_tables(self) -> None:
        self._db.executescript(SCHEMA)

    def add_user(self, email: str, name: str) -> int:
        """The user's id; that of the existing one if the address is known."""
        self._db.execute(
            "INSERT INTO users (email, name) VALUES (?, ?) ON CONFLICT (email) DO NOTHING", (email, name)
        )
        (number,) = self._db.execute("SELECT id FROM users WHERE email = ?", (email,)).fetchone()
        return int(number)

    def user(self, number: int) -> tuple[str, str]:
        """Address and name."""
        row = self._db.execute("SELECT email, name FROM users WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise LookupError(f"there is no user {number}")
        return str(row[0]), str(row[1])

    def add_image(self, image: str, filename: str) -> None:
        self._db.execute("INSERT INTO images VALUES (?, ?)", (image, filename))

    def has_image(self, image: str) -> bool:
        return self._db.execute("SELECT 1 FROM images WHERE id = ?", (image,)).fetchone() is not None

    def set_thumbnails(self, image: str, sizes: dict[int, tuple[int, int]]) -> None:
        """Replace what is known: a job may run twice."""
        self._db.execute("DELETE FROM thumbnails WHERE image = ?", (image,))
        rows = [(image, size, width, height) for size, (width, height) in sizes.items()]
        self._db.executemany("INSERT INTO thumbnails VALUES (?, ?, ?, ?)", rows)

    def thumbnails(self, image: str) -> dict[int, tuple[int, int]]:
        rows = self._db.execute(
            "SELECT size, width, height FROM thumbnails WHERE image = ? ORDER BY size", (image,)
        )
        return {size: (width, height) for size, width, height in rows}

    def commit(self) -> None:
        self._db.commit()

    def close(self) -> None:
        self._db.close()


def get_folder(conn: HTTPConnection) -> Path:
    """Where files are. An HTTPConnection is what requests and jobs have in common."""
    folder: Path = conn.state.folder
    return folder


Folder = Annotated[Path, Depends(get_folder)]


def get_store(folder: Folder) -> Iterator[Store]:
    """A connection for one request or one job; what was done is kept if all went well."""
    store = Store(folder / "app.db")
    try:
        yield store
        store.commit()
    finally:
        store.close()


StoreDep = Annotated[Store, Depends(get_store)]
