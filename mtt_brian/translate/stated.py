"""Graphs of other tools with the facts in their metadata that the caller passes."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.from_nir import read_nir
from mtt_brian.translate.nir_files import load_graph, numbers, plain, shown

if TYPE_CHECKING:
    import nir


def stated(graph: nir.NIRGraph | str | os.PathLike[str], conventions: Conventions) -> nir.NIRGraph:
    """A copy of a graph whose metadata contain the reset, the spikes per update and the lower bound of all neurons.

    Args:
        graph: of any tool, or the path of its ``.nir`` file; nodes that do not change are shared with the copy.
        conventions: facts that the graph does not contain.

    Raises:
        InputError: as `translate.read_nir`; for a neuron whose membrane does not move by the weight at a spike, naming
            it.
    """
    import nir

    graph = load_graph(graph)
    nodes = dict(graph.nodes)
    for population in read_nir(graph, conventions).populations:
        node, rule = nodes.get(population.name), population.rule
        if not rule.fires or not isinstance(node, nir.IF | nir.LIF) or not isinstance(rule, IF):
            continue
        if np.any(rule.gain != 1):
            raise InputError(
                f"node {population.name!r}: a spike of weight 1 moves the membrane by {shown(plain(rule.gain))}, "
                f"which cannot become a torch layer; scale the weights instead"
            )
        bound = {} if rule.lower_bound is None else {"lower_bound": rule.lower_bound}
        nodes[population.name] = copy.copy(node)
        if np.any(rule.threshold != numbers(node.v_threshold, "v_threshold")):  # counted from where the tool starts it
            for field, ours in (("v_threshold", "threshold"), ("v_reset", "v_reset"), ("v_leak", "v_leak")):
                if hasattr(node, field):
                    value = np.broadcast_to(getattr(rule, ours), population.shape)
                    setattr(nodes[population.name], field, value.copy())
        nodes[population.name].metadata = {"reset": rule.reset, "spikes": rule.spikes, **bound, **node.metadata}
    return nir.NIRGraph(nodes, graph.edges, metadata=graph.metadata, type_check=False)
