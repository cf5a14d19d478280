"""Text from elsewhere, made safe for a terminal.

A job's error text or queue name is written by whoever enqueued or ran it. Raw control characters in it could
move the cursor, change the window title or, with bidirectional marks, show something else than what is there.
"""

from __future__ import annotations

import unicodedata

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ELLIPSIS = "…"


def safe_line(text: str) -> str:
    """`text` on one line: control characters are shown as escapes such as `\\n` and `\\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_SHORT.get(char) or (_escape(char) if _is_unsafe(char) else char) for char in text)


def safe_block(text: str) -> str:
    """Like `safe_line`, but line breaks and tabs stay."""
    return "".join(_escape(char) if _is_unsafe(char) and char not in "\n\t" else char for char in text)


def safe_json(text: str) -> str:
    """JSON text with what JSON itself would let through escaped the JSON way, so that it still means the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(
        f"\\u{ord(char):04x}" if _is_unsafe(char) and char not in "\n\r\t" else char for char in text
    )


def width(text: str) -> int:
    """Terminal columns that `text` takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def fit(text: str, columns: int) -> str:
    """`text`, cut to `columns` with an ellipsis when it is wider."""
    if width(text) <= columns:
        return text
    kept, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > columns - 1:
            break
        kept.append(char)
    return "".join(kept) + _ELLIPSIS if columns > 0 else ""


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _is_unsafe(char: str) -> bool:
    # Cc: C0, DEL and C1. Cs: halves of characters that no encoding can write. Zl, Zp: hidden line breaks.
    return char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
