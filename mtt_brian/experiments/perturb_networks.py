"""NIR graph -> NIR graph: other weights, thresholds or bounds; the given graph is not changed.

Weights are those of linear nodes and convolutions. Pools have none, and a `nir.Scale` is not changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import nir
import numpy as np

from mtt_brian.errors import InputError, check_number, check_whole
from mtt_brian.translate.conventions import LowerBound, bound_of
from mtt_brian.translate.nir_files import numbers, uniform
from mtt_brian.translate.node_fields import bias_of, stored_as

#: Smallest perturbed threshold, as a fraction of the original one.
LEAST_THRESHOLD = 0.1


def noisy_weights(graph: nir.NIRGraph, relative: float, rng: np.random.Generator) -> nir.NIRGraph:
    """Gaussian noise on every weight, with the standard deviation ``relative`` times that of its layer's weights.

    Raises:
        InputError: if ``relative`` is no number from 0 to 1e6.
    """
    _not_negative("the weight noise", relative)

    def noisy(weight: np.ndarray) -> np.ndarray:
        return weight + relative * weight.std() * rng.standard_normal(weight.shape)

    return _with_weights(graph, noisy)


def quantised_weights(graph: nir.NIRGraph, bits: int) -> nir.NIRGraph:
    """Every layer's weights rounded to whole multiples of one step, symmetric about 0.

    The step is the largest magnitude of the layer divided by ``2^(bits - 1) - 1``: ``2^bits - 1`` values at most, 0 and
    the largest weight among them.

    Raises:
        InputError: for fewer than 2 bits or more than 52.
    """
    bits = check_whole("the bits of a signed weight", bits, most=52, least=2)
    most = 2 ** (bits - 1) - 1

    def quantised(weight: np.ndarray) -> np.ndarray:
        largest = np.abs(weight).max(initial=0.0)
        return np.round(weight / largest * most) / most * largest if largest else weight

    return _with_weights(graph, quantised)


def rounded_weights(graph: nir.NIRGraph, bits: int) -> nir.NIRGraph:
    """Every weight rounded to so many significant bits: 11 as in float16 and TF32, 8 as in bfloat16.

    The range stays, and the type from float32 on; the last bits are 0, so that a compressed file is smaller.

    Raises:
        InputError: for fewer than 1 bit or more than 52.
    """
    bits = check_whole("the significant bits of a weight", bits, most=52, least=1)

    def rounded(weight: np.ndarray) -> np.ndarray:
        fraction, exponent = np.frexp(weight)
        return np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits)

    return _with_weights(graph, rounded)


def mismatched_thresholds(graph: nir.NIRGraph, relative: float, rng: np.random.Generator) -> nir.NIRGraph:
    """A separate threshold for every neuron: the old one times ``1 + relative * normal``.

    Values below `LEAST_THRESHOLD` times the old one are set to it. For the engines only: a torch population has
    one threshold.

    Raises:
        InputError: if ``relative`` is no number from 0 to 1e6.
    """
    _not_negative("the threshold mismatch", relative)
    graph = copy.deepcopy(graph)
    for node in _nodes(graph, "v_threshold"):
        factor = 1 + relative * rng.standard_normal(np.shape(node.v_threshold))
        node.v_threshold = node.v_threshold * np.maximum(factor, LEAST_THRESHOLD)
    return graph


def scaled_weights(graph: nir.NIRGraph, factors: Mapping[str, float]) -> nir.NIRGraph:
    """The weights and biases of some nodes times a factor each: as if the thresholds behind were divided by it.

    Args:
        graph: without nested graphs.
        factors: by name of the node.
    """
    graph = nir.NIRGraph(dict(graph.nodes), graph.edges, metadata=graph.metadata, type_check=False)
    for name, factor in factors.items():
        node = graph.nodes[name] = copy.copy(graph.nodes[name])
        node.weight = stored_as(node.weight, _weight(node) * factor)
        if hasattr(node, "bias"):
            node.bias = stored_as(bias_of(node), bias_of(node).astype(np.float64) * factor)
        if "bias_per_step" in node.metadata:
            node.metadata = node.metadata | {"bias_per_step": np.asarray(node.metadata["bias_per_step"]) * factor}
    return graph


def weights_of_populations(graph: nir.NIRGraph) -> dict[str, list[str]]:
    """The nodes with weights in front of every firing population, through pools and the like: names by population.

    Raises:
        InputError: for a nested graph, a population that spikes reach without weights, weights in front of two
            populations, and a graph without a population.
    """
    sources: dict[str, list[str]] = {}
    for source, target in graph.edges:
        sources.setdefault(target, []).append(source)
    if nested := [name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)]:
        raise InputError(f"node {nested[0]!r} is a nested graph; accepted are graphs of layers and neurons")

    def walk(name: str, population: str) -> Iterator[str]:
        for source in sources.get(name, ()):
            node = graph.nodes[source]
            if hasattr(node, "weight"):
                yield source
            elif hasattr(node, "v_threshold") or isinstance(node, nir.Input):
                raise InputError(f"spikes of {source!r} reach {population!r} without weights, which cannot be scaled")
            else:
                yield from walk(source, population)

    groups: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for name in sorted(name for name, node in graph.nodes.items() if hasattr(node, "v_threshold")):
        groups[name] = list(dict.fromkeys(walk(name, name)))
        for node in groups[name]:
            if owners.setdefault(node, name) != name:
                raise InputError(f"the weights of node {node!r} lead to two populations, {owners[node]!r} and {name!r}")
    if not groups:
        raise InputError("no population fires, so that there is nothing to scale")
    return groups


def with_bound(graph: nir.NIRGraph, lower_bound: LowerBound) -> nir.NIRGraph:
    """The given lower bound in the metadata of every firing node; ``"none"``: as `without_bound`."""
    graph = without_bound(graph)
    for node in _nodes(graph, "v_threshold"):
        bound = bound_of(lower_bound, uniform(node.v_threshold))
        if bound is not None:
            node.metadata = node.metadata | {"lower_bound": bound}
    return graph


def without_bound(graph: nir.NIRGraph) -> nir.NIRGraph:
    """No lower bound of the membrane."""
    graph = copy.deepcopy(graph)
    for node in _nodes(graph, "v_threshold"):
        node.metadata = {key: value for key, value in node.metadata.items() if key != "lower_bound"}
    return graph


def _with_weights(graph: nir.NIRGraph, change: Any) -> nir.NIRGraph:
    graph = copy.deepcopy(graph)
    for node in _nodes(graph, "weight"):
        node.weight = stored_as(node.weight, change(_weight(node)))
    return graph


def _weight(node: Any) -> np.ndarray:
    return numbers(node.weight, "weight").astype(np.float64)


def _nodes(graph: nir.NIRGraph, attribute: str) -> Iterator[Any]:
    """The nodes that have ``attribute``, nested graphs included, by name: a file gives its nodes in another order."""
    for _, node in sorted(graph.nodes.items()):
        if isinstance(node, nir.NIRGraph):
            yield from _nodes(node, attribute)
        elif hasattr(node, attribute):
            yield node


def _not_negative(what: str, value: float) -> None:
    check_number(what, value, most=1e6, least=0)
