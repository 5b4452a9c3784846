"""A neuron given by its linear systems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron.base import LinearSystem, Parameter
from mtt_brian.neuron.if_ import IF


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearNeuron(IF):
    """A neuron that is a linear system of up to four states, such as an IF behind an exponential synapse.

    A rule class computes its systems from named parameters (`IF.linear_systems`). This class holds systems that were
    computed elsewhere, for instance by `LinearSystem.feeding`, and differ from neuron to neuron.

    Threshold, lower bound and refractory period act on the potential as on that of an IF: during the refractory period
    it is held, while the other states continue. The reset acts on the potential, too, unless the systems define their
    own.

    Attributes:
        systems: the distinct systems of the population, all with the same number of states.
        system: index into ``systems`` of each neuron: one number, or integers in the population's shape.
    """

    systems: tuple[LinearSystem, ...]
    system: int | np.ndarray = 0

    def __post_init__(self) -> None:
        if len({len(system.offset) for system in self.systems}) != 1:
            raise InputError("LinearNeuron.systems must be at least one, all with the same number of states")
        if np.any(np.asarray(self.r) != 1) or np.any(np.asarray(self.bias) != 0):
            raise InputError("the resistance and the bias of a LinearNeuron are part of its systems: r = 1, bias = 0")
        if not np.all((np.asarray(self.system) >= 0) & (np.asarray(self.system) < len(self.systems))):
            raise InputError(f"LinearNeuron.system must be 0..{len(self.systems) - 1}, not {np.max(self.system)}")
        super().__post_init__()

    @property
    def gain(self) -> Parameter:
        return np.array([next(iter(system.jump[system.jump != 0]), 0.0) for system in self.systems])[self.system]

    def linear_systems(self, shape: tuple[int, ...]) -> tuple[tuple[LinearSystem, ...], np.ndarray]:
        return self.systems, np.broadcast_to(np.asarray(self.system, dtype=np.int64), shape)
