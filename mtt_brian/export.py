"""Trained torch network <-> NIR graph, and NIR graph -> ``.nir`` file.

NIR (neuromorphs/NIR) is the contract with everything that runs the weights without a time grid. What it cannot say is
kept in metadata: on every population ``reset``, ``spikes`` and, where there is one, ``lower_bound``.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import nir
import numpy as np
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.files import replacing
from mtt_brian.neuron import IF, LIF, tau_from_decay
from mtt_brian.snn.neurons import DEFAULT_SURROGATE, Spiking
from mtt_brian.snn.staged import INPUT, OUTPUT, Staged
from mtt_brian.snn.surrogate import Surrogate

Shape: TypeAlias = tuple[int, ...]


class _Options(NamedTuple):
    """What turns a decay per step into a time constant."""

    time_steps: int | None
    duration: float | None


def to_nir(model: Staged, *, time_steps: int | None = None, duration: float | None = None) -> nir.NIRGraph:
    """A trained network as a NIR graph; its nodes are named as the model's layers.

    Weights keep their type. Membranes jump by the weight: IF nodes have ``r = 1`` and LIF nodes ``r = tau``, because
    NIR's LIF jumps by ``r * w / tau``. A decay per step d becomes the time constant that leaves d after one of
    ``time_steps`` steps over ``duration``. The stages are a matter of training and leave no trace.

    Args:
        model: layers of the types in `_WRITERS`, without biases.
        time_steps: T_max; needed where a population has a decay per step.
        duration: of a recording, in seconds; needed with ``time_steps``.

    Raises:
        InputError: for a layer that has no exact counterpart, naming it.
    """
    options = _Options(time_steps, duration)
    nodes: dict[str, nir.NIRNode] = {INPUT: nir.Input({"input": np.array(model.input_shape)})}
    shape = model.input_shape
    for name, layer in model.layers():
        if type(layer) not in _WRITERS:
            accepted = ", ".join(sorted(t.__name__ for t in _WRITERS))
            raise InputError(
                f"layer {name!r} is a {type(layer).__name__}, which cannot be exported; accepted are {accepted}"
            )
        try:
            nodes[name] = _WRITERS[type(layer)](layer, shape, options)
        except InputError as error:
            raise InputError(f"layer {name!r} ({type(layer).__name__}): {error}") from None
        shape = model.shapes[name]
    nodes[OUTPUT] = nir.Output({"output": np.array(shape)})
    names = list(nodes)
    durations = {p.duration for p in model.populations().values() if p.duration is not None}
    metadata = {"duration": durations.pop()} if len(durations) == 1 else {}
    # NIR's own shape inference takes kernels for square; the shapes have been inferred by torch.
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)), metadata=metadata, type_check=False)


def write(path: str | os.PathLike[str], graph: nir.NIRGraph) -> None:
    """Write a graph to a ``.nir`` file, under a temporary name first, so that nobody reads half of it."""
    with replacing(path) as temporary:
        nir.write(temporary, graph)


def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str],
    *,
    duration: float | None = None,
    surrogate: Surrogate = DEFAULT_SURROGATE,
    blocks_per_stage: int | None = 1,
) -> Staged:
    """Rebuild the torch network of a sequential graph; its logits are those of the exported network, bit for bit.

    Args:
        graph: a graph, or the path of a ``.nir`` file.
        duration: of a recording, in seconds; for LIF populations where the graph does not say it.
        surrogate: for training on.
        blocks_per_stage: see `Staged`.

    Raises:
        InputError: for a file that is no NIR graph, a graph that is not one chain, or a node that has no exact
            counterpart, naming it.
    """
    graph = _read(graph)
    nodes = _chain(graph)
    if duration is None:
        duration = _plain(graph.metadata.get("duration"))
    layers: dict[str, nn.Module] = {}
    for name, node in nodes[1:-1]:
        kind = type(node).__name__
        if kind not in _READERS:
            accepted = ", ".join(sorted(_READERS))
            raise InputError(f"node {name!r} is a {kind}, which cannot become a torch layer; accepted are {accepted}")
        try:
            layers[name] = _READERS[kind](node, duration, surrogate)
        except (InputError, TypeError, ValueError, RuntimeError) as error:  # torch and numpy refuse bad shapes
            raise InputError(f"node {name!r} ({kind}): {error}") from None
    model = Staged(layers, _as_shape(nodes[0][1].input_type["input"]), blocks_per_stage=blocks_per_stage)
    (last, _), (output, node) = nodes[-2:]
    declared = {name: dict(nodes)[name].v_threshold.shape for name in model.populations()}
    declared[output] = _as_shape(node.output_type["output"])
    shapes = {**model.shapes, output: model.shapes[last]}
    for name, shape in declared.items():
        if shape != shapes[name]:
            raise InputError(
                f"node {name!r} is declared with the shape {shape}, but what reaches it has {shapes[name]}"
            )
    return model.to(functools.reduce(torch.promote_types, (p.dtype for p in model.parameters()), torch.float32))


# ----- torch layer -> NIR node


def _write_conv2d(layer: nn.Conv2d, shape: Shape, options: _Options) -> nir.Conv2d:
    _refuse_bias(layer)
    if layer.padding_mode != "zeros":
        raise InputError(f"only zeros can be padded, not {layer.padding_mode!r}")
    weight = _numpy(layer.weight)
    return nir.Conv2d(
        input_shape=shape[1:],
        weight=weight,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=np.zeros(len(weight), weight.dtype),
    )


def _write_linear(layer: nn.Linear, shape: Shape, options: _Options) -> nir.Linear:
    _refuse_bias(layer)
    return nir.Linear(weight=_numpy(layer.weight))


def _write_pool(layer: nn.AvgPool2d, shape: Shape, options: _Options) -> nir.AvgPool2d | nir.SumPool2d:
    kernel, stride, padding = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
    if layer.ceil_mode or (np.any(padding) and not layer.count_include_pad):
        raise InputError("only pools with ceil_mode=False and count_include_pad=True can be exported")
    if layer.divisor_override not in (None, 1, np.prod(kernel)):
        raise InputError(f"a pool averages or sums (divisor_override=1), not divides by {layer.divisor_override}")
    kind = nir.SumPool2d if layer.divisor_override == 1 else nir.AvgPool2d
    return kind(kernel_size=kernel, stride=stride, padding=padding)


def _write_flatten(layer: nn.Flatten, shape: Shape, options: _Options) -> nir.Flatten:
    # torch counts the batch, NIR does not.
    start, end = (d - 1 if d >= 0 else d + len(shape) for d in (layer.start_dim, layer.end_dim))
    if start < 0:
        raise InputError("the batch cannot be flattened into the features")
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=start, end_dim=end)


def _write_spiking(layer: Spiking, shape: Shape, options: _Options) -> nir.IF | nir.LIF:
    rule = layer.rule
    metadata: dict[str, Any] = {"reset": rule.reset, "spikes": rule.spikes}
    if rule.lower_bound is not None:
        metadata["lower_bound"] = float(rule.lower_bound)
    common = {
        "v_threshold": np.full(shape, rule.threshold),
        "v_reset": np.full(shape, rule.v_reset),
        "metadata": metadata,
    }
    if layer.decay_per_step is not None:
        if options.time_steps is None or options.duration is None:
            raise InputError("a decay per step becomes a time constant only with time_steps= and duration= (seconds)")
        metadata["decay_per_step"] = layer.decay_per_step
        tau, v_leak = tau_from_decay(layer.decay_per_step, options.time_steps, options.duration), 0.0
    elif isinstance(rule, LIF):
        tau, v_leak = float(rule.tau), float(rule.v_leak)
    else:
        return nir.IF(r=np.ones(shape), **common)
    return nir.LIF(tau=np.full(shape, tau), r=np.full(shape, tau), v_leak=np.full(shape, v_leak), **common)


_WRITERS: dict[type, Callable[[Any, Shape, _Options], nir.NIRNode]] = {
    nn.Conv2d: _write_conv2d,
    nn.Linear: _write_linear,
    nn.AvgPool2d: _write_pool,
    nn.Flatten: _write_flatten,
    Spiking: _write_spiking,
}


# ----- NIR node -> torch layer


def _read_conv2d(node: nir.Conv2d, duration: float | None, surrogate: Surrogate) -> nn.Conv2d:
    _refuse_bias(node)
    weight = _tensor(node.weight, 4)
    padding = _plain(node.padding)
    layer = nn.Conv2d(
        weight.shape[1] * int(node.groups),
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=_pair(node.stride),
        padding=padding if isinstance(padding, str) else _pair(padding),
        dilation=_pair(node.dilation),
        groups=int(node.groups),
        bias=False,
    )
    layer.weight = nn.Parameter(weight)
    return layer


def _read_linear(node: nir.Linear | nir.Affine, duration: float | None, surrogate: Surrogate) -> nn.Linear:
    _refuse_bias(node)
    weight = _tensor(node.weight, 2)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


def _read_pool(node: nir.AvgPool2d | nir.SumPool2d, duration: float | None, surrogate: Surrogate) -> nn.AvgPool2d:
    kernel, stride, padding = (_pair(v) for v in (node.kernel_size, node.stride, node.padding))
    return nn.AvgPool2d(kernel, stride, padding, divisor_override=1 if isinstance(node, nir.SumPool2d) else None)


def _read_flatten(node: nir.Flatten, duration: float | None, surrogate: Surrogate) -> nn.Flatten:
    return nn.Flatten(*(d + 1 if d >= 0 else d for d in (int(node.start_dim), int(node.end_dim))))


def _read_spiking(node: nir.IF | nir.LIF, duration: float | None, surrogate: Surrogate) -> Spiking:
    metadata = {key: _plain(value) for key, value in node.metadata.items()}
    if "reset" not in metadata:
        raise InputError("NIR leaves the reset open, and the metadata hold no 'reset' ('subtract' or 'zero')")
    values = {
        "threshold": _uniform(node.v_threshold),
        "v_reset": _uniform(node.v_reset),
        "reset": metadata["reset"],
        "spikes": metadata.get("spikes", "one"),
        "lower_bound": metadata.get("lower_bound"),
    }
    decay = metadata.get("decay_per_step")
    if isinstance(node, nir.IF):
        return Spiking(IF(**values, r=_uniform(node.r)), surrogate)
    if not np.array_equal(node.r, node.tau):
        raise InputError(
            "r must equal tau, so that a spike of weight w moves the membrane by w; scale the weights instead"
        )
    if decay is not None:
        return Spiking(IF(**values), surrogate, decay_per_step=decay)
    return Spiking(LIF(**values, tau=_uniform(node.tau), v_leak=_uniform(node.v_leak)), surrogate, duration=duration)


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


# ----- files, graphs, values


def _read(graph: nir.NIRGraph | str | os.PathLike[str]) -> nir.NIRGraph:
    if isinstance(graph, nir.NIRGraph):
        return graph
    path = os.fspath(graph)
    if not os.path.isfile(path):
        raise InputError(f"no such NIR file: {path}")
    try:
        read = nir.read(path, type_check=False)
    except Exception as error:  # h5py and nir raise many types for a damaged file
        raise InputError(f"{path} is not a readable NIR file: {error}") from None
    if not isinstance(read, nir.NIRGraph):
        raise InputError(f"{path} holds a single {type(read).__name__} node, not a graph")
    return read


def _chain(graph: nir.NIRGraph) -> list[tuple[str, Any]]:
    """Names and nodes from the input to the output, each feeding the next and no other."""
    after: dict[str, str] = {}
    for source, target in dict.fromkeys(graph.edges):
        if source in after or target in after.values():
            raise InputError(
                f"the edge {source!r} -> {target!r} branches or joins; only a chain can become a torch network"
            )
        after[source] = target
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise InputError(f"a chain has exactly one Input node; this graph has {starts or 'none'}")
    names = [starts[0]]
    while names[-1] in after:
        names.append(after[names[-1]])
    if set(names) != set(graph.nodes) or not isinstance(graph.nodes[names[-1]], nir.Output):
        raise InputError(f"the nodes must form one chain from Input to Output; the chain found is {' -> '.join(names)}")
    return [(name, graph.nodes[name]) for name in names]


def _refuse_bias(layer: Any) -> None:
    bias = getattr(layer, "bias", None)
    if bias is not None and bool((torch.as_tensor(bias) != 0).any()):
        raise InputError("a bias acts once per time step and has no unique meaning in continuous time; train without")


def _numpy(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().cpu().numpy().copy()


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


def _uniform(value: np.ndarray) -> float | np.ndarray:
    """One number if all entries agree."""
    value = np.asarray(value, dtype=np.float64)
    return float(value.flat[0]) if value.size and np.all(value == value.flat[0]) else value


def _plain(value: Any) -> Any:
    """What HDF5 gives back, as plain Python."""
    if isinstance(value, bytes):
        return value.decode("utf8")
    return value.item() if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0 else value


def _as_shape(value: Any) -> Shape:
    if value is None:
        raise InputError("the Input and Output nodes must say their shapes")
    return tuple(int(n) for n in np.ravel(value))


def _pair(value: Any) -> tuple[int, int]:
    numbers = np.ravel(value)
    return int(numbers[0]), int(numbers[-1])
