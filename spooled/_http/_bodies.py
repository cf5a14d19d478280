"""The body of an answer: put together and decompressed as it comes, up to a limit. No I/O."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_STEP = 1 << 18
"""Bytes that are decompressed at a time, so that what is beyond the limit is never in memory."""

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""zlib's numbers for the formats."""

_MAGIC = b"\x1f\x8b"


class TooLargeError(Exception):
    """The body is larger than the limit."""


class BodyError(Exception):
    """The body is not what its headers say."""


class Body:
    """Collects one body.

    Args:
        limit: The largest body in bytes, before and after decompression.
        encoding: The answer's `Content-Encoding`, None for none.

    Raises:
        BodyError: The encoding is not one that we ask for.
    """

    def __init__(self, limit: int, encoding: str | None = None) -> None:
        self._limit = limit
        self._received = 0
        self._size = 0
        self._pieces: list[bytes] = []
        name = (encoding or "").strip().lower()
        self._inflater = None if name in {"", "identity"} else _Inflater(name)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, as they came.

        Raises:
            TooLargeError: These are too many.
            BodyError: They cannot be decompressed.
        """
        self._received += len(chunk)
        if self._received > self._limit:
            raise TooLargeError
        if self._inflater is None:
            self._pieces.append(chunk)
            return
        for piece in self._inflater.inflate(chunk):
            self._size += len(piece)
            if self._size > self._limit:
                raise TooLargeError
            self._pieces.append(piece)

    def whole(self) -> bytes:
        """Return the body, after its last bytes.

        Raises:
            BodyError: Bytes are missing.
        """
        if self._inflater is not None and self._received:
            self._inflater.check_end()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class _Inflater:
    def __init__(self, name: str) -> None:
        if name not in {"gzip", "x-gzip", "deflate"}:
            raise BodyError(f"the answer is encoded with {name[:40]!r}, and was asked for in gzip only")
        self._format = None if name == "deflate" else _GZIP
        self._zlib = zlib.decompressobj(_GZIP)
        self._first = b""

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes mean, in pieces of bounded size."""
        if self._format is None:
            data = self._first + data
            if len(data) < 2:
                self._first = data
                return
            # Many servers mean the bare format by `deflate`, without zlib's two bytes at its beginning.
            self._format = _ZLIB if data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0 else _RAW
            self._zlib = zlib.decompressobj(self._format)
        while data:
            if self._zlib.eof:
                # One file after the other is one, by gzip's rules. What else may follow means nothing.
                if self._format != _GZIP or not data.startswith(_MAGIC):
                    return
                self._zlib = zlib.decompressobj(_GZIP)
            piece = self._step(data)
            yield piece
            while len(piece) == _STEP and not self._zlib.eof and not self._zlib.unconsumed_tail:
                piece = self._step(b"")  # zlib has taken the bytes and not yet given all that they mean
                yield piece
            data = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail

    def check_end(self) -> None:
        if not self._zlib.eof:
            raise BodyError("the answer ends within its compressed data")

    def _step(self, data: bytes) -> bytes:
        try:
            return self._zlib.decompress(data, _STEP)
        except zlib.error as error:
            raise BodyError(f"the answer cannot be decompressed: {error}") from error
