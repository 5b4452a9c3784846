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

#: Flags of a population in `kernel.cu`.
BOUNDED, SATURATES, RECORDED, MARKED, FIRES = 1, 2, 4, 8, 16
#: What the kernel does not compute, by the kind of dynamics.
_REFUSED = {LINE: "a bias", CURRENT: "a synaptic current", LINEAR: "a rule of its own"}
#: Threads of a block: as many as a warp at least, and one for every eighth target of the largest arrival.
_WARP, _MOST_THREADS, _TARGETS_PER_THREAD = 32, 256, 8


@dataclass(frozen=True, eq=False)
class KernelArrays:
    """The arrays of a network in the order of the kernel's arguments, and the sizes of a run.

    Attributes:
        arrays: the first arguments of the kernel.
        threads: of a block.
        populations, neurons, groups, largest: numbers of populations (the input included), neurons, update groups, and
            neurons of the largest population.
        most_new: records of one instant at most.
        readout: neurons of the output.
        output: number of the output population.
        moves, marked: whether potentials move between arrivals; whether any population is marked.
    """

    arrays: tuple[np.ndarray, ...]
    threads: int
    populations: int
    neurons: int
    groups: int
    largest: int
    most_new: int
    readout: int
    output: int
    moves: bool
    marked: bool

    @property
    def bytes(self) -> int:
        """Memory of the network."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def bytes_per_recording(self) -> int:
        """Memory of the state of one run, without its input and its records."""
        per_neuron = 16 + 8 * self.moves + 4 * self.marked
        return per_neuron * self.neurons + 8 * self.groups + 16 * self.largest + 8 * self.readout + 64

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
            **{name: str(value) for name, value in (codes | flags).items()},
        }


def kernel_arrays(circuit: Circuit, lowered: LoweredCircuit, threads: int | None = None) -> KernelArrays:
    """The arrays of a network.

    Args:
        circuit: the network.
        lowered: the same as flat arrays.
        threads: of a block, a power of two; None: by the size of the network.

    Raises:
        InputError: for a network that the kernel cannot run; the message names the population or the connection.
    """
    names = [circuit.input, *(p.name for p in circuit.populations)]
    _check_populations(lowered, names)
    position, block = unpack(lowered.stencil)
    _check_connections(lowered, names, position)
    if threads is None:
        threads = _threads(lowered)
    sizes = np.diff(lowered.offset)
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
        np.append(_log_width(lowered.group_size, threads), 0),
        *(np.append(column, 0) for column in (lowered.kind, lowered.rule, flags)),
        *(np.append(column, 0) for column in (lowered.parameter_offset, lowered.parameter_stride)),
        lowered.out,
    )
    connections = _rows(
        *(lowered.target, lowered.source_base, lowered.channel_stride, lowered.block_length),
        _log_width(lowered.block_length, threads),
    )
    weight = lowered.weight.astype(np.float32)
    if not np.array_equal(weight, lowered.weight):
        weight = lowered.weight
    parameters = ("threshold", "lower", "upper", "v_reset", "rest", "tau", "gain")
    return KernelArrays(
        arrays=(
            *(populations, connections, lowered.flat.astype(np.int32)),
            *(_int32(lowered.entry_begin), _int32(lowered.entry_target), lowered.entry_factor),
            *(_rows(position, block), weight),
            *(getattr(lowered, name) for name in parameters),
            powers_of_two(),
        ),
        threads=threads,
        populations=len(names),
        neurons=int(lowered.offset[-1]),
        groups=int(lowered.group_offset[-1]),
        largest=int(sizes.max()),
        most_new=int(lowered.max_new[0]),
        readout=circuit.readout.size,
        output=names.index(circuit.output),
        moves=bool(np.any(lowered.kind != STATIC)),
        marked=bool(lowered.marked.any()),
    )


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
        if np.any(
            np.add.reduceat(np.append(twice, False), np.stack([begins, ends], axis=1).ravel())[::2][ends > begins]
        ):
            raise InputError(
                f"{where} has several synapses between the same two neurons, which engine='exact-cuda' does not "
                "compute; use engine='exact'"
            )


def _threads(lowered: LoweredCircuit) -> int:
    """Threads of a block, a power of two."""
    entry_target = lowered.entry_target.reshape(-1, 4)
    most = 1
    for c, base in enumerate(lowered.source_base):
        past = lowered.source_base[c + 1] if c + 1 < len(lowered.source_base) else len(lowered.entry_begin)
        entries = entry_target[lowered.entry_begin[base] : lowered.entry_begin[past - 1]]
        rows = (entries[:, 1] - entries[:, 0]).max(initial=0)
        most = max(most, int(rows * lowered.block_length[c]))
    wanted = 1 << (max(1, most // _TARGETS_PER_THREAD) - 1).bit_length()
    return min(_MOST_THREADS, max(_WARP, wanted))


def _log_width(lengths: np.ndarray, threads: int) -> np.ndarray:
    """Logarithm of the threads that share ``lengths`` neighbours: the next power of two, or all threads."""
    most = threads.bit_length() - 1
    return np.array([min(most, (int(length) - 1).bit_length()) for length in lengths], dtype=np.int64)


def _rows(*columns: np.ndarray) -> np.ndarray:
    return _int32(np.stack(columns, axis=1))


def _int32(array: np.ndarray) -> np.ndarray:
    if array.max(initial=0) >= 2**31:
        raise InputError(
            "engine='exact-cuda' runs networks of fewer than 2**31 weights and indices; use engine='exact'"
        )
    return np.ascontiguousarray(array, dtype=np.int32)
