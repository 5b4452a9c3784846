"""What there is to know about a network without running it, as plain values for JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.cli.network_options import Network
from mtt_brian.engines import ENGINES, Order, Simulator, engine_info
from mtt_brian.errors import InputError
from mtt_brian.neuron import CubaLIF, LinearNeuron, LinearSystem, NeuronRule
from mtt_brian.translate.flat_graph import flatten
from mtt_brian.translate.nir_files import plain

if TYPE_CHECKING:
    import nir


#: Their weights are written out to find the median; a network with more is not.
_MOST_SYNAPSES = 20_000_000


def describe(network: Network) -> dict[str, Any]:
    """Everything that ``mtt-brian info`` shows.

    Returns:
        ``file``, ``bytes`` (on disk), ``nodes`` and ``weights`` (their numbers), ``metadata`` (of the graph),
        ``config`` (of the run), ``assumptions`` (what the file does not say), ``input`` and ``output``;
        ``populations`` (with ``thresholds_per_spike``: how far the median and the largest weight move a neuron) and
        ``connections``, each with its ``bytes`` in the file; ``engines``: for each engine and order what this machine
        lacks for it (``missing``); where nothing is missing, the reason why it refuses the network (``refused``; None:
        it runs it) and, where it runs it, the bytes that it keeps for it (Brian2: an estimate, batch size 1).
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
        "populations": [_population(p, circuit, nodes) for p in circuit.populations],
        "connections": [
            _connection(c, circuit, nodes) for c in sorted(circuit.connections, key=lambda c: place[c.target])
        ],
        "engines": [_engine(circuit, engine, order) for engine in ENGINES for order in _orders(engine)],
    }


def _population(population: Population, circuit: Circuit, nodes: dict[str, nir.NIRNode]) -> dict[str, Any]:
    return {
        "name": population.name,
        "shape": list(population.shape),
        "neurons": population.size,
        "rule": _rule(population.rule),
        "thresholds_per_spike": _thresholds_per_spike(population, circuit),
        "bytes": _bytes(nodes[population.name]),
    }


def _thresholds_per_spike(population: Population, circuit: Circuit) -> dict[str, float] | None:
    """How many thresholds the median and the largest weight (of all synapses, by size) move their neuron.

    None for a population that has no threshold, that nothing feeds or that more than `_MOST_SYNAPSES` feed.
    """
    into = circuit.into(population.name)
    synapses = sum(int(c.fan_out.sum()) for c in into)
    if not population.rule.fires or not 0 < synapses <= _MOST_SYNAPSES:
        return None
    peak = peak_of_spike(population.rule, population.size)
    moved = np.concatenate([np.abs(c.matrix.data) * np.repeat(peak, np.diff(c.matrix.indptr)) for c in into])
    return {"median": float(np.median(moved)), "max": float(moved.max())}


def peak_of_spike(rule: NeuronRule, size: int) -> np.ndarray:
    """By how many thresholds a spike through weight 1 moves the potential at most: float64 [size]."""
    if isinstance(rule, LinearNeuron):
        each = np.array([_peak(system) for system in rule.systems])
        peak = each[np.broadcast_to(np.ravel(rule.system), size)]
    elif isinstance(rule, CubaLIF):
        peak = np.abs(rule.gain) * np.abs(rule.r) * rule.peak
    else:
        peak = np.abs(rule.gain)
    assert rule.threshold is not None
    return np.broadcast_to(np.ravel(peak) / np.ravel(rule.threshold), size)


def _peak(system: LinearSystem) -> float:
    """Largest potential after a spike through weight 1, sampled over the time constants."""
    from scipy.linalg import expm

    rates = system.matrix / system.tau[:, None]
    times = np.concatenate([[0.0], np.geomspace(1e-3 * system.tau.min(), 20 * system.tau.max(), 400)])
    return float(np.abs(system.row @ expm(times[:, None, None] * rates) @ system.jump).max())


def _rule(rule: NeuronRule) -> dict[str, Any]:
    """A neuron rule; a parameter that differs from neuron to neuron as its smallest and largest value."""
    values = {field.name: _value(getattr(rule, field.name)) for field in fields(rule)}
    return {"kind": type(rule).__name__, "fires": rule.fires, "gain": _value(rule.gain), **values}


def _connection(connection: Connection, circuit: Circuit, nodes: dict[str, nir.NIRNode]) -> dict[str, Any]:
    chain = {name: nodes[name] for name in connection.nodes}
    fan_out = connection.fan_out
    synapses = int(fan_out.sum())
    return {
        "source": connection.source,
        "target": connection.target,
        "nodes": [{"name": name, "type": type(node).__name__} for name, node in chain.items()],
        "synapses": synapses,
        "weights": sum(map(_weights, chain.values())),
        "fan_out": {"mean": synapses / connection.source_size, "max": int(fan_out.max(initial=0))},
        "fan_in": {"mean": synapses / circuit.population[connection.target].size},
        "delayed": connection.delayed,
        "bytes": sum(map(_bytes, chain.values())),
    }


def _engine(circuit: Circuit, engine: str, order: Order) -> dict[str, Any]:
    """Whether an engine runs the network here, tried by building it, and the memory that it needs for one run."""
    found: dict[str, Any] = {"engine": engine, "order": order, "missing": [], "refused": None, "bytes": None}
    try:
        info = engine_info(engine)
        if info.missing is not None and (missing := info.missing()):
            return found | {"missing": missing}
        Simulator(circuit, engine, order=order, record="counts")
    except InputError as error:
        return found | {"refused": str(error)}
    return found | {"bytes": None if info.memory is None else info.memory(circuit, order)}


def _orders(engine: str) -> tuple[Order, ...]:
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
