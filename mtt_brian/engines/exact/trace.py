"""The membrane of one neuron over a run: the exact engine's spikes, joined by the closed forms between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Dense
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.exact.engine import ExactEngine
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, NeuronRule

#: Points per time constant, and at most between two instants, of the curve that stands for an exponential.
_POINTS_PER_TAU, _MOST_POINTS = 20, 200


class MembraneTrace(NamedTuple):
    """The membrane potential of one neuron, as points to be joined by straight lines.

    Attributes:
        t: seconds [K], not falling; a jump and a reset each add a point at the same time.
        v: potential [K].
        spike_t: seconds [S].
        spike_v: potential just before each reset [S].
        spike_n: spikes fired at once [S].
        rule: of the neuron.
    """

    t: np.ndarray
    v: np.ndarray
    spike_t: np.ndarray
    spike_v: np.ndarray
    spike_n: np.ndarray
    rule: IF


def membrane_trace(
    rule: NeuronRule, times: ArrayLike, jumps: ArrayLike, duration: float | None = None
) -> MembraneTrace:
    """One IF or LIF neuron with given input, run by the exact engine.

    Args:
        rule: with a threshold, or without (``threshold=None``), and without refractory period; parameters are numbers.
        times: arrivals in seconds [K], >= 0, in any order; jumps at one time are summed.
        jumps: the change of the membrane at each arrival [K] (weights times ``rule.gain``).
        duration: end of the trace in seconds; default: the last arrival.

    Raises:
        InputError: for a rule with other states than the membrane, a refractory period or one parameter per neuron; for
            arrivals before 0; for lengths that differ.
    """
    rule = _checked(rule)
    times, jumps = np.asarray(times, dtype=np.float64), np.asarray(jumps, dtype=np.float64)
    if times.shape != jumps.shape or times.ndim != 1:
        raise InputError(f"{times.shape} arrival times do not go with {jumps.shape} jumps")
    if np.any(times < 0):
        raise InputError(f"arrivals before time 0 ({times.min()} s) are not part of a trace")
    instants, inverse = np.unique(times, return_inverse=True)
    total = np.bincount(inverse, weights=jumps, minlength=len(instants))
    end = float(duration if duration is not None else instants[-1] if len(instants) else 0.0)
    arrivals = {t: jump for t, jump in zip(instants.tolist(), total.tolist(), strict=True) if t <= end}
    fired = _spikes(rule, arrivals, end)

    points: list[tuple[float, float]] = [(0.0, 0.0)]
    spikes: list[tuple[float, float, int]] = []
    for t in sorted({*arrivals, *fired}):
        points += _drift(rule, *points[-1], t)
        if t in arrivals:
            v = points[-1][1] + arrivals[t]
            points.append((t, v if rule.lower_bound is None else max(v, float(rule.lower_bound))))
        if t in fired:
            assert rule.threshold is not None
            threshold, n = float(rule.threshold), fired[t]
            if t not in arrivals:
                points[-1] = (t, threshold)  # a crossing; the closed form gives the threshold up to rounding
            v = points[-1][1]
            spikes.append((t, v, n))
            points.append((t, v - n * threshold if rule.reset == "subtract" else float(rule.v_reset)))
    points += _drift(rule, *points[-1], end)
    t_v = np.asarray(points)
    spike = np.asarray(spikes, dtype=np.float64).reshape(-1, 3)
    return MembraneTrace(t_v[:, 0], t_v[:, 1], spike[:, 0], spike[:, 1], spike[:, 2].astype(np.int64), rule)


def _checked(rule: NeuronRule) -> IF:
    if not isinstance(rule, IF) or type(rule) not in (IF, LIF):
        raise InputError(
            f"a membrane trace is made for IF and LIF; {type(rule).__name__} has more states (a synaptic current, say)"
        )
    if np.any(np.asarray(rule.refractory) > 0):
        raise InputError("a membrane trace is made for neurons without refractory period")
    for name, value in vars(rule).items():
        if np.ndim(value) > 0:
            raise InputError(f"a membrane trace is made for one neuron; {name} has one value per neuron")
    return rule


def _spikes(rule: IF, arrivals: dict[float, float], end: float) -> dict[float, int]:
    """Spikes by time: the exact engine on a neuron with one input for each arrival."""
    if not rule.fires:
        return {}
    count = len(arrivals)
    weights = np.array([list(arrivals.values()) or [0.0]]) / float(rule.gain)
    circuit = Circuit(
        "input",
        (max(count, 1),),
        (Population("neuron", (1,), rule),),
        (Connection("input", "neuron", (Dense(weights, (max(count, 1),)),), ("weights",), max(count, 1)),),
        "neuron",
    )
    each = np.arange(count)
    train = InputSpikes(np.array(list(arrivals)), each, np.ones(count, np.int64), each, end)
    (result,) = ExactEngine(circuit, order="sum", record="all").run([train])
    spikes = result.spikes["neuron"]
    return dict(zip(spikes.t.tolist(), spikes.n.tolist(), strict=True))


def _drift(rule: IF, t: float, v: float, until: float) -> list[tuple[float, float]]:
    """Points of the membrane in (t, until] without arrivals: one for a straight line, several for an exponential."""
    if until <= t:
        return []
    if not isinstance(rule, LIF):
        return [(until, v + float(rule.r * rule.bias) * (until - t))]
    rest, tau = float(rule.v_leak + rule.r * rule.bias), float(rule.tau)
    steps = int(np.clip(np.ceil(_POINTS_PER_TAU * (until - t) / tau), 1, _MOST_POINTS))
    elapsed = np.linspace(0, until - t, steps + 1)[1:]
    points = list(zip((t + elapsed).tolist(), (rest + (v - rest) * np.exp(-elapsed / tau)).tolist(), strict=True))
    return [*points[:-1], (until, points[-1][1])]
