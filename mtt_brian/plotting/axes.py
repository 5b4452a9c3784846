"""Axes, labels, legends and texts that all plots share."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MultipleLocator, PercentFormatter

from mtt_brian.errors import check_kind
from mtt_brian.plotting.style import cycle, grey, missing_letters
from mtt_brian.text import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text


#: Of the width of a figure, what its legend may fill, and what one above its axes may, which is not centred.
_PART, _PART_ABOVE = 0.97, 0.9
#: Letters in a line of a name that is too long for one line in a legend.
_LINES = (60, 45, 30, 20)


def axes(ax: Axes | None) -> Axes:
    """``ax``, or new axes; empty ones get line styles that differ in more than colour.

    Raises:
        InputError: for what is no axes, such as the array of ``plt.subplots(2)``.
    """
    if ax is None:
        import matplotlib.pyplot as plt  # here, so that importing this module picks no backend

        ax = plt.subplots(layout="constrained")[1]
    check_kind("ax", ax, Axes)
    if not ax.has_data():
        ax.set_prop_cycle(cycle())
    return ax


#: Characters that are commands of TeX, where matplotlib draws all text with it.
_TEX = {c: f"\\{c}" for c in "{}$&#_%"} | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\textasciitilde{}"}


def literal(text: object, most: int = 60) -> str:
    """Text of users, escaped so that matplotlib draws it unchanged.

    Without this, ``$`` would begin a formula, a label that begins with ``_`` or is empty would not be shown in a
    legend, and a line end or a long name would deform the figure. Works on any axes, whatever their style.

    Args:
        text: a name, such as of a recording or a class; a number is written out.
        most: characters of it that are shown; of a longer one the middle is left out.
    """
    text = shortened(printable(str(text)), most)
    if matplotlib.rcParams["text.usetex"]:
        text = "".join(_TEX.get(c, c) for c in text)
    elif matplotlib.rcParams["text.parse_math"]:
        text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text or '""'


def literal_lines(text: object, most: int = 60) -> str:
    """`literal` for text of several lines."""
    first, *others = str(text).split("\n", maxsplit=2)
    return "\n".join(literal(line, most) for line in (first, *others))


def label_of(name: object | None) -> str | None:
    """`literal` for an optional label."""
    return None if name is None else literal_lines(name, most=120)


def accuracy_axis(ax: Axes) -> None:
    """Fractions in per cent, all of the range."""
    ax.set_ylim(0, 1.02)  # a line at 100 % stays visible
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_ylabel("accuracy")
    ax.grid(axis="y", color=grey(0.9))
    ax.set_axisbelow(True)


def accuracy_floor(lowest: float) -> float:
    """Where an accuracy axis may begin so that ``lowest`` is well within: a multiple of 10 %; 0 if it gains little."""
    floor = math.floor(10 * (lowest - 0.04)) / 10
    return floor if floor >= 0.3 else 0.0


def accuracy_ceiling(highest: float) -> float:
    """Where an accuracy axis may end so that ``highest`` is well within: a multiple of 10 %; 1 if it gains little."""
    ceiling = math.ceil(round(10 * (highest + 0.02), 9)) / 10
    return ceiling if ceiling <= 0.7 else 1.0


def cut_accuracy_axis(ax: Axes, floor: float, ceiling: float = 1.0) -> None:
    """Let an `accuracy_axis` end at ``ceiling``, and begin at ``floor``; if that is not 0, two strokes and the label
    mark it.
    """
    ax.set_ylim(floor, ceiling + 0.02 * (ceiling - floor))
    if floor > 0 or ceiling < 1:
        ax.yaxis.set_major_locator(MultipleLocator(0.05 if ceiling - floor <= 0.4 else 0.1))
    if floor <= 0:
        return
    if ax.get_ylabel():
        ax.set_ylabel(f"{ax.get_ylabel()} (axis from {100 * floor:.0f}%)")
    stroke: dict[str, Any] = {
        "marker": [(-1, -0.5), (1, 0.5)],
        "markersize": 7,
        "linestyle": "none",
        "color": grey(0),
        "label": "_cut",
    }
    ax.plot([0, 0], [0.025, 0.05], transform=ax.transAxes, markeredgewidth=0.8, clip_on=False, **stroke)


#: What the methods of the training are, for legends.
_METHODS = {"sdt": "SDT: fixed time steps", "nmt": "NMT: random time steps", "mtt": "MTT: mixed time steps"}


def plain_logarithms(axis: Axis) -> None:
    """Numbers on a logarithmic axis as they are written, between the powers of ten too where there are few of these."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def spelled_out(label: str) -> str:
    """A label of runs ("sdt", "mtt, lower_bound none") with its method in words."""
    method, comma, rest = label.partition(",")
    return f"{_METHODS.get(method, method)}{comma}{rest.replace('_', ' ')}"


