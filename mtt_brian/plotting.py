"""Figures as pure functions: arrays in, matplotlib axes out.

Every function draws into ``ax`` and returns it; without one it makes its own through pyplot (so that a notebook shows
it). Functions that draw one line can be called again on the same axes to add another. Colours are Okabe and Ito's,
told apart by colour-blind readers; lines also differ in dash and marker and bars in hatching, for print in grey.
Times come in seconds and are shown in milliseconds; accuracies come as fractions and are shown in per cent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.neuron import IF, LIF, CubaLIF, NeuronRule
from mtt_brian.simulate.result import Result, Spikes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")


def raster(
    spikes: Result | Mapping[str, Spikes],
    *,
    recording: np.ndarray | None = None,
    sizes: Mapping[str, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Spikes of the input and of every layer over time, one band per population, the first on top.

    Bands are equally high, so that ten outputs are as visible as two thousand hidden neurons; within a band neuron 0
    is on top. Several spikes at once are one dot.

    Args:
        spikes: a result of a run with ``record="all"``, or spikes by population name in the order of the bands.
        recording: with a result, the events that were run (structured array t, x, y, p): the band of the input.
        sizes: with a mapping, neurons by population (default: the largest index that spiked, plus one).
        ax: axes to draw into.

    Returns:
        The axes; band k spans [k, k + 1], one line artist per band, labelled with its population.

    Raises:
        InputError: if there is no population to draw.
    """
    if isinstance(spikes, Result):
        circuit = spikes.circuit
        sizes = {circuit.input: circuit.input_size, **{p.name: p.size for p in circuit.populations}}
        known = dict(spikes.spikes)
        if recording is not None:
            known[circuit.input] = _input_spikes(recording, circuit.input_shape)
        trains = {name: known[name] for name in sizes if name in known}
    else:
        trains = dict(spikes)
    if not trains:
        raise InputError("a raster needs the spikes of at least one population")
    ax = _axes(ax)
    labels = []
    for band, (name, train) in enumerate(trains.items()):
        size = (sizes or {}).get(name, int(np.max(train.i, initial=0)) + 1)
        ax.plot(
            1e3 * np.asarray(train.t),
            band + (np.asarray(train.i) + 0.5) / size,
            linestyle="none",
            marker="o",
            markeredgewidth=0,
            markersize=1 if len(train.t) > 1000 else 2.5,
            color=COLORS[band % len(COLORS)],
            label=name,
            rasterized=True,  # tens of thousands of dots would make a vector file unusable
        )
        labels.append(f"{name}\n({size})")
    for edge in range(1, len(trains)):
        ax.axhline(edge, color="0.7", linewidth=0.8)
    ax.set_ylim(len(trains), 0)
    ax.set_yticks(np.arange(len(trains)) + 0.5, labels)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("neurons by population")
    return ax


def readout(times: ArrayLike, values: ArrayLike, *, label: int | None = None, ax: Axes | None = None) -> Axes:
    """The readout of each class as it grows, event by event.

    Args:
        times: seconds [K], rising (`evaluate.readout_trace`).
        values: [K, classes], constant from each time to the next.
        label: the right class, drawn on top in colour; the others are grey. None: every class in its own style.
        ax: axes to draw into.
    """
    times, values = 1e3 * np.asarray(times), np.asarray(values)
    ax = _axes(ax)
    for k in range(values.shape[1]):
        style: dict[str, Any] = {"label": f"class {k}"}
        if label is not None:
            right = k == label
            style |= {
                "color": COLORS[0] if right else "0.6",
                "linewidth": 2.0 if right else 0.8,
                "zorder": 3 if right else 2,
                "linestyle": "-",
                "label": f"class {k} (right)" if right else "_other",
            }
        ax.plot(times, values[:, k], drawstyle="steps-post", marker="", **style)
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("readout")
    ax.legend(fontsize="small")
    return ax


class MembraneTrace(NamedTuple):
    """A membrane potential in closed form, as points to be joined by straight lines.

    Attributes:
        t: seconds [K], not falling; a jump and a reset each add a point at the same time.
        v: potential [K].
        spike_t: seconds [S].
        spike_v: potential just before each reset [S].
        spike_n: spikes fired at once [S].
    """

    t: np.ndarray
    v: np.ndarray
    spike_t: np.ndarray
    spike_v: np.ndarray
    spike_n: np.ndarray


