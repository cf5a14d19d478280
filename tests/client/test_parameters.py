from __future__ import annotations

import inspect
from typing import Any

import pytest

from spooled._http._parameters import accepts_dict, takes_id_and_mapping


class Things:
    @accepts_dict
    def make(self, *, name: str, size: int = 1, color: str | None = None) -> tuple[Any, ...]:
        """Make a thing."""
        return name, size, color

    @accepts_dict
    def list(self, *, limit: int | None = None) -> tuple[Any, ...]:
        return (limit,)

    @takes_id_and_mapping
    def change(self, thing_id: str, *, size: int, color: str | None = None) -> tuple[Any, ...]:
        return thing_id, size, color


things: Any = Things()


def test_keywords_and_a_mapping_are_the_same_call() -> None:
    assert things.make(name="a", size=2) == ("a", 2, None)
    assert things.make({"name": "a", "size": 2}) == ("a", 2, None)
    assert things.make(params={"name": "a", "size": 2}) == ("a", 2, None)
    assert things.change("id", size=2) == ("id", 2, None)
    assert things.change(thing_id="id", size=2) == ("id", 2, None)
    assert things.change("id", {"size": 2}) == ("id", 2, None)
    assert things.change("id", params={"size": 2}) == ("id", 2, None)
    assert things.change({"size": 2}, thing_id="id") == ("id", 2, None)


def test_optional_parameters_may_be_left_out_altogether() -> None:
    assert things.list() == things.list(None) == things.list({}) == things.list(params=None) == (None,)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: things.make(nam="a"), r"Things.make\(\) has no parameter 'nam'. Did you mean 'name'\?"),
        (lambda: things.make({"name": "a", "colour": 1}), r"no parameter 'colour'. Did you mean 'color'\?"),
        (lambda: things.make({"name": "a", "zzz": 1}), "Known names: color, name, size"),
        (lambda: things.make({"name": "a", 7: 1}), "no parameter 7"),
        (lambda: things.make(), r"make\(\) needs 'name'"),
        (lambda: things.make({}), r"make\(\) needs 'name'"),
        (lambda: things.make(None), r"make\(\) needs 'name'"),
        (lambda: things.make({"name": "a"}, size=2), "not both: put size into the mapping"),
        (lambda: things.make("a"), "one mapping, got str"),
        (lambda: things.make("a", {}), "got 2 positional arguments"),
        (lambda: things.change("id"), "needs 'size'"),
        (lambda: things.change(), "takes thing_id, then"),
        (lambda: things.change("id", {"size": 1}, 3), "got 3 positional arguments"),
        (lambda: things.change("id", {"size": 1, "thing_id": "x"}), "no parameter 'thing_id'"),
    ],
)
def test_mistakes_are_named(call: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        call()


def test_help_sees_the_method_itself() -> None:
    assert inspect.getdoc(Things.make) == "Make a thing."
    assert list(inspect.signature(things.make).parameters) == ["name", "size", "color"]
