"""NIR graph -> `Circuit`: the only door through which a trained network reaches the engines.

A table maps each NIR node type to a function. An unknown node is refused by name; nothing is dropped silently.
"""

from __future__ import annotations

import contextlib
import graphlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, NeuronRule, Reset, SpikesPerUpdate
from mtt_brian.nir_files import load_graph, plain, uniform
from mtt_brian.translate.circuit import Circuit, Connection, Population
from mtt_brian.translate.operators import Conv2d, Delay, Dense, Operator, Pair, Scale, pool2d

if TYPE_CHECKING:
    import nir

Shape: TypeAlias = tuple[int, ...]
GraphLike: TypeAlias = "nir.NIRGraph | str | os.PathLike[str] | Circuit"


@dataclass(frozen=True)
class _Linear:
    """One linear node, read: its operators, where its output lies, and the constant it adds."""

    operators: tuple[Operator, ...]
    output_shape: Shape
    bias: np.ndarray | None = None


def read_nir(
    graph: GraphLike,
    *,
    reset: Reset | None = None,
    spikes: SpikesPerUpdate | None = None,
    spike_integral: float = 1.0,
) -> Circuit:
    """Read a NIR graph, or a ``.nir`` file, into the engines' own model.

    What NIR cannot say is taken from each neuron's metadata: ``reset``, ``spikes``, ``lower_bound``, ``refractory``.

    Args:
        graph: the graph, the path of a ``.nir`` file, or a circuit, which is handed through.
        reset: ``"subtract"`` or ``"zero"``, for neurons whose metadata do not say it. NIR itself leaves it open, so a
            foreign graph needs it.
        spikes: ``"one"`` or ``"many"`` per update, for neurons whose metadata do not say it (then ``"one"``).
        spike_integral: integral of one spike of the tool that wrote the graph, in seconds for a grid-based tool whose
            spikes are one time step wide (snnTorch: 1e-4); 1 for NIR's own Dirac pulses.

    Raises:
        InputError: for unreadable files, unknown nodes, shapes that do not fit, cycles without a delay; the message
            names the node.
    """
    if isinstance(graph, Circuit):
        return graph
    if not (np.isfinite(spike_integral) and spike_integral > 0):
        raise InputError(f"spike_integral must be > 0, not {spike_integral}")
    return _Reader(load_graph(graph), reset, spikes, spike_integral).circuit()


class _CycleError(InputError):
    """A shape that depends on itself."""


