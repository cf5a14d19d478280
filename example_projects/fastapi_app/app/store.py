"""Users and pictures: an SQLite file, and the pictures' files beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal, NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, email TEXT UNIQUE NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, filename TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS thumbnails (
    image TEXT NOT NULL REFERENCES images, size INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    PRIMARY KEY (image, size)
);
"""

Status = Literal["waiting", "ready", "unreadable"]


class User(NamedTuple):
    email: str
    name: str


class Store:
    """One connection, and what is asked of it.

    Args:
        folder: Keeps the database and the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._pictures = folder / "images"
        # FastAPI may open it in one thread and use it in the next, but never in two at once.
        self._db = sqlite3.connect(folder / "app.db", check_same_thread=False)

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Make what is missing. Several processes may do so at the same time."""
        (folder / "images").mkdir(parents=True, exist_ok=True)
        store = cls(folder)
        try:
            store._db.executescript(SCHEMA)
        finally:
            store.close()

    def commit(self) -> None:
        self._db.commit()

    def close(self) -> None:
        self._db.close()

    # --- users ------------------------------------------------------------------------------------------------

    def add_user(self, email: str, name: str) -> int:
        """The user's id; that of the existing one if the address is known."""
        self._db.execute(
            "INSERT INTO users (email, name) VALUES (?, ?) ON CONFLICT (email) DO NOTHING", (email, name)
        )
        (number,) = self._db.execute("SELECT id FROM users WHERE email = ?", (email,)).fetchone()
        return int(number)

    def user(self, number: int) -> User | None:
        row = self._db.execute("SELECT email, name FROM users WHERE id = ?", (number,)).fetchone()
        return None if row is None else User(*row)

    # --- pictures ---------------------------------------------------------------------------------------------

    def original(self, image: str) -> Path:
        return self._pictures / image

    def thumbnail(self, image: str, size: int) -> Path:
        return self._pictures / f"{image}-{size}.jpg"

    def add_image(self, image: str, filename: str) -> None:
        self._db.execute("INSERT INTO images VALUES (?, ?, 'waiting')", (image, filename))

    def image_status(self, image: str) -> Status | None:
        row = self._db.execute("SELECT status FROM images WHERE id = ?", (image,)).fetchone()
        return None if row is None else row[0]

    def set_unreadable(self, image: str) -> None:
        self._db.execute("UPDATE images SET status = 'unreadable' WHERE id = ?", (image,))

    def set_thumbnails(self, image: str, sizes: dict[int, tuple[int, int]]) -> None:
        """Width and height by size. Replaces what is known, because a job may run twice."""
        self._db.execute("DELETE FROM thumbnails WHERE image = ?", (image,))
        rows = [(image, size, width, height) for size, (width, height) in sizes.items()]
        self._db.executemany("INSERT INTO thumbnails VALUES (?, ?, ?, ?)", rows)
        self._db.execute("UPDATE images SET status = 'ready' WHERE id = ?", (image,))

    def thumbnails(self, image: str) -> dict[int, tuple[int, int]]:
        rows = self._db.execute(
            "SELECT size, width, height FROM thumbnails WHERE image = ? ORDER BY size", (image,)
        )
        return {size: (width, height) for size, width, height in rows}
