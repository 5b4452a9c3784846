"""Predictions over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

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
    """
    times = 1e3 * np.asarray(times)
    evidence = np.asarray(values, dtype=np.float64)
    evidence = evidence - evidence.mean(axis=1, keepdims=True)
    ax = axes(ax)
    predicted = int(evidence[-1].argmax()) if len(evidence) else None
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
    """
    ax = axes(ax)
    ax.plot(1e3 * np.asarray(times), np.asarray(accuracy), marker="", label=label_of(label))
    if chance is not None:
        ax.axhline(chance, color=grey(0.5), linewidth=0.8, linestyle=":", label="chance")
    ax.set_xlabel("time (ms)")
    accuracy_axis(ax)
    return legend(ax)
