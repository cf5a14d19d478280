"""Queue names: AMQP allows any text, Spooled 1 to 100 letters, digits, `-`, `_` and `.` (contract api-v1 §3.2).

What both allow stays as it is. Anything else is two dots and two hexadecimal digits for each byte of its UTF-8 form:
`celery@web` becomes `celery..40web`. A dot is written in that way where it would be taken for the beginning of one.
"""

from __future__ import annotations

import hashlib
import re

LIMIT = 100

_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_ESCAPED = re.compile(r"\.\.([0-9A-F]{2})")
_HASHED = "..GG"
"""Where a name was too long to be kept; not a hexadecimal number, and so nothing else."""


def to_spooled(name: str) -> str:
    """Return the name of the queue in Spooled.

    A name whose form is longer than 100 characters is cut, and gets a hash in place of its end: it cannot be read
    back, but two such names still differ.

    Raises:
        ValueError: There is no name.
    """
    if not name:
        raise ValueError("a queue must have a name")
    written = []
    for index, char in enumerate(name):
        following = name[index + 1 : index + 2]
        plain = bool(_PLAIN.fullmatch(char)) and not (index == 0 and char == "-")
        if char == ".":
            # The last dot, and one before a plain character, cannot be mistaken.
            plain = index > 0 and (not following or bool(_PLAIN.fullmatch(following)))
        written.append(char if plain else "".join(f"..{byte:02X}" for byte in char.encode()))
    text = "".join(written)
    if text.startswith("."):
        # Spooled wants another first character.
        text = f"q{text}"
    elif text.startswith("q.."):
        text = f"..71{text[1:]}"
        text = f"q{text}"
    if len(text) <= LIMIT:
        return text
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{text[: LIMIT - len(digest) - len(_HASHED)]}{_HASHED}{digest}"


def from_spooled(name: str) -> str | None:
    """Return the name of the queue in AMQP; None when it was too long to be kept."""
    if _HASHED in name:
        return None
    text = name[1:] if name.startswith("q..") else name
    parts: list[bytes] = []
    end = 0
    for found in _ESCAPED.finditer(text):
        parts += [text[end : found.start()].encode(), bytes([int(found.group(1), 16)])]
        end = found.end()
    parts.append(text[end:].encode())
    return b"".join(parts).decode("utf-8", "replace")
