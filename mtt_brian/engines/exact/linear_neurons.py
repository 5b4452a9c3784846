"""Neurons that are linear systems: their place in the state, their update, crossing and reset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.model import Population
from mtt_brian.engines.exact.crossing_search import first_crossing
from mtt_brian.engines.exact.failures import UNDECIDED, set_failure
from mtt_brian.engines.exact.jit import piece
from mtt_brian.engines.exact.propagation import Scratch, evolve, new_scratch
from mtt_brian.engines.exact.state import State
from mtt_brian.engines.lowered.arrays import LoweredCircuit
from mtt_brian.engines.lowered.linear_rules import linear_rule
from mtt_brian.engines.lowered.linear_sets import LinearSets, linear_sets
from mtt_brian.neuron import LinearSystem


class LinearPart(NamedTuple):
    """What the kernels need for neurons that are linear systems (`LINEAR`).

    State k of n of such a neuron is ``y[jump_offset + its number - stride * k]``; the last one, at ``offset``, is its
    potential.

    Attributes:
        sets: the systems, see `linear_sets`; only read.
        scratch: working memory of one thread.
        ahead: float64 [4], a state at a later time.
        system: int64, index into the systems of every such neuron, as neurons are numbered.
        begin: int64 [P], first neuron of a population in ``system``.
        states: int64 [P], number of states.
        jump, reset: of every system, see `linear_rules.LinearRule`.
        stride: distance of two states of a neuron in ``y``.
    """

    sets: LinearSets
    scratch: Scratch
    ahead: np.ndarray
    system: np.ndarray
    begin: np.ndarray
    states: np.ndarray
    jump: np.ndarray
    reset: np.ndarray
    stride: int


def linear_part(lowered: LoweredCircuit, populations: Sequence[Population]) -> LinearPart | None:
    """The linear systems of a circuit for the kernels; None if there are none.

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
            flat = lowered.flat[lowered.offset[p] : lowered.offset[p + 1]]
            system.append(len(systems) + rule.system[flat])
            systems += rule.systems
    return LinearPart(
        sets=linear_sets(systems, exchange=True),
        scratch=new_scratch(),
        ahead=np.zeros(4),
        system=np.concatenate(system).astype(np.int64),
        begin=np.array(begin),
        states=np.array(states),
        jump=np.concatenate([rule.jump for rule in rules if rule is not None]),
        reset=np.concatenate([rule.reset for rule in rules if rule is not None]),
        stride=len(lowered.start) // max(states),
    )


def for_another_thread(part: LinearPart | None) -> LinearPart | None:
    """The same systems with the working memory of one more thread."""
    return part and part._replace(scratch=new_scratch(), ahead=np.zeros(4))


@piece
def advance_linear(
    net: LoweredCircuit, state: State, linear: LinearPart, p: int, local: int, last: float, t: float
) -> None:
    """Advances a neuron that is a linear system from ``last`` to ``t``; refractory: its potential is held."""
    v = net.offset[p] + local
    system = linear.system[linear.begin[p] + local]
    at, stride = net.jump_offset[p] + local, -linear.stride
    if net.refractory[p] and state.refractory_end[v] > last:
        held, potential = min(state.refractory_end[v], t), state.y[v]
        if held > last:
            evolve(linear.sets, system, state.y, at, stride, held - last, linear.scratch)
        state.y[v] = potential
        last = held
    if t > last:
        evolve(linear.sets, system, state.y, at, stride, t - last, linear.scratch)


@piece
def predict_linear_crossing(
    net: LoweredCircuit, state: State, linear: LinearPart, p: int, local: int, t: float
) -> float:
    """The time at which a neuron that is a linear system reaches its threshold; inf for never."""
    v = net.offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    system = linear.system[linear.begin[p] + local]
    at, stride = net.jump_offset[p] + local, -linear.stride
    if net.refractory[p] and state.refractory_end[v] > t:
        begin, states = state.refractory_end[v], linear.states[p]
        for k in range(states):
            linear.ahead[k] = state.y[at + stride * k]
        evolve(linear.sets, system, linear.ahead, 0, 1, begin - t, linear.scratch)
        linear.ahead[states - 1] = state.y[v]
        wait = first_crossing(linear.sets, system, linear.ahead, 0, 1, net.threshold[q], linear.scratch)
    else:
        begin = t
        wait = first_crossing(linear.sets, system, state.y, at, stride, net.threshold[q], linear.scratch)
    if math.isnan(wait):
        set_failure(state.failure, UNDECIDED, p, np.int64(net.flat[v]), t)
        return np.inf
    return begin + wait


@piece
def reset_linear(net: LoweredCircuit, state: State, linear: LinearPart, p: int, local: int) -> None:
    """Applies the reset that a linear system defines to a neuron that spikes."""
    system, n = linear.system[linear.begin[p] + local], linear.states[p]
    at = net.jump_offset[p] + local
    for k in range(n):
        linear.ahead[k] = state.y[at - linear.stride * k]
    for k in range(n):
        total = linear.reset[system, k * (n + 1) + n]
        for q in range(n):
            total += linear.reset[system, k * (n + 1) + q] * linear.ahead[q]
        state.y[at - linear.stride * k] = total
