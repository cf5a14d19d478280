"""Rules for what is sent, checked before the network: the server would refuse it, one round trip later.

A rule turns a value into its wire form or says what is wrong with it. `body()` and `query()` apply the rules
of an endpoint and report everything that is wrong at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from spooled._http._json import encode, encoder_with, foreign_form
from spooled._http._nearest import did_you_mean
from spooled.errors import ValidationError

_SHOWN = 80


class Refused(Exception):  # noqa: N818 - not an error: one rule's answer, collected
    """What a rule says about a value: the sentence that goes after the field's name."""

    def __init__(self, problem: str, code: str = "invalid", *, show: bool = True) -> None:
        super().__init__(problem)
        self.problem = problem
        self.code = code
        self.show = show


class Rule(Protocol):
    """Turns a value into its wire form, or raises `Refused`."""

    def __call__(self, value: Any, /) -> object: ...


def body(
    rules: Mapping[str, Rule], /, *, required: Collection[str] = (), **values: object
) -> dict[str, object]:
    """Return the request body that `values` make. None means "not given", so it is left out.

    Raises:
        ValidationError: At least one value is refused; `details` lists all of them.
    """
    return check(rules, values, required, prefix="")


def check(
    rules: Mapping[str, Rule], values: Mapping[str, object], required: Collection[str], *, prefix: str
) -> dict[str, object]:
    """As `body`, for the fields of something that is called `prefix`."""
    sent: dict[str, object] = {}
    problems: list[dict[str, str]] = []
    for name, value in values.items():
        field = prefix + name
        rule = rules[name]
        if value is None and not isinstance(rule, Json):
            if name in required:
                problems.append(_problem(field, "is required", "missing_field"))
            continue
        if value is None and name not in required:
            continue
        try:
            sent[name] = rule(value)
        except Refused as refused:
            shown = f", got {_show(value)}" if refused.show else ""
            problems.append(_problem(field, refused.problem + shown, refused.code))
        except ValidationError as error:
            problems.extend(error.details)
    if problems:
        raise refusal(problems)
    return sent


def query(
    rules: Mapping[str, Rule], /, *, required: Collection[str] = (), **values: object
) -> list[tuple[str, str]]:
    """As `body`, for a query string."""
    return [(name, _text_of(value)) for name, value in body(rules, required=required, **values).items()]


def refusal(problems: list[dict[str, str]]) -> ValidationError:
    """Return the error that reports these problems."""
    message = "; ".join(problem["message"] for problem in problems)
    return ValidationError(
        message, details=problems, hint="Nothing was sent. Correct the value and call again."
    )


def _problem(field: str, problem: str, code: str) -> dict[str, str]:
    return {"field": field, "message": f"{field} {problem}", "code": code}


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({type(value).__name__})"


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return ",".join(_text_of(item) for item in value)
    return str(value)


class Integer:
    """A whole number in a range."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __call__(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise Refused(f"must be a whole number from {self.low} to {self.high}", "range")
        return value


class Text:
    """Text of a certain length in characters, made of certain characters.

    Args:
        low: Least length.
        high: Greatest length.
        allowed: Whether a text of the right length is made as it should be; with `made` saying how that is.
        made: The end of the sentence "must be 1 to 100 characters ...".
        secret: Never show the value.
    """

    def __init__(
        self,
        low: int,
        high: int,
        allowed: Callable[[str], bool] | None = None,
        made: str = "",
        *,
        secret: bool = False,
    ) -> None:
        self.low, self.high, self.allowed, self.made, self.secret = low, high, allowed, made, secret

    def __call__(self, value: Any) -> str:
        if (
            not isinstance(value, str)
            or not self.low <= len(value) <= self.high
            or (self.allowed is not None and not self.allowed(value))
        ):
            length = f", has {len(value)}" if isinstance(value, str) and len(value) > _SHOWN else ""
            rule = f"must be text of {self.low} to {self.high} characters{self.made}{length}"
            raise Refused(rule, "text", show=not self.secret)
        return value


class Choice:
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, value: Any) -> str:
        if value not in self.words:
            raise Refused(f"must be one of {', '.join(self.words)}", "choice")
        return str(value)


class Choices:
    """One word or several, alternatives to each other."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, value: Any) -> list[str]:
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, Iterable):
            raise Refused(f"must be one or several of {', '.join(self.words)}", "choice")
        found = []
        for word in words:
            if word not in self.words:
                nearest = did_you_mean(str(word), self.words)
                raise Refused(f"knows no {word!r}. {nearest}", "choice", show=False)
            found.append(word)
        return found


