"""The synapses of a circuit of `EquationNeuron` as flat arrays: for every source, its targets by rising delay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.model import Circuit, Connection
from mtt_brian.circuit.operators import Synapses
from mtt_brian.circuit.plasticity import PlasticSynapses, programs_in_order
from mtt_brian.errors import InputError
from mtt_brian.neuron.equation_neuron import EquationNeuron

#: All synapses of a connection have one delay.
SAME = np.iinfo(np.int64).min
#: The spikes of a connection execute no program.
NONE = -1


class SynapseLists(NamedTuple):
    """Population 0 is the input; the neurons of the others are numbered together, P of them, C connections, K synapses.

    Attributes:
        offset: first neuron of every population but the input [P + 1].
        owner: population of every neuron, int32.
        out: first connection of every population, the input included [P + 2].
        target, first: population that a connection enters, and its first neuron [C].
        port: state that it enters [C].
        base: where its sources begin in ``begin`` [C].
        begin: first synapse of every source of every connection, and where the last one ends.
        program: number of the program that its spikes execute [C]; `NONE`: they are added to a state.
        delayed: whether any of its synapses has a delay, flag [C].
        to: target neuron in its population, or synapse among those of its object, int32 [K].
        weight: float64 [K].
        varied: synapse k of a connection with different delays has the delay ``seconds[k + varied]``; `SAME`: all have
            the delay ``wait`` [C].
        wait: float64 [C].
        seconds: delays, float64.
        most: spikes that one instant can send into delays.
    """

    offset: np.ndarray
    owner: np.ndarray
    out: np.ndarray
    target: np.ndarray
    first: np.ndarray
    port: np.ndarray
    base: np.ndarray
    begin: np.ndarray
    program: np.ndarray
    delayed: np.ndarray
    to: np.ndarray
    weight: np.ndarray
    varied: np.ndarray
    wait: np.ndarray
    seconds: np.ndarray
    most: int

    @property
    def neurons(self) -> int:
        """Neurons of all populations but the input."""
        return int(self.offset[-1])


class _Link(NamedTuple):
    """A connection, or a pathway of plastic synapses, with the numbers of its populations."""

    source: int
    source_size: int
    target: int
    port: int
    program: int
    synapses: Synapses


def synapse_lists(circuit: Circuit, plastic: Sequence[PlasticSynapses] = ()) -> SynapseLists:
    """Lowers the connections of a circuit of `EquationNeuron`, and plastic synapses.

    Raises:
        InputError: for other neurons and other operators than `Synapses`.
    """
    names = [circuit.input, *(p.name for p in circuit.populations)]
    index = {name: k for k, name in enumerate(names)}
    for population in circuit.populations:
        if not isinstance(population.rule, EquationNeuron):
            raise InputError(
                f"population {population.name!r} is a {type(population.rule).__name__}; only EquationNeuron runs here"
            )
    offset = np.concatenate([[0], np.cumsum([p.size for p in circuit.populations])]).astype(np.int64)
    links = [
        _Link(index[c.source], c.source_size, index[c.target], c.port, NONE, _synapses(c)) for c in circuit.connections
    ]
    for number, (thing, pathway) in enumerate(programs_in_order(plastic)):
        size, each = thing.size, np.arange(thing.size)
        ends = Synapses(pathway.neuron, each, np.zeros(size), pathway.seconds, (pathway.source_size,), (size,))
        links.append(_Link(index[pathway.source], pathway.source_size, 1, 0, number, ends))
    links.sort(key=lambda link: link.source)
    begins, to, weight, seconds, varied, wait = [], [], [], [], [], []
    synapse = delays = 0
    for link in links:
        one = link.synapses
        same = not len(one.seconds) or bool(np.all(one.seconds == one.seconds[0]))
        keys = (one.target, one.source) if same else (one.target, one.seconds, one.source)
        order = np.lexsort(keys)
        sources = one.source[order]
        begins.append(np.searchsorted(sources, np.arange(link.source_size + 1)) + synapse)
        to.append(one.target[order].astype(np.int32))
        weight.append(one.weight[order])
        wait.append(float(one.seconds[0]) if same and len(one.seconds) else 0.0)
        varied.append(SAME if same else delays - synapse)
        if not same:
            seconds.append(one.seconds[order])
            delays += len(order)
        synapse += len(order)
    sizes = [len(b) for b in begins]
    sources_of = np.array([link.source for link in links], dtype=np.int64)
    targets = np.array([link.target for link in links], dtype=np.int64)
    return SynapseLists(
        offset=offset,
        owner=np.repeat(np.arange(1, len(names), dtype=np.int32), np.diff(offset)),
        out=np.searchsorted(sources_of, np.arange(len(names) + 1)),
        target=targets,
        first=offset[targets - 1],
        port=np.array([link.port for link in links], dtype=np.int64),
        base=np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64),
        begin=_joined(begins, np.int64),
        program=np.array([link.program for link in links], dtype=np.int64),
        delayed=np.array([bool(np.any(link.synapses.seconds > 0)) for link in links], dtype=bool),
        to=_joined(to, np.int32),
        weight=_joined(weight, np.float64),
        varied=np.array(varied, dtype=np.int64),
        wait=np.array(wait, dtype=np.float64),
        seconds=_joined(seconds, np.float64),
        most=sum(link.source_size for link in links if np.any(link.synapses.seconds > 0)),
    )


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _synapses(connection: Connection) -> Synapses:
    if len(connection.operators) != 1 or not isinstance(connection.operators[0], Synapses):
        raise InputError(
            f"the connection {connection.source!r} -> {connection.target!r} must be one Synapses operator to enter an "
            "EquationNeuron"
        )
    return connection.operators[0]
