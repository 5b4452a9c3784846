"""Neuron rules: the behaviour of one spiking (or silent) neuron as plain numbers. One file per rule.

The torch step (``snn``), the exporter and the engines use the same objects, so that they agree. Nothing here imports
torch or Brian2.

Rule at an instant (normative, for every engine and for a time step, where the instant is the step):

1. all jumps that arrive together are summed and applied once, then ``v = max(v, lower_bound)``;
2. if ``v >= threshold``:

   * ``reset="subtract"``, ``spikes="many"``: ``n = floor(v / threshold)`` spikes, ``v -= n * threshold``;
   * ``reset="subtract"``, ``spikes="one"``: one spike, ``v -= threshold`` (``v`` may stay above the threshold,
     silent, until the next arrival);
   * ``reset="zero"``: one spike, ``v = v_reset``.

Units: times in seconds, potentials in the unit of the threshold, spikes are pulses of unit integral.
"""

from typing import TypeAlias

from mtt_brian.neuron.base import (
    RESETS,
    SPIKES_PER_UPDATE,
    LinearSystem,
    Parameter,
    Reset,
    SpikesPerUpdate,
    decay_per_step,
    tau_from_decay,
)
from mtt_brian.neuron.cuba_lif import CubaLIF
from mtt_brian.neuron.equation_neuron import EquationNeuron
from mtt_brian.neuron.if_ import IF
from mtt_brian.neuron.lif import LIF
from mtt_brian.neuron.linear import LinearNeuron

#: Any neuron rule: all others derive from IF.
NeuronRule: TypeAlias = IF

__all__ = [
    "IF",
    "LIF",
    "RESETS",
    "SPIKES_PER_UPDATE",
    "CubaLIF",
    "EquationNeuron",
    "LinearNeuron",
    "LinearSystem",
    "NeuronRule",
    "Parameter",
    "Reset",
    "SpikesPerUpdate",
    "decay_per_step",
    "tau_from_decay",
]


def __dir__() -> list[str]:
    return sorted(__all__)
