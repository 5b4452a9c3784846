"""Figures of several panels: functions that fill a given figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.evaluate import Estimate
from mtt_brian.plotting.accuracy import accuracy_against
from mtt_brian.plotting.axes import common_legend, literal
from mtt_brian.plotting.training import loss_surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AccuracyLine(NamedTuple):
    """One line of a panel.

    Attributes:
        label: in the legend.
        style: numbers of the colour and of the dash; None: the next of the cycle.
        accuracy: one per level.
    """

    label: str
    style: tuple[int, int] | None
    accuracy: Sequence[Estimate]


class AccuracyPanel(NamedTuple):
    """One panel.

    Attributes:
        levels: names along the axis.
        name: of the axis.
        lines: accuracies against the levels.
    """

    levels: Sequence[str]
    name: str
    lines: Sequence[AccuracyLine]


def accuracy_panels(figure: Figure, panels: Sequence[AccuracyPanel], title: str, columns: int = 2) -> None:
    """Accuracies against levels, in panels with one legend.

    Args:
        figure: filled with axes.
        panels: at least one.
        title: of the legend.
        columns: panels beside each other at most.
    """
    columns = min(columns, len(panels))
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharey=True).ravel()
    for k, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        for line in panel.lines:
            accuracy_against(panel.levels, line.accuracy, label=line.label, style=line.style, ax=ax)
        ax.set_xlabel(literal(panel.name))
        ax.get_legend().remove()
        if k % columns:
            ax.set_ylabel("")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    common_legend(figure, axes, title)


def loss_surfaces(figure: Figure, offsets: ArrayLike, rows: Sequence[Mapping[str, ArrayLike]], title: str) -> None:
    """Loss surfaces under the same levels of colour.

    Args:
        figure: filled with axes.
        offsets: distances from the weights along both directions [K].
        rows: losses [K, K] by name; those of one row beside each other.
        title: of the figure.
    """
    surfaces = [np.asarray(surface) for row in rows for surface in row.values()]
    levels = np.geomspace(min(s.min() for s in surfaces) * 1.1, max(s.max() for s in surfaces), 12)
    columns = max(map(len, rows))
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    for of_row, row in zip(axes, rows, strict=True):
        for ax in of_row[len(row) :]:
            ax.set_axis_off()
        for ax, (name, surface) in zip(of_row, row.items(), strict=False):
            loss_surface(offsets, surface, levels, ax=ax).set_title(literal(name))
            ax.label_outer()
    figure.suptitle(literal(title, 120))
