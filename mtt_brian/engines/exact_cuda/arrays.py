"""A lowered circuit in the form that the kernel reads, and the size of a run's state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import MAX_SPIKES, MAX_SPIKES_AT_ONCE
from mtt_brian.engines.exact_cuda.exponential import powers_of_two
from mtt_brian.engines.lowered.arrays import LoweredCircuit
from mtt_brian.engines.lowered.packing import unpack
from mtt_brian.engines.lowered.rules import CURRENT, DRIFT, LEAK, LINE, LINEAR, MANY, ONE, STATIC, ZERO
from mtt_brian.errors import InputError

#: Flags of a population in the kernels.
BOUNDED, SATURATES, RECORDED, MARKED, FIRES = 1, 2, 4, 8, 16
#: Why a run has ended early: `exact` cannot run it either; the queue of single events has no room.
FAILED, QUEUE_FULL = 1, 2
#: What the kernel does not compute, by the kind of dynamics.
_REFUSED = {LINE: "a bias", CURRENT: "a synaptic current", LINEAR: "a rule of its own"}
#: Bytes of a spike, and of a hit with its amount, of ``layers.cu``.
SPIKE_BYTES, HIT_BYTES = 16, 24
_PARAMETERS = ("threshold", "lower", "upper", "v_reset", "rest", "tau", "gain")
_TOO_LARGE = "engine='exact-cuda' runs networks of fewer than 2**31 weights and indices; use engine='exact'"


@dataclass(frozen=True)
class Block:
    """The shape of a block: in ``queue.cu`` it runs a recording, in ``layers.cu`` a part of many.

    Attributes:
        threads: a power of two.
        channels: neurons of a position that a thread updates at a time, up to 32; in ``queue.cu`` neighbours, and a
            power of two.
        resident: blocks on a multiprocessor at a time, which limits the registers of a thread (``queue.cu``).
    """

    threads: int
    channels: int
    resident: int = 1

    @property
    def tile(self) -> int:
        """Hits that shared memory holds, a multiple of four."""
        return max(4, 2 * self.threads)

    def log_width(self, length: int) -> int:
        """Logarithm of the threads that share ``length`` neurons of a position."""
        wanted = (max(1, -(-int(length) // self.channels)) - 1).bit_length()
        return min(self.threads.bit_length() - 1, wanted)


#: Blocks of ``layers.cu``, for units of fewer neurons than `_WIDE` and of more.
_NARROW_UNITS, _WIDE_UNITS = Block(128, 1), Block(128, 4)
_WIDE = 128
#: A unit has at least this many neurons if the network has blocks of weights as long.
_LEAST = 32
#: Most units of a population, and most counters of its hits in a recording; most parts of a recording.
_MOST_UNITS, _MOST_COUNTERS, _MOST_PARTS = 4096, 2**17, 128
#: A warp for small networks; for large ones more threads, each with more reads under way.
_SMALL, _LARGE = Block(32, 1, 32), Block(256, 4, 3)
#: Targets of one spike from which a network is large.
_MANY_TARGETS = 512


@dataclass(frozen=True)
class Units:
    """Blocks of neighbouring neurons of a population, whose hits are listed together (``layers.cu``).

    Attributes:
        size: neurons of a unit.
        number: of units.
        hits: of one spike, of any source, at most.
    """

    size: int
    number: int
    hits: int

    @property
    def parts(self) -> int:
        """Parts of a recording whose hits are listed at the same time."""
        return max(1, min(_MOST_PARTS, _MOST_COUNTERS // self.number))


@dataclass(frozen=True, eq=False)
class KernelArrays:
    """The arrays of a network in the order of the kernel's arguments, and the sizes of a run.

    Attributes:
        arrays: the first arguments of the kernel.
        block: the shape of a block.
        units: of every population, the input included.
        most_into: connections into one population at most.
        fires: by population, the input included.
        sources: by population, the source of each connection into it.
        last_target: by population, the last one that its spikes reach; 0 for none.
        populations, neurons, groups: numbers of populations (the input included), neurons, update groups.
        most_new, most_caused: records of one instant, and spikes that one event causes, at most.
        queued: whether single events are processed one after another.
        readout: neurons of the output.
        output: number of the output population.
        moves, marked, ungrouped: whether any population moves between arrivals, is marked, or has update groups of one
            neuron.
    """

    arrays: tuple[np.ndarray, ...]
    block: Block
    units: tuple[Units, ...]
    most_into: int
    fires: np.ndarray
    sources: tuple[tuple[int, ...], ...]
    last_target: np.ndarray
    populations: int
    neurons: int
    groups: int
    most_new: int
    most_caused: int
    queued: bool
    readout: int
    output: int
    moves: bool
    marked: bool
    ungrouped: bool

    @property
    def bytes(self) -> int:
        """Memory of the network."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def bytes_per_recording(self) -> int:
        """Memory of one run, without its input and its spikes."""
        if self.queued:
            per_neuron = 32 + 8 * self.moves + 4 * self.marked
            return per_neuron * self.neurons + 8 * (self.groups + self.readout + self.room) + 116
        counters = max(4 * units.number * units.parts for units in self.units)
        return (16 + 8 * self.moves) * self.neurons + counters + 8 * self.readout + 32 * self.populations

    @property
    def bytes_per_event(self) -> int:
        """Memory of an input spike: that of all spikes and hits that it causes if every population fires as often."""
        if self.queued:
            return 24
        return 24 + SPIKE_BYTES * (self.populations + 1) + HIT_BYTES * max(units.hits for units in self.units)

    @property
    def pitch(self) -> int:
        """Potentials of a run: an even number, so that those of every run begin at a multiple of 16 bytes."""
        return self.neurons + self.neurons % 2

    @property
    def room(self) -> int:
        """Events that the queue of a run holds."""
        return 4 * self.most_caused if self.queued else 0

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return 56 * self.block.tile + 16 + 4 * (2 + 2 * self.populations)

    @property
    def single(self) -> bool:
        """Whether the weights are stored as float32."""
        return any(array.dtype == np.float32 for array in self.arrays)

    def macros(self) -> dict[str, str]:
        """Names that the kernel's source leaves open."""
        codes = {"STATIC": STATIC, "DRIFT": DRIFT, "LEAK": LEAK, "ONE": ONE, "MANY": MANY, "ZERO": ZERO}
        flags = {
            "BOUNDED": BOUNDED, "SATURATES": SATURATES, "RECORDED": RECORDED, "MARKED": MARKED, "FIRES": FIRES,
        }  # fmt: skip
        return {
            "WEIGHT": "float" if self.single else "double",
            "MAX_SPIKES_AT_ONCE": repr(float(MAX_SPIKES_AT_ONCE)),
            "MAX_SPIKES": f"{MAX_SPIKES}LL",
            "ANY_MOVES": str(int(self.moves)),
            "ANY_SINGLE": str(int(self.ungrouped)),
            "ANY_MARKED": str(int(self.marked)),
            "FAILED": str(FAILED),
            "THREADS": str(self.block.threads),
            "CHANNELS": str(self.block.channels),
            "RESIDENT": str(self.block.resident),
            "MOST_INTO": str(self.most_into),
            "QUEUE_FULL": str(QUEUE_FULL),
            **{name: str(value) for name, value in (codes | flags).items()},
        }


