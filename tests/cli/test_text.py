from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled.cli._table import Column, pairs, table
from spooled.cli._text import fit, safe_block, safe_json, safe_line, width


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("größer 日本", "größer 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("ab\u202efdp.exe", "ab\\u202efdp.exe"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
    ],
)
def test_a_line_holds_nothing_that_acts_on_a_terminal(raw: str, shown: str) -> None:
    assert safe_line(raw) == shown


def test_a_block_keeps_its_lines() -> None:
    assert safe_block("a\n\tb\x1b\r\n") == "a\n\tb\\x1b\\x0d\n"


JSON = st.recursive(
    st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(JSON)
def test_safe_json_means_the_same(value: object) -> None:
    text = safe_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(text) == value
    assert safe_block(text) == text
    text.encode()


def test_wide_and_combining_characters_count_as_they_are_shown() -> None:
    assert width("abc") == 3
    assert width("日本") == 4
    assert width("e\u0301") == 1


@given(st.text(alphabet=st.sampled_from("ab日本é\u0301")), st.integers(1, 12))
def test_fit_never_passes_the_width(text: str, columns: int) -> None:
    assert width(fit(text, columns)) <= columns
    if width(text) <= columns:
        assert fit(text, columns) == text


COLUMNS = (Column("ID"), Column("QUEUE", least=5), Column("N", right=True))


def test_columns_are_aligned() -> None:
    assert table(COLUMNS, [("1", "emails", 5), ("22", "日本", 1000)], None).splitlines() == [
        "ID  QUEUE      N",
        "1   emails     5",
        "22  日本    1000",
    ]


def test_only_what_may_be_cut_is_cut() -> None:
    text = table(COLUMNS, [("0123456789", "a-very-long-queue-name", 7)], 24)
    assert text.splitlines()[1] == "0123456789  a-very-l…  7"
    assert all(width(line) <= 24 for line in text.splitlines())


def test_a_terminal_that_is_too_narrow_gets_blocks() -> None:
    assert table(COLUMNS, [("0123456789", "q", 7), ("x", "r", None)], 12).splitlines() == [
        "ID     0123456789",
        "QUEUE  q",
        "N      7",
        "",
        "ID     x",
        "QUEUE  r",
        "N      -",
    ]


def test_cells_are_made_safe() -> None:
    assert "\x1b" not in table(COLUMNS, [("\x1b]0;x\x07", "a\nb", 1)], None)
    assert pairs([("name", "a\nb"), ("n", None)]) == "name  a\\nb\nn     -"
