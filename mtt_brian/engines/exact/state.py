"""What changes during a run: one `State` per thread, allocated once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from mtt_brian.circuit.model import Population
from mtt_brian.engines.exact.linear import Linear, Scratch, new_scratch, prepare
from mtt_brian.engines.exact.queues import Crossings, Pending, own_lines
from mtt_brian.engines.lowered.arrays import LINE, Network
from mtt_brian.engines.lowered.linear_rules import linear_rule
from mtt_brian.neuron import LinearSystem


class State(NamedTuple):
    """Arrays of one run.

    Attributes:
        y: float64, potentials of all neurons, then currents of those that have one.
        last: float64 [sites], time of the last update, for populations that move on their own (`network.LINE`: the
            time at which the line begins).
        taken, pauses: int64 [N] (empty without `network.LINE`), thresholds taken off the line and refractory periods so
            far.
        free: float64 [N] (empty without refractory periods), end of the refractory period.
        stamp: int64 [sites], the instant at which a site was touched last.
        over: int64 [sites] (empty without marked populations), whether neurons are left at their thresholds there.
        mark: int64 [N] (likewise), the instant of a neuron's last arrival at such a site.
        touched, n_touched: sites touched at this instant, by population.
        fired: int64 [largest population], spikes of a neuron at this instant.
        keys: int64 [largest population], the neurons that fired: C-order index << 32 | index.
        counts: int64 [N], spikes of every neuron so far, in C order within a population.
        fires: int64 [N] (empty without neurons that fire by themselves), instants at which a neuron has fired so far.
        alarm: float64 [4], why a run cannot go on (0: it can; `sweep`), population, neuron (C order), time.
        now: int64 [1], number of the instant.
        cursor: int64 [4], where an interrupted kernel goes on.
    """

    y: np.ndarray
    last: np.ndarray
    taken: np.ndarray
    pauses: np.ndarray
    free: np.ndarray
    stamp: np.ndarray
    over: np.ndarray
    mark: np.ndarray
    touched: np.ndarray
    n_touched: np.ndarray
    fired: np.ndarray
    keys: np.ndarray
    counts: np.ndarray
    fires: np.ndarray
    alarm: np.ndarray
    now: np.ndarray
    cursor: np.ndarray


class LinearPart(NamedTuple):
    """What the neurons need that are linear systems (`network.LINEAR`).

    State k of n of such a neuron is ``y[jump_offset + its number - stride * k]``; the last one, at ``offset``, is its
    potential.

    Attributes:
        sets: the systems, see `linear.prepare`; only read.
        scratch: memory of one thread.
        ahead: float64 [4], a state at a later time.
        system: int64, the system of every such neuron, as neurons are numbered.
        begin: int64 [P], where a population's begin in ``system``.
        states: int64 [P], number of states.
        jump, reset: of every system, see `rules.LinearRule`.
        stride: distance of two states of a neuron in ``y``.
    """

    sets: Linear
    scratch: Scratch
    ahead: np.ndarray
    system: np.ndarray
    begin: np.ndarray
    states: np.ndarray
    jump: np.ndarray
    reset: np.ndarray
    stride: int


class Trace(NamedTuple):
    """Recorded spikes as they come: time, population, C-order index, number; and how many there are."""

    t: np.ndarray
    p: np.ndarray
    i: np.ndarray
    n: np.ndarray
    size: np.ndarray

    @classmethod
    def empty(cls, capacity: int) -> Trace:
        """Room for ``capacity`` records."""
        p, i, n = (np.zeros(capacity, dtype) for dtype in (np.int32, np.int64, np.int64))
        return cls(np.zeros(capacity), p, i, n, own_lines(1))


def new_state(network: Network) -> State:
    """A state for ``network``, to be reset before use."""
    neurons, sites = int(network.offset[-1]), int(network.site_offset[-1])
    sizes = np.diff(network.offset)
    lines = neurons if np.any(network.kind == LINE) else 0
    return State(
        y=network.start.copy(),
        last=np.zeros(sites),
        taken=np.zeros(lines, np.int64),
        pauses=np.zeros(lines, np.int64),
        free=np.zeros(neurons if network.refractory.any() else 0),
        stamp=np.zeros(sites, np.int64),
        over=np.zeros(sites if network.marked.any() else 0, np.int64),
        mark=np.zeros(neurons if network.marked.any() else 0, np.int64),
        touched=np.zeros(sites, np.int64),
        n_touched=own_lines(len(sizes)),
        fired=own_lines(sizes.max()),
        keys=own_lines(sizes.max()),
        counts=np.zeros(neurons, np.int64),
        fires=np.zeros(neurons if network.limited.any() else 0, np.int64),
        alarm=np.zeros(4),
        now=own_lines(1),
        cursor=own_lines(4),
    )


def linear_part(network: Network, populations: Sequence[Population]) -> LinearPart | None:
    """What neurons need that are linear systems; None without such neurons.

    Raises:
        InputError: names the population whose systems cannot be run, and why.
    """
    rules = [linear_rule(population) for population in populations]
    if not any(rules):
        return None
    systems: list[LinearSystem] = []
    system, begin, states = [np.zeros(0, np.int64)], [0], [1]
    for p, rule in enumerate(rules, 1):
        begin.append(sum(map(len, system)))
        states.append(1 if rule is None else rule.states)
        if rule is not None:
            flat = network.flat[network.offset[p] : network.offset[p + 1]]
            system.append(len(systems) + rule.system[flat])
            systems += rule.systems
    return LinearPart(
        sets=prepare(systems, exchange=True),
        scratch=new_scratch(),
        ahead=np.zeros(4),
        system=np.concatenate(system).astype(np.int64),
        begin=np.array(begin),
        states=np.array(states),
        jump=np.concatenate([rule.jump for rule in rules if rule is not None]),
        reset=np.concatenate([rule.reset for rule in rules if rule is not None]),
        stride=len(network.start) // max(states),
    )


def for_another_thread(part: LinearPart | None) -> LinearPart | None:
    """The same with memory of its own."""
    return part and part._replace(scratch=new_scratch(), ahead=np.zeros(4))


def new_crossings(network: Network) -> Crossings:
    """Room for the crossings of ``network``."""
    return Crossings.empty(int(network.offset[-1]) if network.crosses.any() else 0)


def new_pending(network: Network) -> Pending:
    """Room for the spikes that one instant can send into delays."""
    return Pending.empty(int(network.most[1]))


def new_trace(network: Network) -> Trace:
    """Room for the records of one instant."""
    return Trace.empty(int(network.most[0]))


def new_queue(network: Network) -> np.ndarray:
    """Room for the spikes of one event."""
    return np.zeros((int(network.most[2]), 2), np.int64)


_Arrays = TypeVar("_Arrays", Pending, Trace)


def doubled(arrays: _Arrays) -> _Arrays:
    """A copy with room for twice as much."""
    larger = type(arrays).empty(2 * len(arrays.t))
    for new, old in zip(larger, arrays, strict=True):
        new[: len(old)] = old
    return larger


def reset(network: Network, state: State) -> None:
    """Back to time 0. The number of the instant goes on, so that stamps stay valid."""
    state.y[:] = network.start
    state.last[:] = 0
    state.taken[:] = 0
    state.pauses[:] = 0
    state.free[:] = 0
    state.counts[:] = 0
    state.fires[:] = 0
    state.over[:] = 0
    state.alarm[:] = 0
    # A run that ended with an alarm leaves the neurons of its last instant marked.
    state.n_touched[:] = 0
