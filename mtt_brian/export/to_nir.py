"""Torch network -> NIR graph -> file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeAlias

import nir
import numpy as np
import torch
from torch import nn

from mtt_brian.errors import InputError, check_seconds, check_whole
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.neuron import LIF, tau_from_decay
from mtt_brian.snn import norm
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.residual import Residual
from mtt_brian.snn.staged import INPUT, OUTPUT, Staged, check_staged, check_weights
from mtt_brian.translate import to_tool
from mtt_brian.translate.nir_files import numbers

Shape: TypeAlias = tuple[int, ...]


class _Options(NamedTuple):
    """Conversion of quantities of a time step to continuous time."""

    time_steps: int | None
    duration: float | None

    def of_a_step(self, what: str) -> tuple[int, float]:
        """Number of steps and seconds that they cover together."""
        if self.time_steps is None or self.duration is None:
            raise InputError(f"{what} only with time_steps= and duration= (seconds)")
        return self.time_steps, self.duration


def to_nir(
    model: Staged,
    *,
    time_steps: int | None = None,
    duration: float | None = None,
    for_tool: str | None = None,
    allow: str | Collection[str] = (),
) -> nir.NIRGraph:
    """A trained network as a NIR graph; its nodes are named as the model's layers.

    Weights keep their type. Membranes jump by the weight: IF nodes have ``r = 1`` and LIF nodes ``r = tau``, because
    NIR's LIF jumps by ``r * w / tau``. A decay per step d becomes the time constant that leaves d after one of
    ``time_steps`` steps over ``duration``. The branches of a residual connection become paths whose ends feed one
    population. Stages exist in training only.

    Norms that are left are folded first (`norm.fold`, on a copy).

    A bias b is added once per time step, T times in the D seconds of a recording; NIR's bias is a constant current, so
    b becomes ``b * T / D``. With these ``r`` it moves IF membranes by b in the time of a step, like many small spikes.
    A LIF membrane with a decay d per step moves by ``b * (1 - d) / -ln d``, because bias and spikes leak within the
    step, too. The same holds for a readout's bias: its sum drifts to ``b * T`` at D, where the readout is T times the
    logits. (A lower bound acts at arrivals: between events a negative bias may move a membrane below it, but in the
    time-stepped mode it cannot.)

    Args:
        model: layers of the types in `_WRITERS`, besides residual connections and norms.
        time_steps: T, usually T_max; needed if a population has a decay per step or a layer has a bias.
        duration: D, of a recording, in seconds; needed with ``time_steps``.
        for_tool: write the graph so that the importer of this tool reads the network with T steps:
            ``"spikingjelly"``, ``"snntorch"``, ``"norse"`` or ``"nir"``; see `mtt_brian.translate.for_tool`, which does
            this for any graph and returns the losses.
        allow: properties that may be lost then: ``"reset"``, ``"spikes"``, ``"lower_bound"``.

    Raises:
        InputError: for a layer without an exact counterpart (names it), and for a property that is lost and not in
            ``allow``.
    """
    if allow and for_tool is None:
        raise InputError("allow names what may be lost for a tool; pass for_tool=, too")
    check_staged(model)
    if time_steps is not None:
        time_steps = check_whole("time_steps", time_steps, most=MOST_TIME_STEPS, least=1)
    if duration is not None:
        duration = check_seconds("duration", duration)
    check_weights(model)
    if norm.has_norms(model):
        model = norm.fold(model)
    writer = _Writer(model, _Options(time_steps, duration))
    ends = [INPUT]
    for stage in model.stages:
        ends = writer.write(stage, ends)
    writer.add(OUTPUT, nir.Output({"output": np.array(writer.shapes[ends[0]])}), ends)
    durations = {p.duration for p in model.populations().values() if p.duration is not None}
    metadata = {"duration": durations.pop()} if len(durations) == 1 else {}
    # NIR's own shape inference assumes square kernels; torch has inferred the shapes.
    graph = nir.NIRGraph(writer.nodes, writer.edges, metadata=metadata, type_check=False)
    if for_tool is None:
        return graph
    step = None if duration is None or time_steps is None or for_tool == "nir" else duration / time_steps
    return to_tool.for_tool(graph, for_tool, step=step, allow=allow)[0]


class _Writer:
    """Collects nodes and edges while walking along the layers."""

    def __init__(self, model: Staged, options: _Options) -> None:
        self.options = options
        self.shapes = {INPUT: model.input_shape, **model.shapes}
        self.nodes: dict[str, nir.NIRNode] = {INPUT: nir.Input({"input": np.array(model.input_shape)})}
        self.edges: list[tuple[str, str]] = []

    def write(self, layers: nn.Module, ends: list[str]) -> list[str]:
        """Adds a sequence of layers behind ``ends``, nodes whose sum is their input; returns the last nodes."""
        for name, layer in layers.named_children():
            if isinstance(layer, Residual):
                ends = self.write(layer.body, ends) + self.write(layer.shortcut, ends)
                continue
            if type(layer) not in _WRITERS:
                accepted = ", ".join(sorted(t.__name__ for t in _WRITERS))
                raise InputError(
                    f"layer {name!r} is a {type(layer).__name__}, which cannot be exported; accepted are {accepted}"
                )
            try:
                node = _WRITERS[type(layer)](layer, self.shapes[ends[0]], self.options)
            except InputError as error:
                raise InputError(f"layer {name!r} ({type(layer).__name__}): {error}") from None
            self.add(name, node, ends)
            ends = [name]
        return ends

    def add(self, name: str, node: nir.NIRNode, sources: list[str]) -> None:
        """A node fed by the sum of ``sources``."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]


