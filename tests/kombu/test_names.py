"""Queue names: into Spooled's alphabet and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_contrib.kombu import from_spooled, to_spooled

ALLOWED = re.compile(r"(?![.-])[A-Za-z0-9_.-]{1,100}")


@given(
    st.text(
        alphabet=st.sampled_from(list("aq1-_.@: GFé\x00")) | st.characters(codec="utf-8"),
        min_size=1,
        max_size=20,
    )
)
def test_every_name_comes_back(name: str) -> None:
    written = to_spooled(name)
    assert ALLOWED.fullmatch(written), written
    if "..GG" not in written:
        assert from_spooled(written) == name


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("celery", "celery"),
        ("my_app.high-priority", "my_app.high-priority"),
        ("celery@web-1.celery.pidbox", "celery..40web-1.celery.pidbox"),
        ("a..b", "a..2E.b"),
        (".hidden", "q..2Ehidden"),
        ("-dash", "q..2Ddash"),
        ("q..40", "q..71..2E.40"),
    ],
)
def test_what_they_look_like(name: str, written: str) -> None:
    assert to_spooled(name) == written
    assert from_spooled(written) == name


def test_long_names_still_differ() -> None:
    one, two = to_spooled("x" * 200 + "1"), to_spooled("x" * 200 + "2")
    assert ALLOWED.fullmatch(one)
    assert one != two
    assert from_spooled(one) is None


def test_no_name() -> None:
    with pytest.raises(ValueError, match="must have a name"):
        to_spooled("")