def legend(ax: Axes) -> Axes:
    """``ax`` with a legend, if anything in it has a name."""
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        _fitting(partial(ax.legend, fontsize="small"), handles, labels, 1, ax.get_window_extent().width)
    return ax


def _fitting(
    make: Callable[..., Legend], handles: Sequence[Any], labels: Sequence[str], columns: int, width: float
) -> None:
    """A legend that is not wider than so many pixels: with fewer columns, and then with names of several lines.

    Args:
        make: of a legend, given ``handles``, ``labels`` and ``ncols``.
        handles, labels: its entries.
        columns: the most that it may have.
        width: in pixels.
    """
    shapes = [(count, None) for count in range(columns, 0, -1)] + [(1, letters) for letters in _LINES]
    for count, letters in shapes:
        shown = labels if letters is None else [textwrap.fill(label, letters) for label in labels]
        made = make(handles=handles, labels=shown, ncols=count)
        if _width(made) <= width or (count, letters) == shapes[-1]:
            return
        made.remove()


def _width(artist: Legend | Text) -> float:
    """In pixels."""
    with missing_letters():
        return float(artist.get_window_extent().width)


def legend_beside(ax: Axes) -> Axes:
    """``ax`` with a legend on its right, for more lines than would leave room in it."""
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def legend_above(ax: Axes, columns: int = 2, handles: Sequence[Any] | None = None) -> Axes:
    """``ax`` with a legend on top of it, for plots that leave no empty corner; of its artists, or of ``handles``."""
    found, labels = ax.get_legend_handles_labels()
    if handles is not None:
        found, labels = list(handles), [handle.get_label() for handle in handles]
    make = partial(ax.legend, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    _fitting(make, found, labels, columns, _PART_ABOVE * ax.figure.bbox.width)
    return ax


def common_legend(
    figure: Figure,
    axes: Iterable[Axes],
    title: str = "",
    location: Literal["outside upper center", "outside lower center"] = "outside upper center",
    columns: int | None = None,
) -> None:
    """A legend of all ``axes`` outside of them, with one entry for every name.

    Args:
        figure: of the axes.
        axes: without legends of their own.
        title: of the legend.
        location: of the legend.
        columns: of its entries, at most; None: as many as fit by the length of the names.
    """
    known = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    make = partial(figure.legend, loc=location, fontsize="small", title=_title_of_legend(figure, title))
    most = columns or (3 if max(map(len, known), default=0) <= 24 else 2)
    _fitting(make, list(known.values()), list(known), most, _PART * figure.bbox.width)


def _title_of_legend(figure: Figure, title: str) -> str | None:
    """In as many lines as the width of the figure needs; None if it is empty."""
    shown = None
    for letters in (100, *_LINES) if title else ():
        shown = textwrap.fill(literal(title, 100), letters)
        probe = figure.legend([], [], title=shown)
        width = _width(probe.get_title())
        probe.remove()
        if width <= _PART * figure.bbox.width:
            break
    return shown