class Flag:
    """True or False."""

    def __call__(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise Refused("must be True or False", "type")
        return value


class Yes:
    """True, as a signature."""

    def __call__(self, value: Any) -> bool:
        if value is not True:
            raise Refused("must be True: this cannot be undone", "confirm")
        return True


class Moment:
    """A point in time: an aware datetime, RFC 3339 text with an offset, or (`later`) a timedelta from now."""

    def __init__(self, *, later: bool = False) -> None:
        self.later = later

    def __call__(self, value: Any) -> datetime:
        if self.later and isinstance(value, timedelta):
            return datetime.now(UTC) + value
        if isinstance(value, str):
            try:
                value = msgspec.convert(value, datetime)
            except msgspec.ValidationError:
                raise Refused("must be RFC 3339 text such as 2026-01-31T12:00:00Z", "datetime") from None
        if not isinstance(value, datetime):
            raise Refused(f"must be a datetime{' or a timedelta' if self.later else ''}", "type")
        if value.utcoffset() is None:
            raise Refused(
                "must be an aware datetime (a naive one does not say which moment is meant): "
                "use datetime.now(timezone.utc) or value.astimezone()",
                "naive_datetime",
            )
        return value


class Json:
    """Any JSON, up to a size. Encoded here, once; the request carries the bytes along.

    Args:
        field: What it is called in messages.
        limit: Bytes.
        advice: What to do when it is too large.
        foreign: Makes JSON of values that msgspec does not know.
    """

    def __init__(
        self,
        field: str,
        limit: int,
        advice: str = "",
        foreign: Callable[[object], object] = foreign_form,
    ) -> None:
        self.field, self.limit, self.advice = field, limit, advice
        self._encoder = encoder_with(foreign)

    def __call__(self, value: Any) -> msgspec.Raw:
        data = value if isinstance(value, msgspec.Raw) else encode(value, self.field, self._encoder)
        size = memoryview(data).nbytes
        if size > self.limit:
            raise Refused(
                f"must be at most {self.limit} bytes as JSON, has {size}{self.advice}",
                "too_large",
                show=False,
            )
        return msgspec.Raw(data)


class ListOf:
    """Several values that keep one rule."""

    def __init__(self, low: int, high: int, each: Rule, things: str) -> None:
        self.low, self.high, self.each, self.things = low, high, each, things

    def __call__(self, value: Any) -> list[object]:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise Refused(f"must be a list of {self.things}", "type")
        items = list(value)
        if not self.low <= len(items) <= self.high:
            count = f"must hold {self.low} to {self.high} {self.things}, has {len(items)}"
            raise Refused(count, "length", show=False)
        sent = []
        for index, item in enumerate(items):
            try:
                sent.append(self.each(item))
            except Refused as refused:
                shown = f", got {_show(item)}" if refused.show else ""
                place = f"[{index}] {refused.problem}{shown}"
                raise Refused(f"has a bad entry: {place}", refused.code, show=False) from None
        return sent


def is_queue_name(text: str) -> bool:
    """Letters and digits of any script, `-`, `_`, `.`; not starting with `.` or `-`."""
    return text[0] not in ".-" and all(_in_queue_name(character) for character in text)


def _in_queue_name(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in "-_."
    # Vowel signs are marks (M), and part of words.
    return unicodedata.category(character)[0] in "LNM"


def is_plain_name(text: str) -> bool:
    """ASCII letters, digits, `.`, `_`, `-`."""
    return text.isascii() and all(character.isalnum() or character in "._-" for character in text)


def is_host_name(text: str) -> bool:
    """As a plain name, not starting or ending with `.` or `-`."""
    return is_plain_name(text) and text[0] not in ".-" and text[-1] not in ".-"


def is_key_name(text: str) -> bool:
    """Letters, digits, space and `-_.()`."""
    return all(character.isalnum() or character in " -_.()" for character in text)


def is_slug(text: str) -> bool:
    """Lower-case ASCII letters, digits and `-`, which is not at an end."""
    inner = all(c.isascii() and (c.isdigit() or c.islower() or c == "-") for c in text)
    return inner and text[0] != "-" and text[-1] != "-"


def is_web_address(text: str) -> bool:
    """Return an absolute http or https URL."""
    return text.startswith(("https://", "http://")) and len(text.partition("://")[2]) > 0 and " " not in text


def is_mail_address(text: str) -> bool:
    """Something before and after one `@`."""
    name, _, host = text.partition("@")
    return bool(name) and bool(host) and "@" not in host and " " not in text
