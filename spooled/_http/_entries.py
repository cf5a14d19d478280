"""Rules for lists of mappings, such as the jobs of a workflow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from spooled._http._nearest import did_you_mean
from spooled._http._rules import Refused, Rule, check, refusal
from spooled.errors import ValidationError


class Entries:
    """Several mappings with the same fields; all that is wrong with any of them is reported.

    Args:
        name: What the list is called.
        low: Least number of entries.
        high: Greatest number of entries.
        rules: The fields of one.
        required: Those it must have.
    """

    def __init__(
        self, name: str, low: int, high: int, rules: Mapping[str, Rule], required: Collection[str]
    ) -> None:
        self.name, self.low, self.high, self.rules, self.required = name, low, high, rules, required

    def __call__(self, value: Any) -> list[dict[str, object]]:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise Refused("must be a list of mappings", "type")
        items = list(value)
        if not self.low <= len(items) <= self.high:
            raise Refused(
                f"must hold {self.low} to {self.high} entries, has {len(items)}", "length", show=False
            )
        sent: list[dict[str, object]] = []
        problems: list[dict[str, str]] = []
        for index, item in enumerate(items):
            try:
                sent.append(self._entry(f"{self.name}[{index}]", item))
            except ValidationError as error:
                problems.extend(error.details)
        if problems:
            raise refusal(problems)
        return sent

    def _entry(self, place: str, item: object) -> dict[str, object]:
        if not isinstance(item, Mapping):
            message = f"{place} must be a mapping, got {type(item).__name__}"
            raise refusal([{"field": place, "message": message, "code": "type"}])
        problems = [
            {
                "field": f"{place}.{name}",
                "message": f"{place} has an unknown field {name!r}. {did_you_mean(str(name), self.rules)}",
                "code": "unknown_field",
            }
            for name in item
            if name not in self.rules
        ] + [
            {
                "field": f"{place}.{name}",
                "message": f"{place}.{name} is required",
                "code": "missing_field",
            }
            for name in self.required
            if name not in item
        ]
        if problems:
            raise refusal(problems)
        return check(self.rules, item, self.required, prefix=f"{place}.")
