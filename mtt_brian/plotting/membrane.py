"""The membrane of one neuron, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.circuit.instants import window
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, NeuronRule
from mtt_brian.plotting.axes import axes, legend
from mtt_brian.plotting.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
            # A crossing at `until` up to rounding is no instant of its own: the arrival acts first, then the test.
            if crossing < until - window(until):
                assert rule.threshold is not None
                threshold = float(rule.threshold)
                points[-1] = (crossing, threshold)
                fire(crossing, threshold, threshold)

    for t, jump in zip(instants[instants <= end].tolist(), total.tolist(), strict=False):
        drift(t)
        v = points[-1][1]
        if rule.threshold is not None and v < rule.threshold and t + _time_to_threshold(rule, v) <= t + window(t):
            v = float(rule.threshold)  # up to rounding
        v += jump
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
    ax = axes(ax)
    ax.plot(1e3 * trace.t, trace.v, color=COLORS[0], linestyle="-", marker="", label="membrane")
    for name, value in (("threshold", rule.threshold), ("lower bound", rule.lower_bound)):
        if value is not None:
            ax.axhline(float(value), color="0.3", linestyle="--" if name == "threshold" else ":", label=name)
    ax.plot(
        1e3 * trace.spike_t, trace.spike_v, linestyle="none", marker="^", markersize=6, color=COLORS[1], label="spike"
    )
    for t, v, n in zip(trace.spike_t, trace.spike_v, trace.spike_n, strict=True):
        if n > 1:
            ax.annotate(f"x{n}", (1e3 * t, v), xytext=(6, 2), textcoords="offset points")
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("membrane potential")
    return legend(ax)


def _check_drawable(rule: NeuronRule) -> None:
    if type(rule) not in (IF, LIF):
        raise InputError(
            f"a membrane trace is drawn for IF and LIF; {type(rule).__name__} has more states (a synaptic current, say)"
        )
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
