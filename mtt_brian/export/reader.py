"""File -> NIR graph -> torch network."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import nir
import numpy as np
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.export.chain import Fork, find_chain
from mtt_brian.export.writer import pair
from mtt_brian.neuron import IF, LIF
from mtt_brian.nir_files import load_graph, plain, uniform
from mtt_brian.snn.neurons import DEFAULT_SURROGATE, Spiking
from mtt_brian.snn.residual import Residual
from mtt_brian.snn.staged import Staged
from mtt_brian.snn.surrogate import Surrogate

Shape: TypeAlias = tuple[int, ...]


def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str],
    *,
    duration: float | None = None,
    surrogate: Surrogate = DEFAULT_SURROGATE,
    blocks_per_stage: int | None = 1,
) -> Staged:
    """Rebuild the torch network of a graph; its logits are those of the exported network, bit for bit.

    The graph is a chain, in which two paths from one node may meet in the next population: a residual connection. A
    bias is what the exporter noted that it adds in one time step.

    Args:
        graph: a graph, or the path of a ``.nir`` file.
        duration: of a recording, in seconds; for LIF populations where the graph does not say it.
        surrogate: for training on.
        blocks_per_stage: see `Staged`.

    Raises:
        InputError: for a file that is no NIR graph, a graph of another form, or a node that has no exact counterpart,
            naming it.
    """
    graph = load_graph(graph)
    first, between, last = find_chain(graph)
    if duration is None:
        duration = plain(graph.metadata.get("duration"))

    def read(names: Iterable[str]) -> dict[str, nn.Module]:
        return {name: _read(name, graph.nodes[name], duration, surrogate) for name in names}

    layers: dict[str, nn.Module] = {}
    for part in between:
        if isinstance(part, Fork):
            layers[_unused(f"residual_{part.body[-1]}", graph)] = Residual(read(part.body), read(part.shortcut))
        else:
            layers |= read([part])
    model = Staged(layers, _as_shape(graph.nodes[first].input_type["input"]), blocks_per_stage=blocks_per_stage)
    declared = {name: graph.nodes[name].v_threshold.shape for name in model.populations()}
    declared[last] = _as_shape(graph.nodes[last].output_type["output"])
    shapes = {**model.shapes, last: list(model.shapes.values())[-1]}
    for name, shape in declared.items():
        if shape != shapes[name]:
            raise InputError(
                f"node {name!r} is declared with the shape {shape}, but what reaches it has {shapes[name]}"
            )
    return model.to(functools.reduce(torch.promote_types, (p.dtype for p in model.parameters()), torch.float32))


def _unused(name: str, graph: nir.NIRGraph) -> str:
    """``name``, longer if a node is called so."""
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
    except (InputError, TypeError, ValueError, RuntimeError) as error:  # torch and numpy refuse bad shapes
        raise InputError(f"node {name!r} ({kind}): {error}") from None


# ----- NIR node -> torch layer


def _read_conv2d(node: nir.Conv2d, duration: float | None, surrogate: Surrogate) -> nn.Conv2d:
    weight = _tensor(node.weight, 4)
    padding = plain(node.padding)
    layer = nn.Conv2d(
        weight.shape[1] * int(node.groups),
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=pair(node.stride),
        padding=padding if isinstance(padding, str) else pair(padding),
        dilation=pair(node.dilation),
        groups=int(node.groups),
        bias=False,
    )
    layer.weight = nn.Parameter(weight)
    layer.register_parameter("bias", _read_bias(node))
    return layer


def _read_linear(node: nir.Linear | nir.Affine, duration: float | None, surrogate: Surrogate) -> nn.Linear:
    weight = _tensor(node.weight, 2)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    layer.register_parameter("bias", _read_bias(node))
    return layer


def _read_bias(node: nir.Conv2d | nir.Linear | nir.Affine) -> nn.Parameter | None:
    """What the layer adds once per time step; None for nothing."""
    if not np.any(getattr(node, "bias", 0)):
        return None
    if "bias_per_step" not in node.metadata:
        raise InputError(
            "a bias is a constant current, and the metadata hold no 'bias_per_step', its part of a time step"
        )
    bias = _tensor(node.metadata["bias_per_step"], 1)
    if len(bias) != len(node.weight):
        raise InputError(f"bias_per_step has {len(bias)} entries for {len(node.weight)} outputs")
    return nn.Parameter(bias)


def _read_pool(node: nir.AvgPool2d | nir.SumPool2d, duration: float | None, surrogate: Surrogate) -> nn.AvgPool2d:
    kernel, stride, padding = (pair(v) for v in (node.kernel_size, node.stride, node.padding))
    return nn.AvgPool2d(kernel, stride, padding, divisor_override=1 if isinstance(node, nir.SumPool2d) else None)


def _read_flatten(node: nir.Flatten, duration: float | None, surrogate: Surrogate) -> nn.Flatten:
    return nn.Flatten(*(d + 1 if d >= 0 else d for d in (int(node.start_dim), int(node.end_dim))))


def _read_spiking(node: nir.IF | nir.LIF, duration: float | None, surrogate: Surrogate) -> Spiking:
    metadata = {key: plain(value) for key, value in node.metadata.items()}
    if "reset" not in metadata:
        raise InputError("NIR leaves the reset open, and the metadata hold no 'reset' ('subtract' or 'zero')")
    values = {
        "threshold": uniform(node.v_threshold),
        "v_reset": uniform(node.v_reset),
        "reset": metadata["reset"],
        "spikes": metadata.get("spikes", "one"),
        "lower_bound": metadata.get("lower_bound"),
    }
    decay = metadata.get("decay_per_step")
    if isinstance(node, nir.IF):
        return Spiking(IF(**values, r=uniform(node.r)), surrogate)
    if not np.array_equal(node.r, node.tau):
        raise InputError(
            "r must equal tau, so that a spike of weight w moves the membrane by w; scale the weights instead"
        )
    if decay is not None:
        return Spiking(IF(**values), surrogate, decay_per_step=decay)
    return Spiking(LIF(**values, tau=uniform(node.tau), v_leak=uniform(node.v_leak)), surrogate, duration=duration)


_READERS: dict[str, Callable[[Any, float | None, Surrogate], nn.Module]] = {
    "Conv2d": _read_conv2d,
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
    if np.ndim(weight) != dimensions or 0 in np.shape(weight):
        raise InputError(
            f"the weight must have {dimensions} dimensions, none of them empty, not the shape {np.shape(weight)}"
        )
    weight = np.asarray(weight)
    if not np.all(np.isfinite(weight)):
        raise InputError("the weight holds NaN or infinite values")
    return torch.tensor(weight, dtype=torch.float64 if weight.dtype == np.float64 else torch.float32)


def _as_shape(value: Any) -> Shape:
    if value is None:
        raise InputError("the Input and Output nodes must say their shapes")
    return tuple(int(n) for n in np.ravel(value))
