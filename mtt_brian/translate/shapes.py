"""Output shapes of all nodes, from the sources onwards; the linear nodes are read at the same time."""

from __future__ import annotations

import graphlib
from collections import deque
from collections.abc import Mapping

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.text import shown
from mtt_brian.translate.linear_nodes import LINEAR, Assumptions, Linear, Reading, that_fits, without_batch
from mtt_brian.translate.nir_files import Shape, aligned, declared_shape, plain, typed_shape
from mtt_brian.translate.wiring import Wiring


class ShapeError(InputError):
    """Inconsistent shapes, which may be consistent without a batch axis."""


class Shapes:
    """Shapes of one graph with a given input shape.

    Attributes:
        wiring: the graph.
        of: output shape of each node, by name.
        linear: the linear nodes as `Linear`, by name.
        order: linear nodes and wires, each behind its sources.

    Args:
        wiring: the graph.
        parameters: of every neuron, by name.
        reading: for the linear nodes.
        input_shape: of the input, without a batch.

    Raises:
        ShapeError: for inconsistent shapes; InputError for nodes without sources and cycles without neurons.
    """

    def __init__(
        self,
        wiring: Wiring,
        parameters: Mapping[str, Mapping[str, np.ndarray]],
        reading: Reading,
        input_shape: Shape,
    ) -> None:
        self.wiring, self._reading = wiring, reading
        self.of: dict[str, Shape] = {}
        self.linear: dict[str, Linear] = {}
        self._infer(input_shape, parameters)
        # Their shapes were set in an order in which every node follows its sources.
        self.order = [name for name in self.of if not wiring.is_source(name)]

    def size(self, name: str) -> int:
        """Number of neurons (pixels) of a population (the input)."""
        return int(np.prod(self.of[name], dtype=np.int64))

    def _infer(self, input_shape: Shape, parameters: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Output shape of each node, from the sources onwards."""
        missing = {name: len(sources) for name, sources in self.wiring.sources.items()}
        ready: deque[str] = deque()

        def set_shape(name: str, shape: Shape) -> None:
            self.of[name] = that_fits(shape, self.wiring.called(name))
            for target in self.wiring.targets[name]:
                missing[target] -= 1
                if not missing[target] and target not in self.of:
                    ready.append(target)

        set_shape(self.wiring.input, input_shape)
        #: Shapes of parameters that may be repeated.
        scalar: dict[str, Shape] = {}
        for name, own_values in parameters.items():
            if len({p.shape for p in own_values.values() if p.size != 1}) > 1:
                shapes = {field: p.shape for field, p in own_values.items()}
                raise InputError(f"the parameters of {self.wiring.called(name)} have different shapes: {shapes}")
            own = np.broadcast_shapes(*(p.shape for p in own_values.values()))
            if self.wiring.sources[name] and (np.prod(own) == 1 or 1 in own):
                scalar[name] = own
            else:
                set_shape(name, own)
        for name, sources in self.wiring.sources.items():
            if not sources and name not in self.of:
                raise InputError(f"nothing is connected to node {name!r}")
        while True:
            while ready:
                name = ready.popleft()
                if name not in self.of:
                    set_shape(name, self._filled(name, scalar[name]) if name in scalar else self._inferred(name))
            # One number for all neurons, or for a channel; the shape is then that of a source outside the cycle.
            scalar = {name: own for name, own in scalar.items() if name not in self.of}
            if not scalar:
                break
            known = (name for name in scalar if any(s in self.of for s in self.wiring.sources[name]))
            name = next(known, next(iter(scalar)))
            set_shape(name, self._filled(name, scalar[name]))
        if rest := [name for name in self.wiring.nodes if name not in self.of]:
            try:
                graphlib.TopologicalSorter(
                    {n: [s for s in self.wiring.sources[n] if s in rest] for n in rest}
                ).prepare()
            except graphlib.CycleError as error:
                cycle = " -> ".join(map(repr, error.args[1][:10]))
                raise InputError(f"the cycle {cycle} holds no neuron: its signal would never end") from None

    def _filled(self, name: str, own: Shape) -> Shape:
        """The shape of neurons whose parameters have the shape ``own``, repeated along axes of 1."""
        arriving = next((self.of[s] for s in self.wiring.sources[name] if s in self.of), own)
        return own if aligned(own, arriving) is None else arriving

    def _inferred(self, name: str) -> Shape:
        shape = self.into(name)
        if self.wiring.is_wire(name):
            return shape
        self._reading.at = name
        try:
            self.linear[name] = LINEAR[self.wiring.kind(name)](self.wiring.nodes[name], shape, self._reading)
        except InputError as error:
            for source in self.wiring.sources[name]:
                if self.wiring.is_neuron(source):
                    self.check_sources(source)
            message = f"{self.wiring.called(name)}: {error}{self._flatten_in_front(name, shape)}"
            raise ShapeError(message) from None
        return self.linear[name].output_shape

    def into(self, name: str) -> Shape:
        """Input shape of the node; all its sources must have it."""
        if not self.wiring.sources[name]:
            raise InputError(f"nothing is connected to node {name!r}")
        shapes = {source: self.of[source] for source in self.wiring.sources[name]}
        if len(set(shapes.values())) > 1:
            raise ShapeError(f"the sources of node {name!r} have different shapes: {shown(shapes)}")
        return next(iter(shapes.values()))

    def _flatten_in_front(self, name: str, shape: Shape) -> str:
        """Names the Flatten node that leaves more than one axis in front of a node, if there is one."""
        wiring, seen = self.wiring, {name}
        while len(sources := wiring.sources[name]) == 1 and sources[0] not in seen and not wiring.is_source(sources[0]):
            name = sources[0]
            seen.add(name)
            if self.wiring.kind(name) == "Flatten" and len(shape) > 1:
                node = self.wiring.nodes[name]
                return (
                    f"; {wiring.called(name)} with start_dim {plain(node.start_dim)} keeps an axis and gives "
                    f"{shape}: NIR does not count a batch, so that start_dim 0 flattens everything"
                )
        return ""

    def compare_declared(self, assumed: Assumptions) -> None:
        """Compares the declared shapes of Output nodes and of the Input nodes of nested graphs with their sources."""
        for name in self.wiring.nodes:
            if self.wiring.is_neuron(name):
                self.check_sources(name)
            self._compare_others(name, assumed)
        for name in self.order:
            if not self.wiring.is_wire(name):
                continue
            node = self.wiring.nodes[name]
            is_input = self.wiring.kind(name) == "Input"
            given = typed_shape(node.input_type, "input") if is_input else typed_shape(node.output_type, "output")
            if given is None:
                continue
            declared, arriving = declared_shape(given, f"the shape of node {name!r}"), self.of[name]
            if declared == arriving:
                continue
            if without_batch(declared) == without_batch(arriving):
                assumed.add(f"the declared shape {declared} is taken for {arriving}, without a batch axis", name)
            elif is_input:
                assumed.add(f"the declared shape {declared} is not used, because {arriving} arrives", name)
            else:
                raise ShapeError(f"the output node {name!r} declares the shape {declared}, but {arriving} arrives")

    def _compare_others(self, name: str, assumed: Assumptions) -> None:
        """Notes declared shapes that are not used: of inputs, outputs, and neurons."""
        others = {"Input": ["output_type"], "Output": ["input_type"]}
        of_neurons = ["input_type", "output_type"] if self.wiring.is_neuron(name) else []
        for field_ in others.get(self.wiring.kind(name), of_neurons):
            given = typed_shape(getattr(self.wiring.nodes[name], field_, None), field_.removesuffix("_type"))
            if given is None or np.size(given) == 0:
                continue
            declared, own = declared_shape(given, f"{field_} of node {name!r}"), self.of[name]
            if without_batch(declared) != without_batch(own) and aligned(declared, own) is None:
                assumed.add(f"the declared {field_} {declared} is not used, because its shape is {own}", name)

    def check_sources(self, target: str) -> None:
        """Checks that the sources of a node have its shape, as far as it is determined."""
        shape = self.of[target]
        for source in self.wiring.sources[target]:
            if self.of.get(source, shape) != shape:
                raise ShapeError(
                    f"node {target!r} has the shape {shape}, but {source!r}, which feeds it, has "
                    f"{self.of[source]}{self._flatten_in_front(target, self.of[source])}"
                    f"{_of_channels(shape, self.of[source])}"
                )


def _of_channels(own: Shape, shape: Shape) -> str:
    if len(own) == 1 < len(shape) and own[0] == shape[0]:
        return f"; parameters for each channel have the shape {own + (1,) * (len(shape) - 1)}"
    return ""
