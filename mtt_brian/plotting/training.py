"""Curves of a training, and the loss landscape around its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, check_array, check_kind, check_list
from mtt_brian.plotting.axes import accuracy_axis, axes, label_of, legend, legend_above, literal, plain_logarithms
from mtt_brian.plotting.style import SEQUENTIAL, grey, line_style
from mtt_brian.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training_curve(metrics: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Loss and accuracies of a training run by epoch.

    Args:
        metrics: one mapping per epoch with ``epoch`` (default: its position) and any of ``*loss`` and ``*accuracy``,
            the lines of ``metrics.jsonl``. Entries that are missing or None leave gaps; other keys are not drawn.
        ax: axes to draw into: accuracies on its own axis; the losses go to a second y axis of the same figure.

    Returns:
        The axes with the accuracies.
    """
    rows = check_list("metrics", metrics)
    for row in rows:
        check_kind("a row of metrics", row, Mapping)
    ax = axes(ax)
    epochs = check_array("epoch", [row.get("epoch", k) for k, row in enumerate(rows)]).tolist()
    names = dict.fromkeys(key for row in rows for key in row)
    accuracies = [name for name in names if name.endswith("accuracy")]
    losses = [name for name in names if name.endswith("loss")]

    def column(name: str) -> np.ndarray:
        return check_array(name, [np.nan if row.get(name) is None else row[name] for row in rows]).astype(np.float64)

    for k, name in enumerate(accuracies):
        ax.plot(epochs, column(name), label=literal(name.replace("_", " ")), **line_style(k) | {"linestyle": "-"})
    accuracy_axis(ax)
    if len(epochs) == 1:
        ax.set_xticks(epochs)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    if losses:
        right = ax.twinx()
        for k, name in enumerate(losses):
            style = line_style(len(accuracies) + k) | {"linestyle": "--"} | ({"marker": ""} if len(epochs) > 1 else {})
            right.plot(epochs, column(name), label=literal(name.replace("_", " ")), **style)
        right.spines["right"].set_visible(True)
        right.set_ylabel("loss (dashed)")
        right.set_ylim(bottom=0)
        handles = [*ax.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        return legend_above(ax, handles=handles)
    return legend(ax)


def loss_line(
    offsets: ArrayLike, losses: ArrayLike, *, label: str | None = None, color: int = 0, ax: Axes | None = None
) -> Axes:
    """The loss along random directions through the weights: the mean as a line, every direction as a faint one.

    Args:
        offsets: how far from the weights [K].
        losses: [directions, K].
        label: of the mean.
        color: number of the colour.
        ax: axes to draw into.

    Raises:
        InputError: for arrays of other shapes.
    """
    offsets, losses = check_array("offsets", offsets), check_array("losses", losses).astype(np.float64)
    if losses.ndim != 2 or not len(losses) or offsets.shape != losses.shape[1:]:
        raise InputError(
            f"losses must have the shape [directions, K] for offsets [K], not {losses.shape} for {offsets.shape}"
        )
    ax = axes(ax)
    style = line_style(color) | {"marker": ""}
    ax.plot(offsets, losses.T, alpha=0.25, linewidth=0.8, label="_directions", **style)
    ax.plot(offsets, losses.mean(0), label=label_of(label), **style)
    ax.set_xlabel("distance along a filter-normalised direction")
    ax.set_ylabel("cross entropy")
    ax.set_yscale("log")
    plain_logarithms(ax.yaxis)
    return legend(ax)


def loss_surface(offsets: ArrayLike, losses: ArrayLike, levels: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """The loss over two random directions as contour lines, the darker the higher, the weights in the middle.

    Args:
        offsets: along both directions [K].
        losses: [K, K], the first direction upwards.
        levels: losses > 0 of the lines, rising; the same for surfaces that are compared.
        ax: axes to draw into.

    Raises:
        InputError: for arrays of other shapes, and for levels that do not rise or are not above 0.
    """
    offsets, losses, levels = (
        check_array(name, values) for name, values in (("offsets", offsets), ("losses", losses), ("levels", levels))
    )
    if offsets.ndim != 1 or len(offsets) < 2 or losses.shape != offsets.shape * 2:
        raise InputError(f"losses must have the shape [K, K] for offsets [K], not {losses.shape} for {offsets.shape}")
    if levels.ndim != 1 or len(levels) < 2 or not levels[0] > 0 or not np.all(np.diff(levels) > 0):
        raise InputError(f"levels must be two losses > 0 or more, rising, not {shown(levels)}")
    ax = axes(ax)
    norm = LogNorm(float(np.min(levels)), float(np.max(levels)))
    ax.contourf(offsets, offsets, losses, levels=levels, cmap=SEQUENTIAL, norm=norm, extend="both", alpha=0.6)
    lines = ax.contour(offsets, offsets, losses, levels=levels, colors=grey(0.2), linewidths=0.6)
    ax.clabel(lines, fontsize="x-small", fmt=_apart(lines.levels))
    ax.plot(0, 0, marker="+", color=grey(0))
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)
    ax.set_xlabel("second direction")
    ax.set_ylabel("first direction")
    return ax


def _apart(levels: Iterable[float]) -> dict[float, str]:
    """Levels as text with at least two digits, and as many as make them all different."""
    for digits in range(2, 17):
        texts = {level: f"{level:.{digits}g}" for level in levels}
        if len(set(texts.values())) == len(texts):
            break
    return texts
