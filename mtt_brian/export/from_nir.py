"""File -> NIR graph -> torch network."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import nir
import numpy as np
import torch
from torch import nn

from mtt_brian.errors import InputError, check_seconds
from mtt_brian.export.graph_order import Fork, sequential_order
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn.neurons import DEFAULT_SURROGATE, Spiking
from mtt_brian.snn.residual import WEIGHTED, Residual
from mtt_brian.snn.staged import Staged, check_staged
from mtt_brian.snn.surrogate import Surrogate
from mtt_brian.text import one_line
from mtt_brian.translate.nir_files import (
    aligned,
    declared_shape,
    load_graph,
    naming,
    numbers,
    plain,
    shown,
    typed_shape,
    uniform,
)
from mtt_brian.translate.node_fields import bias_of, convolution, flattened_dims, pooling, stored_as

Shape: TypeAlias = tuple[int, ...]


def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str],
    *,
    duration: float | None = None,
    surrogate: Surrogate = DEFAULT_SURROGATE,
    blocks_per_stage: int | None = 1,
) -> Staged:
    """Rebuilds the torch network of a graph; its logits equal those of the exported network bit for bit.

    The graph is sequential, except that two paths from one node may meet in the next population: a residual connection.
    The bias of one time step is that in the metadata of the exporter. A graph of another tool lacks the reset and
    other facts in its metadata; `translate.stated` adds them.

    Args:
        graph: a graph, or the path of a ``.nir`` file.
        duration: of a recording, in seconds; for LIF populations if the graph does not contain it.
        surrogate: for further training.
        blocks_per_stage: see `Staged`.

    Raises:
        InputError: for a file that is no NIR graph, a graph of another form, or a node that has no exact counterpart,
            naming it.
    """
    with naming(graph):
        return _model(load_graph(graph), duration, surrogate, blocks_per_stage)


def with_weights(graph: nir.NIRGraph, model: Staged) -> nir.NIRGraph:
    """A copy of the graph from which a network was rebuilt, with the network's present weights; biases are kept.

    Args:
        graph: the argument of `from_nir`; it is not changed.
        model: its result, perhaps trained since.

    Raises:
        InputError: if the model has a layer that the graph lacks, or is no staged network.
    """
    check_staged(model)
    graph = load_graph(graph)
    nodes = dict(graph.nodes)
    for name, layer in model.layers():
        if isinstance(layer, WEIGHTED):
            if np.size(getattr(nodes.get(name), "weight", ())) != layer.weight.numel():
                raise InputError(
                    f"the graph has no node {name!r} with {layer.weight.numel()} weights; model must be from_nir(graph)"
                )
            node = nodes[name] = copy.copy(nodes[name])
            node.weight = stored_as(node.weight, layer.weight.detach().cpu().numpy())
    return nir.NIRGraph(nodes, graph.edges, metadata=graph.metadata, type_check=False)


def _model(graph: nir.NIRGraph, duration: float | None, surrogate: Surrogate, blocks_per_stage: int | None) -> Staged:
    first, between, last = sequential_order(graph)
    if duration is not None:
        duration = check_seconds("duration", duration)
    elif graph.metadata.get("duration") is not None:
        duration = _number(graph.metadata["duration"], "the metadata's duration")

    def read(names: Iterable[str]) -> dict[str, nn.Module]:
        return {name: _read(name, graph.nodes[name], duration, surrogate) for name in names}

    layers: dict[str, nn.Module] = {}
    for part in between:
        if isinstance(part, Fork):
            layers[_unused(f"residual_{part.body[-1]}", graph)] = Residual(read(part.body), read(part.shortcut))
        else:
            layers |= read([part])
    model = Staged(
        layers, _as_shape(typed_shape(graph.nodes[first].input_type, "input")), blocks_per_stage=blocks_per_stage
    )
    declared = {
        name: numbers(graph.nodes[name].v_threshold, f"v_threshold of node {name!r}").shape
        for name in model.populations()
    }
    declared[last] = _as_shape(typed_shape(graph.nodes[last].output_type, "output"))
    shapes = {**model.shapes, last: list(model.shapes.values())[-1]}
    for name, shape in declared.items():
        if shape != shapes[name] and (name == last or aligned(shape, shapes[name]) is None):
            raise InputError(
                f"node {name!r} is declared with the shape {shape}, but its input has the shape {shapes[name]}"
            )
    return model.to(functools.reduce(torch.promote_types, (p.dtype for p in model.parameters()), torch.float32))


def _unused(name: str, graph: nir.NIRGraph) -> str:
    """``name``, with underscores added until no node has this name."""
    while name in graph.nodes:
        name += "_"
    return name


def _read(name: str, node: nir.NIRNode, duration: float | None, surrogate: Surrogate) -> nn.Module:
    kind = type(node).__name__
    if kind not in _READERS:
        accepted = ", ".join(sorted(_READERS))
        raise InputError(f"node {name!r} is a {kind}, which cannot become a torch layer; accepted are {accepted}")
    try:
        return _READERS[kind](node, duration, surrogate)
    except (
        InputError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
    ) as error:  # torch and numpy refuse bad shapes
        raise InputError(f"node {name!r} ({kind}): {one_line(error)}") from None


# ----- NIR node -> torch layer


def _read_convolution(
    node: nir.Conv1d | nir.Conv2d, duration: float | None, surrogate: Surrogate
) -> nn.Conv1d | nn.Conv2d:
    # Tuples of one or two numbers: torch types the two layers apart.
    kind: Any
    kind, axes = (nn.Conv1d, 1) if isinstance(node, nir.Conv1d) else (nn.Conv2d, 2)
    given = convolution(node, axes)
    outputs, inputs, *kernel = given.weight.shape
    layer: nn.Conv1d | nn.Conv2d = kind(
        inputs * given.groups,
        outputs,
        tuple(kernel),
        stride=given.stride,
        padding=given.padding,
        dilation=given.dilation,
        groups=given.groups,
        bias=False,
    )
    layer.weight = nn.Parameter(_tensor(given.weight, 2 + axes))
    layer.register_parameter("bias", _read_bias(node))
    return layer


def _read_linear(node: nir.Linear | nir.Affine, duration: float | None, surrogate: Surrogate) -> nn.Linear:
    weight = _tensor(node.weight, 2)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    layer.register_parameter("bias", _read_bias(node))
    return layer


def _read_bias(node: nir.Conv1d | nir.Conv2d | nir.Linear | nir.Affine) -> nn.Parameter | None:
    """The bias of one time step; None: no bias."""
    if not np.any(bias_of(node)):
        return None
    if "bias_per_step" not in node.metadata:
        raise InputError(
            "a bias is a constant current, and the metadata hold no 'bias_per_step', its part of a time step"
        )
    bias, outputs = _tensor(node.metadata["bias_per_step"], 1), np.shape(node.weight)[0]
    if len(bias) != outputs:
        raise InputError(f"bias_per_step has {len(bias)} entries for {outputs} outputs")
    return nn.Parameter(bias)


def _read_pool(node: nir.AvgPool2d | nir.SumPool2d, duration: float | None, surrogate: Surrogate) -> nn.AvgPool2d:
    return nn.AvgPool2d(*pooling(node), divisor_override=1 if isinstance(node, nir.SumPool2d) else None)


def _read_flatten(node: nir.Flatten, duration: float | None, surrogate: Surrogate) -> nn.Flatten:
    # torch counts the batch axis, NIR does not.
    return nn.Flatten(*(d + 1 if d >= 0 else d for d in flattened_dims(node, -4)))


def _read_spiking(node: nir.IF | nir.LIF, duration: float | None, surrogate: Surrogate) -> Spiking:
    metadata = {key: plain(value) for key, value in node.metadata.items()}
    if "reset" not in metadata:
        raise InputError("NIR leaves the reset open, and the metadata hold no 'reset' ('subtract' or 'zero')")
    for key in ("reset", "spikes"):
        if not isinstance(metadata.get(key, ""), str):
            raise InputError(f"the metadata's {key!r} must be text, not {shown(metadata[key])}")
    if np.any(numbers(metadata.get("refractory", 0.0), "refractory", bools=False)):
        raise InputError("a refractory period cannot become a torch layer")
    given = {
        name: numbers(getattr(node, name), name, bools=False)
        for name in ("v_threshold", "v_reset", "r", "tau", "v_leak")
        if hasattr(node, name)
    }
    values = {
        "threshold": uniform(given["v_threshold"]),
        "v_reset": uniform(given["v_reset"]),
        "reset": metadata["reset"],
        "spikes": metadata.get("spikes", "one"),
        "lower_bound": _number(metadata["lower_bound"], "lower_bound") if "lower_bound" in metadata else None,
    }
    if values["reset"] == "subtract" and np.any(given["v_reset"]):
        raise InputError("a v_reset other than 0 does not go with reset='subtract', which subtracts the threshold")
    decay = _number(metadata["decay_per_step"], "decay_per_step") if "decay_per_step" in metadata else None
    if isinstance(node, nir.IF):
        return Spiking(IF(**values, r=uniform(given["r"])), surrogate)
    if not np.array_equal(given["r"], given["tau"]):
        raise InputError(
            "r must equal tau, so that a spike of weight w moves the membrane by w; scale the weights instead"
        )
    if decay is not None:
        return Spiking(IF(**values), surrogate, decay_per_step=decay)
    rule = LIF(**values, tau=uniform(given["tau"]), v_leak=uniform(given["v_leak"]))
    return Spiking(rule, surrogate, duration=duration)


_READERS: dict[str, Callable[[Any, float | None, Surrogate], nn.Module]] = {
    "Conv1d": _read_convolution,
    "Conv2d": _read_convolution,
    "Linear": _read_linear,
    "Affine": _read_linear,
    "AvgPool2d": _read_pool,
    "SumPool2d": _read_pool,
    "Flatten": _read_flatten,
    "IF": _read_spiking,
    "LIF": _read_spiking,
}


# ----- values


def _tensor(weight: np.ndarray, dimensions: int) -> torch.Tensor:
    """The weight in its own precision, float32 at least; a copy."""
    weight = numbers(weight, "the weight")
    if weight.ndim != dimensions:
        raise InputError(f"the weight must have {dimensions} dimensions, not the shape {weight.shape}")
    return torch.tensor(weight, dtype=torch.float64 if weight.dtype == np.float64 else torch.float32)


def _as_shape(value: Any) -> Shape:
    if value is None:
        raise InputError("the Input and Output nodes must declare their shapes")
    return declared_shape(value, "the shape of the Input or Output node")


def _number(value: Any, what: str) -> float:
    """One number of the metadata."""
    array = numbers(value, what, bools=False)
    if array.ndim:
        raise InputError(f"{what} must be one number, not {shown(value)}")
    return float(array)
