"""The model of a network that all engines read: populations and the linear connections between them.

Front ends (NIR and others) write a `Circuit`. It is immutable and holds plain numpy arrays.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import sparse

from mtt_brian import html_repr
from mtt_brian.circuit.operators import Delay, Operator, Synapses
from mtt_brian.circuit.spikes import MAX_SPIKES, InputSpikes, input_spikes
from mtt_brian.circuit.synapses import synapses_of
from mtt_brian.errors import InputError, check_whole
from mtt_brian.neuron import IF, EquationNeuron, NeuronRule
from mtt_brian.text import listed, shown

#: Spikes of a neuron up to which the sum of synaptic operations cannot overflow.
MOST_SUMMED = 2**31


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one rule.

    Attributes:
        name: the node's name in the graph.
        shape: for instance (C, H, W); neurons are numbered in C order.
        rule: the neuron rule; array parameters have the population's shape.

    Raises:
        InputError: for a name that is no text, sides below 1, another rule than those of `mtt_brian.neuron` and
            derived ones, and parameters of another shape.
    """

    name: str
    shape: tuple[int, ...]
    rule: NeuronRule

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError(f"the name of a population must be a text, not {shown(self.name)}")
        object.__setattr__(self, "shape", _shape(self.shape, f"population {self.name!r}"))
        if not isinstance(self.rule, IF):
            raise InputError(f"population {self.name!r} needs a rule of mtt_brian.neuron, not {shown(self.rule)}")
        for field in fields(self.rule):
            value = getattr(self.rule, field.name)
            if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and not _fits(value.shape, self.shape):
                raise InputError(
                    f"population {self.name!r} has the shape {self.shape}, and its {field.name} {value.shape}"
                )

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False, repr=False)
class Connection:
    """A sequence of operators from one population (or the input) to another; an empty one is the identity.

    Biases between the two are already part of the target's rule.

    Attributes:
        source, target: names.
        operators: applied from left to right; `Delay` may be among them.
        nodes: the names of the graph's nodes between the two, for messages.
        source_size: neurons of the source.
        port: number of the state that the spikes enter, for populations of `EquationNeuron`; other rules have one.

    Raises:
        InputError: for an operator that does not fit what arrives at it.
    """

    source: str
    target: str
    operators: tuple[Operator, ...]
    nodes: tuple[str, ...]
    source_size: int
    port: int = 0

    def __post_init__(self) -> None:
        size = check_whole(f"source_size of {self!r}", self.source_size, most=2**62, least=1)
        object.__setattr__(self, "source_size", size)
        for step in self.operators:
            if (expected := math.prod(step.input_shape)) != size:
                kind = type(step).__name__
                raise InputError(f"{self!r}: {size} elements arrive at the {kind}, which is for {expected}")
            size = math.prod(step.output_shape)

    def __repr__(self) -> str:
        through = ", ".join(type(o).__name__ for o in self.operators) or "one to one"
        return f"Connection({self.source!r} -> {self.target!r}, {through})"

    @property
    def target_size(self) -> int:
        """Neurons that the operators reach."""
        return math.prod(self.operators[-1].output_shape) if self.operators else self.source_size

    @property
    def delayed(self) -> bool:
        """Whether any spike takes time to arrive."""
        return any(isinstance(o, Delay | Synapses) and bool(np.any(o.seconds > 0)) for o in self.operators)

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """The operators without delays as one sparse matrix [n_target, n_source], without stored zeros."""
        product = sparse.csr_array(sparse.eye_array(self.source_size))
        for step in self.operators:
            if not isinstance(step, Delay):
                product = sparse.csr_array(step.matrix() @ product)
        product.eliminate_zeros()
        product.sort_indices()
        return product

    def synapses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Source neuron, target neuron, weight and delay of every synapse, see `synapses_of`."""
        return synapses_of(self.operators, self.source_size)

    @property
    def fan_out(self) -> np.ndarray:
        """Synapses of every source neuron: int64 [n_source].

        They are the non-zero entries of `matrix`; where delays between the operators differ, those of one delay.

        Counted without forming the matrix where no two paths can meet: through all operators but the last, every
        neuron has at most one successor, as in a pooling without overlap.
        """
        if any(isinstance(o, Delay) and len(np.unique(o.seconds)) > 1 for o in self.operators[1:-1]):
            return np.bincount(self.synapses()[0], minlength=self.source_size)
        linear = [o for o in self.operators if not isinstance(o, Delay)]
        if not linear:
            return np.ones(self.source_size, dtype=np.int64)
        columns = linear[-1].fan_out()
        if len(linear) == 1:
            return columns
        before_last = replace(self, operators=tuple(linear[:-1])).matrix.T.tocsr()
        if np.diff(before_last.indptr).max(initial=0) > 1:
            return np.bincount(self.matrix.indices, minlength=self.source_size)
        # With one successor at most, the entries are already in the order of the sources.
        total = np.zeros(self.source_size, dtype=np.int64)
        total[np.diff(before_last.indptr) == 1] = columns[before_last.indices]
        return total


@dataclass(frozen=True, eq=False, repr=False)
class Circuit:
    """A network of populations.

    Attributes:
        input: name of the input node.
        input_shape: the sensor, (C, H, W) or (N,).
        populations: in topological order (cycles closed by a delay are cut there), readout included; those of
            `EquationNeuron` in any order.
        connections: in the order of the graph's edges.
        output: name of the population that the output node reads; the input, in a circuit without populations.
        assumptions: one sentence for each fact that the file does not contain and that was assumed.
        time_step: of the tool that wrote the graph, in seconds of a recording; None where that is not known.
        readout_unit: what a readout of 1 in the tool's own units is here: the integral of a spike, where spikes arrive
            at the output node itself.

    Raises:
        InputError: for names that are no population's or that are given twice, connections that do not fit the sizes of
            their ends or leave a population that never fires, and ports that do not exist.
    """

    input: str
    input_shape: tuple[int, ...]
    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    output: str
    assumptions: tuple[str, ...] = ()
    time_step: float | None = None
    readout_unit: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", _shape(self.input_shape, f"the input {self.input!r}"))
        sizes = {self.input: self.input_size}
        for population in self.populations:
            if population.name in sizes:
                raise InputError(f"{population.name!r} names two parts of the circuit; every name may be used once")
            sizes[population.name] = population.size
        if self.output not in (self.population or sizes):
            raise InputError(f"the output {self.output!r} must be a population; there are {listed(self.population)}")
        for c in self.connections:
            for end, size, known in (
                (c.source, c.source_size, sizes),
                (c.target, c.target_size, self.population),
            ):
                if end not in known:
                    raise InputError(f"{c!r}: there is no population {end!r}; there are {listed(known)}")
                if size != sizes[end]:
                    raise InputError(f"{c!r}: it has {size} elements where {end!r} has {sizes[end]}")
            rule = self.population[c.target].rule
            check_whole(f"port of {c!r}", c.port, most=len(getattr(rule, "states", "v")) - 1, least=0)
            source = self.population.get(c.source)
            if source is not None and source.rule.threshold is None and not isinstance(source.rule, EquationNeuron):
                raise InputError(f"{c!r}: {c.source!r} has no threshold, and nothing leaves it")

    def __repr__(self) -> str:
        neurons = sum(population.size for population in self.populations)
        shape = "x".join(map(str, self.input_shape))
        return f"Circuit({shape} inputs, {len(self.populations)} populations, {neurons:,} neurons)"

    def _repr_html_(self) -> str:
        rows = [("population", "shape", "rule", "input from", "synapses")]
        for population in self.populations:
            into = self.into(population.name)
            rule = type(population.rule).__name__ + ("" if population.rule.fires else ", never fires")
            synapses = sum(int(connection.fan_out.sum()) for connection in into)
            rows.append(
                (
                    population.name,
                    "x".join(map(str, population.shape)),
                    rule + (", the readout" if population.name == self.output else ""),
                    ", ".join(connection.source for connection in into),
                    f"{synapses:,}",
                )
            )
        return html_repr.heading(repr(self)) + html_repr.table(rows)

    @property
    def input_size(self) -> int:
        return int(np.prod(self.input_shape, dtype=np.int64))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was computed from them cannot be pickled, and is computed again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def population(self) -> Mapping[str, Population]:
        """Populations by name."""
        return MappingProxyType({p.name: p for p in self.populations})

    @property
    def readout(self) -> Population:
        """The population that the output node reads."""
        return self.population[self.output]

    def input_spikes(
        self, recording: np.ndarray, duration: float | None = None, name: str = "recording"
    ) -> InputSpikes:
        """The input spikes of a recording, see `spikes.input_spikes`.

        Raises:
            InputError: as `spikes.input_spikes`, and for a run that is shorter than one time step of the tool.
        """
        spikes, step = input_spikes(recording, self.input_shape, duration, name), self.time_step
        if step is not None and spikes.duration < step * (1 - 1e-9):
            raise InputError(
                f"{name}: the run lasts {spikes.duration:g} s, less than one time step of the tool, {step:g} s of the "
                f"recording; pass the seconds of the recording per time step, time_per_step= (--time-per-step), or a "
                f"longer duration"
            )
        return spikes

    @property
    def sums_up(self) -> bool:
        """Whether the readout ends as the sum of its arrivals (`IF.accumulates`)."""
        return self.readout.rule.accumulates

    def sum_of_arrivals(self, counts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The final value of a readout that sums up: float64 [its neurons].

        Args:
            counts: spikes per neuron by source name (the input included), of any shape.
        """
        total = np.zeros(self.readout.size)
        for connection in self.into(self.output):
            total += connection.matrix @ np.ravel(counts[connection.source])
        return total * np.broadcast_to(self.readout.rule.gain, self.readout.shape).ravel()

    def without_readout(self) -> Circuit:
        """The same network up to its readout, which must not feed any other population."""
        populations = tuple(p for p in self.populations if p.name != self.output)
        connections = tuple(c for c in self.connections if self.output not in (c.source, c.target))
        return replace(self, populations=populations, connections=connections, output=populations[-1].name)

    def into(self, target: str) -> tuple[Connection, ...]:
        """The connections that end in ``target``."""
        return tuple(c for c in self.connections if c.target == target)

    @cached_property
    def fan_out(self) -> Mapping[str, np.ndarray]:
        """Synapses (non-zero entries of the matrices) that one spike reaches: int64 [n], by source name.

        The input is the first source; the populations follow in their order.
        """
        sizes = {self.input: self.input_size} | {p.name: p.size for p in self.populations}
        reached = {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
        for connection in self.connections:
            reached[connection.source] += connection.fan_out
        return MappingProxyType(reached)

    def synops(self, counts: Mapping[str, np.ndarray]) -> int:
        """Synaptic operations: every spike times the synapses it reaches.

        Args:
            counts: spikes per neuron by source name (the input included), any integer arrays of the sources' sizes.

        Raises:
            InputError: for more than 2**62 of them.
        """
        return sum(
            synaptic_operations(np.ravel(counts[name]), fan) for name, fan in self.fan_out.items() if name in counts
        )


def _shape(shape: Any, what: str) -> tuple[int, ...]:
    """A shape as integers of Python.

    Raises:
        InputError: unless it is a list of whole numbers >= 1.
    """
    try:
        sides = tuple(operator.index(side) for side in shape)
    except TypeError:
        sides = (0,)
    if min(sides, default=1) < 1:
        raise InputError(f"{what} needs a shape of whole numbers >= 1, such as (2, 34, 34), not {shown(shape)}")
    return sides


def _fits(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a parameter can be broadcast to the shape of a population."""
    return len(given) <= len(shape) and all(a in (1, b) for a, b in zip(given[::-1], shape[::-1], strict=False))


def synaptic_operations(spikes: np.ndarray, fan_out: np.ndarray) -> int:
    """Spikes [n] times the synapses that each reaches [n], summed.

    Raises:
        InputError: for more than 2**62.
    """
    if spikes.max(initial=0) > MOST_SUMMED and spikes.astype(np.float64) @ fan_out > MAX_SPIKES:
        raise InputError("a run with more than 2**62 synaptic operations; check weights and spike_integral")
    return int(spikes @ fan_out)
