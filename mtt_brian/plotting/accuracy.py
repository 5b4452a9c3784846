"""Accuracies against time steps, perturbations, and the cost of a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rcParams
from matplotlib.font_manager import FontProperties
from matplotlib.text import Annotation
from matplotlib.ticker import EngFormatter
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, check_array, check_kind, check_list, check_number
from mtt_brian.evaluate import Estimate
from mtt_brian.plotting.axes import accuracy_axis, axes, label_of, legend, legend_above, literal_lines, plain_logarithms
from mtt_brian.plotting.style import HATCHES, color_of, grey, style_of
from mtt_brian.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What stands for accuracies.
_PAIRS = "`Estimate` (a value and its standard error)"
#: Marks the labels of event-driven accuracies.
_EVENT_DRIVEN = "event-driven"
#: Width of a character in its size, with some room between labels.
_CHARACTER = 0.62


def columns_of(accuracy: Sequence[Estimate], count: int, name: str = "accuracy") -> np.ndarray:
    """Values and standard errors, float64 [2, K]; ``name`` is that of the argument.

    Raises:
        InputError: unless there are ``count`` pairs of numbers.
    """
    columns = check_array(name, accuracy, wanted=_PAIRS)
    if columns.shape == (0,):
        columns = columns.reshape(0, 2)
    if columns.shape != (count, 2):
        raise InputError(f"{name} must be {count} of {_PAIRS}, not an array of shape {columns.shape}")
    return columns.astype(np.float64).T


def _along(name: str, values: ArrayLike) -> np.ndarray:
    """Numbers along an axis [K].

    Raises:
        InputError: for an array of another shape.
    """
    array = check_array(name, values)
    if array.ndim != 1:
        raise InputError(f"{name} must be a list of numbers, not an array of shape {array.shape}")
    return array


def time_step_sweep(
    time_steps: Sequence[float],
    accuracy: Sequence[Estimate],
    *,
    event_driven: Estimate | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy against the number of time steps on a logarithmic axis, beside the event-driven accuracy.

    Args:
        time_steps: T [K].
        accuracy: at each T, with its standard error as error bar.
        event_driven: drawn as a horizontal line in a band of one standard error, in the colour of the curve, with its
            value written behind its end.
        label: of the curve.
        ax: axes to draw into.
    """
    ax = axes(ax)
    label = label_of(label)
    at = _along("time_steps", time_steps)
    values, errors = columns_of(accuracy, len(at))
    ax.set_xscale("linear")  # of an earlier curve: on a logarithmic axis errorbar() warns of a single T
    curve = ax.errorbar(at, values, yerr=errors, label=label)
    if event_driven is not None:
        color = curve.lines[0].get_color()
        value, error = columns_of([event_driven], 1, "event_driven")[:, 0]
        ax.axhspan(value - error, value + error, color=color, alpha=0.15, linewidth=0)
        ax.axhline(value, color=color, linestyle=curve.lines[0].get_linestyle(), linewidth=1, label="_event-driven")
        ax.annotate(
            f"event-driven\n{100 * value:.1f}%",
            (1, value),
            (3, 0),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            ha="left",
            annotation_clip=False,
            gid=_EVENT_DRIVEN,
            color=color,
            fontsize="small",
        )
        # Those of two similar networks are above and below their lines.
        found = (text for text in ax.texts if isinstance(text, Annotation) and text.get_gid() == _EVENT_DRIVEN)
        labels = sorted(found, key=lambda text: text.xy[1])
        for text in labels:
            text.set_verticalalignment("center")
        if len(labels) > 1:
            labels[0].set_verticalalignment("top")
            labels[-1].set_verticalalignment("bottom")
    ax.set_xscale("log")
    plain_logarithms(ax.xaxis)
    ax.set_xlabel("time steps T")
    accuracy_axis(ax)
    return legend(ax)