def kernel_arrays(
    circuit: Circuit, lowered: LoweredCircuit, queued: bool = False, block: Block | None = None
) -> KernelArrays:
    """The arrays of a network.

    Args:
        circuit: the network.
        lowered: the same as flat arrays.
        queued: whether single events are processed one after another (``order="fifo"``).
        block: its shape; None: by the size of the network.

    Raises:
        InputError: for a network that the kernel cannot run; the message names the population or the connection.
    """
    lowered = _even_parameters(lowered)
    names = [circuit.input, *(p.name for p in circuit.populations)]
    _check_populations(lowered, names)
    position, first_weight = unpack(lowered.stencil)
    _check_connections(lowered, names, position)
    connections = _connections(lowered, queued, block or _SMALL)
    units = tuple(
        _units(connections[connections[:, 1] == p], int(size)) for p, size in enumerate(np.diff(lowered.offset))
    )
    if block is None and queued:
        most = int((connections[:, 6].astype(np.int64) * connections[:, 8]).max(initial=1))  # targets of one entry
        block = _SMALL if most < _MANY_TARGETS else _LARGE
        connections = _connections(lowered, queued, block)
    elif block is None:
        block = _WIDE_UNITS if any(of.size >= _WIDE for of in units) else _NARROW_UNITS
    fires = np.array([False, *(p.rule.fires for p in circuit.populations)])
    flags = (
        BOUNDED * lowered.bounded
        + SATURATES * lowered.saturates
        + RECORDED * lowered.recorded
        + MARKED * lowered.marked
        + FIRES * fires
    )
    populations = _rows(
        *(lowered.offset, lowered.group_offset, np.append(lowered.group_size, 1)),
        np.array([*(block.log_width(size * block.channels) for size in lowered.group_size), 0]),
        *(np.append(column, 0) for column in (lowered.kind, lowered.rule, flags)),
        *(np.append(column, 0) for column in (lowered.parameter_offset, lowered.parameter_stride)),
        lowered.out if queued else np.searchsorted(np.sort(lowered.target), np.arange(len(names) + 1)),
        *np.array([*map(_channels_and_pixels, np.split(lowered.flat, lowered.offset[1:-1])), (1, 1)]).T,
        np.array([*(of.size for of in units), 1]),
    )
    factor = lowered.entry_factor if lowered.scaled.any() else np.ones(len(lowered.entry_target) // 4)
    return KernelArrays(
        arrays=(
            *(populations, connections),
            *(_int32(lowered.entry_begin), _int32(lowered.entry_target), factor),
            *(_rows(position, first_weight), lowered.weight),
            *(getattr(lowered, name) for name in _PARAMETERS),
            powers_of_two(),
            np.concatenate([*circuit.fan_out.values()]),
        ),
        block=block,
        units=units,
        most_into=int(np.bincount(lowered.target, minlength=1).max(initial=1)),
        fires=fires,
        sources=tuple(tuple(connections[connections[:, 1] == p, 0].tolist()) for p in range(len(names))),
        last_target=np.array([connections[connections[:, 0] == p, 1].max(initial=0) for p in range(len(names))]),
        populations=len(names),
        neurons=int(lowered.offset[-1]),
        groups=int(lowered.group_offset[-1]),
        most_new=int(lowered.max_new[0]),
        most_caused=int(lowered.max_new[2]),
        queued=queued,
        readout=circuit.readout.size,
        output=names.index(circuit.output),
        moves=bool(np.any(lowered.kind != STATIC)),
        marked=bool(lowered.marked.any()),
        ungrouped=bool(np.any(lowered.group_size[1:] == 1)),
    )


def _units(into: np.ndarray, size: int) -> Units:
    """The units of a population of ``size`` neurons, from the rows of `_connections` into it.

    A unit is as long as the blocks of weights: then each hit is one of one unit. Of several lengths the shortest one
    counts, from `_LEAST` on, and a longer hit is listed in all units that it touches.
    """
    lengths = into[:, 8].astype(np.int64)
    long = lengths[lengths >= _LEAST]
    unit = int(long.min()) if len(long) else int(lengths.max(initial=1))
    while -(-size // unit) > _MOST_UNITS:
        unit *= 2
    hits = into[:, 5].astype(np.int64) * into[:, 6] * -(-lengths // unit)
    return Units(unit, -(-size // unit), int(hits.max(initial=0)))


def _even_parameters(lowered: LoweredCircuit) -> LoweredCircuit:
    """The same network; the parameters of every population begin at an even number, a multiple of 16 bytes."""
    begin = lowered.parameter_offset
    lengths = np.diff(begin, append=len(lowered.threshold))
    offset = np.cumsum(lengths + lengths % 2) - (lengths + lengths % 2)
    place = np.arange(len(lowered.threshold)) + np.repeat(offset - begin, lengths)
    spread = {name: np.zeros(offset[-1] + lengths[-1]) for name in _PARAMETERS}
    for name, values in spread.items():
        values[place] = getattr(lowered, name)
    return lowered._replace(parameter_offset=offset, **spread)


def _check_populations(lowered: LoweredCircuit, names: list[str]) -> None:
    for p, name in enumerate(names):
        reason = _REFUSED.get(int(lowered.kind[p])) or ("a refractory period" if lowered.refractory[p] else None)
        if lowered.crosses[p] and reason is None:
            reason = "a leak towards a potential above its threshold"
        if reason is not None:
            raise InputError(
                f"population {name!r} has {reason}, which engine='exact-cuda' does not compute; use engine='exact'"
            )


def _check_connections(lowered: LoweredCircuit, names: list[str], position: np.ndarray) -> None:
    """Refuses delays, and synapses of one source that reach a neuron twice, which the kernel would add in any order."""
    entry_target = lowered.entry_target.reshape(-1, 4)
    for c, target in enumerate(lowered.target):
        source = int(np.searchsorted(lowered.out, c, side="right")) - 1
        where = f"the connection {names[source]!r} -> {names[target]!r}"
        if lowered.delayed[c]:
            raise InputError(f"{where} has a delay, which engine='exact-cuda' does not compute; use engine='exact'")
        last = lowered.source_base[c] + lowered.offset[source + 1] - lowered.offset[source]
        entries = slice(lowered.entry_begin[lowered.source_base[c]], lowered.entry_begin[last])
        begins, ends = np.unique(entry_target[entries, :2], axis=0).T
        twice = np.append(False, position[1:] == position[:-1])  # rows of an entry are sorted by position
        twice[begins[begins < len(twice)]] = False
        pairs = np.concatenate([[0], np.cumsum(twice)])
        if np.any(pairs[ends] > pairs[begins]):
            raise InputError(
                f"{where} has several synapses between the same two neurons, which engine='exact-cuda' does not "
                "compute; use engine='exact'"
            )


def _connections(lowered: LoweredCircuit, queued: bool, block: Block) -> np.ndarray:
    """The connections, int32 [C, 11]: by target, those into one target in the order in which its jumps are added; if
    ``queued`` by source, those of one source in the order in which they are processed.

    Columns: source and target population; whether it is the last one of its source into its target; row of its first
    source in ``entry_begin``; first entry, if every source has one, else -1; entries of a source and rows of an entry
    at most; target neurons per position; weights per block; logarithm of the threads that share a block of weights;
    whether a thread always has ``block.channels`` targets, and they, their weights and parameters begin at a
    multiple of 16 bytes.
    """
    sources = np.searchsorted(lowered.out, np.arange(len(lowered.target)), side="right") - 1
    entry_target = lowered.entry_target.reshape(-1, 4)
    _, first_weight = unpack(lowered.stencil)
    columns = []
    for source, target, closes, base, first, stride, length in zip(
        *(sources, lowered.target, lowered.closes, lowered.source_base, lowered.one_each),
        *(lowered.channel_stride, lowered.block_length),
        strict=True,
    ):
        size = lowered.offset[source + 1] - lowered.offset[source]
        begin = lowered.entry_begin[base : base + size + 1]
        entries = np.diff(begin)
        used = entry_target[begin[0] : begin[-1]]
        rows = np.diff(used[:, :2], axis=1)
        most_entries, most_rows = int(entries.max(initial=0)), int(rows.max(initial=1))
        if size * most_entries * most_rows >= 2**31:
            raise InputError(_TOO_LARGE)
        blocks = first_weight[used[:, 0].min(initial=0) : used[:, 1].max(initial=0)]
        doubles = (stride, used[:, 2], lowered.offset[target], lowered.parameter_offset[target])
        aligned = (
            length % block.channels == 0
            and _multiples(min(block.channels, 2), *doubles)
            and _multiples(min(block.channels, 16 // lowered.weight.itemsize), used[:, 3], blocks)
        )
        width = block.log_width(length)
        columns.append((source, target, closes, base, first, most_entries, most_rows, stride, length, width, aligned))
    table = _int32(np.array(columns, dtype=np.int64).reshape(-1, 11))
    return table if queued else np.ascontiguousarray(table[np.argsort(lowered.target, kind="stable")])


def _multiples(of: int, *numbers: np.ndarray | int) -> bool:
    return not any(np.any(np.asarray(some) % of) for some in numbers)


def _channels_and_pixels(flat: np.ndarray) -> tuple[int, int]:
    """Channels and pixels of a population whose neurons, numbered channels last, have these indices in C order."""
    pixels = int(flat[1]) if len(flat) > 1 else 1
    channels = len(flat) // pixels
    assert np.array_equal(flat, np.arange(channels * pixels).reshape(channels, pixels).T.ravel())
    return channels, pixels


def _rows(*columns: np.ndarray) -> np.ndarray:
    return _int32(np.stack(columns, axis=1))


def _int32(array: np.ndarray) -> np.ndarray:
    if array.max(initial=0) >= 2**31:
        raise InputError(_TOO_LARGE)
    return np.ascontiguousarray(array, dtype=np.int32)