def membrane_trace(
    rule: NeuronRule, times: ArrayLike, jumps: ArrayLike, duration: float | None = None
) -> MembraneTrace:
    """One IF or LIF neuron under given jumps, by the rule of `mtt_brian.neuron`, exact at every instant.

    Args:
        rule: with a threshold, or without (``threshold=None``), and without refractory period; parameters are numbers.
        times: seconds [K], >= 0, in any order; jumps at one time are summed.
        jumps: by how much each arrival moves the membrane [K] (weights times ``rule.gain``).
        duration: end of the trace in seconds; default: the last arrival.

    Raises:
        InputError: for a rule with a synaptic current, a refractory period or one parameter per neuron; for arrivals
            before 0; for lengths that differ.
    """
    _check_drawable(rule)
    times, jumps = np.asarray(times, dtype=np.float64), np.asarray(jumps, dtype=np.float64)
    if times.shape != jumps.shape or times.ndim != 1:
        raise InputError(f"{times.shape} arrival times do not go with {jumps.shape} jumps")
    if np.any(times < 0):
        raise InputError(f"arrivals before time 0 ({times.min()} s) cannot be drawn")
    instants, inverse = np.unique(times, return_inverse=True)
    total = np.bincount(inverse, weights=jumps, minlength=len(instants))
    end = float(duration if duration is not None else instants[-1] if len(instants) else 0.0)

    points: list[tuple[float, float]] = [(0.0, 0.0)]
    spikes: list[tuple[float, float, int]] = []

    def fire(t: float, v: float, threshold: float) -> None:
        many = rule.reset == "subtract" and rule.spikes == "many"
        n = int(np.floor(v / threshold)) if many else 1
        spikes.append((t, v, n))
        points.append((t, v - n * threshold if rule.reset == "subtract" else float(rule.v_reset)))

    def drift(until: float) -> None:
        """From the last point to ``until``, through every crossing strictly before it."""
        while points[-1][0] < until:
            t, v = points[-1]
            crossing = t + _time_to_threshold(rule, v)
            points.extend(_between(rule, t, v, min(crossing, until)))
            if crossing < until:  # at `until` itself the arrival acts first, then the test
                assert rule.threshold is not None
                threshold = float(rule.threshold)
                points[-1] = (crossing, threshold)
                fire(crossing, threshold, threshold)

    for t, jump in zip(instants[instants <= end].tolist(), total.tolist(), strict=False):
        drift(t)
        v = points[-1][1] + jump
        if rule.lower_bound is not None:
            v = max(v, float(rule.lower_bound))
        points.append((t, v))
        if rule.threshold is not None and v >= rule.threshold:
            fire(t, v, float(rule.threshold))
    drift(end)
    t_v = np.asarray(points)
    spike = np.asarray(spikes, dtype=np.float64).reshape(-1, 3)
    return MembraneTrace(t_v[:, 0], t_v[:, 1], spike[:, 0], spike[:, 1], spike[:, 2].astype(np.int64))


def membrane(
    rule: NeuronRule, times: ArrayLike, jumps: ArrayLike, duration: float | None = None, *, ax: Axes | None = None
) -> Axes:
    """The membrane of one neuron with its threshold, lower bound and spikes; arguments as for `membrane_trace`.

    Spikes are triangles at the potential that fired them; ``x2`` and up where several are fired at once.
    """
    trace = membrane_trace(rule, times, jumps, duration)
    ax = _axes(ax)
    ax.plot(1e3 * trace.t, trace.v, color=COLORS[0], linestyle="-", marker="", label="membrane")
    for name, value in (("threshold", rule.threshold), ("lower bound", rule.lower_bound)):
        if value is not None:
            ax.axhline(float(value), color="0.3", linestyle="--" if name == "threshold" else ":", label=name)
    ax.plot(
        1e3 * trace.spike_t, trace.spike_v, linestyle="none", marker="^", markersize=8, color=COLORS[1], label="spike"
    )
    for t, v, n in zip(trace.spike_t, trace.spike_v, trace.spike_n, strict=True):
        if n > 1:
            ax.annotate(f"x{n}", (1e3 * t, v), xytext=(6, 2), textcoords="offset points")
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("membrane potential")
    ax.legend(fontsize="small")
    return ax


