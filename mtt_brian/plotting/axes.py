"""What plots do to their axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import PercentFormatter

from mtt_brian.plotting.style import CYCLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes(ax: Axes | None) -> Axes:
    """``ax``, or new axes; empty ones get line styles that differ in more than colour."""
    if ax is None:
        import matplotlib.pyplot as plt  # here, so that importing this module picks no backend

        ax = plt.subplots(layout="constrained")[1]
    if not ax.has_data():
        ax.set_prop_cycle(CYCLE)
    return ax


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
