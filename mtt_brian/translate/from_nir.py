"""NIR graph -> `Circuit`: the only door through which a trained network reaches the engines.

A table maps each NIR node type to a function. An unknown node is refused by name; nothing is dropped silently, and what
the graph does not say and is assumed stands in `Circuit.assumptions`. No step recurses along the graph or lists paths
without a limit, so that deep and wide graphs are read in a time that grows with the number of their edges.
"""

from __future__ import annotations

import contextlib
import graphlib
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Operator, Sparse
from mtt_brian.errors import InputError
from mtt_brian.neuron import (
    IF,
    LIF,
    RESETS,
    SPIKES_PER_UPDATE,
    CubaLIF,
    LinearNeuron,
    NeuronRule,
    Parameter,
)
from mtt_brian.translate.conventions import Conventions, bound_of, conventions_of
from mtt_brian.translate.flat_graph import FlatGraph, flatten, metadata_of
from mtt_brian.translate.linear_nodes import LINEAR, Linear, Reading, all_infinite, that_fits, without_batch
from mtt_brian.translate.meaning import meaning
from mtt_brian.translate.nir_files import (
    Shape,
    declared_shape,
    load_graph,
    naming,
    numbers,
    plain,
    shown,
    typed_shape,
    uniform,
)
from mtt_brian.translate.silent import fold_silent
from mtt_brian.translate.tools import Neurons, preset_of

if TYPE_CHECKING:
    import nir

GraphLike: TypeAlias = "nir.NIRGraph | str | os.PathLike[str] | Circuit"

#: As many paths from one population to another stay connections of their own; more become one sparse matrix.
MOST_PATHS = 8
#: Delays that may differ among the paths that become one matrix.
MOST_DELAYS = 64


class _ShapeError(InputError):
    """Shapes that do not fit; without a batch axis they may."""


def read_nir(graph: GraphLike, conventions: Conventions | None = None, **options: Any) -> Circuit:
    """Read a NIR graph, or a ``.nir`` file, into the engines' own model.

    What NIR cannot say is taken from each neuron's metadata: ``reset``, ``spikes``, ``lower_bound``, ``refractory``.
    For graphs of other tools it is said by `Conventions`.

    Args:
        graph: the graph, the path of a ``.nir`` file, or a circuit, which is handed through and takes no options.
        conventions: what the graph leaves open.
        **options: fields of `Conventions`, instead of the object or beside it: ``tool="snntorch"``.

    Returns:
        the circuit; what was assumed stands in its ``assumptions``.

    Raises:
        InputError: for unreadable files, unknown nodes, shapes and values that do not fit, cycles without a delay,
            options that do not exist, that all metadata contradict, that the graph has no use for or that its nodes do
            not fit; the message names the file and the node.
    """
    conventions = conventions_of(conventions, options)
    if isinstance(graph, Circuit):
        for name in conventions.given:
            raise InputError(f"{name} is for graphs and files; a circuit has been read already, with its options")
        return graph
    with naming(graph):
        flat = flatten(load_graph(graph))
        declared = flat.input_shape
        # As declared, then without leading axes of 1: the batch of whoever wrote the file.
        shapes = [declared[k:] for k in range(len(declared)) if all(n == 1 for n in declared[:k])]
        refused: InputError | None = None
        for shape in [s for s in shapes if len(s) <= 3] or shapes:
            try:
                return _Reader(flat, conventions, shape).circuit()
            except _ShapeError as error:
                refused = refused or error
        assert refused is not None
        raise InputError(str(refused))


# ----- the reader