def accuracy_bars(
    groups: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], *, ax: Axes | None = None
) -> Axes:
    """Accuracies side by side, with one standard error as error bar and, where there is room, the value on top of it.

    Args:
        groups: names along the axis, such as ``("T = 10", "event-driven")``.
        series: for each network, one accuracy per group; None leaves a gap.
        ax: axes to draw into.

    Raises:
        InputError: if a series does not have one entry per group.
    """
    groups = check_list("groups", groups)
    check_kind("series", series, Mapping)
    ax = axes(ax)
    width = 0.8 / max(len(series), 1)
    inches = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi
    room = 72 * inches * 0.8 / max(len(series) * len(groups), 1)  # points per bar
    decimals = 1 if room >= 21 else 0
    for k, (name, estimates) in enumerate(series.items()):
        estimates = check_list(f"the accuracies of {name!r}", estimates)
        if len(estimates) != len(groups):
            raise InputError(f"{name!r} has {len(estimates)} accuracies for {len(groups)} groups")
        at = [g for g, estimate in enumerate(estimates) if estimate is not None]
        values, errors = columns_of([e for e in estimates if e is not None], len(at))
        ax.bar(
            np.asarray(at) + (k - (len(series) - 1) / 2) * width,
            values,
            width,
            yerr=errors,
            label=label_of(name),
            color=(color_of(k), 0.45),  # so pale that the error bar is seen within the bar
            edgecolor=color_of(k),
            hatch=HATCHES[k % len(HATCHES)],
            error_kw={"ecolor": grey(0.2), "elinewidth": 1, "capsize": 2},
        )
        for x, value, error in zip(at, values, errors, strict=True):
            if room < 12:
                break
            ax.annotate(
                f"{100 * value:.{decimals}f}",
                (x + (k - (len(series) - 1) / 2) * width, value + (0 if np.isnan(error) else error)),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
    names = [literal_lines(group) for group in groups]
    longest = max((len(line) for group in names for line in group.split("\n")), default=0)
    size = FontProperties(size=rcParams["xtick.labelsize"]).get_size_in_points()
    turned = _CHARACTER * size * longest > 72 * inches / max(len(groups), 1)
    ax.set_xticks(range(len(groups)), names, rotation=90 if turned else 0)
    accuracy_axis(ax)
    ax.set_ylim(0, 1.1)  # room for the number above a bar of 100 %
    ax.set_yticks(np.linspace(0, 1, 6))
    if len(series) < 2:
        return ax
    return legend_above(ax, columns=1 if max(len(str(name)) for name in series) > 24 else 2)


def accuracy_against(
    levels: Sequence[float | str],
    accuracy: Sequence[Estimate],
    *,
    label: str | None = None,
    style: tuple[int, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy against the level of a perturbation, the levels at equal distances in the order given.

    Args:
        levels: names or numbers along the axis [K]; the same on every call for one ``ax``.
        accuracy: at each level, with its standard error as error bar (none where it is NaN).
        label: of the line.
        style: numbers of the colour and of the dash and marker, for lines that belong together in two ways; None: the
            next of the cycle.
        ax: axes to draw into.
    """
    ax = axes(ax)
    levels = check_list("levels", levels)
    options = {} if style is None else style_of(style)
    values, errors = columns_of(accuracy, len(levels))
    ax.errorbar(range(len(levels)), values, yerr=errors, label=label_of(label), **options)
    names = [literal_lines(e) if isinstance(e, str) else f"{check_number('levels', e, np.inf):g}" for e in levels]
    ax.set_xticks(range(len(levels)), names)
    accuracy_axis(ax)
    return legend(ax)


def early_exit(
    cost: ArrayLike,
    accuracy: Sequence[Estimate],
    *,
    name: str,
    label: str | None = None,
    style: tuple[int, int] = (0, 0),
    fixed: tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy against the cost until the decision, one point per threshold.

    Args:
        cost: mean cost at each threshold [K].
        accuracy: at each threshold, with its standard error as a band.
        name: of the cost axis.
        label: of the line.
        style: numbers of the colour and of the dash.
        fixed: cost and accuracy [L] of stopping every recording after the same time, a thin dotted line.
        ax: axes to draw into.
    """
    ax = axes(ax)
    line = style_of(style) | {"marker": ""}
    cost = _along("cost", cost)
    values, errors = columns_of(accuracy, len(cost))
    ax.fill_between(cost, values - errors, values + errors, color=line["color"], alpha=0.15, linewidth=0)
    ax.plot(cost, values, linewidth=1.8, label=label_of(label), **line)
    if fixed is not None:
        pair = [_along("fixed", each) for each in check_list("fixed", fixed)]
        if len(pair) != 2 or len(pair[0]) != len(pair[1]):
            raise InputError(f"fixed must be a cost and an accuracy [L] each, not {shown(fixed)}")
        ax.plot(
            *pair,
            linewidth=0.9,
            **line | {"linestyle": ":"},
            label=f"{label_of(label)}, fixed time" if label is not None else None,
        )
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    ax.set_xlabel(literal_lines(name, 80))
    accuracy_axis(ax)
    return legend(ax)
