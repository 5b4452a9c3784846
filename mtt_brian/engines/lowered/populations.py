"""One population as arrays: its update groups and parameters.

An *update group* is the set of neurons that an arrival updates together: all channels of a pixel if every arrival
reaches all of them and they share their time constants, a single neuron otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.model import Population
from mtt_brian.engines.lowered.connectivity import Layout, LoweredConnection
from mtt_brian.engines.lowered.linear_rules import LinearRule, linear_rule
from mtt_brian.engines.lowered.rules import (
    CURRENT,
    DRIFT,
    LEAK,
    LINE,
    LINEAR,
    ONE,
    OWN,
    STATIC,
    Dynamics,
    dynamics,
    reset_code,
)
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF


class LoweredPopulation(NamedTuple):
    """One population as arrays. Its neurons are numbered channels last.

    Attributes:
        rule: its rule.
        layout: its channels and pixels.
        kind, reset: codes of the dynamics and of what a neuron at threshold does.
        group_size: neurons per update group.
        marked: see `LoweredCircuit.marked`.
        gain: of every channel, if it is multiplied into the weights of all connections into the population; else None.
        parameters: by their names in `LoweredCircuit`: one number, one per channel, or one per neuron.
        start: value at time 0 of the state in which the jumps arrive, float64 [neurons].
        linear: its linear systems; None for other kinds.
    """

    rule: IF
    layout: Layout
    kind: int
    reset: int
    group_size: int
    marked: bool
    gain: np.ndarray | None
    parameters: dict[str, np.ndarray]
    start: np.ndarray
    linear: LinearRule | None

    @property
    def size(self) -> int:
        """Number of neurons."""
        return self.layout.channels * self.layout.pixels

    @property
    def states(self) -> int:
        """States of a neuron that is a linear system; 1 for other kinds."""
        return 1 if self.linear is None else self.linear.states


def lower_input(size: int) -> LoweredPopulation:
    """The input as a population whose neurons never fire on their own."""
    return lower_population(Population("input", (size,), IF(threshold=None)), Layout(size, 1, False), (), False)


def lower_population(
    population: Population, layout: Layout, incoming: Sequence[LoweredConnection], one_spike: bool
) -> LoweredPopulation:
    """A population as arrays.

    Args:
        population: the population.
        layout: its channels and pixels.
        incoming: the connections into it.
        one_spike: whether a neuron fires at most one spike per arrival whatever its rule allows.

    Raises:
        InputError: for a rule whose linear systems cannot be run.
    """
    rule, linear = population.rule, linear_rule(population)
    moves = dynamics(rule)
    if rule.upper_bound is not None and (moves.kind != STATIC or np.any(rule.refractory)):
        raise InputError(
            f"population {population.name!r} has an upper_bound, which needs an IF without bias and refractory period"
        )
    by_pixel = {
        name: np.broadcast_to(value, population.shape).ravel()[layout.flat].reshape(layout.pixels, layout.channels)
        for name, value in _parameters(rule, moves).items()
    }
    shared = _shares_updates(rule, moves.kind, by_pixel, layout, incoming)
    reset = reset_code(rule, one_spike)
    return LoweredPopulation(
        rule=rule,
        layout=layout,
        kind=moves.kind,
        reset=OWN if linear is not None and linear.resets else reset,
        group_size=layout.channels if shared else 1,
        marked=shared and reset == ONE and not all(connection.without_zeros for connection in incoming),
        gain=by_pixel["gain"][0] if shared and np.any(by_pixel["gain"][0] != 1) else None,
        parameters=_stored_once(by_pixel, shared),
        start=np.broadcast_to(np.asarray(moves.start, dtype=np.float64), population.shape).ravel()[layout.flat],
        linear=linear,
    )


def _parameters(rule: IF, moves: Dynamics) -> dict[str, np.ndarray]:
    """Parameters by their names in `LoweredCircuit`, numbers or in the population's shape."""
    values = {
        "threshold": np.inf if rule.threshold is None else rule.threshold,
        "lower": -np.inf if rule.lower_bound is None else rule.lower_bound,
        "upper": np.inf if rule.upper_bound is None else rule.upper_bound,
        "v_reset": rule.v_reset,
        "rest": moves.rest,
        "tau": moves.tau,
        "tau_syn": moves.tau_syn,
        "r": moves.r,
        "peak": moves.peak,
        "gain": moves.gain,
        "dead_time": rule.refractory,
    }
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}


def _shares_updates(
    rule: IF,
    kind: int,
    by_pixel: dict[str, np.ndarray],
    layout: Layout,
    incoming: Sequence[LoweredConnection],
) -> bool:
    """Whether all channels of a pixel can be updated together without changing any result."""
    lower, rest, threshold = by_pixel["lower"], by_pixel["rest"], by_pixel["threshold"]
    # The bound acts on a neuron at its own next arrival, so it matters whether an arrival reaches one channel of a
    # pixel and not its neighbour. (The same holds for a neuron at its threshold: see `LoweredCircuit.marked`.)
    separate = (
        bool(np.any(lower > np.minimum(0, by_pixel["v_reset"])))
        or (kind == LEAK and bool(np.any((rest < lower) | (rest >= threshold))))
        or (kind in (DRIFT, CURRENT) and rule.lower_bound is not None)
    )
    return (
        layout.channels > 1
        and kind not in (LINEAR, LINE)
        and bool(incoming)
        and all(connection.full and connection.channel_stride == layout.channels for connection in incoming)
        and not rule.crosses
        and not np.any(rule.refractory)
        and all(_is_uniform(by_pixel[name]) for name in ("tau", "tau_syn"))
        and _is_same_everywhere(by_pixel["gain"])
        and (not separate or all(connection.without_zeros for connection in incoming))
    )


def _stored_once(by_pixel: dict[str, np.ndarray], shared: bool) -> dict[str, np.ndarray]:
    """The parameters of one update group if they hold for all groups, else those of every neuron."""
    same = _is_same_everywhere if shared else _is_uniform
    if not all(same(value) for value in by_pixel.values()):
        return {name: value.ravel() for name, value in by_pixel.items()}
    return {name: (value[0] if shared else value.ravel()[:1]).copy() for name, value in by_pixel.items()}


def _is_uniform(by_pixel: np.ndarray) -> bool:
    return bool(np.all(by_pixel == by_pixel.flat[0]))


def _is_same_everywhere(by_pixel: np.ndarray) -> bool:
    """Whether every pixel has the values of the first one."""
    return bool(np.all(by_pixel == by_pixel[:1]))
