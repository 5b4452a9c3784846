"""NIR graph -> `Circuit`: all trained networks reach the engines through this module.

A table maps each NIR node type to a function. An unknown node is refused by name; nothing is dropped silently, and
`Circuit.assumptions` lists the assumed facts that the graph does not contain. No step recurses along the graph or lists
paths without a limit, so that deep and wide graphs are read in a time that grows with the number of their edges.

`flat_graph` expands nested graphs, `wiring` lists sources and targets, `shapes` reads the linear nodes, `meaning`
resolves the conventions of the tool, `neuron_rules` reads the neurons, `paths` makes connections of the nodes between
them, `silent` folds neurons that never fire into those behind them, `rescale` changes spikes and time, `cycles` orders
the populations.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, Parameter
from mtt_brian.translate.biases import Biases
from mtt_brian.translate.conventions import Conventions, conventions_of, shows_conventions
from mtt_brian.translate.cycles import has_loop, topological, with_loop_delays
from mtt_brian.translate.flat_graph import FlatGraph, flatten, metadata_of
from mtt_brian.translate.linear_nodes import Reading
from mtt_brian.translate.meaning import check_linear_nodes, meaning
from mtt_brian.translate.neuron_rules import Rules, naming_node, parameters_of, scaling_options
from mtt_brian.translate.nir_files import Shape, load_graph, naming
from mtt_brian.translate.node_types import NEURONS
from mtt_brian.translate.paths import Paths, refuse_overflow
from mtt_brian.translate.rescale import connection_in_time, in_time, with_spike_integral
from mtt_brian.translate.shapes import ShapeError, Shapes
from mtt_brian.translate.silent import fold_silent
from mtt_brian.translate.tools import Neurons
from mtt_brian.translate.wiring import Wiring

if TYPE_CHECKING:
    import nir

GraphLike: TypeAlias = "nir.NIRGraph | str | os.PathLike[str] | Circuit"

#: Metadata with a meaning, here or for `export.from_nir`.
_KNOWN_OF_NEURONS = frozenset({"reset", "spikes", "lower_bound", "refractory", "decay_per_step"})
_KNOWN_OF_SILENT_NEURONS = frozenset({"lower_bound", "refractory"})
_KNOWN_OF_OTHERS = frozenset({"bias_per_step"})
_KNOWN_OF_GRAPHS = frozenset({"duration"})


@shows_conventions
@np.errstate(under="ignore")
def read_nir(graph: GraphLike, conventions: Conventions | None = None, **options: Any) -> Circuit:
    """Reads a NIR graph, or a ``.nir`` file, into the engines' model.

    Values without a field in NIR are in each neuron's metadata: ``reset``, ``spikes``, ``lower_bound``, ``refractory``.
    For graphs of other tools `Conventions` sets them.

    Args:
        graph: the graph, the path of a ``.nir`` file, or a circuit, which is returned and accepts no options.
        conventions: facts that the graph does not contain.
        **options: fields of `Conventions`, instead of the object or in addition to it: ``tool="snntorch"``.

    Returns:
        the circuit; its ``assumptions`` list the assumed facts.

    Raises:
        InputError: for unreadable files, unknown nodes, shapes and values that do not fit, cycles without a delay,
            options that do not exist, that contradict all metadata, that do not apply to the graph or to its nodes; the
            message names the file and the node.
    """
    conventions = conventions_of(conventions, options)
    if isinstance(graph, Circuit):
        for name in conventions.given:
            raise InputError(f"{name} is for graphs and files; a circuit has been read already, with its options")
        return graph
    with naming(graph):
        flat = flatten(load_graph(graph))
        declared = flat.input_shape
        # As declared, then without leading axes of 1: the batch axes of the tool that wrote the file.
        shapes = [declared[k:] for k in range(len(declared)) if all(n == 1 for n in declared[:k])]
        refused: InputError | None = None
        for shape in [s for s in shapes if len(s) <= 3] or shapes:
            try:
                return _Reader(flat, conventions, shape).circuit()
            except ShapeError as error:
                refused = refused or error
        assert refused is not None
        raise InputError(str(refused))


class _Reader:
    """Reads one graph with a given input shape."""

    def __init__(self, graph: FlatGraph, conventions: Conventions, input_shape: Shape) -> None:
        self.graph, self.conventions = graph, conventions
        self.reading = Reading(batch_axes=len(graph.input_shape) - len(input_shape))
        self.assumed = self.reading.assumed
        self.wiring = wiring = Wiring(graph)
        check_linear_nodes(conventions, {name: wiring.kind(name) for name in wiring.nodes})
        parameters = {name: parameters_of(wiring, name) for name in wiring.neurons()}
        self.shapes = Shapes(wiring, parameters, self.reading, input_shape)
        for name, own in parameters.items():
            for field, value in own.items():
                repeated = self.reading.repeated(value, self.shapes.of[name], name)
                own[field] = value if repeated is None else repeated
        self.biases = Biases(self.shapes)
        self.paths = Paths(self.shapes, self.assumed)
        self.meaning = meaning(
            conventions,
            {
                name: Neurons(wiring.kind(name), p, bool(wiring.sources[name] and np.any(self.biases.into(name))))
                for name, p in parameters.items()
            },
            self.assumed,
        )
        self.rules = Rules(self.shapes, parameters, self.biases, conventions, self.meaning, self.reading)

    def circuit(self) -> Circuit:
        if self.reading.batch_axes:
            self.assumed.add(
                f"leading axes of 1 are taken for the batch and left out: the input has the shape "
                f"{self.shapes.of[self.wiring.input]}, not {self.graph.input_shape}"
            )
        elif len(shape := self.shapes.of[self.wiring.input]) > 1 and all(n == 1 for n in shape[:-1]):
            self.assumed.add(
                f"the input has the shape {shape}: its axes of 1 count as rows and channels of the sensor, not as a "
                f"batch, because all nodes fit them"
            )
        self._note_dead_ends()
        self.shapes.compare_declared(self.assumed)
        means = self.meaning
        wiring, shapes = self.wiring, self.shapes.of
        rules = {n: self.rules.rule(n) for n in wiring.neurons()}
        self.rules.refuse_contradictions()
        connections = [c for name in rules for c in self.paths.into(name)]
        populations = {n: Population(n, shapes[n], rule) for n, rule in rules.items()}
        into_output = list(self.paths.into(self.wiring.output))
        if len(into_output) == 1 and not into_output[0].operators and into_output[0].source != self.wiring.input:
            output = into_output[0].source
        else:
            if not into_output:
                raise InputError(f"nothing is connected to the output node {self.wiring.output!r}")
            output = self.wiring.output
            with naming_node(f"node {output!r}"):
                rule = IF(threshold=None, bias=means.sums_bias * self.biases.into(output))
            populations[output] = Population(output, self.shapes.of[output], rule)
            connections += into_output
        for connection in connections:
            refuse_overflow(connection)
        integrals = self._spike_integrals(populations, connections)
        sums_up = output == self.wiring.output and not any(
            c.source in populations and not populations[c.source].rule.fires for c in connections if c.target == output
        )
        populations, connections = fold_silent(populations, connections, output, output == wiring.output, wiring.called)
        for name, p in populations.items():
            with naming_node(self.wiring.called(name), scaling_options(self.conventions)), np.errstate(all="ignore"):
                rule = in_time(with_spike_integral(p.rule, integrals[name]), means.stretch)
            populations[name] = replace(p, rule=rule)
        connections = [connection_in_time(c, means.stretch) for c in connections]
        connections = self._with_loop_delays(populations, connections)
        if self.conventions.bias == "per-step" and not any(np.any(p.rule.bias) for p in populations.values()):
            self.assumed.add("bias='per-step' has no effect, because no node of the graph has a bias")
        order = topological(list(populations), connections)
        self._note_what_is_not_used()
        return Circuit(
            input=self.wiring.input,
            input_shape=self.shapes.of[self.wiring.input],
            populations=tuple(populations[name] for name in order),
            connections=tuple(connections),
            output=output,
            assumptions=self.assumed.sentences(),
            time_step=means.step,
            readout_unit=means.sums if sums_up else 1.0,
        )

    def _with_loop_delays(
        self, populations: Mapping[str, Population], connections: list[Connection]
    ) -> list[Connection]:
        """The connections, with the delay that the caller or the tool gives to loops."""
        if self.conventions.loop_delay is not None and not has_loop(list(populations), connections):
            raise InputError(
                f"loop_delay={self.conventions.loop_delay:g} was passed, but the graph has no loop; leave it out"
            )
        if self.meaning.loop_delay is None:
            return connections
        delay = float(on_whole_microseconds(self.meaning.loop_delay / self.meaning.stretch))
        return with_loop_delays(self.wiring.input, list(populations.values()), connections, delay, self.assumed)

    def _spike_integrals(
        self, populations: dict[str, Population], connections: list[Connection]
    ) -> dict[str, Parameter]:
        """Integral of the spikes that enter each population, through the silent nodes in front of it, if any."""
        silent: dict[str, str] = {}
        for c in connections:
            if c.source in populations and not populations[c.source].rule.fires:
                silent.setdefault(c.target, c.source)
        found: dict[str, Parameter] = {}
        for name in populations:
            entered, seen = name, {name}
            while entered in silent and silent[entered] not in seen:
                entered = silent[entered]
                seen.add(entered)
            found[name] = self.meaning.integral.get(entered, self.meaning.sums)
            if entered == name:
                continue
            if np.ndim(found[name]):
                raise InputError(
                    f"{self.wiring.called(entered)} never fires, and the integral of its spikes differs from neuron to "
                    f"neuron; pass spike_integral="
                )
            if np.any(np.abs(np.subtract(self.meaning.bias.get(name, 1.0), 1)) > 1e-9):
                raise InputError(
                    f"{self.wiring.called(silent[name])} never fires and feeds {self.wiring.called(name)}: what its "
                    f"potential amounts to in a time step is not known; pass bias='per-second' if it is a current"
                )
        return found

    def _note_dead_ends(self) -> None:
        """Nodes without a path to the output."""
        read = self.wiring.in_front_of([self.wiring.output])
        used = read | self.wiring.in_front_of(self.wiring.neurons())
        for name in self.wiring.nodes:
            if name not in used:
                self.assumed.add("it is read by nothing and left out", name)
            elif name not in read and self.wiring.is_neuron(name):
                self.assumed.add("it is simulated, but read by nothing that leads to the output", name)
            elif name not in read:
                self.assumed.add("it leads to neurons that nothing reads", name)
            if self.wiring.is_neuron(name) and not self.wiring.sources[name]:
                self.assumed.add("nothing feeds it", name)

    def _note_what_is_not_used(self) -> None:
        for sentence in self.graph.not_read:
            self.assumed.add(sentence)
        for name, node in self.wiring.nodes.items():
            if self.wiring.is_neuron(name):
                known = _KNOWN_OF_NEURONS if NEURONS[self.wiring.kind(name)].fires else _KNOWN_OF_SILENT_NEURONS
            else:
                known = _KNOWN_OF_OTHERS
            for key in metadata_of(node, name):
                if key not in known:
                    self.assumed.add(f"metadata {key!r} have no meaning here and are not used", name)
        for name, metadata in self.graph.metadata.items():
            for key in metadata:
                if key not in _KNOWN_OF_GRAPHS:
                    self.assumed.add(f"metadata {key!r} of the graph{f' {name!r}' if name else ''} are not used")
