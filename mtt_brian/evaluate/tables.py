"""Tables for Markdown, HTML and terminals, and numbers as text."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.temporal_flexibility import Flexibility
from mtt_brian.text import printable

#: Characters with a meaning in Markdown, in HTML within it, and on GitHub; except an underscore between letters.
_ACTING = re.compile(r"[&<>\\`*\[\]|~$#@{}]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)


class Cell(NamedTuple):
    """One cell.

    Attributes:
        text: displayed text; ``"-"`` for an empty cell.
        value: the unrounded number in JavaScript notation; None: the cell sorts by its text.
        error: the standard error of the number as text; may be empty.
    """

    text: str
    value: str | None = None
    error: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.error}".rstrip()


class Column(NamedTuple):
    """One column.

    Attributes:
        group: a heading shared by adjacent columns; may be empty.
        title: its own heading.
        cells: one per row.
        words: whether the cells contain words, not numbers.
    """

    group: str
    title: str
    cells: Sequence[Cell]
    words: bool = False

    @property
    def heading(self) -> str:
        """Both headings."""
        return ", ".join(filter(None, (self.group, self.title)))


@dataclass(frozen=True)
class Table:
    """Columns of one length; the first names the rows. All texts are plain text and may come from outside."""

    title: str
    columns: Sequence[Column]

    @classmethod
    def of_rows(cls, title: str, header: Sequence[str], rows: Iterable[Sequence[Cell | str]]) -> Table:
        """A table from its rows; the cells of the first column are their names."""
        lines = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        columns = zip(*lines, strict=True) if lines else [()] * len(header)
        named = zip(header, columns, strict=True)
        return cls(title, [Column("", name, cells, words=k == 0) for k, (name, cells) in enumerate(named)])

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings shared by adjacent columns, and the number of their columns."""
        grouped = itertools.groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(columns))) for group, columns in grouped]

    @property
    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """Top to bottom."""
        return zip(*(column.cells for column in self.columns), strict=True)

    def transposed(self) -> Table:
        """The transposed table; only the headings of the first column are lost."""
        names, *columns = self.columns
        headings = Column("", "", [Cell(column.heading) for column in columns], words=True)
        return Table(
            self.title,
            [
                headings,
                *(
                    Column("", str(name), [column.cells[row] for column in columns])
                    for row, name in enumerate(names.cells)
                ),
            ],
        )

    def markdown(self) -> str:
        """The table in Markdown, with all texts escaped."""
        return markdown_table([[markdown(text) for text in line] for line in self._lines()])

    def terminal(self) -> str:
        """The same table for a terminal: one line per row, without control characters."""
        return _padded([[printable(text) for text in line] for line in self._lines()])

    def _lines(self) -> Iterator[list[str]]:
        yield [column.heading for column in self.columns]
        for row in self.rows:
            yield list(map(str, row))


#: An empty cell.
MISSING = Cell("-")


def words(title: str, texts: Iterable[str], group: str = "") -> Column:
    """A column of texts."""
    return Column(group, title, [Cell(text) for text in texts], words=True)


def whole(value: int | None) -> Cell:
    """A whole number."""
    return MISSING if value is None else Cell(f"{value:,}", exact(value))


def decimal(value: float | None) -> Cell:
    """A number with a readable number of digits."""
    return MISSING if value is None else Cell(number(value), exact(value))


def in_percent(estimate: Estimate | None, sign: bool = False) -> Cell:
    """An accuracy, or with ``sign`` a difference of two, in percent with its standard error."""
    if estimate is None:
        return MISSING
    text, error = percent(estimate, sign).split(" ", 1)
    return Cell(text, exact(estimate.value), error)


def score(flexibility: Flexibility | None) -> Cell:
    """A temporal flexibility score with its interval."""
    if flexibility is None:
        return MISSING
    return Cell(f"{flexibility.value:.2f}", exact(flexibility.value), str(flexibility).partition(" ")[2])


def ranking(scores: Mapping[str, Sequence[Flexibility]]) -> Table:
    """Networks by their temporal flexibility, the best first.

    Args:
        scores: by network, one for every seed; networks without any are left out.
    """
    means = {name: sum(one.value for one in each) / len(each) for name, each in scores.items() if each}
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    return Table(
        "Temporal flexibility: mean accuracy over T = 1 .. 200 and event-driven, relative to the best of them",
        [
            words("network", ranked),
            Column("", "score", [Cell(f"{means[name]:.2f}", exact(means[name])) for name in ranked]),
            words("by seed, 95 % interval over the recordings", [", ".join(map(str, scores[name])) for name in ranked]),
        ],
    )


def fraction(value: float | None) -> Cell:
    """A fraction in percent."""
    if value is None:
        return MISSING
    return Cell(f"{100 * value:.1f}" if math.isfinite(value) else "∞", exact(value))


def exact(value: float) -> str:
    """As JSON and JavaScript write it: the shortest text that gives the same number, infinity as one word."""
    return json.dumps(value)


def percent(estimate: Estimate, sign: bool = False) -> str:
    """``"87.1 ± 1.6"``; with ``sign`` ``"+7.2 ± 1.3"``, for differences."""
    value, error = (100 * number for number in estimate)
    return f"{value:{'+' if sign else ''}.1f} ± {error:.1f}"


def p_value(p: float) -> str:
    """``"0.031"``, ``"4e-06"``."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def number(value: float) -> str:
    """``"12,345"``, ``"0.61"``: a readable number of digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def markdown(text: str) -> str:
    """External text, escaped for a Markdown file: no markup, no HTML, no link, no new line.

    Characters with a meaning become character references, which every reader of Markdown shows as the character.
    """
    return _ACTING.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def code_block(text: str) -> str:
    """External text as a block of code, in Markdown."""
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns; the first line is the header.

    Cells are Markdown; external names are escaped by `markdown`. The content of a cell cannot end it.
    """
    return _padded([[printable(cell).replace("|", "&#124;") for cell in line] for line in lines])


def _padded(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "| " + " | ".join("-" * w for w in widths) + " |", *padded[1:]])
