"""What goes wrong between values and JSON."""

from __future__ import annotations


class PayloadError(ValueError):
    """A job's payload does not have the type that its handler declares, or would not arrive as it was given."""


class Unreadable(Exception):  # noqa: N818 - not an error: what a type's rules say about a JSON value
    """A JSON value does not fit a type; the text says where and why."""


class ResultError(ValueError):
    """What a handler returned is not what its annotation says."""
