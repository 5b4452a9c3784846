"""Predictions over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, check_array, check_number, check_whole
from mtt_brian.evaluate import predictions
from mtt_brian.plotting.axes import accuracy_axis, axes, label_of, legend, legend_beside
from mtt_brian.plotting.style import COLORS, grey, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def readout(times: ArrayLike, values: ArrayLike, *, label: int | None = None, ax: Axes | None = None) -> Axes:
    """The readout of each class as it grows, event by event, minus the mean over all classes at that time.

    The mean changes no prediction. Without it all readouts of most networks fall together, as inhibition prevails, and
    their differences are not seen.

    Args:
        times: seconds [K], rising (`evaluate.readout_trace`).
        values: [K, classes], constant from each time to the next.
        label: the right class, drawn on top in colour, as is the predicted one where it is another; the others are
            grey. None: every class in its own style.
        ax: axes to draw into.

    Raises:
        InputError: for arrays of other shapes, and for a label that is no class.
    """
    times, evidence = (1e3 * check_array("times", times), check_array("values", values).astype(np.float64))
    if evidence.ndim != 2 or not evidence.shape[1] or times.shape != evidence.shape[:1]:
        raise InputError(
            f"values must have the shape [K, classes] for times [K], not {evidence.shape} for {times.shape}"
        )
    if label is not None:
        label = check_whole("label", label, most=evidence.shape[1] - 1, least=0)
    predicted = int(predictions(evidence[-1])) if len(evidence) else None
    evidence = evidence - evidence.mean(axis=1, keepdims=True)
    ax = axes(ax)
    for k in range(evidence.shape[1]):
        style: dict[str, Any] = line_style(k) | {"label": f"class {k}"}
        if label is not None:
            style |= {"color": grey(0.6), "linewidth": 0.8, "zorder": 2, "linestyle": "-", "label": "_other"}
            if k == label:
                style |= {"color": COLORS[0], "linewidth": 2.0, "zorder": 3}
                style["label"] = f"class {k} (right)"
            elif k == predicted:
                style |= {"color": COLORS[1], "linewidth": 2.0, "zorder": 3, "linestyle": "--"}
                style["label"] = f"class {k} (predicted)"
        ax.plot(times, evidence[:, k], drawstyle="steps-post", **style | {"marker": ""})
    ax.axhline(0, color=grey(0.3), linewidth=0.6, label="_mean")
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("readout minus\nmean of classes")
    return legend_beside(ax) if label is None else legend(ax)


def accuracy_over_time(
    times: ArrayLike,
    accuracy: ArrayLike,
    *,
    label: str | None = None,
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy over time: the fraction of correct predictions if the run were stopped at each time.

    Args:
        times: seconds [K].
        accuracy: fractions [K] (`evaluate.accuracy_over_time`).
        label: of the line.
        chance: accuracy of guessing, drawn as a thin line.
        ax: axes to draw into.

    Raises:
        InputError: for arrays of other shapes.
    """
    times, accuracy = check_array("times", times), check_array("accuracy", accuracy)
    if times.ndim != 1 or times.shape != accuracy.shape:
        raise InputError(f"accuracy must be one fraction for each of the times, not {accuracy.shape} for {times.shape}")
    ax = axes(ax)
    ax.plot(1e3 * times, accuracy, marker="", label=label_of(label))
    if chance is not None:
        ax.axhline(
            check_number("chance", chance, most=1), color=grey(0.5), linewidth=0.8, linestyle=":", label="chance"
        )
    ax.set_xlabel("time (ms)")
    accuracy_axis(ax)
    return legend(ax)
