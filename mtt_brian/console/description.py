"""What there is to know about a network without running it, as plain values for JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mtt_brian.console.network import Network
from mtt_brian.errors import InputError
from mtt_brian.neuron import NeuronRule
from mtt_brian.nir_files import plain
from mtt_brian.simulate import ENGINES, Order, Simulator, engine_info
from mtt_brian.translate.circuit import Circuit, Connection, Population
from mtt_brian.translate.flat_graph import flatten

if TYPE_CHECKING:
    import nir


def describe(network: Network) -> dict[str, Any]:
    """Everything that ``mtt-brian info`` shows.

    Returns:
        ``file``, ``bytes`` (on disk), ``nodes`` and ``weights`` (their numbers), ``metadata`` (of the graph),
        ``config`` (of the run), ``assumptions`` (what the file does not say), ``input`` and ``output``;
        ``populations`` and ``connections``, each with its ``bytes`` in the file; ``engines``: for each engine and
        convention the reason why it refuses the network (None: it runs it) and, where it runs it, the bytes that it
        keeps for it (Brian2: an estimate, one lane).
    """
    circuit, nodes = network.circuit, flatten(network.graph).nodes
    place = {population.name: k for k, population in enumerate(circuit.populations)}
    return {
        "file": str(network.path),
        "bytes": network.path.stat().st_size,
        "nodes": len(nodes),
        "weights": sum(map(_weights, nodes.values())),
        "metadata": {key: _value(value) for key, value in network.graph.metadata.items()},
        "config": network.config,
        "assumptions": list(circuit.assumptions),
        "input": {"name": circuit.input, "shape": list(circuit.input_shape)},
        "output": circuit.output,
        "populations": [_population(p, nodes) for p in circuit.populations],
        "connections": [
            _connection(c, circuit, nodes) for c in sorted(circuit.connections, key=lambda c: place[c.target])
        ],
        "engines": [_engine(circuit, engine, order) for engine in ENGINES for order in _conventions(engine)],
    }


def _population(population: Population, nodes: dict[str, nir.NIRNode]) -> dict[str, Any]:
    return {
        "name": population.name,
        "shape": list(population.shape),
        "neurons": population.size,
        "rule": _rule(population.rule),
        "bytes": _bytes(nodes[population.name]),
    }


def _rule(rule: NeuronRule) -> dict[str, Any]:
    """A neuron rule; a parameter that differs from neuron to neuron as its smallest and largest value."""
    values = {field.name: _value(getattr(rule, field.name)) for field in fields(rule)}
    return {"kind": type(rule).__name__, "fires": rule.fires, "gain": _value(rule.gain), **values}


def _connection(connection: Connection, circuit: Circuit, nodes: dict[str, nir.NIRNode]) -> dict[str, Any]:
    chain = {name: nodes[name] for name in connection.nodes}
    synapses = int(connection.fan_out.sum())
    return {
        "source": connection.source,
        "target": connection.target,
        "nodes": [{"name": name, "type": type(node).__name__} for name, node in chain.items()],
        "synapses": synapses,
        "weights": sum(map(_weights, chain.values())),
        "fan_out": {"mean": synapses / connection.source_size, "max": int(connection.fan_out.max(initial=0))},
        "fan_in": {"mean": synapses / circuit.population[connection.target].size},
        "delayed": connection.delayed,
        "bytes": sum(map(_bytes, chain.values())),
    }


def _engine(circuit: Circuit, engine: str, order: Order) -> dict[str, Any]:
    """Whether an engine takes the network, asked of the engine itself, and the memory that it needs for one run."""
    found: dict[str, Any] = {"engine": engine, "order": order, "refused": None, "bytes": None}
    try:
        Simulator(circuit, engine, order=order, record="counts")
    except InputError as error:
        return found | {"refused": str(error)}
    memory = engine_info(engine).memory
    return found | {"bytes": None if memory is None else memory(circuit, order)}


def _conventions(engine: str) -> tuple[Order, ...]:
    try:
        return engine_info(engine).orders
    except InputError:  # an installed package that cannot be imported: said when it is asked for the network
        return ("sum",)


def _weights(node: nir.NIRNode) -> int:
    """Numbers other than 0 that a node multiplies with."""
    return sum(int(np.count_nonzero(getattr(node, field, 0))) for field in ("weight", "scale"))


def _bytes(node: nir.NIRNode) -> int:
    return sum(value.nbytes for value in vars(node).values() if isinstance(value, np.ndarray))


def _value(value: Any) -> Any:
    """A value for JSON: an array of one value as that value, one of numbers as its range, others as text."""
    value = plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    if array.size and array.dtype.kind in "iuf":
        low, high = float(array.min()), float(array.max())
        return low if low == high else {"min": low, "max": high}
    return str(value)
