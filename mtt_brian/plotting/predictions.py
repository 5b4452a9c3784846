"""Predictions over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.plotting.axes import accuracy_axis, axes, label_of, legend, legend_beside
from mtt_brian.plotting.style import COLORS, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def readout(times: ArrayLike, values: ArrayLike, *, label: int | None = None, ax: Axes | None = None) -> Axes:
    """The readout of each class as it grows, event by event.

    Args:
        times: seconds [K], rising (`evaluate.readout_trace`).
        values: [K, classes], constant from each time to the next.
        label: the right class, drawn on top in colour; the others are grey. None: every class in its own style.
        ax: axes to draw into.
    """
    times, values = 1e3 * np.asarray(times), np.asarray(values)
    ax = axes(ax)
    for k in range(values.shape[1]):
        style: dict[str, Any] = line_style(k) | {"label": f"class {k}"}
        if label is not None:
            right = k == label
            style |= {
                "color": COLORS[0] if right else "0.6",
                "linewidth": 2.0 if right else 0.8,
                "zorder": 3 if right else 2,
                "linestyle": "-",
                "label": f"class {k} (right)" if right else "_other",
            }
        ax.plot(times, values[:, k], drawstyle="steps-post", **style | {"marker": ""})
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("readout")
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
        ax.axhline(chance, color="0.5", linewidth=0.8, linestyle=":", label="chance")
    ax.set_xlabel("time (ms)")
    accuracy_axis(ax)
    return legend(ax)
