"""Brian2 engines: what all of them share, and the one on the runtime device."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import brian2
import numpy as np
from brian2 import second
from brian2.devices.device import get_device
from brian2.utils.logger import catch_logs

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import InputSpikes, Spikes
from mtt_brian.engines.brian2 import compilers
from mtt_brian.engines.brian2.memory import (
    BYTES_PER_SYNAPSE,
    estimate,
    estimate_that_fits,
    refuse_what_needs_the_exact_engine,
)
from mtt_brian.engines.brian2.network import EventNetwork
from mtt_brian.engines.brian2.schedule import Playlist
from mtt_brian.engines.result import Result, recorded_populations, result_of
from mtt_brian.errors import InputError, check_whole

#: Brian2's own flags allow the compiler to reorder and fuse floating-point operations; these do not.
EXACT_FLAGS = ["-w", "-O3", "-funroll-loops", "-march=native", "-ffp-contract=off", "-std=c++17"]
#: The preference that holds them.
COMPILER_FLAGS = "codegen.cpp.extra_compile_args_gcc"
#: Spikes that float64 counts one by one.
MOST_AT_ONCE = 2.0**53
#: Input events of one run: enough to make the start of a run cheap, few enough to see progress.
_EVENTS_PER_RUN = 1 << 20


#: Brian2's device, preferences and clocks belong to the process: one batch at a time, whatever the thread.
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Raw:
    """What was seen of one run.

    Attributes:
        spikes: what the monitors saw, by population: neuron (over all lanes), step and value of each event.
        readout: the same of the silent readout's end of each recording; None without such a monitor.
        tallies: by population [rows, neurons], with `Playlist.row`: spikes per recording, or a silent readout's end.
    """

    spikes: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    readout: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    tallies: Mapping[str, np.ndarray]


class BrianEngine:
    """What the two engines share: batches, lanes, and the way from monitors to results."""

    name: str
    #: Memory of the host, to be refused with numbers rather than run out of.
    bytes_per_synapse = BYTES_PER_SYNAPSE

    def __init__(self, circuit: Circuit, *, order: str = "sum", record: str = "all", lanes: int | None = None) -> None:
        if order != "sum":
            raise InputError(f"order={order!r} needs engine='exact'; the Brian2 engines know order='sum'")
        if lanes is not None:
            check_whole("lanes", lanes, most=100_000)
            if lanes < 1:
                raise InputError(f"lanes must be >= 1, not {lanes}")
        self.circuit, self.record, self._wanted_lanes, self._lanes = circuit, record, lanes, 0
        self._recordings = 0  # of the largest batch so far
        refuse_what_needs_the_exact_engine(circuit)
        self._simulated = self._part(circuit)
        estimate_that_fits(self._simulated, lanes or 1, self.bytes_per_synapse)

    def run(self, trains: Iterable[InputSpikes]) -> Iterator[Result]:
        """Results in the order of ``trains``, which are taken batch by batch."""
        first = True
        for batch in _batches(trains, _EVENTS_PER_RUN):
            with _ONE_AT_A_TIME:
                # A network that is there already serves fewer recordings as well: its other lanes stay empty. After the
                # first batch, which is as large as batches become, building another one is not worth while.
                if first or not self._lanes:
                    self._lanes = self._wanted_lanes or max(self._lanes, self._default_lanes(batch))
                first, lanes = False, self._lanes
                self._recordings = max(self._recordings, len(batch))
                playlist = Playlist.arrange(batch, lanes, self.circuit.input_size)
                raw = self._play(playlist, lanes)
            yield from self._results(batch, playlist, lanes, raw)

    def _part(self, circuit: Circuit) -> Circuit:
        """What of the circuit has to be simulated."""
        return circuit

    def _default_lanes(self, batch: Sequence[InputSpikes]) -> int:
        raise NotImplementedError

    def _play(self, playlist: Playlist, lanes: int) -> Raw:
        raise NotImplementedError

    def _network(self, playlist: Playlist, lanes: int, clock: brian2.Clock | None) -> EventNetwork:
        size = estimate_that_fits(self._simulated, lanes, self.bytes_per_synapse)
        print(f"{self.name}: building {size}", file=sys.stderr)
        events, steps = _room(playlist, lanes, self.circuit)
        recordings = 1 << max(self._recordings, len(playlist.row)).bit_length()
        firing = {p.name for p in self.circuit.populations if p.rule.fires}
        return EventNetwork(
            self._simulated,
            lanes=lanes,
            events=events,
            steps=steps,
            recordings=recordings,
            counted=firing.difference(recorded_populations(self.circuit, self.record)),
            clock=clock,
        )

    def _results(self, trains: Sequence[InputSpikes], playlist: Playlist, lanes: int, raw: Raw) -> Iterator[Result]:
        # Where each recording starts in the order (lane, step).
        starts = playlist.lane * (playlist.steps + 1) + playlist.first_step
        by_start = np.argsort(starts)

        def owner(lane: np.ndarray, step: np.ndarray) -> np.ndarray:
            row = np.searchsorted(starts[by_start], lane * (playlist.steps + 1) + step, side="right") - 1
            return by_start[row]

        spikes: dict[str, list[Spikes]] = {}
        for name, (neuron, step, n) in raw.spikes.items():
            size = self.circuit.population[name].size
            lane, i = np.divmod(neuron.astype(np.int64), size)
            recording = owner(lane, step)
            order = np.lexsort((i, step, recording))
            t, i, n = (
                playlist.instants[step, lane][order],
                i[order],
                self._counted(name, i, n, step, lane, playlist)[order],
            )
            edges = np.searchsorted(recording[order], np.arange(len(trains) + 1))
            spikes[name] = [Spikes(t[a:b], i[a:b], n[a:b]) for a, b in itertools.pairwise(edges)]
        totals = {name: table[playlist.row] for name, table in raw.tallies.items()}
        final = totals.pop(self.circuit.output, None) if not self.circuit.readout.rule.fires else None
        totals = {name: self._whole(name, total) for name, total in totals.items()}
        if raw.readout is not None:
            size = self.circuit.readout.size
            final = np.zeros((len(trains), size))
            neuron, step, value = raw.readout
            lane, i = np.divmod(neuron.astype(np.int64), size)
            final[owner(lane, step), i] = value
        if final is not None and not np.all(np.isfinite(final)):
            raise InputError(
                f"population {self.circuit.output!r}: a potential grew larger than float64 can hold (1.8e308); check "
                "weights and spike_integral"
            )
        for k, train in enumerate(trains):
            recorded = {name: trainwise[k] for name, trainwise in spikes.items()}
            counted = {name: total[k] for name, total in totals.items()}
            readout = None if final is None else final[k]
            yield result_of(self.circuit, self.name, self.record, train, recorded, counted, readout)

    def _counted(
        self, name: str, i: np.ndarray, n: np.ndarray, step: np.ndarray, lane: np.ndarray, playlist: Playlist
    ) -> np.ndarray:
        """Numbers of spikes as int64."""
        wrong = np.flatnonzero(~(n < MOST_AT_ONCE))
        if wrong.size:
            k = wrong[0]
            raise InputError(
                f"population {name!r}, neuron {i[k]} (C order), at {playlist.instants[step[k], lane[k]]:.9g} s: more "
                "spikes at once than can be counted (2**53); check its bias, v_leak, weights and spike_integral"
            )
        return n.astype(np.int64)

    def _whole(self, name: str, total: np.ndarray) -> np.ndarray:
        """Spikes per recording and neuron, [recordings, neurons], as int64."""
        if not np.all(total < MOST_AT_ONCE):
            raise InputError(
                f"population {name!r}, neuron {int(np.argmax(total.max(axis=0)))} (C order): more spikes than can be "
                "counted (2**53); check weights and spike_integral"
            )
        return total.astype(np.int64)


class RuntimeEngine(BrianEngine):
    """Brian2's runtime device: one Python call per object and step, which many lanes make worth while.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.engines.simulate`.
        lanes: recordings that run side by side; by default as many as the recordings keep busy, up to 200, as memory
            allows.
        target: ``"cython"``, ``"numpy"`` or ``"auto"`` (cython where it can be compiled, else numpy with a word on
            stderr).
    """

    name = "brian2"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: str = "sum",
        record: str = "all",
        lanes: int | None = None,
        target: str = "auto",
    ) -> None:
        super().__init__(circuit, order=order, record=record, lanes=lanes)
        if target not in ("auto", "cython", "numpy"):
            raise InputError(f"target must be 'auto', 'cython' or 'numpy', not {target!r}")
        if get_device() is not brian2.all_devices["runtime"]:
            raise InputError("engine='brian2' needs Brian2's runtime device; call brian2.set_device('runtime') first")
        self._target = target
        self._built: EventNetwork | None = None

    def _default_lanes(self, batch: Sequence[InputSpikes]) -> int:
        return max(1, min(lanes_kept_busy(batch), 200, machine.available_bytes() // (2 * estimate(self.circuit).bytes)))

    def _play(self, playlist: Playlist, lanes: int) -> Raw:
        target = compilers.runtime_target(self._target)
        try:
            return self._play_by(target, playlist, lanes)
        except compilers.CannotCompile as error:
            if self._target != "auto" or target == "numpy":
                raise
            self._target, self._built = "numpy", None
            compilers.fall_back(error)
        return self._play_by("numpy", playlist, lanes)

    def _play_by(self, target: str, playlist: Playlist, lanes: int) -> Raw:
        with (
            preferences({"codegen.target": target, COMPILER_FLAGS: EXACT_FLAGS}),
            without_order_warnings(),
            compilers.compiling() if target == "cython" else contextlib.nullcontext(),
        ):
            network = self._built
            if network is None or network.lanes != lanes or not network.has_room(playlist):
                network = self._built = self._network(playlist, lanes, None)
            network.play(playlist)
            network.run(network.duration, namespace={})
        raw = Raw(
            {name: _taken(monitor, "n") for name, monitor in network.monitors.items()},
            network.readout_monitor and _taken(network.readout_monitor, "final"),
            {},
        )
        for monitor in (*network.monitors.values(), *filter(None, [network.readout_monitor])):
            monitor.resize(0)
            monitor.variables["N"].set_value(0)  # resize() leaves this to the monitor's own code
        return raw


def lanes_kept_busy(batch: Sequence[InputSpikes]) -> int:
    """All lanes step until the longest recording has ended: how many the batch keeps busy as long as that one."""
    lengths = [len(train.instants) + 1 for train in batch]
    return sum(lengths) // max(lengths)


def _batches(trains: Iterable[InputSpikes], events: int) -> Iterator[list[InputSpikes]]:
    """Consecutive recordings with at most ``events`` input events together, but at least one recording."""
    batch: list[InputSpikes] = []
    held = 0
    for train in trains:
        if batch and held + len(train.t) + 1 > events:
            yield batch
            batch, held = [], 0
        batch.append(train)
        held += len(train.t) + 1
    if batch:
        yield batch


def _room(playlist: Playlist, lanes: int, circuit: Circuit) -> tuple[int, int]:
    """Events and steps to make room for: those of a full batch, so that compiled code serves the next one as well."""
    events = len(playlist.event_step) - lanes * (circuit.input_size + 1)
    return (
        max(_EVENTS_PER_RUN, 1 << events.bit_length()),
        max(_EVENTS_PER_RUN // lanes, 1 << playlist.steps.bit_length()),
    )


def _taken(monitor: brian2.EventMonitor, value: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array(monitor.i),
        np.rint(np.asarray(monitor.t / second)).astype(np.int64),
        np.array(getattr(monitor, value)),
    )


@contextlib.contextmanager
def preferences(wanted: Mapping[str, Any]) -> Iterator[None]:
    """Brian2's global preferences, set for the length of a block."""
    before = {key: brian2.prefs[key] for key in wanted}
    try:
        for key, value in wanted.items():
            brian2.prefs[key] = value
        yield
    finally:
        for key, value in before.items():
            brian2.prefs[key] = value


@contextlib.contextmanager
def without_order_warnings() -> Iterator[None]:
    """Pass on Brian2's warnings except two.

    That serial statements depend on the order of the synapses: here that order does not matter, whichever synapse comes
    first settles the neuron, and the rest is a sum. That objects were never part of a network that ran: those of a
    network that was built and not needed, of which Python disposes at any time.
    """
    with catch_logs() as records:
        yield
    for _, _, message in records:
        if "may not be well-defined" not in message and "was never included in a network" not in message:
            warnings.warn(f"Brian2: {message}", stacklevel=3)
