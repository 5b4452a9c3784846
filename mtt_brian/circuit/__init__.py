"""The engine-neutral model of a network: populations of neurons and linear connections between them.

Front ends (`mtt_brian.translate`) write a `Circuit`; engines (`mtt_brian.engines`) read it.
"""

from mtt_brian.circuit.integers import Integers
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.spikes import InputSpikes, Spikes, input_spikes

__all__ = ["Circuit", "Connection", "InputSpikes", "Integers", "Population", "Spikes", "input_spikes"]


def __dir__() -> list[str]:
    return sorted(__all__)
