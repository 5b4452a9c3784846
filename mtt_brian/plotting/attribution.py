"""A quantity that several changes take from one value to another, one after the other."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtt_brian.errors import InputError, check_list
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.plotting.accuracy import columns_of
from mtt_brian.plotting.axes import accuracy_axis, accuracy_floor, axes, cut_accuracy_axis, literal_lines
from mtt_brian.plotting.style import COLORS, HATCHES, grey

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def waterfall(
    names: Sequence[str],
    values: Sequence[Estimate],
    changes: Sequence[Estimate],
    *,
    what: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Values after each of several changes: a bar from each value to the next one, with the error of the difference.

    The first value and the last one are points with their numbers. The axis may begin above zero, so there are no bars
    but of differences.

    Args:
        names: of the start and of every change [K].
        values: fractions at the start and after each change, with their standard errors [K].
        changes: differences of neighbouring values, with their own (paired) standard errors [K - 1].
        what: name of the axis.
        ax: axes to draw into.

    Raises:
        InputError: unless there is a name for every value and a change between all of them.
    """
    names, values, changes = (
        check_list(name, given) for name, given in (("names", names), ("values", values), ("changes", changes))
    )
    if not len(names) == len(values) == len(changes) + 1:
        raise InputError(f"{len(names)} names and {len(changes)} changes do not fit {len(values)} values")
    values, changes = (
        [Estimate(*pair) for pair in columns_of(given, len(given), name).T]
        for name, given in (("values", values), ("changes", changes))
    )
    ax = axes(ax)
    levels = np.array([value.value for value in values])
    loss, gain, nothing = (COLORS[5], ""), (COLORS[3], HATCHES[1]), (grey(0.4), "")
    for k, change in enumerate(changes, start=1):
        low, high = sorted(levels[k - 1 : k + 1])
        color, hatch = loss if change.value < 0 else gain if change.value else nothing
        ax.hlines(levels[k - 1], k - 1, k + 0.3, color=grey(0.6), linewidth=0.8)
        ax.bar(k, high - low, 0.6, low, color=(color, 0.45), edgecolor=color, hatch=hatch)
        ax.errorbar(k, levels[k], yerr=change.standard_error, fmt="none", ecolor=grey(0.2), elinewidth=1, capsize=2)
        text = f"{100 * change.value:+.1f}\n± {100 * change.standard_error:.1f}"
        _write_above(ax, k, max(high, levels[k] + change.standard_error), text)
    points, labels = {0: values[0]}, [*names]
    if changes:
        points[len(values)] = values[-1]
        labels.append("all changes")
        ax.hlines(levels[-1], len(changes), len(values), color=grey(0.6), linewidth=0.8)
    for place, (value, error) in points.items():
        ax.errorbar(place, value, yerr=error, color=grey(0.1), marker="o", linestyle="none", capsize=2)
        _write_above(ax, place, value + np.nan_to_num(error), f"{100 * value:.1f}")
    ax.set_xticks(range(len(labels)), [literal_lines(_in_lines(str(label))) for label in labels])
    ax.set_xlim(-0.6, len(labels) - 0.4)
    accuracy_axis(ax)
    ax.set_ylabel(what)
    errors = [*(value.standard_error for value in values[:1]), *(change.standard_error for change in changes)]
    floor = accuracy_floor(float(np.min(np.nan_to_num(levels - np.nan_to_num(errors)))))
    cut_accuracy_axis(ax, floor)
    ax.set_yticks([tick for tick in ax.get_yticks() if floor - 1e-9 <= tick <= 1 + 1e-9])
    ax.set_ylim(top=1 + 0.16 * (1 - floor))  # room for the numbers above a bar at 100 %
    return ax


def _write_above(ax: Axes, x: float, y: float, text: str) -> None:
    ax.annotate(text, (x, y), (0, 3), textcoords="offset points", ha="center", fontsize="small")


def _in_lines(name: str) -> str:
    """A name below a bar: each change begins a line, and a long one has several."""
    return "\n".join(line for part in name.replace(" + ", "\n+ ").split("\n") for line in textwrap.wrap(part, 11))
