from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled._http._sse import EventParser, ServerSentEvent

ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n")).map(str.encode)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)
SOUP = st.lists(
    st.sampled_from([b"data", b"event", b":", b" ", b"\n", b"\r", b"\r\n", b"x", b"\xef\xbb\xbf", b"\xff"])
).map(b"".join)


def read(*chunks: bytes, limit: int = 1000) -> list[ServerSentEvent]:
    parser = EventParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@st.composite
def pieces(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)))))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[ServerSentEvent]]:
    """A stream as a server might write it, and what it says."""
    stream = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    expected = []
    for _ in range(draw(st.integers(0, 5))):
        for comment in draw(st.lists(VALUES, max_size=2)):
            stream += b":" + comment + draw(ENDS)
        name = draw(st.none() | NAMES)
        data = draw(st.lists(VALUES, max_size=4))
        lines = [b"data: " + value for value in data]
        if name is not None:
            lines.insert(draw(st.integers(0, len(lines))), b"event: " + name.encode())
        for line in lines:
            stream += line + draw(ENDS)
        # Never an LF right after a CR, which would be no second line end.
        stream += b"\n" if stream[-1:] != b"\r" else b"\r\n"
        if data:
            expected.append(ServerSentEvent(name or "message", b"\n".join(data)))
    return stream, expected


@given(streams(), st.data())
def test_what_a_server_writes_is_read_however_it_is_cut(
    stream: tuple[bytes, list[ServerSentEvent]], data: st.DataObject
) -> None:
    written, expected = stream
    assert read(*data.draw(pieces(written)), limit=100_000) == expected


@given(SOUP, st.integers(1, 12), st.data())
def test_where_a_stream_is_cut_changes_nothing(soup: bytes, limit: int, data: st.DataObject) -> None:
    assert read(*data.draw(pieces(soup)), limit=limit) == read(soup, limit=limit)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_no_bytes_break_it_and_little_is_kept(chunks: list[bytes], limit: int) -> None:
    parser = EventParser(limit)
    for chunk in chunks:
        for event in parser.feed(chunk):
            assert len(event.data) <= limit
        assert len(parser._partial) <= limit
        assert sum(map(len, parser._data)) <= limit


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event(end: bytes) -> None:
    lines = [b": connected", b"", b"event: job.created", b"id: 7", b"retry: 9", b'data: {"a":1}', b"", b""]
    assert read(end.join(lines)) == [ServerSentEvent("job.created", b'{"a":1}')]


def test_the_pieces_of_a_cr_lf_are_one_line_end() -> None:
    assert read(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n") == [ServerSentEvent("message", b"a\nb")]


def test_a_lone_cr_ends_the_event_without_waiting_for_more() -> None:
    assert read(b"data: a\r\r") == [ServerSentEvent("message", b"a")]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data:  two spaces\n\n", b" two spaces"),
        (b"data:none\n\n", b"none"),
        (b"data\n\n", b""),
        (b"data:\ndata:\n\n", b"\n"),
        (b"data: a: b\n\n", b"a: b"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
        (b"unknown: x\ndata: a\n\n", b"a"),
        (b" data: x\ndata: a\n\n", b"a"),
    ],
)
def test_fields(stream: bytes, data: bytes) -> None:
    assert read(stream) == [ServerSentEvent("message", data)]


@pytest.mark.parametrize("stream", [b"event: x\n\n", b"\n\n\n", b": ping\n\n", b"data: unfinished\n"])
def test_nothing_is_made_of_no_data_or_of_an_unfinished_event(stream: bytes) -> None:
    assert read(stream) == []


def test_a_name_does_not_stick_to_the_next_event() -> None:
    assert [event.name for event in read(b"event: x\n\ndata: a\n\n")] == ["message"]


def test_a_byte_order_mark_counts_at_the_start_only() -> None:
    assert read(b"\n\xef\xbb\xbfdata: a\n\n") == []


@pytest.mark.parametrize("large", [b"data: " + b"x" * 30, b"data: 1234567\ndata: 1234567\ndata: 12345"])
def test_an_event_that_is_too_large_is_left_out_and_the_next_one_is_read(large: bytes) -> None:
    stream = large + b"\n\ndata: next\n\n"
    assert read(stream, limit=16) == [ServerSentEvent("message", b"next")]
    assert read(*(bytes([byte]) for byte in stream), limit=16) == [ServerSentEvent("message", b"next")]