def accuracy_over_time(
    times: ArrayLike,
    accuracy: ArrayLike,
    *,
    label: str | None = None,
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How early the answer is right: the fraction of right answers if the run were stopped at each time.

    Args:
        times: seconds [K].
        accuracy: fractions [K] (`evaluate.accuracy_over_time`).
        label: of the line.
        chance: accuracy of guessing, drawn as a thin line.
        ax: axes to draw into.
    """
    ax = _axes(ax)
    ax.plot(1e3 * np.asarray(times), np.asarray(accuracy), marker="", label=label)
    if chance is not None:
        ax.axhline(chance, color="0.5", linewidth=0.8, linestyle=":", label="chance")
    ax.set_xlabel("time (ms)")
    _accuracy_axis(ax)
    return _legend(ax)


def time_step_sweep(
    time_steps: Sequence[int],
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
        event_driven: drawn as a horizontal line in a band of one standard error, in the colour of the curve.
        label: of the curve.
        ax: axes to draw into.
    """
    ax = _axes(ax)
    values, errors = np.reshape(np.asarray(accuracy, dtype=np.float64), (-1, 2)).T
    curve = ax.errorbar(np.asarray(time_steps), values, yerr=errors, label=label, capsize=2, markersize=4)
    if event_driven is not None:
        color = curve.lines[0].get_color()
        value, error = event_driven
        ax.axhspan(value - error, value + error, color=color, alpha=0.15, linewidth=0)
        name = "event-driven" if label is None else f"{label}, event-driven"
        ax.axhline(value, color=color, linestyle=curve.lines[0].get_linestyle(), linewidth=1, label=name)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("time steps T")
    _accuracy_axis(ax)
    return _legend(ax)


def accuracy_bars(
    groups: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], *, ax: Axes | None = None
) -> Axes:
    """Accuracies side by side, with one standard error as error bar.

    Args:
        groups: names along the axis, such as ``("T = 10", "event-driven")``.
        series: for each network, one accuracy per group; None leaves a gap.
        ax: axes to draw into.

    Raises:
        InputError: if a series does not have one entry per group.
    """
    ax = _axes(ax)
    width = 0.8 / max(len(series), 1)
    for k, (name, estimates) in enumerate(series.items()):
        if len(estimates) != len(groups):
            raise InputError(f"{name!r} has {len(estimates)} accuracies for {len(groups)} groups")
        at = [g for g, estimate in enumerate(estimates) if estimate is not None]
        values, errors = np.reshape([e for e in estimates if e is not None], (-1, 2)).T
        ax.bar(
            np.asarray(at) + (k - (len(series) - 1) / 2) * width,
            values,
            width,
            yerr=errors,
            capsize=2,
            label=name,
            color=COLORS[k % len(COLORS)],
            hatch=_HATCHES[k % len(_HATCHES)],
            edgecolor="white",
            error_kw={"ecolor": "0.2", "elinewidth": 1},
        )
    ax.set_xticks(range(len(groups)), groups)
    _accuracy_axis(ax)
    # Full bars leave no empty corner: the legend stands above them.
    ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return ax


