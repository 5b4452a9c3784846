"""Neuron rules that are run as linear systems: jumps and resets in the form that the kernels read.

Rules without their own kernels (`rules`) are run as their linear systems (`mtt_brian.neuron.IF.linear_systems`).

The last state of a neuron is its potential. If the potential ``row . x`` is a combination of states, it replaces the
state with the largest weight; the change is computed in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.model import Population
from mtt_brian.engines.lowered.matrices import potential_last
from mtt_brian.engines.lowered.rules import is_linear
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LinearSystem

#: Room for the states of a neuron, and for rows of n + 1 numbers.
_STATES, _ROWS = 4, 20


class LinearRule(NamedTuple):
    """The linear systems of a population.

    Attributes:
        systems: the distinct ones, all with the same number of states.
        system: index into ``systems`` of each neuron, int64 [neurons], in C order.
        jump: jump of the states of a system at a spike through weight 1, the potential last, float64 [systems, 4].
        reset: n rows of n + 1: a spike turns the states x into this matrix times (x, 1), float64 [systems, 20].
        resets: whether ``reset`` is used; else the reset of the rule acts on the potential.
    """

    systems: tuple[LinearSystem, ...]
    system: np.ndarray
    jump: np.ndarray
    reset: np.ndarray
    resets: bool

    @property
    def states(self) -> int:
        """States of a neuron."""
        return len(self.systems[0].offset)


def linear_rule(population: Population) -> LinearRule | None:
    """The linear systems of a population; None for a rule with a kernel of its own.

    Raises:
        InputError: names the population, the rule, and the property that cannot be run.
    """
    if not is_linear(population.rule):
        return None
    kind = type(population.rule).__name__
    try:
        systems, index = population.rule.linear_systems(population.shape)
        index = np.broadcast_to(np.asarray(index), population.shape).ravel()
        _check(population.rule, kind, systems, index)
    except InputError as error:
        raise InputError(f"population {population.name!r}: {error}") from None
    jump, reset = np.zeros((len(systems), _STATES)), np.zeros((len(systems), _ROWS))
    for k, system in enumerate(systems):
        to, back = potential_last(system)
        n = len(to)
        jump[k, :n] = _times(to, system.jump)
        if system.reset_keep is not None and system.reset_add is not None:
            kept = [[row[q] * Fraction(float(system.reset_keep[q])) for q in range(n)] for row in to]
            columns = [[back[q][c] for q in range(n)] for c in range(n)]
            rows = [[float(sum(a * b for a, b in zip(row, column, strict=True))) for column in columns] for row in kept]
            added = _times(to, system.reset_add)
            reset[k, : n * (n + 1)] = [x for row, a in zip(rows, added, strict=True) for x in (*row, a)]
    return LinearRule(tuple(systems), index.astype(np.int64), jump, reset, systems[0].resets)


def _times(matrix: Sequence[Sequence[Fraction]], vector: np.ndarray) -> list[float]:
    return [float(sum(a * Fraction(float(b)) for a, b in zip(row, vector, strict=True))) for row in matrix]


def _check(rule: IF, kind: str, systems: Sequence[LinearSystem], index: np.ndarray) -> None:
    if not systems or not all(isinstance(system, LinearSystem) for system in systems):
        raise InputError(f"{kind}.linear_systems() must give at least one LinearSystem")
    if len({len(system.offset) for system in systems}) != 1:
        raise InputError(f"the systems of {kind} must all have the same number of states")
    if index.dtype.kind not in "iu" or np.any((index < 0) | (index >= len(systems))):
        raise InputError(f"{kind}.linear_systems() must number the systems 0..{len(systems) - 1}, as integers")
    if not all(np.any(system.row) for system in systems):
        raise InputError(f"the potential of {kind} needs at least one state: LinearSystem.row is 0")
    stated = {system.resets for system in systems}
    if len(stated) > 1:
        raise InputError(f"all systems of {kind} must state their reset, or none of them")
    for system in {id(s): s for s in systems}.values():
        if system.potential_is_a_state:
            continue
        what = f"the potential of {kind} is a combination of its states (row {system.row.tolist()})"
        if rule.lower_bound is not None:
            raise InputError(f"{what}, for which a lower_bound has no meaning; pass lower_bound=None")
        if np.any(rule.refractory):
            raise InputError(f"{what}, which cannot be held for a refractory period; pass refractory=0")
        if rule.fires and not system.resets:
            raise InputError(f"{what}: state in LinearSystem.reset_keep and reset_add what a spike does with them")
    if rule.fires and stated == {True} and rule.spikes == "many":
        raise InputError(
            f"{kind} has a reset of its own, which spikes='many' cannot be combined with; pass spikes='one'"
        )
    threshold = np.ravel(np.inf if rule.threshold is None else rule.threshold)
    for k, system in enumerate(systems):
        of_rule = threshold if len(threshold) == 1 else threshold[index == k]
        if system.threshold is not None and not np.all(of_rule == system.threshold):
            raise InputError(
                f"LinearSystem.threshold of {kind} is {system.threshold:g}, its own threshold "
                f"{'None' if rule.threshold is None else f'{of_rule[0]:g}'}; they must be the same"
            )
