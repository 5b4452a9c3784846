"""Numbers as text, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from mtt_brian.evaluate.metrics import Estimate


def percent(estimate: Estimate, sign: bool = False) -> str:
    """``"87.1 ± 1.6"``; with ``sign`` ``"+7.2 ± 1.3"``, for differences."""
    value, error = (100 * number for number in estimate)
    return f"{value:{'+' if sign else ''}.1f} ± {error:.1f}"


def number(value: float) -> str:
    """``"12,345"``, ``"0.61"``: as many digits as one reads."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns; the first line is the header."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "| " + " | ".join("-" * w for w in widths) + " |", *padded[1:]])