class _Reader:
    """Reads one graph whose input has a given shape."""

    def __init__(self, graph: FlatGraph, conventions: Conventions, input_shape: Shape) -> None:
        self.nodes, self.input, self.output = graph.nodes, graph.input, graph.output
        self.conventions = conventions
        self.graph = graph
        self.reading = Reading(batch_axes=len(graph.input_shape) - len(input_shape))
        self.assumed = self.reading.assumed
        self.sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        self.targets: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in graph.edges:
            self.sources[target].append(source)
            self.targets[source].append(target)
        if self.sources[self.input]:
            raise InputError(f"the edge {self.sources[self.input][0]!r} -> {self.input!r} leads into the input node")
        for name, node in self.nodes.items():
            if not (self._is_neuron(name) or self._is_wire(name) or self._kind(name) in LINEAR):
                raise InputError(
                    f"node {name!r} is a {type(node).__name__}, which cannot be simulated event by event; accepted are "
                    f"{', '.join(sorted([*_NEURONS, *LINEAR, 'Input', 'Output']))}"
                    + (f" ({why})" if (why := _REFUSED.get(type(node).__name__)) else "")
                )
        self._linear: dict[str, Linear] = {}
        self._values: dict[str, dict[str, np.ndarray]] = {n: self._parameters(n) for n in self._neurons()}
        self._shapes: dict[str, Shape] = {}
        self._infer_shapes(input_shape)
        # Linear nodes and wires have got their shapes in an order in which every one follows its sources.
        self._place = {n: k for k, n in enumerate(s for s in self._shapes if not self._is_source(s))}
        self._bias: dict[str, np.ndarray | None] = {}
        for name in self._place:
            self._bias[name] = self._bias_out_of(name)
        #: Options that metadata contradict, and where; options that were of use.
        self._contradicted: dict[str, tuple[str, list[str]]] = {}
        self._used: set[str] = set()
        self.meaning = meaning(
            conventions,
            {
                name: Neurons(self._kind(name), values, bool(self.sources[name] and np.any(self._bias_into(name))))
                for name, values in self._values.items()
            },
            self.assumed,
        )

    def circuit(self) -> Circuit:
        if self.reading.batch_axes:
            self.assumed.add(
                f"leading axes of 1 are taken for the batch and left out: the input has the shape "
                f"{self._shapes[self.input]}, not {self.graph.input_shape}"
            )
        elif len(shape := self._shapes[self.input]) > 1 and all(n == 1 for n in shape[:-1]):
            self.assumed.add(
                f"the input has the shape {shape}: its axes of 1 count as rows and channels of the sensor, not as a "
                f"batch, because all nodes fit them"
            )
        self._note_dead_ends()
        self._compare_declared_shapes()
        means = self.meaning
        populations = {name: Population(name, self._shapes[name], self._rule(name)) for name in self._neurons()}
        self._refuse_contradictions()
        connections = [c for name in populations for c in self._connections(name)]
        into_output = list(self._connections(self.output))
        if len(into_output) == 1 and not into_output[0].operators and into_output[0].source != self.input:
            output = into_output[0].source
        else:
            if not into_output:
                raise InputError(f"nothing is connected to the output node {self.output!r}")
            output = self.output
            with _naming_node(f"node {output!r}"):
                rule = IF(threshold=None, bias=means.sums_bias * self._bias_into(output))
            populations[output] = Population(output, self._shapes[output], rule)
            connections += into_output
        for connection in connections:
            _refuse_overflow(connection)
        integrals = self._spike_integrals(populations, connections)
        sums_up = output == self.output and not any(
            c.source in populations and not populations[c.source].rule.fires for c in connections if c.target == output
        )
        populations, connections = fold_silent(populations, connections, output, output == self.output, self._called)
        for name, p in populations.items():
            with _naming_node(self._called(name), self._options()), np.errstate(all="ignore"):
                rule = in_time(_with_spike_integral(p.rule, integrals[name]), means.stretch)
            populations[name] = replace(p, rule=rule)
        connections = [_in_time(c, means.stretch) for c in connections]
        connections = self._with_loop_delays(list(populations), connections)
        order = _topological(list(populations), connections)
        self._note_what_is_not_used()
        return Circuit(
            input=self.input,
            input_shape=self._shapes[self.input],
            populations=tuple(populations[name] for name in order),
            connections=tuple(connections),
            output=output,
            assumptions=self.assumed.sentences(),
            time_step=means.step,
            readout_unit=means.sums if sums_up else 1.0,
        )

    def _spike_integrals(
        self, populations: dict[str, Population], connections: list[Connection]
    ) -> dict[str, Parameter]:
        """Integral of the spikes that enter each population, through the silent nodes in front of it if there are."""
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
                    f"{self._called(entered)} never fires, and the integral of its spikes differs from neuron to "
                    f"neuron; pass spike_integral="
                )
            if np.any(np.abs(np.subtract(self.meaning.bias.get(name, 1.0), 1)) > 1e-9):
                raise InputError(
                    f"{self._called(silent[name])} never fires and feeds {self._called(name)}: what its potential "
                    f"amounts to in a time step is not known; pass bias='per-second' if it is a current"
                )
        return found

    def _refuse_contradictions(self) -> None:
        """Options that the metadata of every neuron contradict; where only some do, it is said."""
        for option, (said, names) in self._contradicted.items():
            given = getattr(self.conventions, option)
            if option not in self._used:
                raise InputError(
                    f"{option}={given!r} contradicts the metadata of node {names[0]!r}, which say {said}; leave it out"
                )
            for name in names:
                self.assumed.add(f"metadata say {said}, so that {option}={given!r} is not used", name)

    def _compare(self, option: str, said: Any, name: str, threshold: Any = None) -> None:
        """Notes whether the metadata of a node contradict an option that was given."""
        given = getattr(self.conventions, option)
        if given is None:
            return
        if option == "lower_bound":
            bound = bound_of(given, threshold)
            agrees = bound is not None and bool(np.all(np.equal(bound, said)))
        else:
            agrees = given == said
        if agrees:
            self._used.add(option)
        else:
            shown_ = f"{option} {shown(plain(said))}" if option == "lower_bound" else f"{option}={said!r}"
            self._contradicted.setdefault(option, (shown_, []))[1].append(name)

    def _options(self) -> str:
        """The options that values of neurons are multiplied with, for messages."""
        names = ("spike_integral", "time_per_step", "file_time_per_step", "bias")
        given = {name: getattr(self.conventions, name) for name in names}
        said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        return f" (with {said})" if said else ""

    # ----- nodes

    def _kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def _is_neuron(self, name: str) -> bool:
        return self._kind(name) in _NEURONS

    def _is_wire(self, name: str) -> bool:
        """Inputs and outputs, those of nested graphs included, pass everything on."""
        return self._kind(name) in ("Input", "Output")

    def _is_source(self, name: str) -> bool:
        """Whether spikes start here."""
        return name == self.input or self._is_neuron(name)

    def _neurons(self) -> list[str]:
        return [name for name in self.nodes if self._is_neuron(name)]

    def _called(self, name: str) -> str:
        return f"node {name!r} ({self._kind(name)})"

    # ----- shapes

    def _infer_shapes(self, input_shape: Shape) -> None:
        """Shape of what leaves each node, from the sources onwards."""
        missing = {name: len(sources) for name, sources in self.sources.items()}
        ready: deque[str] = deque()

        def settle(name: str, shape: Shape) -> None:
            self._shapes[name] = that_fits(shape, self._called(name))
            for target in self.targets[name]:
                missing[target] -= 1
                if not missing[target] and target not in self._shapes:
                    ready.append(target)

        settle(self.input, input_shape)
        scalar = []
        for name, parameters in self._values.items():
            if len({p.shape for p in parameters.values() if p.size != 1}) > 1:
                shapes = {field: p.shape for field, p in parameters.items()}
                raise InputError(f"the parameters of {self._called(name)} have different shapes: {shapes}")
            own = np.broadcast_shapes(*(p.shape for p in parameters.values()))
            if np.prod(own) > 1:
                settle(name, own)
            elif self.sources[name]:
                scalar.append((name, own))
            else:
                settle(name, own)
        for name, sources in self.sources.items():
            if not sources and name not in self._shapes:
                raise InputError(f"nothing is connected to node {name!r}")
        while True:
            while ready:
                name = ready.popleft()
                if name not in self._shapes:
                    settle(name, self._inferred(name))
            # One number for all neurons is common; the shape then comes from a source, though not from round a cycle.
            scalar = [(name, own) for name, own in scalar if name not in self._shapes]
            if not scalar:
                break
            known = [name for name, _ in scalar if any(s in self._shapes for s in self.sources[name])]
            name, own = next(((n, o) for n, o in scalar if n in known), scalar[0])
            settle(name, next((self._shapes[s] for s in self.sources[name] if s in self._shapes), own))
        if rest := [name for name in self.nodes if name not in self._shapes]:
            try:
                graphlib.TopologicalSorter({n: [s for s in self.sources[n] if s in rest] for n in rest}).prepare()
            except graphlib.CycleError as error:
                cycle = " -> ".join(map(repr, error.args[1][:10]))
                raise InputError(f"the cycle {cycle} holds no neuron: its signal would never end") from None

    def _inferred(self, name: str) -> Shape:
        if self._is_neuron(name):
            return self._shapes[self.sources[name][0]]
        shape = self._input_shape(name)
        if self._is_wire(name):
            return shape
        self.reading.at = name
        try:
            self._linear[name] = LINEAR[self._kind(name)](self.nodes[name], shape, self.reading)
        except InputError as error:
            for source in self.sources[name]:
                if self._is_neuron(source):
                    self._check_sources(source)
            message = f"{self._called(name)}: {error}{self._flatten_in_front(name, shape)}"
            raise _ShapeError(message) from None
        return self._linear[name].output_shape

    def _input_shape(self, name: str) -> Shape:
        """Shape of what enters the node: all its sources must agree."""
        if not self.sources[name]:
            raise InputError(f"nothing is connected to node {name!r}")
        shapes = {source: self._shapes[source] for source in self.sources[name]}
        if len(set(shapes.values())) > 1:
            raise _ShapeError(f"the sources of node {name!r} have different shapes: {shown(shapes)}")
        return next(iter(shapes.values()))

    def _flatten_in_front(self, name: str, shape: Shape) -> str:
        """Names the Flatten node that leaves more than one axis in front of a node, if there is one."""
        seen = {name}
        while len(sources := self.sources[name]) == 1 and sources[0] not in seen and not self._is_source(sources[0]):
            name = sources[0]
            seen.add(name)
            if self._kind(name) == "Flatten" and len(shape) > 1:
                node = self.nodes[name]
                return (
                    f"; {self._called(name)} with start_dim {plain(node.start_dim)} keeps an axis and gives {shape}: "
                    f"NIR does not count a batch, so that start_dim 0 flattens everything"
                )
        return ""

    def _compare_declared_shapes(self) -> None:
        """Output nodes and the Input nodes of nested graphs say what arrives at them; others may say more."""
        for name in self.nodes:
            self._compare_other_shapes(name)
        for name in self._place:
            if not self._is_wire(name):
                continue
            node = self.nodes[name]
            is_input = self._kind(name) == "Input"
            given = typed_shape(node.input_type, "input") if is_input else typed_shape(node.output_type, "output")
            if given is None:
                continue
            declared, arriving = declared_shape(given, f"the shape of node {name!r}"), self._shapes[name]
            if declared == arriving:
                continue
            if without_batch(declared) == without_batch(arriving):
                self.assumed.add(f"the declared shape {declared} is taken for {arriving}, without a batch axis", name)
            elif is_input:
                self.assumed.add(f"the declared shape {declared} is not used, because {arriving} arrives", name)
            else:
                raise _ShapeError(f"the output node {name!r} declares the shape {declared}, but {arriving} arrives")

    def _compare_other_shapes(self, name: str) -> None:
        """What leaves an input node, what enters an output node, and what neurons declare beside their parameters."""
        others = {"Input": ["output_type"], "Output": ["input_type"]}
        of_neurons = ["input_type", "output_type"] if self._is_neuron(name) else []
        for field_ in others.get(self._kind(name), of_neurons):
            given = typed_shape(getattr(self.nodes[name], field_, None), field_.removesuffix("_type"))
            if given is None or np.size(given) == 0:
                continue
            declared, own = declared_shape(given, f"{field_} of node {name!r}"), self._shapes[name]
            if without_batch(declared) != without_batch(own) and np.prod(declared, dtype=float) != 1:
                self.assumed.add(f"the declared {field_} {declared} is not used, because its shape is {own}", name)

    # ----- connections

    def _connections(self, target: str) -> Iterator[Connection]:
        """One connection for every path of linear nodes that leads from a population or the input to ``target``.

        Where more than `MOST_PATHS` lead there from one source, they are one sparse matrix instead.
        """
        self._check_sources(target)
        between = self._linear_nodes_in_front(target)
        paths: dict[str, Counter[str]] = {}
        for name in [*between, target]:
            number: Counter[str] = Counter()
            for source in self.sources[name]:
                number.update({source: 1} if self._is_source(source) else paths[source])
            paths[name] = number
        total = paths[target]
        few = {source for source, number_ in total.items() if number_ <= MOST_PATHS}
        # Backwards from the target; what lies behind a place is a chain of (node, rest of the chain).
        waiting: list[tuple[str, Any]] = [(source, None) for source in reversed(self.sources[target])]
        while waiting:
            name, behind = waiting.pop()
            if self._is_source(name):
                if name in few:
                    yield self._path(name, target, behind)
            elif few & paths[name].keys():
                behind = behind if self._is_wire(name) else (name, behind)
                waiting += [(source, behind) for source in reversed(self.sources[name])]
        for source in total:
            if source not in few:
                self.assumed.add(
                    f"{total[source]} paths from {source!r} to {target!r} are added up to one matrix, whose synapses "
                    "count once"
                )
                yield from self._merged(source, target, between)

    def _check_sources(self, target: str) -> None:
        """What feeds a node must have its shape, as far as that is determined yet."""
        shape = self._shapes[target]
        for source in self.sources[target]:
            if self._shapes.get(source, shape) != shape:
                raise _ShapeError(
                    f"node {target!r} has the shape {shape}, but {source!r}, which feeds it, has "
                    f"{self._shapes[source]}{self._flatten_in_front(target, self._shapes[source])}"
                )

    def _linear_nodes_in_front(self, target: str) -> list[str]:
        """The linear nodes and wires between ``target`` and the nearest populations, in order."""
        found: set[str] = set()
        waiting = list(self.sources[target])
        while waiting:
            name = waiting.pop()
            if not self._is_source(name) and name not in found:
                found.add(name)
                waiting += self.sources[name]
        return sorted(found, key=self._place.__getitem__)

    def _path(self, source: str, target: str, behind: Any) -> Connection:
        nodes = []
        while behind is not None:
            name, behind = behind
            nodes.append(name)
        return Connection(
            source=source,
            target=target,
            operators=tuple(operator for name in nodes for operator in self._linear[name].operators),
            nodes=tuple(nodes),
            source_size=self._size(source),
        )

    def _merged(self, source: str, target: str, between: list[str]) -> Iterator[Connection]:
        """All paths from ``source`` to ``target`` as one matrix, or as one for every delay."""
        size = self._size(source)
        #: What arrives behind each node, by delay.
        maps: dict[str, dict[float, sparse.csr_array]] = {source: {0.0: sparse.csr_array(sparse.eye_array(size))}}
        nodes = []
        for name in [*between, target]:
            incoming: dict[float, sparse.csr_array] = {}
            for before in self.sources[name]:
                if before == source or not self._is_source(before):
                    for delay, matrix in maps.get(before, {}).items():
                        incoming[delay] = incoming[delay] + matrix if delay in incoming else matrix
            if name != target and not self._is_wire(name):
                if incoming:
                    nodes.append(name)
                for operator in self._linear[name].operators:
                    incoming = _through(operator, incoming)
            incoming = {d: m for d, m in incoming.items() if m.nnz} or dict(list(incoming.items())[:1])
            if len(incoming) > MOST_DELAYS:
                raise InputError(
                    f"the paths from {source!r} to {target!r} have more than {MOST_DELAYS} different delays, seen at "
                    f"node {name!r}; use fewer, or fewer than {MOST_PATHS + 1} paths"
                )
            if name != source:
                maps[name] = incoming
            if name == target:
                for delay, matrix in sorted(incoming.items()):
                    shape = self._shapes[source], self._shapes[target]
                    late = (Delay(np.full(shape[0], delay)),) if delay else ()
                    yield Connection(source, target, (*late, Sparse(matrix, *shape)), tuple(nodes), size)

    def _size(self, name: str) -> int:
        return int(np.prod(self._shapes[name], dtype=np.int64))

    def _with_loop_delays(self, names: list[str], connections: list[Connection]) -> list[Connection]:
        """Puts a delay at the head of the connections that close a cycle without one.

        Populations are ordered by their distance from the input, then as in the graph. Connections that lead forwards
        come first; every other one is delayed if it closes a cycle with those in front of it.
        """
        delay = self.meaning.loop_delay
        if delay is None:
            return connections
        delay = float(on_whole_microseconds(delay / self.meaning.stretch))
        forwards = {source: [c.target for c in connections if c.source == source] for source in [self.input, *names]}
        place = {self.input: 0}
        reached = deque([self.input])
        while reached:
            for target in sorted(forwards[reached.popleft()], key=names.index):
                if target not in place:
                    place[target] = len(place)
                    reached.append(target)
        for name in names:
            place.setdefault(name, len(place))
        out = list(connections)
        behind: dict[str, set[str]] = {name: set() for name in names}

        def leads_to(start: str, end: str) -> bool:
            seen, waiting = {start}, [start]
            while waiting:
                name = waiting.pop()
                if name == end:
                    return True
                waiting += (new := behind[name] - seen)
                seen |= new
            return False

        backwards = [place[c.source] >= place[c.target] for c in connections]
        for k in sorted(range(len(connections)), key=lambda k: (backwards[k], k)):
            c = connections[k]
            if c.source == self.input or _always_late(c):
                continue
            if backwards[k] and leads_to(c.target, c.source):
                if c.delayed:
                    raise InputError(
                        f"the delay on the cycle from {c.source!r} through {_listed(c.nodes)} to {c.target!r} is 0 for "
                        f"some neurons and not for others; give all of them a delay > 0"
                    )
                out[k] = replace(c, operators=(Delay(np.full(self._shapes[c.source], delay)), *c.operators))
                through = f" through {_listed(c.nodes)}" if c.nodes else ""
                self.assumed.add(
                    f"spikes that go back from {c.source!r}{through} to {c.target!r} take {delay:g} s (loop_delay)"
                )
            else:
                behind[c.source].add(c.target)
        if self.conventions.loop_delay is not None and not _has_loop(names, connections):
            raise InputError(
                f"loop_delay={self.conventions.loop_delay:g} was passed, but the graph has no loop; leave it out"
            )
        return out

    # ----- biases

    def _bias_into(self, name: str) -> np.ndarray:
        """The constant current that biased linear nodes send into a node: float64 in its input shape."""
        total = np.zeros(self._input_shape(name))
        for source in self.sources[name]:
            if (bias := self._bias.get(source)) is not None:
                total = total + bias
        return total

    def _bias_out_of(self, name: str) -> np.ndarray | None:
        """What a linear node or a wire sends on of it, its own bias included; None for nothing."""
        shape = self._shapes[name]
        bias = self._bias_into(name)
        if self._is_wire(name):
            return bias if np.any(bias) else None
        linear = self._linear[name]
        if np.any(bias):
            for operator in linear.operators:
                if isinstance(operator, Delay) and np.any(operator.seconds > 0):
                    raise InputError(f"a bias runs through the delay {name!r}; put the bias behind the delay")
                if not isinstance(operator, Delay):
                    bias = operator.matrix() @ bias.ravel()
            bias = np.reshape(bias, shape)
            return bias if linear.bias is None else bias + linear.bias
        return linear.bias

    # ----- neurons

    def _parameters(self, name: str) -> dict[str, np.ndarray]:
        """The parameters of a neuron by our rule's fields; tau may be infinite (see `_rule`)."""
        node, kind = self.nodes[name], self._kind(name)
        found = {}
        for ours, theirs in _NEURONS[kind].parameters.items():
            value, what = getattr(node, theirs), f"{theirs} of node {name!r}"
            if ours == "tau" and kind in ("LIF", "LI") and all_infinite(value):
                found[ours] = np.full(np.shape(value), np.inf)
            elif ours == "r" and np.any(np.isinf(found.get("tau", 0))) and all_infinite(value):
                raise InputError(
                    f"r / tau of {self._called(name)} is not determined, because both are infinite; write an IF, whose "
                    f"r says how far a spike of weight 1 moves the membrane"
                )
            else:
                found[ours] = numbers(value, what, bools=False).astype(np.float64)
        return found

    def _rule(self, name: str) -> NeuronRule:
        kind = _NEURONS[self._kind(name)]
        metadata = metadata_of(self.nodes[name], name)
        parameters: dict[str, Any] = {}
        for ours, value in self._values[name].items():
            parameters[ours] = uniform(self._per_neuron(value, ours, name))
        if kind.fires and not kind.own_reset:
            parameters |= self._reset(name, metadata, parameters)
        elif not kind.fires:
            parameters["threshold"] = None
        threshold = parameters.get("threshold", kind.rule.threshold)
        if "lower_bound" in metadata:
            bound = numbers(metadata["lower_bound"], f"lower_bound of node {name!r}", bools=False)
            parameters["lower_bound"] = uniform(self._per_neuron(bound, "lower_bound", name))
            if kind.fires:
                self._compare("lower_bound", parameters["lower_bound"], name, threshold)
        elif kind.fires:
            parameters["lower_bound"] = self._lower_bound(name, threshold)
        if "refractory" in metadata:
            seconds = self.reading.seconds(metadata["refractory"], f"refractory of node {name!r}", name)
            parameters["refractory"] = uniform(self._per_neuron(seconds, "refractory", name))
        if self.sources[name]:
            with np.errstate(all="ignore"):
                bias = self._bias_into(name) * np.asarray(self.meaning.bias[name])
            parameters["bias"] = uniform(bias)
        rule_type = kind.rule
        if rule_type is LIF and np.any(np.isinf(parameters["tau"])):
            # tau dv/dt = (v_leak - v) + r I: no leak, and with a finite r no input moves it either.
            self.assumed.add("tau is infinite and r is not, so that no spike and no current moves the membrane", name)
            rule_type = IF
            parameters = {key: value for key, value in parameters.items() if key not in ("tau", "v_leak")} | {"r": 0.0}
        with _naming_node(f"node {name!r}", self._options()):
            return rule_type(**parameters)

    def _reset(self, name: str, metadata: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        """How a neuron resets and how often it fires per update."""
        said = {}
        for key, accepted in (("reset", RESETS), ("spikes", SPIKES_PER_UPDATE)):
            value = plain(metadata[key]) if key in metadata else None
            if key in metadata and not (isinstance(value, str) and value in accepted):
                raise InputError(
                    f"node {name!r}: {key} must be one of {', '.join(map(repr, accepted))}, not {shown(value)}"
                )
            said[key] = value or getattr(self.conventions, key)
            if value is None:
                self._used.add(key)
            elif key == "reset" or said["reset"] == "subtract":
                self._compare(key, value, name)
        for key in ("reset", "spikes"):
            if key in metadata or said[key] is None or (key == "spikes" and said["reset"] == "zero"):
                continue
            self.assumed.add(f"{key}={said[key]!r} is as passed, because the metadata do not say it", name)
        preset = preset_of(self.conventions)
        if said["reset"] is None and preset is not None:
            said["reset"] = preset.reset
            self.assumed.add(
                f"reset={preset.reset!r} is assumed, {preset.title}'s default (tool={self.conventions.tool!r})", name
            )
        if said["reset"] is None:
            raise InputError(
                f"{self._called(name)} does not say how it resets: NIR leaves it open and its "
                f"metadata hold no 'reset'; pass reset='subtract' or reset='zero', or tool="
            )
        if said["spikes"] is None:
            # For reset="zero" it is the same: one spike.
            said["spikes"] = "many" if said["reset"] == "subtract" and "reset" not in metadata else "one"
            if said["reset"] == "subtract":
                self.assumed.add(
                    f"spikes={said['spikes']!r} is assumed, because nothing says how many spikes an update gives", name
                )
        if said["reset"] == "subtract" and np.any(parameters.get("v_reset", 0)):
            raise InputError(
                f"node {name!r}: a v_reset of {shown(plain(parameters['v_reset']))} does not go with reset='subtract', "
                f"which subtracts the threshold; accepted are v_reset = 0 and reset='zero'"
            )
        return said

    def _lower_bound(self, name: str, threshold: Parameter | None) -> Parameter | None:
        """Of a firing neuron whose metadata hold none."""
        if (passed := self.conventions.lower_bound) is not None:
            self.assumed.add(f"lower_bound={passed!r} is as passed, because the metadata do not say it", name)
        self._used.add("lower_bound")
        given, preset = self.conventions.lower_bound, preset_of(self.conventions)
        if given is None and preset is not None and self._kind(name) in preset.bounded:
            given = "-1 thresholds"
            self.assumed.add(
                f"the lower bound is minus the threshold, as {preset.title} reads it (tool={self.conventions.tool!r})",
                name,
            )
        return None if given is None or threshold is None else bound_of(given, threshold)

    def _per_neuron(self, value: np.ndarray, field_name: str, name: str) -> np.ndarray:
        """One number, or one for every neuron."""
        if value.size != 1 and value.shape != self._shapes[name]:
            raise InputError(f"{field_name} of node {name!r} has the shape {value.shape}, not {self._shapes[name]}")
        return value

    # ----- what is not used

    def _note_dead_ends(self) -> None:
        """Nodes from which nothing reaches the output."""
        heard = self._in_front_of([self.output])
        used = heard | self._in_front_of(self._neurons())
        for name in self.nodes:
            if name not in used:
                self.assumed.add("it is read by nothing and left out", name)
            elif name not in heard and self._is_neuron(name):
                self.assumed.add("it is simulated, but read by nothing that leads to the output", name)
            elif name not in heard:
                self.assumed.add("it leads to neurons that nothing reads", name)
            if self._is_neuron(name) and not self.sources[name]:
                self.assumed.add("nothing feeds it", name)

    def _in_front_of(self, ends: list[str]) -> set[str]:
        """These nodes and all from which a path leads to one of them."""
        found, waiting = set(ends), list(ends)
        while waiting:
            new = set(self.sources[waiting.pop()]) - found
            found |= new
            waiting += new
        return found

    def _note_what_is_not_used(self) -> None:
        for sentence in self.graph.not_read:
            self.assumed.add(sentence)
        for name, node in self.nodes.items():
            if self._is_neuron(name):
                known = _KNOWN_OF_NEURONS if _NEURONS[self._kind(name)].fires else _KNOWN_OF_SILENT_NEURONS
            else:
                known = _KNOWN_OF_OTHERS
            for key in metadata_of(node, name):
                if key not in known:
                    self.assumed.add(f"metadata {key!r} have no meaning here and are not used", name)
        for name, metadata in self.graph.metadata.items():
            for key in metadata:
                if key not in _KNOWN_OF_GRAPHS:
                    self.assumed.add(f"metadata {key!r} of the graph{f' {name!r}' if name else ''} are not used")


def _with_spike_integral(rule: NeuronRule, integral: Parameter) -> NeuronRule:
    """Scale what a spike does and leave alone what a current does."""
    if not np.ndim(integral) and integral == 1.0:
        return rule
    if np.ndim(integral) and type(rule) not in (IF, LIF, CubaLIF):
        raise InputError(f"a {type(rule).__name__} needs one spike_integral for all its neurons, not one for each")
    if isinstance(rule, LinearNeuron):  # its constant currents stand apart from what its spikes do
        return replace(rule, systems=tuple(replace(s, drive=integral * s.drive) for s in rule.systems))
    bias = np.divide(rule.bias, integral)
    if type(rule) not in (IF, LIF, CubaLIF):
        return _scaled(rule, replace(rule, r=np.multiply(rule.r, integral), bias=bias), float(integral))
    if isinstance(rule, CubaLIF):  # its spikes and its bias both pass w_in
        return replace(rule, w_in=np.multiply(rule.w_in, integral), bias=bias)
    return replace(rule, r=np.multiply(rule.r, integral), bias=bias)


def _scaled(rule: NeuronRule, scaled: NeuronRule, integral: float) -> NeuronRule:
    """``scaled``, if its spikes do ``integral`` times what those of ``rule`` do, and all else is the same."""
    shape = np.broadcast_shapes(*(np.shape(getattr(rule, field.name)) for field in fields(rule)))
    (before, which), (after, which_after) = rule.linear_systems(shape), scaled.linear_systems(shape)
    for old, new in zip(which.ravel(), which_after.ravel(), strict=True):
        expected = replace(before[old], drive=integral * before[old].drive)
        same = (np.allclose(getattr(expected, name), getattr(after[new], name), 1e-12) for name in ("drive", "offset"))
        if not all(same) or not replace(expected, drive=after[new].drive, offset=after[new].offset).equals(after[new]):
            raise InputError(
                f"spike_integral={integral:g} cannot be applied to a {type(rule).__name__}, whose jumps are not "
                "proportional to its r; accepted is 1"
            )
    return scaled


def in_time(rule: NeuronRule, stretch: float) -> NeuronRule:
    """The same neuron in another time, of which a second is ``stretch`` seconds of the rule's; spikes do the same."""
    if stretch == 1.0:
        return rule
    if type(rule) not in (IF, LIF, CubaLIF, LinearNeuron):
        raise InputError(
            f"time_per_step cannot be applied to a {type(rule).__name__}, whose time constants are its own; give the "
            "recordings in the file's time"
        )
    changes: dict[str, Any] = {"refractory": uniform(on_whole_microseconds(np.divide(rule.refractory, stretch)))}
    if isinstance(rule, LinearNeuron):
        changes["systems"] = tuple(replace(s, tau=s.tau / stretch, drive=s.drive / stretch) for s in rule.systems)
        return replace(rule, **changes)
    changes["bias"] = np.multiply(rule.bias, stretch)
    if isinstance(rule, LIF):
        changes["tau"] = np.divide(rule.tau, stretch)
    if isinstance(rule, CubaLIF):
        changes |= {"tau_syn": np.divide(rule.tau_syn, stretch), "w_in": np.divide(rule.w_in, stretch)}
    elif isinstance(rule, LIF):
        changes["r"] = np.divide(rule.r, stretch)
    changes = {key: uniform(np.asarray(value)) for key, value in changes.items()}
    return replace(rule, **changes)


def _in_time(connection: Connection, stretch: float) -> Connection:
    """The same connection in another time, see `in_time`."""
    if stretch == 1.0 or not connection.delayed:
        return connection
    operators = tuple(
        Delay(np.asarray(on_whole_microseconds(o.seconds / stretch))) if isinstance(o, Delay) else o
        for o in connection.operators
    )
    return replace(connection, operators=operators)


def _refuse_overflow(connection: Connection) -> None:
    """Weights one behind the other may have a product that float64 does not hold."""
    bound = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for operator in connection.operators:
            bound *= 1.0 if isinstance(operator, Delay) else max(operator.largest_row(), 1.0)
        if not bound < 1e300 and not np.all(np.isfinite(connection.matrix.data)):
            raise InputError(
                f"the weights of {_listed(connection.nodes)} between {connection.source!r} and {connection.target!r} "
                f"have products or sums that are too large for float64"
            )


def _always_late(connection: Connection) -> bool:
    """Whether no spike arrives at the instant at which it leaves."""
    return any(isinstance(o, Delay) and bool(np.all(o.seconds > 0)) for o in connection.operators)


def _has_loop(names: list[str], connections: list[Connection]) -> bool:
    """Whether spikes can come back to where they started, with a delay or without."""
    sources = {name: [c.source for c in connections if c.target == name] for name in names}
    try:
        graphlib.TopologicalSorter(sources).prepare()
    except graphlib.CycleError:
        return True
    return False


def _topological(names: list[str], connections: list[Connection]) -> list[str]:
    """Populations in the order of one instant. A connection whose every element is delayed may close a cycle."""
    before: dict[str, dict[str, None]] = {name: {} for name in names}
    for c in connections:
        if c.source in before and not _always_late(c):
            before[c.target][c.source] = None
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(map(repr, error.args[1]))
        raise InputError(
            f"the cycle {cycle} has no delay: an instant would never end; give it a Delay > 0, or pass loop_delay= (in "
            f"seconds: one time step of the tool that wrote the graph)"
        ) from None


def _through(operator: Operator, maps: dict[float, sparse.csr_array]) -> dict[float, sparse.csr_array]:
    """Maps by delay, with one more operator behind them."""
    if not isinstance(operator, Delay):
        matrix = operator.matrix()
        return {delay: sparse.csr_array(matrix @ before) for delay, before in maps.items()}
    out: dict[float, sparse.csr_array] = {}
    seconds = operator.seconds.ravel()
    for more in np.unique(seconds):
        rows = sparse.csr_array(sparse.diags_array((seconds == more).astype(np.float64)))
        rows.eliminate_zeros()
        for delay, before in maps.items():
            late = float(on_whole_microseconds(delay + more))
            part = sparse.csr_array(rows @ before)
            out[late] = out[late] + part if late in out else part
    return out


@contextlib.contextmanager
def _naming_node(node: str, options: str = "") -> Iterator[None]:
    """Puts a node in front of the message of an `InputError`, and behind it options that can make values too large."""
    try:
        yield
    except InputError as error:
        is_large = "finite" in str(error) or "float64" in str(error)
        raise InputError(f"{node}: {error}{options if is_large else ''}") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


# ----- the tables: NIR type -> reader


@dataclass(frozen=True)
class _NeuronKind:
    rule: type[IF]
    fires: bool
    parameters: Mapping[str, str]  # field of our rule -> field of the NIR node
    own_reset: bool = False  # its linear system says what a spike does with its states


_IF = {"r": "r"}
_LIF = {"tau": "tau", "r": "r", "v_leak": "v_leak"}
_CUBA = {"tau_syn": "tau_syn", "tau": "tau_mem", "r": "r", "v_leak": "v_leak", "w_in": "w_in"}
_FIRES = {"threshold": "v_threshold", "v_reset": "v_reset"}

_NEURONS: dict[str, _NeuronKind] = {
    "IF": _NeuronKind(IF, True, _IF | _FIRES),
    "LIF": _NeuronKind(LIF, True, _LIF | _FIRES),
    "CubaLIF": _NeuronKind(CubaLIF, True, _CUBA | _FIRES),
    "I": _NeuronKind(IF, False, _IF),
    "LI": _NeuronKind(LIF, False, _LIF),
    "CubaLI": _NeuronKind(CubaLIF, False, _CUBA),
}


def register_node(
    kind: str, rule: type[IF], parameters: Mapping[str, str], *, fires: bool = True, own_reset: bool = False
) -> None:
    """Lets graphs hold neurons of a type of your own: nodes of a class of this name become populations of a rule.

    Args:
        kind: name of the node's class.
        rule: the rule, derived from `mtt_brian.neuron.IF`.
        parameters: field of the rule -> attribute of the node, numbers or arrays in the shape of the population.
        fires: whether the neurons have a threshold.
        own_reset: whether the linear system of the rule states its reset. Otherwise ``reset`` and ``spikes`` come from
            the node's metadata or from the caller, as for NIR's own neurons.

    Raises:
        InputError: for a name that is taken, what is not a rule, and a field that the rule does not have.
    """
    if kind in _NEURONS or kind in LINEAR or kind in ("Input", "Output", "NIRGraph"):
        raise InputError(f"nodes of the type {kind!r} are read already; choose another name")
    if not (isinstance(rule, type) and issubclass(rule, IF)):
        raise InputError(f"the rule for nodes of the type {kind!r} must derive from neuron.IF, not {rule!r}")
    accepted = [field.name for field in fields(rule)]
    for name in parameters:
        if name not in accepted:
            raise InputError(f"{rule.__name__} has no field {name!r}; accepted are {', '.join(accepted)}")
    _NEURONS[kind] = _NeuronKind(rule, fires, dict(parameters), own_reset)


def unregister_node(kind: str) -> None:
    """Removes a type of node that was registered; does nothing where there is none."""
    if kind in _NEURONS and kind not in _OF_NIR:
        del _NEURONS[kind]


_OF_NIR = frozenset(_NEURONS)

#: Metadata with a meaning, here or for `export.from_nir`.
_KNOWN_OF_NEURONS = frozenset({"reset", "spikes", "lower_bound", "refractory", "decay_per_step"})
_KNOWN_OF_SILENT_NEURONS = frozenset({"lower_bound", "refractory"})
_KNOWN_OF_OTHERS = frozenset({"bias_per_step"})
_KNOWN_OF_GRAPHS = frozenset({"duration"})

_REFUSED = {
    "Threshold": "a threshold without a membrane has no meaning for spikes without width",
    "Conv1d": "write it as a Conv2d of height 1",
}
