"""What the tests of figures share."""

from __future__ import annotations

import numpy as np

from mtt_brian.circuit.model import Circuit, Population
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines.result import Result
from mtt_brian.neuron import IF


def train(t, i, n=1):
    """Spikes of one population: times in seconds, neurons, how many at once."""
    return Spikes(np.asarray(t, dtype=float), np.asarray(i, dtype=np.int64), np.broadcast_to(n, len(t)))


def result(spikes, shapes, duration=1.0):
    """A run of populations of these shapes; the first one is the input."""
    (name, shape), *rest = shapes.items()
    populations = tuple(Population(name, shape, IF()) for name, shape in rest)
    circuit = Circuit(name, shape, populations, (), rest[-1][0])
    return Result(spikes, {}, np.zeros(circuit.readout.size), 0, duration, "test", circuit)


def lines(ax):
    """Lines of data by label."""
    return {line.get_label(): line for line in ax.lines}


def stairs(ax):
    """Staircases by label: values and edges."""
    return {patch.get_label(): patch.get_data() for patch in ax.patches}


def legend(ax):
    """Texts of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]
