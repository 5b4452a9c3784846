"""The figure of ``mtt-brian demo``: one network with time steps on the left, event by event on the right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from mtt_brian import plotting
from mtt_brian.engines.exact.trace import MembraneTrace, membrane_trace
from mtt_brian.neuron import IF
from mtt_brian.plotting import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of annotations that stand beside a point.
_POINTS: dict[str, Any] = {"textcoords": "offset points"}


@dataclass(frozen=True, eq=False)
class Shown:
    """What the figure shows; pairs are (time-stepped, event-driven).

    Attributes:
        rule: of the neuron.
        arrivals: when something arrives at the neuron, in seconds [K].
        jumps: of its membrane [K].
        edges: of the time steps that are shown, in seconds.
        readouts: of the network, [classes].
        label: the right class.
        image: events per pixel [H, W].
        accuracies: by title of the network.
    """

    rule: IF
    arrivals: tuple[np.ndarray, np.ndarray]
    jumps: np.ndarray
    edges: np.ndarray
    readouts: tuple[np.ndarray, ...]
    label: int
    image: np.ndarray
    accuracies: Mapping[str, tuple[float, float]]


def image_of(recording: np.ndarray, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Events per pixel [H, W] of the first third of a recording, in which the camera moves one way."""
    _, height, width = sensor_size
    image = np.zeros((height, width))
    first = recording[recording["t"] <= recording["t"][-1] / 3]
    np.add.at(image, (first["y"], first["x"]), 1)
    return image


@dataclass(frozen=True)
class _Look:
    """Colours of a page.

    Attributes:
        ink: text and axes.
        paper: behind everything.
        pale: what stands in the background.
        grey: what is of less interest.
        colors: time-stepped, event-driven.
    """

    ink: str
    paper: str
    pale: str
    grey: str
    colors: tuple[str, str]


_LIGHT = _Look("#1a1a1a", "#ffffff", "#eeeeee", "#b0b0b0", (COLORS[0], COLORS[5]))
_DARK = _Look("#e6e6e6", "#0d1117", "#222933", "#6b7480", (COLORS[4], COLORS[1]))


def draw(path: Path, shown: Shown, dark: bool) -> None:
    """Write the figure, for a light page or a dark one."""
    look = _DARK if dark else _LIGHT
    style: Any = {
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), look.ink),
        **dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), look.paper),
        **{"font.size": 11, "axes.titlesize": 13, "axes.labelsize": 11, "xtick.labelsize": 10},
        **{"axes.spines.left": False, "xtick.major.size": 0, "axes.titleweight": "bold"},
    }
    with plotting.figure(path, (6.4, 7.2)) as figure, matplotlib.rc_context(style):
        figure.set_facecolor(look.paper)
        rows = figure.add_gridspec(5, 2, height_ratios=[0.7, 0.55, 1.5, 0.95, 1.15], hspace=0.06)
        _recording(figure.add_subplot(rows[0, :]), shown, look)
        for side in range(2):
            _input(figure.add_subplot(rows[1, side]), shown, side, look)
            _membrane(figure.add_subplot(rows[2, side]), shown, side, look)
            _prediction(figure.add_subplot(rows[3, side]), shown, side, look)
        _accuracies(figure.add_subplot(rows[4, :]), shown, look)
        for ax in figure.axes:
            ax.set_yticks([])


def _recording(ax: Axes, shown: Shown, look: _Look) -> None:
    """The recording as an image between the titles of the two columns."""
    colors = LinearSegmentedColormap.from_list("events", [look.paper, look.ink])
    ax.imshow(shown.image, cmap=colors, extent=(-1, 1, -1, 1), vmax=0.7 * shown.image.max())
    ax.annotate(f"a “{shown.label}”, the same weights", (0, -1), xytext=(0, -12), ha="center", fontsize=10, **_POINTS)
    ax.set_xlim(-9, 9)
    ax.set_ylim(-1.05, 1.05)
    ax.set_axis_off()
    for side, (x, title) in enumerate(((-5, "with\ntime steps"), (5, "event\nby event"))):
        ax.annotate(title, (x, 0), ha="center", va="center", color=look.colors[side], fontweight="bold", fontsize=16)
        toward = 1 if x > 0 else -1
        ax.annotate(
            "", (2.6 * toward, 0), (1.2 * toward, 0), arrowprops={"arrowstyle": "-|>", "color": look.ink, "lw": 1.5}
        )


def _input(ax: Axes, shown: Shown, side: int, look: _Look) -> None:
    """Arrivals as lines, up where the weight is positive; on the left each with its way to the end of its step."""
    _steps(ax, shown, side, look)
    own, times = 1e3 * shown.arrivals[1], 1e3 * shown.arrivals[side]
    within = (own > 1e3 * shown.edges[0]) & (own <= 1e3 * shown.edges[-1])
    for begin, t, jump in zip(own[within], times[within], shown.jumps[within], strict=True):
        tip = 1 if jump > 0 else -1
        if side == 0:
            _line(ax, (begin, begin), (0, tip), look.grey, 1.2)
            _line(ax, (begin, t), (0.55 * tip, 0.55 * tip), look.grey, 1.2)
        _line(ax, (t, t), (0, tip), look.ink, 2)
    ax.axhline(0, color=look.ink, linewidth=0.8)
    ax.set_ylim(-1.2, 1.2)
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(axis="x", labelbottom=False)
    if side == 0:
        ax.set_ylabel("input\nevents")


