"""A circuit as flat arrays, the form that the kernels read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.circuit.model import Circuit, Connection
from mtt_brian.engines.lowered.connectivity import LoweredConnection, layout_of, lower_connection
from mtt_brian.engines.lowered.populations import LoweredPopulation, lower_input, lower_population
from mtt_brian.engines.lowered.rules import CURRENT, LINEAR
from mtt_brian.errors import InputError

#: Fewer weights are not stored in float32: they fit a cache in float64 (256 KB), and kernels, which take seconds to
#: compile, are compiled for one type.
NARROWED = 1 << 15


class LoweredCircuit(NamedTuple):
    """Arrays of a circuit. Population 0 is the input; neurons, update groups and parameters are numbered across all.

    Within a population neurons are numbered channels last. An update group is one neuron, or all channels of a pixel
    (`populations`). What a spike of neuron s (C order) of population p changes in the state y:

        out[p] : out[p + 1]                                         connections c of p
          │
          └─ entry_begin[source_base[c] + s] : entry_begin[source_base[c] + s + 1]      entries e of s through c
               │
               ├─ entry_factor[e], entry_delay[e]
               └─ entry_target[4 e : 4 e + 4] = begin, end, shift, first
                    │
                    └─ stencil[begin : end] = position, block      packed; one row per target position
                         │
                         ├─ weights  weight[first + block + k]                           k < block_length[c]
                         └─ added to y[jump_offset[q] + position * channel_stride[c] + shift + k],  q = target[c]

    Attributes:
        offset, group_offset: first neuron and first update group of every population [P + 1].
        group_size: neurons per update group [P].
        kind, rule: codes of the dynamics and of what a neuron at threshold does (`rules`) [P].
        bounded, saturates, crosses, refractory, recorded: flags [P].
        marked: whether neurons share update groups although some weights are 0, and a neuron that is at its threshold
            after one spike fires at the next arrival through a non-zero weight: arrivals at groups with such neurons
            are marked [P].
        rate_limited: whether a population can fire without an input event, so that its rate is checked [P].
        max_rate: spikes per second that such a neuron may fire [1].
        start: the state at time 0, potentials and currents of all neurons.
        max_new: upper bounds: records of one instant, arrivals that it delays, spikes that one event causes [3].
        jump_offset: where in the state the jumps of a population go, its potentials or its currents [P].
        flat: C-order index within its population of every neuron [N].
        group_step, channel_step: for populations with several neurons per update group: neuron k of group g has the
            C-order index ``g * group_step + k * channel_step`` [P].
        parameter_offset, parameter_stride: neuron k of population p has the parameters at offset + stride * k (+ its
            place in the update group), so that parameters shared by all pixels are stored once [P].
        threshold, lower, upper, v_reset, rest, tau, tau_syn, r, peak, gain, dead_time: parameters; ``rest`` is the
            slope of an IF, ``peak`` the highest potential that a current of 1 / r causes.
        out: first connection of every source [P + 1].
        target, source_base, channel_stride, block_length: per connection: target population, row of its first source in
            ``entry_begin``, target neurons per position, weights per block [C].
        delayed, closes: per connection: whether any arrival is delayed; whether it is the last one of its source into
            its target [C].
        one_each: per connection: its first entry, if every source has exactly one entry, in the order of the sources;
            else -1 [C].
        scaled: per connection: whether any of its factors is not 1 [C].
        entry_begin: first entry of every source neuron (in C order), one more per connection to close the last; int32
            if all numbers of ``entry_begin`` and ``entry_target`` fit, else int64.
        entry_target: the entries, four numbers each: begin and end of the rows in ``stencil``, first target channel,
            first weight; of the type of ``entry_begin``.
        entry_factor, entry_delay: the entries' factors (empty if all are 1) and seconds (empty if nothing is delayed).
        stencil: target position and offset of its block of weights, packed (`packing`).
        weight: all kernels and matrices; float32 if there are `NARROWED` or more and that loses nothing, as for weights
            that were trained in float32, else float64. Kernels convert each weight to float64 before they use it.
    """

    offset: np.ndarray
    group_offset: np.ndarray
    group_size: np.ndarray
    kind: np.ndarray
    rule: np.ndarray
    bounded: np.ndarray
    saturates: np.ndarray
    crosses: np.ndarray
    refractory: np.ndarray
    recorded: np.ndarray
    marked: np.ndarray
    rate_limited: np.ndarray
    max_rate: np.ndarray
    start: np.ndarray
    max_new: np.ndarray
    jump_offset: np.ndarray
    flat: np.ndarray
    group_step: np.ndarray
    channel_step: np.ndarray
    parameter_offset: np.ndarray
    parameter_stride: np.ndarray
    threshold: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    v_reset: np.ndarray
    rest: np.ndarray
    tau: np.ndarray
    tau_syn: np.ndarray
    r: np.ndarray
    peak: np.ndarray
    gain: np.ndarray
    dead_time: np.ndarray
    out: np.ndarray
    target: np.ndarray
    source_base: np.ndarray
    channel_stride: np.ndarray
    block_length: np.ndarray
    delayed: np.ndarray
    closes: np.ndarray
    one_each: np.ndarray
    scaled: np.ndarray
    entry_begin: np.ndarray
    entry_target: np.ndarray
    entry_factor: np.ndarray
    entry_delay: np.ndarray
    stencil: np.ndarray
    weight: np.ndarray


def lower_circuit(
    circuit: Circuit, recorded: frozenset[str], one_spike: bool, max_rate: float = np.inf
) -> LoweredCircuit:
    """A circuit as flat arrays.

    Args:
        circuit: the network.
        recorded: names of the populations whose spikes are kept.
        one_spike: whether a neuron fires at most one spike per arrival whatever its rule allows (``order="fifo"``).
        max_rate: spikes per second of a neuron above which a run ends with an error, see `ExactEngine`.

    Raises:
        InputError: for a connection that closes a loop without a delay, and for a rule whose linear systems cannot be
            run.
    """
    number = {name: k for k, name in enumerate([circuit.input, *(p.name for p in circuit.populations)])}
    connections = _ordered(circuit, number)
    populations, lowered = _lower(circuit, connections, number, one_spike)
    sources = np.array([number[c.source] for c in connections], dtype=np.int64)
    targets = np.array([number[c.target] for c in connections], dtype=np.int64)
    delayed = np.array([bool(np.any(c.delay > 0)) for c in lowered], dtype=bool)
    recorded_flags = np.array([False, *(p.name in recorded for p in circuit.populations)])
    crosses = np.array([False, *(p.rule.crosses for p in populations[1:])])
    sizes = np.array([p.size for p in populations])
    offset, group_size = _offsets(sizes), np.array([p.group_size for p in populations])
    jump_offset, start = _states(populations, offset)
    return LoweredCircuit(
        offset=offset,
        group_offset=_offsets(sizes // group_size),
        group_size=group_size,
        kind=np.array([p.kind for p in populations]),
        rule=np.array([p.reset for p in populations]),
        bounded=np.array([p.rule.lower_bound is not None for p in populations]),
        saturates=np.array([p.rule.upper_bound is not None for p in populations]),
        crosses=crosses,
        refractory=np.array([bool(np.any(p.rule.refractory)) for p in populations]),
        recorded=recorded_flags,
        marked=np.array([p.marked for p in populations]),
        rate_limited=crosses | np.isin(np.arange(len(populations)), targets[delayed]),
        max_rate=np.array([max_rate]),
        start=start,
        max_new=np.array(
            [sizes[recorded_flags].sum(), sum(int((c.delay > 0).sum()) for c in lowered), sizes[1:].sum()]
        ),
        jump_offset=jump_offset,
        flat=np.concatenate([p.layout.flat for p in populations]).astype(np.int32),
        group_step=np.array([1 if p.layout.channels_first else p.group_size for p in populations]),
        channel_step=np.array([p.layout.pixels if p.layout.channels_first else 1 for p in populations]),
        **_parameter_columns(populations),
        out=np.searchsorted(sources, np.arange(len(populations) + 1)),
        target=targets,
        delayed=delayed,
        closes=np.append((np.diff(sources) != 0) | (np.diff(targets) != 0), True),
        **_connection_columns(lowered, sizes[sources], bool(delayed.any())),
    )


def _ordered(circuit: Circuit, number: dict[str, int]) -> list[Connection]:
    """The connections by source; those into one target follow each other, in the order of the first of them."""
    first: dict[tuple[str, str], int] = {}
    for k, c in enumerate(circuit.connections):
        first.setdefault((c.source, c.target), k)
    return sorted(circuit.connections, key=lambda c: (number[c.source], first[c.source, c.target]))


def _lower(
    circuit: Circuit, connections: Sequence[Connection], number: dict[str, int], one_spike: bool
) -> tuple[list[LoweredPopulation], list[LoweredConnection]]:
    """The populations, the input first, and the connections.

    With more than one neuron per update group the gain is multiplied into the weights; a neuron of its own multiplies
    the jumps by its gain when they arrive.
    """
    layouts = {p.name: layout_of(p, circuit.into(p.name)) for p in circuit.populations}
    lowered = [lower_connection(c, layouts[c.target]).narrowed() for c in connections]
    for c, arrays in zip(connections, lowered, strict=True):
        if number[c.target] <= number[c.source] and not np.all(arrays.delay > 0):
            raise InputError(f"the connection {c.source!r} -> {c.target!r} closes a loop without a delay")
    populations = [lower_input(circuit.input_size)]
    for p in circuit.populations:
        incoming = [arrays for c, arrays in zip(connections, lowered, strict=True) if c.target == p.name]
        populations.append(lower_population(p, layouts[p.name], incoming, one_spike))
    gains = [populations[number[c.target]].gain for c in connections]
    return populations, [c if g is None else c.scaled(g).narrowed() for c, g in zip(lowered, gains, strict=True)]


def _states(populations: Sequence[LoweredPopulation], offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in the state the jumps of every population go [P], and the state at time 0.

    Potentials come first, then currents. The other states of linear systems lie a fixed stride apart behind all of
    these; the last state of a system is the potential.
    """
    kinds = np.array([p.kind for p in populations])
    currents = _offsets(np.where(kinds == CURRENT, np.diff(offset), 0))
    jump_offset = np.where(kinds == CURRENT, offset[-1] + currents[:-1], offset[:-1])
    stride = int(offset[-1] + currents[-1])
    states = np.array([p.states for p in populations])
    jump_offset = np.where(kinds == LINEAR, jump_offset + (states - 1) * stride, jump_offset)
    start = np.zeros(stride * states.max())
    for population, at in zip(populations, jump_offset, strict=True):
        if population.kind == CURRENT:
            start[at : at + population.size] = population.start
    return jump_offset, start


