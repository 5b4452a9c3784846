"""Text from outside (names, paths, values, messages of other packages) as text that can be printed: one short line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any


def printable(text: str) -> str:
    """``text`` with escapes for characters that are not printable, such as ``\\n`` or ``\\u202e``.

    These are control characters, line ends, marks that change the direction of text, invisible characters, halves of
    characters (names of files that are not UTF-8) and characters that do not exist.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(text: str, most: int) -> str:
    """``text`` in at most ``most`` characters: ``...`` replaces the middle of a longer text."""
    if len(text) <= most:
        return text
    tail = (most - 3) // 2
    return f"{text[: most - 3 - tail]}...{text[-tail:]}"


def one_line(error: BaseException, most: int = 300) -> str:
    """The message of an error on one line, or the name of its type if it has no message."""
    return shortened(printable(" ".join(str(error).split())), most) or type(error).__name__


def shown(value: Any, most: int = 80) -> str:
    """``repr(value)`` on one line and short, for messages; also of very large or deeply nested values."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    try:
        text = repr(value)
        return shortened(printable(" ".join(text.split()) if "\n" in text else text), most)
    except (RecursionError, ValueError):  # nested too deeply; a number of too many digits within
        return f"such a {type(value).__name__}"


def listed(names: Iterable[str]) -> str:
    """``'a', 'b'``: names in quotation marks, for messages."""
    return ", ".join(map(repr, names))


def number_of(count: int, noun: str) -> str:
    """``1 recording``, ``2,000 recordings``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"