class _Reader:
    """Walks one graph. Methods that follow edges backwards are memoised by node name."""

    def __init__(
        self, graph: nir.NIRGraph, reset: Reset | None, spikes: SpikesPerUpdate | None, spike_integral: float
    ) -> None:
        import nir

        self.nodes, edges = _inlined(graph)
        self.reset, self.spikes, self.spike_integral = reset, spikes, spike_integral
        self.input = self._only(nir.Input)
        self.output = self._only(nir.Output)
        self.sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        # NIR's edges are a set in spirit: a doubled edge means the same edge.
        for source, target in dict.fromkeys(edges):
            for end in (source, target):
                if end not in self.nodes:
                    raise InputError(f"the edge {source!r} -> {target!r} names the node {end!r}, which does not exist")
            self.sources[target].append(source)
        self._shapes: dict[str, Shape] = {}
        self._linear: dict[str, _Linear] = {}
        self._in_progress: set[str] = set()
        for name, node in self.nodes.items():
            if not (self._is_neuron(name) or self._is_wire(name) or type(node).__name__ in _LINEAR):
                raise InputError(
                    f"node {name!r} is a {type(node).__name__}, which cannot be simulated event by event; accepted are "
                    f"{', '.join(sorted([*_NEURONS, *_LINEAR, 'Input', 'Output']))}"
                    + (f" ({why})" if (why := _REFUSED.get(type(node).__name__)) else "")
                )

    def circuit(self) -> Circuit:
        neurons = [name for name in self.nodes if self._is_neuron(name)]
        populations = {name: Population(name, self._shape(name), self._rule(name)) for name in neurons}
        connections = [c for name in neurons for c in self._connections(name)]
        into_output = list(self._connections(self.output))
        if len(into_output) == 1 and not into_output[0].operators and into_output[0].source != self.input:
            output = into_output[0].source
        else:
            if not into_output:
                raise InputError(f"nothing is connected to the output node {self.output!r}")
            output = self.output
            bias = self._bias_into(output)
            rule = IF(threshold=None, r=self.spike_integral, bias=bias / self.spike_integral)
            populations[output] = Population(output, self._input_shape(output), rule)
            connections += into_output
        order = _topological(list(populations), connections)
        return Circuit(
            input=self.input,
            input_shape=self._shape(self.input),
            populations=tuple(populations[name] for name in order),
            connections=tuple(connections),
            output=output,
        )

    # ----- nodes

    def _is_neuron(self, name: str) -> bool:
        return type(self.nodes[name]).__name__ in _NEURONS

    def _is_wire(self, name: str) -> bool:
        """Inputs and outputs, those of inlined subgraphs included, pass everything on."""
        return type(self.nodes[name]).__name__ in ("Input", "Output")

    def _only(self, kind: type) -> str:
        names = [n for n, node in self.nodes.items() if isinstance(node, kind) and "." not in n]
        names = names or [n for n, node in self.nodes.items() if isinstance(node, kind)]
        if len(names) != 1:
            raise InputError(f"a graph needs exactly one {kind.__name__} node; this one has {names or 'none'}")
        return names[0]

    # ----- shapes

    def _shape(self, name: str) -> Shape:
        """Shape of what leaves the node."""
        if name not in self._shapes:
            if name in self._in_progress:
                raise _CycleError(f"node {name!r} lies on a cycle whose shape nothing tells")
            self._in_progress.add(name)
            try:
                self._shapes[name] = self._infer_shape(name)
            finally:
                self._in_progress.discard(name)
        return self._shapes[name]

    def _infer_shape(self, name: str) -> Shape:
        if name == self.input:
            declared = self.nodes[name].input_type["input"]
            if declared is None:
                raise InputError(f"the input node {name!r} has no shape")
            return _as_shape(declared)
        if self._is_neuron(name):
            own = np.broadcast_shapes(*(p.shape for p in self._neuron_parameters(name).values()))
            if np.prod(own) > 1:
                return own
            # One number for all neurons is common; the shape then comes from a source, though not from round a cycle.
            for source in self.sources[name]:
                with contextlib.suppress(_CycleError):
                    return self._shape(source)
            return own
        if self._is_wire(name):
            return self._input_shape(name)
        return self._read_linear(name).output_shape

    def _input_shape(self, name: str) -> Shape:
        """Shape of what enters the node: all its sources must agree."""
        if not self.sources[name]:
            raise InputError(f"nothing is connected to node {name!r}")
        shapes = {source: self._shape(source) for source in self.sources[name]}
        if len(set(shapes.values())) > 1:
            raise InputError(f"the sources of node {name!r} have different shapes: {shapes}")
        return next(iter(shapes.values()))

    # ----- linear nodes

    def _read_linear(self, name: str) -> _Linear:
        if name not in self._linear:
            node = self.nodes[name]
            try:
                self._linear[name] = _LINEAR[type(node).__name__](node, self._input_shape(name))
            except _CycleError:
                raise
            except InputError as error:
                raise InputError(f"node {name!r} ({type(node).__name__}): {error}") from None
        return self._linear[name]

    def _connections(self, target: str) -> Iterator[Connection]:
        """One connection for every path of linear nodes that leads from a population or the input to ``target``."""
        shape = self._shape(target)
        for source in self.sources[target]:
            if self._shape(source) != shape:
                raise InputError(
                    f"node {target!r} has the shape {shape}, but {source!r}, which feeds it, has {self._shape(source)}"
                )
            yield from self._paths(source, target, (), ())

    def _paths(
        self, name: str, target: str, operators: tuple[Operator, ...], nodes: tuple[str, ...]
    ) -> Iterator[Connection]:
        if name == self.input or self._is_neuron(name):
            yield Connection(
                source=name,
                target=target,
                operators=operators,
                nodes=nodes,
                source_size=int(np.prod(self._shape(name), dtype=np.int64)),
            )
            return
        if not self._is_wire(name):
            operators, nodes = (*self._read_linear(name).operators, *operators), (name, *nodes)
        self._input_shape(name)
        for source in self.sources[name]:
            yield from self._paths(source, target, operators, nodes)

    def _bias_into(self, name: str) -> np.ndarray:
        """The constant current that biased linear nodes send into a node: float64 in its input shape."""
        total = np.zeros(self._input_shape(name))
        for source in self.sources[name]:
            total = total + self._bias_out_of(source)
        return total

    def _bias_out_of(self, name: str) -> np.ndarray | float:
        if name == self.input or self._is_neuron(name):
            return 0.0
        bias = self._bias_into(name)
        if self._is_wire(name):
            return bias
        linear = self._read_linear(name)
        if np.any(bias):
            for operator in linear.operators:
                if isinstance(operator, Delay) and np.any(operator.seconds > 0):
                    raise InputError(f"a bias runs through the delay {name!r}; put the bias behind the delay")
                if not isinstance(operator, Delay):
                    bias = operator.matrix() @ bias.ravel()
        bias = np.reshape(bias, linear.output_shape) if np.any(bias) else np.zeros(linear.output_shape)
        return bias if linear.bias is None else bias + linear.bias

    # ----- neurons

    def _neuron_parameters(self, name: str) -> dict[str, np.ndarray]:
        node = self.nodes[name]
        return {
            ours: _array(name, theirs, getattr(node, theirs))
            for ours, theirs in _NEURONS[type(node).__name__].parameters.items()
        }

    def _rule(self, name: str) -> NeuronRule:
        node = self.nodes[name]
        kind = _NEURONS[type(node).__name__]
        shape = self._shape(name)
        parameters: dict[str, Any] = {}
        for field, value in self._neuron_parameters(name).items():
            if value.size != 1 and value.shape != shape:
                raise InputError(f"{field} of node {name!r} has the shape {value.shape}, not {shape}")
            parameters[field] = uniform(value)
        metadata = {key: plain(value) for key, value in node.metadata.items()}
        if kind.fires:
            reset = metadata.get("reset", self.reset)
            if reset is None:
                raise InputError(
                    f"node {name!r} ({type(node).__name__}) does not say how it resets: NIR leaves it open and its "
                    f"metadata hold no 'reset'; pass reset='subtract' or reset='zero'"
                )
            parameters |= {"reset": reset, "spikes": metadata.get("spikes", self.spikes or "one")}
        else:
            parameters["threshold"] = None
        for field in ("lower_bound", "refractory"):
            if field in metadata:
                parameters[field] = uniform(_array(name, field, metadata[field]))
        if self.sources[name]:
            parameters["bias"] = uniform(self._bias_into(name))
        try:
            rule = kind.rule(**parameters)
        except InputError as error:
            raise InputError(f"node {name!r}: {error}") from None
        return _with_spike_integral(rule, self.spike_integral)


