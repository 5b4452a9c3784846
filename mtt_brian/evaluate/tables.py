"""Numbers as text, and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.text import printable

#: What Markdown, HTML within it, and GitHub read as more than text. An underscore between letters is none of it.
_ACTING = re.compile(r"[&<>\\`*\[\]|~$#@{}]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)


def percent(estimate: Estimate, sign: bool = False) -> str:
    """``"87.1 ± 1.6"``; with ``sign`` ``"+7.2 ± 1.3"``, for differences."""
    value, error = (100 * number for number in estimate)
    return f"{value:{'+' if sign else ''}.1f} ± {error:.1f}"


def number(value: float) -> str:
    """``"12,345"``, ``"0.61"``: as many digits as one reads."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def markdown(text: str) -> str:
    """Text from outside for a Markdown file, where it is shown as it stands: no markup, no HTML, no link, no new line.

    What acts becomes a character reference, which every reader of Markdown shows as the character.
    """
    return _ACTING.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def code_block(text: str) -> str:
    """Text from outside as a block of code, in Markdown."""
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns; the first line is the header.

    Cells are Markdown, where names from outside have gone through `markdown`. Whatever they hold, a cell stays a cell.
    """
    lines = [[printable(cell).replace("|", "&#124;") for cell in line] for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "| " + " | ".join("-" * w for w in widths) + " |", *padded[1:]])