# ----- torch layer -> NIR node


def _write_convolution(layer: nn.Conv1d | nn.Conv2d, shape: Shape, options: _Options) -> nir.Conv1d | nir.Conv2d:
    if layer.padding_mode != "zeros":
        raise InputError(f"only zeros can be padded, not {layer.padding_mode!r}")
    weight = _numpy(layer.weight, "weight")
    current, metadata = _write_bias(layer, options)
    fields: dict[str, Any] = {
        "input_shape": shape[1:],
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
    }
    if isinstance(layer, nn.Conv1d):  # torch has tuples of one number, NIR numbers
        fields = {name: value if isinstance(value, str) else value[0] for name, value in fields.items()}
    return (nir.Conv1d if isinstance(layer, nn.Conv1d) else nir.Conv2d)(
        weight=weight,
        groups=layer.groups,
        bias=np.zeros(len(weight), weight.dtype) if current is None else current,
        metadata=metadata,
        **fields,
    )


def _write_linear(layer: nn.Linear, shape: Shape, options: _Options) -> nir.Linear | nir.Affine:
    current, metadata = _write_bias(layer, options)
    if current is None:
        return nir.Linear(weight=_numpy(layer.weight, "weight"))
    return nir.Affine(weight=_numpy(layer.weight, "weight"), bias=current, metadata=metadata)


def _write_bias(
    layer: nn.Conv1d | nn.Conv2d | nn.Linear, options: _Options
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The bias as a constant current, float64 [channels], None for none or zeros; and its metadata."""
    if layer.bias is None or not layer.bias.any():
        return None, {}
    steps, duration = options.of_a_step("a bias, which acts once per time step, becomes a constant current")
    per_step = _numpy(layer.bias, "bias")
    with np.errstate(over="ignore"):
        current = per_step.astype(np.float64) * steps / duration
    return numbers(current, "the bias as a current (bias * time_steps / duration)"), {"bias_per_step": per_step}


def _write_pool(layer: nn.AvgPool2d, shape: Shape, options: _Options) -> nir.AvgPool2d | nir.SumPool2d:
    kernel, stride, padding = (pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
    if layer.ceil_mode or (np.any(padding) and not layer.count_include_pad):
        raise InputError("only pools with ceil_mode=False and count_include_pad=True can be exported")
    if layer.divisor_override not in (None, 1, np.prod(kernel)):
        raise InputError(f"a pool averages or sums (divisor_override=1), not divides by {layer.divisor_override}")
    kind = nir.SumPool2d if layer.divisor_override == 1 else nir.AvgPool2d
    return kind(kernel_size=kernel, stride=stride, padding=padding)


def _write_flatten(layer: nn.Flatten, shape: Shape, options: _Options) -> nir.Flatten:
    # torch counts the batch axis, NIR does not.
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
        # It has no meaning for reset="subtract", but other tools would use it.
        "v_reset": np.full(shape, rule.v_reset if rule.reset == "zero" else 0.0),
        "metadata": metadata,
    }
    if layer.decay_per_step is not None:
        steps, duration = options.of_a_step("a decay per step becomes a time constant")
        metadata["decay_per_step"] = layer.decay_per_step
        tau, v_leak = tau_from_decay(layer.decay_per_step, steps, duration), 0.0
    elif isinstance(rule, LIF):
        tau, v_leak = float(rule.tau), float(rule.v_leak)
    else:
        return nir.IF(r=np.ones(shape), **common)
    return nir.LIF(tau=np.full(shape, tau), r=np.full(shape, tau), v_leak=np.full(shape, v_leak), **common)


_WRITERS: dict[type, Callable[[Any, Shape, _Options], nir.NIRNode]] = {
    nn.Conv1d: _write_convolution,
    nn.Conv2d: _write_convolution,
    nn.Linear: _write_linear,
    nn.AvgPool2d: _write_pool,
    nn.Flatten: _write_flatten,
    Spiking: _write_spiking,
}


def _numpy(weight: torch.Tensor, what: str) -> np.ndarray:
    """A copy, in its own precision; NaN, infinite and complex values are refused."""
    return numbers(weight, what).copy()


def pair(value: Any) -> tuple[int, int]:
    """Vertical and horizontal, from two numbers or one for both."""
    numbers = np.ravel(value)
    return int(numbers[0]), int(numbers[-1])