def training_curve(metrics: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Loss and accuracies of a training run by epoch.

    Args:
        metrics: one mapping per epoch with ``epoch`` (default: its position) and any of ``*loss`` and ``*accuracy``,
            the lines of ``metrics.jsonl``. Entries that are missing or None leave gaps; other keys are not drawn.
        ax: axes to draw into: accuracies on its own axis; the losses go to a second y axis of the same figure.

    Returns:
        The axes with the accuracies.
    """
    ax = _axes(ax)
    epochs = [row.get("epoch", k) for k, row in enumerate(metrics)]
    names = dict.fromkeys(key for row in metrics for key in row)
    accuracies = [name for name in names if name.endswith("accuracy")]
    losses = [name for name in names if name.endswith("loss")]

    def column(name: str) -> np.ndarray:
        return np.asarray([np.nan if row.get(name) is None else row[name] for row in metrics], dtype=np.float64)

    for k, name in enumerate(accuracies):
        ax.plot(
            epochs, column(name), color=COLORS[k], linestyle="-", marker=_MARKERS[k], label=_words(name), markersize=3
        )
    _accuracy_axis(ax)
    ax.set_xlabel("epoch")
    if losses:
        right = ax.twinx()
        for k, name in enumerate(losses):
            color = COLORS[(len(accuracies) + k) % len(COLORS)]
            right.plot(epochs, column(name), color=color, linestyle="--", marker="", label=_words(name))
        right.set_ylabel("loss (dashed)")
        right.set_ylim(bottom=0)
        handles = [*ax.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        ax.legend(handles=handles, fontsize="small", loc="center right")
        return ax
    return _legend(ax)


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
    ax = _axes(ax)
    options: dict[str, Any] = {}
    if style is not None:
        color, dash = style
        options = {
            "color": COLORS[color],
            "linestyle": _DASHES[dash],
            "marker": _MARKERS[dash],
        }
    values, errors = np.reshape(np.asarray(accuracy, dtype=np.float64), (-1, 2)).T
    ax.errorbar(range(len(levels)), values, yerr=errors, label=label, capsize=2, markersize=4, **options)
    ax.set_xticks(range(len(levels)), [level if isinstance(level, str) else f"{level:g}" for level in levels])
    _accuracy_axis(ax)
    return _legend(ax)


def change_matrix(names: Sequence[str], accuracy: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Accuracies after one change (on the diagonal) and after two at once, as a table in colours.

    Args:
        names: of the changes [K].
        accuracy: fractions [K, K]; NaN where two changes cannot be made together, and the cell stays empty.
        ax: axes to draw into.
    """
    ax = _axes(ax)
    accuracy = np.asarray(accuracy, dtype=np.float64)
    ax.imshow(accuracy, vmin=0, vmax=1, cmap="cividis")
    for (row, column), value in np.ndenumerate(accuracy):
        if np.isfinite(value):
            color = "black" if value > 0.6 else "white"
            ax.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color=color, fontsize="small")
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_yticks(range(len(names)), names)
    return ax


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
    """
    ax = _axes(ax)
    losses = np.asarray(losses, dtype=np.float64)
    style: dict[str, Any] = {"color": COLORS[color], "linestyle": _DASHES[color], "marker": ""}
    ax.plot(offsets, losses.T, alpha=0.25, linewidth=0.8, label="_directions", **style)
    ax.plot(offsets, losses.mean(0), label=label, **style)
    ax.set_xlabel("distance along a filter-normalised direction")
    ax.set_ylabel("cross entropy")
    ax.set_yscale("log")
    return _legend(ax)


def loss_surface(offsets: ArrayLike, losses: ArrayLike, levels: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """The loss over two random directions as contour lines, the weights in the middle.

    Args:
        offsets: along both directions [K].
        losses: [K, K], the first direction upwards.
        levels: losses > 0 of the lines, rising; the same for surfaces that are compared.
        ax: axes to draw into.
    """
    from matplotlib.colors import LogNorm

    ax = _axes(ax)
    norm = LogNorm(float(np.min(levels)), float(np.max(levels)))
    lines = ax.contour(offsets, offsets, losses, levels=levels, cmap="viridis", norm=norm)
    ax.clabel(lines, fontsize="x-small", fmt="%.2g")
    ax.plot(0, 0, marker="+", color="black")
    ax.set_aspect("equal")
    ax.set_xlabel("second direction")
    ax.set_ylabel("first direction")
    return ax


def event_driven_limit(
    names: Sequence[str],
    accuracy: Sequence[Estimate],
    *,
    label: str | None = None,
    across: Axes | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Event-driven accuracies in a narrow panel of their own, to stand right of a `time_step_sweep`.

    Called once per network in the order of the curves, so that colours and markers are theirs.

    Args:
        names: conventions, such as ("sum", "fifo") [K].
        accuracy: under each of them, with its standard error as error bar.
        label: of the network.
        across: axes of the sweep, sharing the accuracy axis; a thin line leads from each marker through it, dotted from
            the second convention on.
        ax: axes to draw into.
    """
    ax = _axes(ax)
    values, errors = np.reshape(np.asarray(accuracy, dtype=np.float64), (-1, 2)).T
    beside = 0.15 * len(ax.containers)
    points = ax.errorbar(
        np.arange(len(names)) + beside, values, yerr=errors, label=label, capsize=2, markersize=5, linestyle="none"
    )
    if across is not None:
        for k, value in enumerate(values):
            color = points.lines[0].get_color()
            across.axhline(value, color=color, linewidth=0.8, linestyle=":" if k else "-", alpha=0.6)
    ax.set_xticks(np.arange(len(names)) + beside / 2, names)
    ax.set_xlim(-0.4, len(names) - 0.6 + beside)
    ax.set_xlabel("event-driven")
    _accuracy_axis(ax)
    ax.set_ylabel("")
    return ax


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
    """Accuracy against what was spent until the decision, one point per threshold.

    Args:
        cost: mean cost at each threshold [K].
        accuracy: at each threshold, with its standard error as a band.
        name: of the cost axis.
        label: of the line.
        style: numbers of the colour and of the dash.
        fixed: cost and accuracy [L] of stopping every recording after the same time, a thin line in the same style.
        ax: axes to draw into.
    """
    from matplotlib.ticker import EngFormatter

    ax = _axes(ax)
    color, dash = COLORS[style[0] % len(COLORS)], _DASHES[style[1] % len(_DASHES)]
    values, errors = np.reshape(np.asarray(accuracy, dtype=np.float64), (-1, 2)).T
    ax.fill_between(np.asarray(cost), values - errors, values + errors, color=color, alpha=0.15, linewidth=0)
    ax.plot(cost, values, color=color, linestyle=dash, marker="", linewidth=1.8, label=label)
    if fixed is not None:
        ax.plot(*fixed, color=color, linestyle=dash, marker="", linewidth=0.7)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    ax.set_xlabel(name)
    _accuracy_axis(ax)
    return _legend(ax)


