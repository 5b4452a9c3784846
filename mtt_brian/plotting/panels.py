"""Figures of several panels: functions that fill a given figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, check_array, check_kind, check_list, check_whole
from mtt_brian.evaluate import Estimate
from mtt_brian.plotting.accuracy import accuracy_against, time_step_sweep
from mtt_brian.plotting.axes import (
    accuracy_axis,
    accuracy_ceiling,
    accuracy_floor,
    common_legend,
    cut_accuracy_axis,
    literal,
)
from mtt_brian.plotting.predictions import readout
from mtt_brian.plotting.spikes import raster
from mtt_brian.plotting.style import grey, line_style
from mtt_brian.plotting.training import loss_surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtt_brian.engines.result import Result

_Item = TypeVar("_Item")


def _some(name: str, given: Sequence[_Item], figure: Figure) -> list[_Item]:
    """A list of at least one.

    Raises:
        InputError: for an empty list, for what is no list, and for what is no figure.
    """
    check_kind("figure", figure, FigureBase)
    items = check_list(name, given)
    if not items:
        raise InputError(f"{name} must be at least one, and the list is empty")
    return items


class AccuracyLine(NamedTuple):
    """One line of accuracies in a panel.

    Attributes:
        label: in the legend.
        style: numbers of the colour and of the dash; None: the next of the cycle.
        accuracy: one per level.
    """

    label: str
    style: tuple[int, int] | None
    accuracy: Sequence[Estimate]


class AccuracyPanel(NamedTuple):
    """One panel: lines of accuracies over the same levels.

    Attributes:
        levels: names along the axis.
        name: of the axis.
        lines: accuracies against the levels.
    """

    levels: Sequence[str]
    name: str
    lines: Sequence[AccuracyLine]


class SweepCurve(NamedTuple):
    """One network, or the mean of several.

    Attributes:
        label: in the legend.
        time_steps: T [K], rising.
        accuracy: at each T [K].
        event_driven: without time steps.
    """

    label: str
    time_steps: Sequence[int]
    accuracy: Sequence[Estimate]
    event_driven: Estimate


def sweep_panels(figure: Figure, curves: Sequence[SweepCurve], title: str) -> None:
    """Accuracy against the number of time steps; on the right, the part of it that is left without time steps.

    The accuracy axis begins below the event-driven accuracies, and ends above all. A point that lies below the axis is
    a number at its foot.

    Args:
        figure: filled with axes.
        curves: at least one.
        title: of the figure.
    """
    curves = _some("curves", curves, figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1 + 0.35 * len(curves)])
    lowest = min(
        min(curve.event_driven.value - curve.event_driven.standard_error, curve.accuracy[-1].value) for curve in curves
    )
    floor = accuracy_floor(lowest)
    ceiling = accuracy_ceiling(max(e.value + e.standard_error for c in curves for e in (*c.accuracy, c.event_driven)))
    for k, (label, time_steps, accuracy, event_driven) in enumerate(curves):
        time_step_sweep(time_steps, accuracy, label=label, ax=left)
        below = [
            f"{100 * e.value:.0f}% (T = {t})" for t, e in zip(time_steps, accuracy, strict=True) if e.value < floor
        ]
        if below:
            style = {"color": line_style(k)["color"], "fontsize": "small", "ha": "right", "textcoords": "offset points"}
            text = f"below: {', '.join(below)}"
            left.annotate(text, (1, 0), (0, 3 + 10 * k), xycoords="axes fraction", **style)
        _fall(right, k, accuracy[-1], event_driven, upright=len(curves) <= 4)
    accuracy_axis(right)
    right.set_ylabel("")
    right.set_xticks([])
    right.set_xlim(-0.5, len(curves) - 0.5)
    largest = sorted({curve.time_steps[-1] for curve in curves})
    right.set_xlabel(
        f"hollow: T = {' or '.join(map(str, largest))}\nfull: event-driven\nabove: change\nin points", fontsize="small"
    )
    for ax in (left, right):
        cut_accuracy_axis(ax, floor, ceiling)
    left.get_legend().remove()
    common_legend(figure, [left], title)


def _fall(ax: Axes, place: int, stepped: Estimate, event_driven: Estimate, upright: bool) -> None:
    """An arrow from the time-stepped accuracy to the event-driven one, with their difference above the axes."""
    style = line_style(place) | {"linestyle": "none"}
    ax.plot(place, stepped.value, **style, markerfacecolor=grey(1), zorder=3, label="_stepped")
    ax.errorbar(place, event_driven.value, yerr=event_driven.standard_error, **style, zorder=3, label="_event-driven")
    arrow = {"arrowstyle": "->", "color": style["color"], "shrinkA": 3, "shrinkB": 3}
    ax.annotate("", (place, event_driven.value), (place, stepped.value), arrowprops=arrow)
    ax.annotate(
        f"{100 * (event_driven.value - stepped.value):+.1f}",
        (place, 1),
        (0, 2),
        xycoords=ax.get_xaxis_transform(),
        textcoords="offset points",
        ha="center",
        va="bottom",
        rotation=0 if upright else 90,
        fontsize="small",
        color=style["color"],
    )


def accuracy_panels(figure: Figure, panels: Sequence[AccuracyPanel], title: str, columns: int = 2) -> None:
    """Accuracies against levels, in panels with one legend; where all are high, the axis does not begin at 0 (marked).

    Args:
        figure: filled with axes.
        panels: at least one.
        title: of the legend.
        columns: panels beside each other at most.
    """
    panels = _some("panels", panels, figure)
    columns = min(check_whole("columns", columns, most=1000, least=1), len(panels))
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharey=True).ravel()
    for k, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        for line in panel.lines:
            accuracy_against(panel.levels, line.accuracy, label=line.label, style=line.style, ax=ax)
        ax.set_xlabel(literal(panel.name))
        if (own := ax.get_legend()) is not None:  # there are lines, and they have names
            own.remove()
        if k % columns:
            ax.set_ylabel("")
    lowest = min((e.value for panel in panels for line in panel.lines for e in line.accuracy), default=0.0)
    floor = accuracy_floor(lowest)
    for ax in axes[: len(panels)]:
        cut_accuracy_axis(ax, floor)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    common_legend(figure, axes, title)


class ModeRun(NamedTuple):
    """One recording in one mode.

    Attributes:
        title: of the mode.
        result: with the spikes of all populations.
        recording: the events that were run; None: the result has the spikes of the input.
        times: seconds [K], rising.
        readouts: [K, classes], constant from each time to the next.
    """

    title: str
    result: Result
    recording: np.ndarray | None
    times: np.ndarray
    readouts: np.ndarray


def raster_pair(figure: Figure, runs: Sequence[ModeRun], label: int) -> None:
    """One recording in two modes beside each other: spikes by population, and the readout below.

    Args:
        figure: filled with axes.
        runs: both modes.
        label: the right class.
    """
    runs = _some("runs", runs, figure)
    rasters, readouts = figure.subplots(2, len(runs), squeeze=False, sharex=True, sharey="row", height_ratios=[3, 1.3])
    for top, bottom, run in zip(rasters, readouts, runs, strict=True):
        raster(run.result, recording=run.recording, ax=top)
        readout(run.times, run.readouts, label=label, ax=bottom)
        bottom.get_legend().remove()
        predicted = int(run.readouts[-1].argmax())
        judged = "right" if predicted == label else "wrong"
        top.set_title(f"{run.title}\nprediction {predicted}, {judged}")
        top.set_xlabel("")
        top.label_outer()
        bottom.label_outer()
    rasters[0].set_ylabel("")
    common_legend(figure, readouts, location="outside lower center", columns=2)


def loss_surfaces(figure: Figure, offsets: ArrayLike, rows: Sequence[Mapping[str, ArrayLike]], title: str) -> None:
    """Loss surfaces under the same levels of colour.

    Args:
        figure: filled with axes.
        offsets: distances from the weights along both directions [K].
        rows: losses [K, K] by name; those of one row beside each other.
        title: of the figure.
    """
    rows = _some("rows", rows, figure)
    surfaces = [check_array(name, surface) for row in rows for name, surface in row.items()]
    lowest, highest = min(s.min() for s in surfaces), max(s.max() for s in surfaces)
    # A loss may be 0, and all of them alike: lines for every twelfth of a per cent at least.
    lowest = max(lowest, 1e-6 * highest, 1e-30)
    levels = np.geomspace(lowest * 1.1, max(highest, 1.11 * lowest), 12)
    columns = max(map(len, rows))
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    for of_row, row in zip(axes, rows, strict=True):
        for ax in of_row[len(row) :]:
            ax.set_axis_off()
        for ax, (name, surface) in zip(of_row, row.items(), strict=False):
            loss_surface(offsets, np.maximum(surface, lowest), levels, ax=ax).set_title(literal(name))
            ax.label_outer()
    figure.suptitle(literal(title, 120), wrap=True)