def _with_spike_integral(rule: NeuronRule, integral: float) -> NeuronRule:
    """Scale what a spike does and leave alone what a current does."""
    if integral == 1.0:
        return rule
    if isinstance(rule, CubaLIF):
        return replace(rule, w_in=np.multiply(rule.w_in, integral))
    return replace(rule, r=np.multiply(rule.r, integral), bias=np.divide(rule.bias, integral))


def _topological(names: list[str], connections: list[Connection]) -> list[str]:
    """Populations in the order of one sweep. A connection whose every element is delayed may close a cycle."""
    before: dict[str, set[str]] = {name: set() for name in names}
    for c in connections:
        always_late = any(isinstance(o, Delay) and bool(np.all(o.seconds > 0)) for o in c.operators)
        if c.source in before and not always_late:
            before[c.target].add(c.source)
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(map(repr, error.args[1]))
        raise InputError(f"the cycle {cycle} has no delay: an instant would never end; give it a Delay > 0") from None


def _inlined(graph: nir.NIRGraph) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges with nested graphs written out, their nodes named ``outer.inner``."""
    import nir

    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    entry: dict[str, str] = {}
    leave: dict[str, str] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[name] = node
            continue
        inner_nodes, inner_edges = _inlined(node)
        inputs = [n for n, x in inner_nodes.items() if isinstance(x, nir.Input) and "." not in n]
        outputs = [n for n, x in inner_nodes.items() if isinstance(x, nir.Output) and "." not in n]
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"the nested graph {name!r} needs exactly one Input and one Output node")
        nodes |= {f"{name}.{inner}": x for inner, x in inner_nodes.items()}
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inner_edges]
        entry[name], leave[name] = f"{name}.{inputs[0]}", f"{name}.{outputs[0]}"
    edges += [(leave.get(a, a), entry.get(b, b)) for a, b in graph.edges]
    return nodes, edges


# ----- the tables: NIR type -> reader


@dataclass(frozen=True)
class _NeuronKind:
    rule: type[IF]
    fires: bool
    parameters: dict[str, str]  # field of our rule -> field of the NIR node


_IF = {"r": "r"}
_LIF = {"tau": "tau", "r": "r", "v_leak": "v_leak"}
_CUBA = {"tau_syn": "tau_syn", "tau": "tau_mem", "r": "r", "v_leak": "v_leak", "w_in": "w_in"}
_FIRES = {"threshold": "v_threshold", "v_reset": "v_reset"}

_NEURONS = {
    "IF": _NeuronKind(IF, True, _IF | _FIRES),
    "LIF": _NeuronKind(LIF, True, _LIF | _FIRES),
    "CubaLIF": _NeuronKind(CubaLIF, True, _CUBA | _FIRES),
    "I": _NeuronKind(IF, False, _IF),
    "LI": _NeuronKind(LIF, False, _LIF),
    "CubaLI": _NeuronKind(CubaLIF, False, _CUBA),
}

_REFUSED = {
    "Threshold": "a threshold without a membrane has no meaning for spikes without width",
    "Conv1d": "write it as a Conv2d of height 1",
}


def _read_conv2d(node: Any, shape: Shape) -> _Linear:
    weight = _array("", "weight", node.weight)
    if weight.ndim != 4:
        raise InputError(f"the kernel must have the shape (C_out, C_in / groups, height, width), not {weight.shape}")
    if len(shape) != 3:
        raise InputError(f"a convolution needs an input of shape (C, H, W), not {shape}")
    if node.input_shape is not None and tuple(np.ravel(node.input_shape)) != shape[1:]:
        raise InputError(f"input_shape is {tuple(np.ravel(node.input_shape))}, but its input is {shape[1:]}")
    stride, dilation = _pair("stride", node.stride, 1), _pair("dilation", node.dilation, 1)
    operator = Conv2d(
        weight=weight,
        stride=stride,
        padding=_padding(node.padding, stride, dilation, (weight.shape[2], weight.shape[3])),
        dilation=dilation,
        groups=int(node.groups),
        input_shape=(shape[0], shape[1], shape[2]),
    )
    out = operator.output_shape
    bias = _array("", "bias", 0.0 if node.bias is None else node.bias)
    if bias.size not in (1, out[0]):
        raise InputError(f"the bias has {bias.size} entries for {out[0]} output channels")
    per_pixel = np.broadcast_to(bias.ravel()[:, None, None], out) if np.any(bias) else None
    return _Linear((operator,), out, per_pixel)


def _read_linear(node: Any, shape: Shape) -> _Linear:
    operator = Dense(_array("", "weight", node.weight), shape)
    bias = _array("", "bias", getattr(node, "bias", 0.0))
    if bias.size not in (1, operator.output_shape[-1]):
        raise InputError(f"the bias has {bias.size} entries for {operator.output_shape[-1]} outputs")
    return _Linear(
        (operator,), operator.output_shape, np.broadcast_to(bias, operator.output_shape) if np.any(bias) else None
    )


def _read_pool(average: bool) -> Callable[[Any, Shape], _Linear]:
    def read(node: Any, shape: Shape) -> _Linear:
        kernel, stride = _pair("kernel_size", node.kernel_size, 1), _pair("stride", node.stride, 1)
        vertical, horizontal = _pair("padding", node.padding, 0)
        padding = ((vertical, vertical), (horizontal, horizontal))
        operator = pool2d(kernel, stride, padding, shape, average)
        return _Linear((operator,), operator.output_shape)

    return read


def _read_flatten(node: Any, shape: Shape) -> _Linear:
    start, end = (int(d) + (len(shape) if int(d) < 0 else 0) for d in (node.start_dim, node.end_dim))
    if not 0 <= start <= end < len(shape):
        raise InputError(f"start_dim {node.start_dim} and end_dim {node.end_dim} do not fit an input of shape {shape}")
    flat = int(np.prod(shape[start : end + 1], dtype=np.int64))
    return _Linear((), (*shape[:start], flat, *shape[end + 1 :]))


def _elementwise(field: str, build: Callable[[np.ndarray], Operator]) -> Callable[[Any, Shape], _Linear]:
    def read(node: Any, shape: Shape) -> _Linear:
        value = _array("", field, getattr(node, field))
        if value.size != 1 and value.shape != shape:
            raise InputError(f"{field} has the shape {value.shape}, its input has {shape}")
        full = np.broadcast_to(value if value.size != 1 else value.reshape(()), shape)
        return _Linear((build(np.ascontiguousarray(full)),), shape)

    return read


_LINEAR: dict[str, Callable[[Any, Shape], _Linear]] = {
    "Conv2d": _read_conv2d,
    "Linear": _read_linear,
    "Affine": _read_linear,
    "SumPool2d": _read_pool(average=False),
    "AvgPool2d": _read_pool(average=True),
    "Flatten": _read_flatten,
    "Scale": _elementwise("scale", Scale),
    "Delay": _elementwise("delay", Delay),
}


# ----- values


def _array(node: str, field: str, value: Any) -> np.ndarray:
    where = f"{field} of node {node!r}" if node else field
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where} is not numeric: {value!r}") from None
    if not np.all(np.isfinite(array)):
        raise InputError(f"{where} holds NaN or infinite values")
    return array


def _as_shape(value: Any) -> Shape:
    return tuple(int(n) for n in np.ravel(value))


def _pair(field: str, value: Any, minimum: int) -> Pair:
    numbers = np.ravel(value)
    if numbers.size not in (1, 2) or np.any(numbers != np.floor(numbers)) or np.any(numbers < minimum):
        raise InputError(f"{field} must be one or two whole numbers >= {minimum}, not {value!r}")
    return (int(numbers[0]), int(numbers[-1]))


def _padding(value: Any, stride: Pair, dilation: Pair, kernel: Pair) -> tuple[Pair, Pair]:
    value = plain(value)
    if not isinstance(value, str):
        vertical, horizontal = _pair("padding", value, 0)
        return (vertical, vertical), (horizontal, horizontal)
    if value == "valid":
        return (0, 0), (0, 0)
    if value == "same":
        if stride != (1, 1):
            raise InputError(f"padding 'same' goes with stride 1, not {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        # torch puts the odd zero at the end.
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    raise InputError(f"padding must be a number, a pair, 'same' or 'valid', not {value!r}")
