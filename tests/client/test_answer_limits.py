"""Answers that are too large, or are not what they say, and how compressed ones are read."""

from __future__ import annotations

import functools
import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled import AsyncSpooledClient, ClientConfig, ConfigurationError, SpooledClient, errors
from spooled._http._bodies import Body, BodyError, TooLargeError

from .conftest import KEY, Kind, make_client, result
from .each_transport import Make, get
from .raw_server import Connection, RawServer, answering

MIB = 1024 * 1024
LIMIT = MIB
PIECE = b"x" * 65_536


def forever(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.send(PIECE)


def forever_in_chunks(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        connection.send(b"10000\r\n" + PIECE + b"\r\n")


def announced(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
    while True:
        connection.send(PIECE)


@functools.cache
def packed_zeros(format_: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, format_)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(100)) + packer.flush()


def zeros(format_: int) -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        packed = packed_zeros(format_)
        connection.read_request()
        name = b"gzip" if format_ > 15 else b"deflate"
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n"
        connection.send(head % (name, len(packed)) + packed)

    return handle


BOMBS = {
    "endless": forever,
    "endless chunks": forever_in_chunks,
    "a length": announced,
    "gzip": zeros(31),
    "deflate": zeros(15),
    "raw deflate": zeros(-15),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_an_answer_beyond_the_limit_is_an_error(make: Make, bomb: str) -> None:
    with RawServer(BOMBS[bomb]) as server:
        transport = make(server.url, max_response_bytes=LIMIT)
        tracemalloc.start()
        try:
            with pytest.raises(errors.NetworkError, match=f"{LIMIT} bytes.*max_response_bytes") as caught:
                await result(transport.send(get()))
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
        finally:
            tracemalloc.stop()
        assert caught.value.code == "response_too_large"


async def test_it_is_not_asked_for_again(kind: Kind) -> None:
    with RawServer(forever) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, max_response_bytes=LIMIT)
        with pytest.raises(errors.NetworkError):
            await result(client.jobs.get("j"))
        assert len(server.requests) == 1
        await result(client.close())


async def test_an_answer_at_the_limit_is_taken(make: Make) -> None:
    for body, encoding in ((b"x" * LIMIT, b""), (gzip.compress(bytes(LIMIT)), b"content-encoding: gzip\r\n")):
        head = b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n" % (encoding, len(body))
        with RawServer(answering(head + body)) as server:
            answer = await result(make(server.url, max_response_bytes=LIMIT).send(get()))
            assert len(answer.body) == LIMIT


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_transports_of_the_users_are_bounded_too(kind: Kind, library: httpx) -> None:
    for bomb in (forever, zeros(31)):
        with RawServer(bomb) as server:
            users = library.HTTPTransport() if kind == "sync" else library.AsyncHTTPTransport()
            client = make_client(
                kind, api_key=KEY, base_url=server.url, transport=users, max_response_bytes=LIMIT
            )
            with pytest.raises(errors.NetworkError, match="max_response_bytes"):
                await result(client.jobs.get("j"))
            await result(client.close())


def test_the_limit_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClientConfig().max_response_bytes == 64 * MIB
    monkeypatch.setenv("SPOOLED_MAX_RESPONSE_BYTES", "2048")
    assert ClientConfig.resolve(api_key=KEY).max_response_bytes == 2048
    with SpooledClient(KEY, max_response_bytes=4096) as client:
        assert client.config.max_response_bytes == 4096
    for bad in (0, 1023, True, 1.5):
        with pytest.raises(ConfigurationError, match="max_response_bytes"):
            AsyncSpooledClient(KEY, max_response_bytes=bad)


@pytest.mark.parametrize(
    ("encoding", "body", "says"),
    [
        ("gzip", b"not gzip", "cannot be decompressed"),
        ("gzip", gzip.compress(b"{}" * 100)[:-9], "ends within"),
        ("br", b"x", "'br'"),
        ("gzip, gzip", gzip.compress(b"{}"), "'gzip, gzip'"),
    ],
    ids=["nonsense", "cut", "unknown", "twice"],
)
async def test_a_body_that_cannot_be_read_is_a_network_error(
    make: Make, encoding: str, body: bytes, says: str
) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    with RawServer(answering(head.encode() + body)) as server, pytest.raises(errors.NetworkError, match=says):
        await result(make(server.url).send(get()))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.binary(max_size=2000), st.lists(st.integers(0, 5000), max_size=8), st.sampled_from([31, 15, -15]))
def test_compressed_bodies_in_any_pieces(content: bytes, places: list[int], format_: int) -> None:
    packer = zlib.compressobj(6, zlib.DEFLATED, format_)
    packed = packer.compress(content) + packer.flush()
    body = Body(10_000, "gzip" if format_ == 31 else "Deflate")
    for piece in cut(packed, places):
        body.feed(piece)
    assert body.whole() == content


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_several_gzip_files_are_one(contents: list[bytes]) -> None:
    body = Body(10_000, "x-gzip")
    body.feed(b"".join(gzip.compress(content) for content in contents) + b"\0\0 filler")
    assert body.whole() == b"".join(contents)


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_the_limit_is_exact(size: int, limit: int) -> None:
    for encoding in (None, "gzip"):
        body = Body(limit, encoding)
        data = bytes(size)
        try:
            body.feed(gzip.compress(data) if encoding else data)
        except TooLargeError:
            assert size > limit or encoding
            # Of little data more is sent than it is.
            assert size > limit or len(gzip.compress(data)) > limit
        else:
            assert body.whole() == data
            assert size <= limit


@pytest.mark.parametrize("size", [1 << 18, (1 << 18) + 1, 1 << 19, (1 << 20) - 1])
def test_pieces_of_exactly_a_step(size: int) -> None:
    body = Body(1 << 22, "gzip")
    body.feed(gzip.compress(bytes(size)))
    assert len(body.whole()) == size


def test_an_empty_body_may_have_any_known_encoding() -> None:
    for encoding in ("gzip", "deflate", "identity", "", None):
        assert Body(10, encoding).whole() == b""
    with pytest.raises(BodyError):
        Body(10, "zstd")