def _axes(ax: Axes | None) -> Axes:
    """``ax``, or new axes; fresh ones get line styles that differ in more than colour."""
    from cycler import cycler

    if ax is None:
        import matplotlib.pyplot as plt  # here, so that importing this module picks no backend

        ax = plt.subplots(layout="constrained")[1]
    if not ax.has_data():
        ax.set_prop_cycle(cycler(color=COLORS) + cycler(linestyle=_DASHES) + cycler(marker=_MARKERS))
    return ax


def _accuracy_axis(ax: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_ylim(0, 1.02)  # a line at 100 % stays visible
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_ylabel("accuracy")
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)


def _legend(ax: Axes) -> Axes:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small")
    return ax


def _input_spikes(recording: np.ndarray, shape: tuple[int, ...]) -> Spikes:
    """One spike per event; an input of shape (N,) is addressed by x alone."""
    coordinates = [recording[field] for field in ("p", "y", "x")[-len(shape) :]]
    return Spikes(
        1e-6 * recording["t"], np.ravel_multi_index(coordinates, shape), np.ones(len(recording), dtype=np.int64)
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _check_drawable(rule: NeuronRule) -> None:
    if isinstance(rule, CubaLIF):
        raise InputError("a membrane trace is drawn for IF and LIF; CubaLIF has a synaptic current of its own")
    if np.any(np.asarray(rule.refractory) > 0):
        raise InputError("a membrane trace is drawn for neurons without refractory period")
    for name, value in vars(rule).items():
        if np.ndim(value) > 0:
            raise InputError(f"a membrane trace is drawn for one neuron; {name} has one value per neuron")


def _target(rule: LIF) -> float:
    """Where the membrane goes when nothing arrives."""
    return float(rule.v_leak + rule.r * rule.bias)


def _time_to_threshold(rule: IF, v: float) -> float:
    """Seconds until drift alone carries ``v`` from below up to the threshold; inf if it never does."""
    # A neuron left at or above its threshold by spikes="one" stays silent until its next arrival.
    if rule.threshold is None or v >= rule.threshold:
        return float("inf")
    threshold = float(rule.threshold)
    if isinstance(rule, LIF):
        target = _target(rule)
        return float(rule.tau * np.log((target - v) / (target - threshold))) if target > threshold else float("inf")
    speed = float(rule.r * rule.bias)
    return (threshold - v) / speed if speed > 0 else float("inf")


def _between(rule: IF, t: float, v: float, until: float) -> list[tuple[float, float]]:
    """Points of the free membrane in (t, until]: one for a straight line, several for an exponential."""
    if not isinstance(rule, LIF):
        return [(until, v + float(rule.r * rule.bias) * (until - t))]
    target, tau = _target(rule), float(rule.tau)
    # Twenty points per time constant look smooth at any zoom a page allows; beyond ten of them the line is flat.
    steps = int(np.clip(np.ceil(20 * (until - t) / tau), 1, 200))
    elapsed = np.linspace(0, until - t, steps + 1)[1:]
    return list(zip((t + elapsed).tolist(), (target + (v - target) * np.exp(-elapsed / tau)).tolist(), strict=True))
