"""Axes, labels, legends and texts that all plots share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.ticker import PercentFormatter

from mtt_brian.plotting.style import CYCLE
from mtt_brian.text import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def axes(ax: Axes | None) -> Axes:
    """``ax``, or new axes; empty ones get line styles that differ in more than colour."""
    if ax is None:
        import matplotlib.pyplot as plt  # here, so that importing this module picks no backend

        ax = plt.subplots(layout="constrained")[1]
    if not ax.has_data():
        ax.set_prop_cycle(CYCLE)
    return ax


#: Characters that are commands of TeX, where matplotlib draws all text with it.
_TEX = {c: f"\\{c}" for c in "{}$&#_%"} | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\textasciitilde{}"}


def literal(text: str, most: int = 60) -> str:
    """Text of users, escaped so that matplotlib draws it unchanged.

    Without this, ``$`` would begin a formula, a label that begins with ``_`` or is empty would not be shown in a
    legend, and a line end or a long name would deform the figure. Works on any axes, whatever their style.

    Args:
        text: a name, such as of a recording or a class.
        most: characters of it that are shown; of a longer one the middle is left out.
    """
    text = shortened(printable(text), most)
    if matplotlib.rcParams["text.usetex"]:
        text = "".join(_TEX.get(c, c) for c in text)
    elif matplotlib.rcParams["text.parse_math"]:
        text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text or '""'


def literal_lines(text: str, most: int = 60) -> str:
    """`literal` for text of several lines."""
    first, *others = text.split("\n", maxsplit=2)
    return "\n".join(literal(line, most) for line in (first, *others))


def label_of(name: str | None) -> str | None:
    """`literal` for an optional label."""
    return None if name is None else literal_lines(name, most=80)


def accuracy_axis(ax: Axes) -> None:
    """Fractions in per cent, all of the range."""
    ax.set_ylim(0, 1.02)  # a line at 100 % stays visible
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_ylabel("accuracy")
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)


def legend(ax: Axes) -> Axes:
    """``ax`` with a legend, if anything in it has a name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small")
    return ax


def legend_beside(ax: Axes) -> Axes:
    """``ax`` with a legend on its right, for more lines than would leave room in it."""
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def legend_above(ax: Axes, columns: int = 2) -> Axes:
    """``ax`` with a legend on top of it, for plots that leave no empty corner."""
    ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)
    return ax


def common_legend(figure: Figure, axes: Iterable[Axes], title: str = "") -> None:
    """A legend of all ``axes`` above them, with one entry for every name.

    Args:
        figure: of the axes.
        axes: without legends of their own.
        title: of the legend.
    """
    known = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        known.values(),
        known.keys(),
        loc="outside upper center",
        ncols=3,
        fontsize="small",
        title=literal(title, 100),
    )
