"""Neurons given by equations, a threshold condition and an affine reset, as Brian2 states them.

The right sides are linear in the states, and in products and elementary functions of them (`Operation`).

Rule at an instant, in rounds until no neuron fires:

1. every neuron that is not refractory and for which the condition ``row . x > level`` (or ``>=``) holds fires once;
   with a refractory period it is refractory from now on;
2. all jumps that arrive together are summed and applied once; a state that is held ignores them;
3. ``x`` of the neurons that have fired becomes ``reset . (x, 1)``.

The arrivals of the first round are those from outside and from delays, before its conditions; those of the others are
the spikes of the round before that have no delay. This is the limit of clock-driven simulation for short time steps,
where every round takes a step.

The condition is a level: a neuron that is above its threshold when its refractory period ends fires at once.

The refractory period lasts for a time, or as long as a condition holds after the reset: it ends at the first moment at
which the condition does not hold, before step 1 of a round, and if it does not hold after the reset, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron.base import LinearSystem
from mtt_brian.neuron.if_ import IF

#: Most states of a neuron.
MOST_STATES = 8
#: Kinds of operations: ``u w``; a sum with coefficients of its own in every parameter set; ``exp(u)``; ``1 / u``;
#: ``tanh(u)``; the integral of ``s ** n exp(s u)`` for s from 0 to 1; the same for n = 0, ``(exp(u) - 1) / u``.
PRODUCT, SUM, EXP, RECIPROCAL, TANH, MOMENT, EXPREL = range(7)
#: Moments that come before an `EXPREL`, each the slope of the next one by ``u``.
MOMENTS = range(20, 0, -1)


class Operation(NamedTuple):
    """How a variable ``z_p`` follows from states and earlier variables: the states are 0..n-1, ``z_p`` is n + p.

    Attributes:
        kind: one of those above.
        left: number of the first argument; of a sum, its row in `Systems.sums`.
        right: number of the other factor of a product; the square of a tanh, which is a later product; n of a moment;
            of an `EXPREL`, which follows the `MOMENTS`, its ``exp(u)``.
    """

    kind: int
    left: int
    right: int = 0


class Systems(NamedTuple):
    """The distinct parameter sets of a population: ``dx/dt = matrix x + offset + product z``, units of seconds.

    ``z`` are the P results of `EquationNeuron.operations`; sum l among them is ``sums[l] . (x, 1, z)``.

    Attributes:
        matrix: float64 [S, n, n].
        offset: float64 [S, n].
        row: weights of the states in the threshold condition, float64 [S, n].
        level: what ``row . x`` is compared with, float64 [S]; inf for neurons that never fire.
        reset: a spike turns x into this times (x, 1), float64 [S, n, n + 1].
        refractory: seconds, float64 [S], >= 0; inf where a condition ends the refractory period.
        product: float64 [S, n, P]; P is 0 for linear equations.
        sums: float64 [S, L, n + 1 + P].
        refractory_row: weights in the refractory condition ``refractory_row . x > refractory_level`` (or ``>=``),
            float64 [S, n].
        refractory_level: float64 [S]. Both are 0 where ``refractory`` is no inf.
    """

    matrix: np.ndarray
    offset: np.ndarray
    row: np.ndarray
    level: np.ndarray
    reset: np.ndarray
    refractory: np.ndarray
    product: np.ndarray
    sums: np.ndarray
    refractory_row: np.ndarray
    refractory_level: np.ndarray


class Changes(NamedTuple):
    """Other parameters from given times on. At such an instant they come first, before arrivals and the condition.

    Attributes:
        time: seconds, rising, float64 [K].
        system: the parameter set from then on of every kind of neurons, int64 [K, kinds].
        kind: of each neuron, int64 [neurons].
    """

    time: np.ndarray
    system: np.ndarray
    kind: np.ndarray


def _none() -> Changes:
    return Changes(np.zeros(0), np.zeros((0, 1), np.int64), np.zeros(1, np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class EquationNeuron(IF):
    """Neurons of one set of equations; their parameters may differ.

    A `Connection` into such a population enters the state with the number of its `port`: a spike through weight w adds
    w to that state.

    Attributes:
        systems: the distinct parameter sets.
        system: which of them each neuron is at first, int64 [neurons].
        changes: which of them it is later.
        states: names of the states.
        strict: whether the condition is ``>``; else ``>=``.
        refractory_strict: the same of the refractory condition.
        held: whether a state is constant, and ignores arrivals, during the refractory period, by state.
        operations: what the equations need besides the states.
    """

    systems: Systems
    system: np.ndarray
    changes: Changes = field(default_factory=_none)
    states: tuple[str, ...]
    strict: bool = True
    refractory_strict: bool = True
    held: tuple[bool, ...]
    operations: tuple[Operation, ...] = ()
    threshold: None = None

    def __post_init__(self) -> None:
        n, count = len(self.states), len(self.systems.matrix)
        if not 1 <= n <= MOST_STATES:
            raise InputError(f"equations must have 1 to {MOST_STATES} state variables, not {n}")
        results, sums = len(self.operations), sum(kind == SUM for kind, _, _ in self.operations)
        shapes = (
            (count, n, n),
            (count, n),
            (count, n),
            (count,),
            (count, n, n + 1),
            (count,),
            (count, n, results),
            (count, sums, n + 1 + results),
            (count, n),
            (count,),
        )
        for name, values, shape in zip(Systems._fields, self.systems, shapes, strict=True):
            if values.shape != shape:
                raise InputError(f"Systems.{name} must have the shape {shape}, not {values.shape}")
            if not np.all(np.isfinite(values)) and name not in ("level", "refractory"):
                raise InputError(f"Systems.{name} must be finite")
        if not all(self._is_possible(p) for p in range(results)):
            raise InputError("EquationNeuron.operations must have arguments that are states, or come before")
        for name in ("level", "refractory"):
            if np.any(np.isnan(getattr(self.systems, name))):
                raise InputError(f"Systems.{name} must be a number or inf, not NaN")
        if np.any(self.systems.refractory < 0):
            raise InputError(f"Systems.refractory must be >= 0 seconds, not {self.systems.refractory.min():g}")
        if len(self.held) != n:
            raise InputError(f"EquationNeuron.held must have one value per state, {n}")
        for system in (self.system, self.changes.system):
            if np.any((system < 0) | (system >= count)):
                raise InputError(f"EquationNeuron.system must be 0..{count - 1}")
        time, later, kind = self.changes
        if later.ndim != 2 or len(later) != len(time) or np.any(np.diff(time) <= 0):
            raise InputError("Changes must have rising times, and one row of parameter sets for each")
        if len(time) and (kind.shape != self.system.shape or np.any((kind < 0) | (kind >= later.shape[1]))):
            raise InputError(f"Changes.kind must be 0..{later.shape[1] - 1} for each of {len(self.system)} neurons")

    def _is_possible(self, p: int) -> bool:
        """Whether the arguments of an operation are known before it."""
        n, (kind, left, right) = len(self.states), self.operations[p]
        if kind == SUM:
            rows = [one.left for one in self.operations if one.kind == SUM]
            return rows == list(range(len(rows))) and not np.any(self.systems.sums[:, left, n + 1 + p :])
        if kind == TANH:
            square = Operation(PRODUCT, n + p, n + p)
            return 0 <= left < n + p and square in self.operations and right == n + self.operations.index(square)
        if kind == EXPREL:
            moments = tuple(Operation(MOMENT, left, k) for k in MOMENTS)
            before = self.operations[max(p - len(moments), 0) : p]
            return before == moments and right >= n and self.operations[right - n] == Operation(EXP, left)
        arguments = (left, right) if kind == PRODUCT else (left,)
        return kind in (PRODUCT, EXP, RECIPROCAL, MOMENT) and all(0 <= k < n + p for k in arguments)

    @property
    def fires(self) -> bool:
        """Whether any neuron has a threshold."""
        return bool(np.any(np.isfinite(self.systems.level)))

    @property
    def crosses(self) -> bool:
        """Whether the neurons have instants of their own: crossings, and ends of refractory periods."""
        return self.fires

    def linear_systems(self, shape: tuple[int, ...]) -> tuple[tuple[LinearSystem, ...], np.ndarray]:
        """Refused: a linear system has neither the threshold condition nor the reset of these neurons."""
        raise InputError("neurons given by equations run on the Brian2 device event_driven, not in this engine")