def _line(ax: Axes, x: tuple[float, float], y: tuple[float, float], color: str, width: float) -> None:
    ax.plot(x, y, color=color, linewidth=width, linestyle="-", marker="", solid_capstyle="butt")


def _membrane(ax: Axes, shown: Shown, side: int, look: _Look) -> None:
    """The membrane of the neuron, its threshold, its lower bound and its spikes."""
    _steps(ax, shown, side, look)
    for bound, name, above in ((shown.rule.threshold, "threshold", 3), (shown.rule.lower_bound, "lower bound", -13)):
        value = float(np.asarray(bound))
        ax.axhline(value, color=look.ink, linewidth=0.9, linestyle="--")
        if side == 0:
            ax.annotate(name, (0.02, value), xycoords=("axes fraction", "data"), xytext=(0, above), **_POINTS)
    trace = membrane_trace(shown.rule, shown.arrivals[side], shown.jumps, float(shown.edges[-1]) + 0.01)
    ax.plot(1e3 * trace.t, trace.v, color=look.colors[side], linewidth=2.2, linestyle="-", marker="")
    ax.plot(1e3 * trace.spike_t, trace.spike_v, linestyle="none", marker="^", markersize=10, color=look.colors[side])
    spikes = int(
        trace.spike_n[(trace.spike_t > shown.edges[0] + 1e-6) & (trace.spike_t < shown.edges[-1] + 1e-3)].sum()
    )
    ax.annotate(
        f"{spikes} spike{'s' * (spikes != 1)}",
        (0.98, 0.04),
        xycoords="axes fraction",
        ha="right",
        color=look.colors[side],
        fontweight="bold",
    )
    if side == 1:
        ax.annotate(
            "inhibition is lost",
            (1e3 * _first_lost(shown, trace), shown.rule.lower_bound),
            xytext=(12, -20),
            color=look.colors[side],
            arrowprops={"arrowstyle": "-|>", "color": look.colors[side], "shrinkA": 0, "shrinkB": 1},
            **_POINTS,
        )
    ax.set_ylim(-1.8, 2.4)
    ax.set_xlabel("time (ms)", labelpad=1)
    if side == 0:
        ax.set_ylabel("membrane of\none neuron")


def _first_lost(shown: Shown, trace: MembraneTrace) -> float:
    """When an arrival would first take the event-driven membrane below its bound, in seconds."""
    for t, jump in zip(shown.arrivals[1], shown.jumps, strict=True):
        before = trace.v[np.searchsorted(trace.t, t) - 1]
        if shown.edges[0] < t and before + jump < shown.rule.lower_bound:
            return float(t)
    raise AssertionError("the window was chosen for such an arrival")


def _steps(ax: Axes, shown: Shown, side: int, look: _Look) -> None:
    """Every second time step in grey, on the left; the same range of time on the right."""
    edges = 1e3 * shown.edges
    ax.set_xlim(edges[0], edges[-1] + 0.03 * (edges[-1] - edges[0]))
    if side == 0:
        for begin, end in zip(edges[0:-1:2], edges[1::2], strict=True):
            ax.axvspan(begin, end, color=look.pale, linewidth=0, zorder=0)


def _prediction(ax: Axes, shown: Shown, side: int, look: _Look) -> None:
    """The readout of every class, and the prediction."""
    readout = shown.readouts[side]
    predicted = int(readout.argmax())
    height = readout - readout.min()
    ax.bar(
        range(len(readout)),
        height,
        color=[look.colors[side] if k == predicted else look.grey for k in range(len(readout))],
    )
    ax.set_xticks(range(len(readout)))
    ax.set_title(
        f"prediction: {predicted} {'✓' if predicted == shown.label else '✗'}", color=look.colors[side], fontsize=16
    )
    if side == 0:
        ax.set_ylabel("readout")


def _accuracies(ax: Axes, shown: Shown, look: _Look) -> None:
    """Two bars for every network, with their numbers."""
    width = 0.38
    for side in range(2):
        places = np.arange(len(shown.accuracies)) + (side - 0.5) * width
        values = [100 * pair[side] for pair in shown.accuracies.values()]
        ax.bar(places, values, 0.94 * width, color=look.colors[side])
        for place, value in zip(places, values, strict=True):
            ax.annotate(
                f"{value:.0f} %", (place, value), xytext=(0, 2), ha="center", fontweight="bold", fontsize=13, **_POINTS
            )
    ax.set_xticks(range(len(shown.accuracies)), list(shown.accuracies), fontsize=12)
    ax.set_ylim(0, 118)
    ax.set_ylabel("accuracy")