def _parameter_columns(populations: Sequence[LoweredPopulation]) -> dict[str, np.ndarray]:
    """Parameters of all populations, and where those of each begin."""
    lengths = np.array([len(p.parameters["threshold"]) for p in populations])
    sizes = np.array([p.size for p in populations])
    return {
        "parameter_offset": _offsets(lengths)[:-1],
        "parameter_stride": (lengths == sizes).astype(np.int64),
        **{name: np.concatenate([p.parameters[name] for p in populations]) for name in populations[0].parameters},
    }


def _connection_columns(
    lowered: Sequence[LoweredConnection], source_sizes: np.ndarray, any_delayed: bool
) -> dict[str, np.ndarray]:
    """Index, entries, stencils and weights of all connections, in the numbering of `LoweredCircuit`."""
    first_entry = _offsets([len(c.pixel) for c in lowered])
    first_row = _offsets([len(c.position) for c in lowered])
    first_weight = _offsets([c.weight.size for c in lowered])
    each = list(zip(lowered, source_sizes, first_entry, first_row, first_weight, strict=False))
    index = (entry + np.searchsorted(c.source, np.arange(size + 1)) for c, size, entry, _, _ in each)
    number = np.int32 if max(first_entry[-1], first_row[-1], first_weight[-1]) < 2**31 else np.int64
    targets = (c.entry_targets(row, weight, number) for c, _, _, row, weight in each)
    scaled = np.array([bool(np.any(c.factor != 1)) for c in lowered], dtype=bool)
    any_scaled = bool(scaled.any())
    factors = [c.factor if any_scaled else c.factor[:0] for c in lowered]
    delays = [c.delay if any_delayed else c.delay[:0] for c in lowered]
    one_each = [entry if np.array_equal(c.source, np.arange(size)) else -1 for c, size, entry, _, _ in each]
    return {
        "source_base": _offsets(source_sizes + 1)[:-1],
        "channel_stride": np.array([c.channel_stride for c in lowered], dtype=np.int64),
        "block_length": np.array([c.block_length for c in lowered], dtype=np.int64),
        "one_each": np.array(one_each, dtype=np.int64),
        "scaled": scaled,
        "entry_begin": _joined(index, source_sizes + 1, number),
        "entry_target": _joined(targets, 4 * np.diff(first_entry), number),
        "entry_factor": _joined(factors, np.diff(first_entry) * any_scaled, np.float64),
        "entry_delay": _joined(delays, np.diff(first_entry) * any_delayed, np.float64),
        "stencil": _joined((c.stencil for c in lowered), np.diff(first_row), np.int64),
        "weight": _joined((c.weight for c in lowered), np.diff(first_weight), _type_of_weights(lowered)),
    }


def _type_of_weights(lowered: Sequence[LoweredConnection]) -> np.dtype[Any]:
    few = sum(c.weight.size for c in lowered) < NARROWED
    return np.result_type(np.float64 if few else np.float32, *(c.weight for c in lowered))


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(parts: Iterable[np.ndarray], sizes: np.ndarray, dtype: Any) -> np.ndarray:
    """All parts in C order, one after the other; only one of them is in memory."""
    joined = np.empty(int(np.sum(sizes)), dtype)
    end = 0
    for part, size in zip(parts, sizes, strict=True):
        joined[end : end + size].reshape(part.shape)[...] = part
        end += size
    return joined
