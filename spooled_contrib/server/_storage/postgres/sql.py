"""The rules' portable SQL in PostgreSQL's words."""

from __future__ import annotations

import re
from functools import lru_cache

from spooled_contrib.server._storage import Dialect

_TAGS = r"replace(jobs.tags, '\u0000', '\ufffd')::json"  # a text of PostgreSQL cannot hold what the escape stands for

POSTGRES = Dialect(
    for_update=" FOR UPDATE",
    skip_locked=" FOR UPDATE SKIP LOCKED",
    # An array is found before the update starts; with IN the planner may join, and run the locking select again.
    any_of="{column} = ANY (ARRAY({select}))",
    has_tag=(
        "? IN (SELECT tag #>> '{}' FROM json_array_elements("  # noqa: S608
        f"CASE json_typeof({_TAGS}) WHEN 'array' THEN {_TAGS} ELSE '[]'::json END) AS tag "
        "WHERE json_typeof(tag) = 'string' UNION ALL SELECT json_object_keys("
        f"CASE json_typeof({_TAGS}) WHEN 'object' THEN {_TAGS} ELSE '{{}}'::json END))"
    ),
)

# Quoted text and quoted names stay as they are; only what is outside of them can be a placeholder.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[?%]")


@lru_cache(maxsize=2048)  # lists of ids come in many lengths
def to_driver(sql: str) -> str:
    """`?` becomes the driver's `%s`, and a literal `%` becomes `%%`."""
    return _TOKEN.sub(_translate, sql)


def _translate(match: re.Match[str]) -> str:
    found = match[0]
    return "%s" if found == "?" else found.replace("%", "%%")


def to_ddl(statements: str) -> str:
    """Return a schema step: 64 bits for every integer, columns that count, and text that is compared byte by byte.

    The collation matters: names sort as they do in SQLite, whatever the database's language, and prefixes use indexes.
    """
    filled = statements.replace("{serial}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    return re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', re.sub(r"\bINTEGER\b", "BIGINT", filled))
