"""Brian2 engines: what all of them share, and the one on the runtime device."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import brian2
import numpy as np
from brian2 import second

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import MAX_SPIKES_AT_ONCE, InputSpikes, Spikes, naming_recordings
from mtt_brian.engines.brian2 import compilers, internals
from mtt_brian.engines.brian2.circuit_network import counted
from mtt_brian.engines.brian2.execution import Execution, for_target
from mtt_brian.engines.brian2.memory import (
    BYTES_PER_SYNAPSE,
    MOST_COPIES,
    estimate,
    estimate_that_fits,
    refuse_what_needs_the_exact_engine,
)
from mtt_brian.engines.brian2.network import EventNetwork, Room
from mtt_brian.engines.brian2.schedule import InputSchedule
from mtt_brian.engines.brian2.self_timed import check_alarm
from mtt_brian.engines.result import Result, recorded_populations, result_of
from mtt_brian.errors import InputError, check_whole

#: Brian2's own flags allow the compiler to reorder and fuse floating-point operations; these do not.
EXACT_FLAGS = ["-w", "-O3", "-funroll-loops", "-march=native", "-ffp-contract=off", "-std=c++17"]
#: Input events of one run: enough to make the start of a run cheap, few enough to see progress.
_EVENTS_PER_RUN = 1 << 20
#: Most copies that the runtime runs side by side by default.
_LARGEST_BATCH = 200
_log = logging.getLogger(__name__)

#: Brian2's device, preferences and clocks belong to the process: one batch at a time, for all threads.
_ONE_AT_A_TIME = threading.RLock()


class Records(NamedTuple):
    """The records of a monitor.

    Attributes:
        neuron: over all copies, [records].
        entry: the entry of the input schedule that was the next one then, int64 [records].
        value: the number of spikes, or the final state.
        t: time in seconds; None where it is that of the entry.
    """

    neuron: np.ndarray
    entry: np.ndarray
    value: np.ndarray
    t: np.ndarray | None


@dataclass(frozen=True)
class Raw:
    """What was recorded of one run.

    Attributes:
        spikes: records of the monitors by population.
        readout: the final state of a silent readout in each recording; None without such a monitor.
        totals: by population [rows, neurons], with `InputSchedule.row`: spikes per recording, or a silent readout's
            final state.
        alarms: by population or connection, why neurons fire without end and since when (`self_timed.NO_PROGRESS`),
            [batch_size * neurons] each.
    """

    spikes: Mapping[str, Records]
    readout: Records | None
    totals: Mapping[str, np.ndarray]
    alarms: Mapping[str, tuple[np.ndarray, np.ndarray]]


class BrianEngine:
    """Common parts of the engines: batches of recordings, and results from the records of monitors."""

    name: str
    #: Memory of the host, to be refused with numbers rather than run out of.
    bytes_per_synapse = BYTES_PER_SYNAPSE

    def __init__(
        self, circuit: Circuit, *, order: str = "sum", record: str = "all", batch_size: int | None = None
    ) -> None:
        if order != "sum":
            raise InputError(f"order={order!r} needs engine='exact'; the Brian2 engines run order='sum'")
        if batch_size is not None:
            batch_size = check_whole("batch_size", batch_size, most=MOST_COPIES, least=1)
        self.circuit, self.record, self._wanted_size, self._batch_size = circuit, record, batch_size, 0
        self._recordings = 0  # of the largest batch so far
        refuse_what_needs_the_exact_engine(circuit)
        self._simulated = self._part(circuit)
        estimate_that_fits(self._simulated, batch_size or 1, self.bytes_per_synapse)

    def run(self, trains: Iterable[InputSpikes]) -> Iterator[Result]:
        """Results in the order of ``trains``, which are taken batch by batch."""
        first = True
        for batch in _batches(trains, _EVENTS_PER_RUN):
            with _ONE_AT_A_TIME:
                # A network that exists already runs fewer recordings as well: some of its copies then do nothing. After
                # the first batch, which is as large as batches become, building another network is not worth while.
                if first or not self._batch_size:
                    self._batch_size = self._wanted_size or max(self._batch_size, self._default_batch_size(batch))
                first = False
                self._recordings = max(self._recordings, len(batch))
                inputs = InputSchedule.arrange(batch, self._batch_size, self.circuit.input_size)
                with naming_recordings(*batch):
                    raw = self._run_batch(inputs, self._batch_size)
            with naming_recordings(*batch):
                yield from self._results(batch, inputs, raw)

    def _part(self, circuit: Circuit) -> Circuit:
        """The part of the circuit that must be simulated."""
        return circuit

    def _default_batch_size(self, batch: Sequence[InputSpikes]) -> int:
        raise NotImplementedError

    def _run_batch(self, inputs: InputSchedule, batch_size: int) -> Raw:
        raise NotImplementedError

    def _network(
        self, inputs: InputSchedule, batch_size: int, execution: Execution, clock: brian2.Clock | None
    ) -> EventNetwork:
        _log.info("%s: building %s", self.name, estimate_that_fits(self._simulated, batch_size, self.bytes_per_synapse))
        firing = {p.name for p in self.circuit.populations if p.rule.fires}
        return EventNetwork(
            self._simulated,
            execution,
            batch_size=batch_size,
            room=self._room(inputs, batch_size),
            counted=firing.difference(recorded_populations(self.circuit, self.record)),
            clock=clock,
        )

    def _room(self, inputs: InputSchedule, batch_size: int) -> Room:
        """Room for a full batch, so that compiled code runs the next one as well."""
        events = len(inputs.event_step) - batch_size * (self.circuit.input_size + 1)
        return Room(
            events=max(_EVENTS_PER_RUN, 1 << events.bit_length()),
            steps=max(_EVENTS_PER_RUN // batch_size, 1 << inputs.steps.bit_length()),
            recordings=1 << max(self._recordings, len(inputs.row)).bit_length(),
        )

    def _results(self, trains: Sequence[InputSpikes], inputs: InputSchedule, raw: Raw) -> Iterator[Result]:
        for name, (alarm, since) in raw.alarms.items():
            check_alarm(name, len(alarm) // self._batch_size, alarm, since)
        spikes: dict[str, list[Spikes]] = {}
        for name, records in raw.spikes.items():
            population = self.circuit.population[name]
            copy, i = np.divmod(records.neuron.astype(np.int64), population.size)
            recording = inputs.recording_of(copy, records.entry)
            t = inputs.instants[records.entry, copy] if records.t is None else records.t
            order = np.lexsort((i, t, recording))
            t, i, recording = t[order], i[order], recording[order]
            n = counted(population, i, records.value[order], t)
            edges = np.searchsorted(recording, np.arange(len(trains) + 1))
            spikes[name] = [Spikes(t[a:b], i[a:b], n[a:b]) for a, b in itertools.pairwise(edges)]
        totals = {name: table[inputs.row] for name, table in raw.totals.items()}
        final = totals.pop(self.circuit.output, None) if not self.circuit.readout.rule.fires else None
        totals = {name: _whole(name, total) for name, total in totals.items()}
        if raw.readout is not None:
            size = self.circuit.readout.size
            final = np.zeros((len(trains), size))
            copy, i = np.divmod(raw.readout.neuron.astype(np.int64), size)
            final[inputs.recording_of(copy, raw.readout.entry), i] = raw.readout.value
        if final is not None and not np.all(np.isfinite(final)):
            raise InputError(
                f"population {self.circuit.output!r}: a potential grew larger than float64 can hold (1.8e308); check "
                "weights and spike_integral"
            )
        for k, train in enumerate(trains):
            yield result_of(
                self.circuit,
                self.name,
                self.record,
                train,
                {name: of_recordings[k] for name, of_recordings in spikes.items()},
                {name: total[k] for name, total in totals.items()},
                None if final is None else final[k],
            )


def _whole(name: str, total: np.ndarray) -> np.ndarray:
    """Spikes per recording and neuron, [recordings, neurons], as int64."""
    if not np.all(total < MAX_SPIKES_AT_ONCE):
        raise InputError(
            f"population {name!r}, neuron {int(np.argmax(total.max(axis=0)))} (C order): more spikes than can be "
            "counted (2**53); check weights and spike_integral"
        )
    return total.astype(np.int64)


class RuntimeEngine(BrianEngine):
    """Brian2's runtime device: a Python call per object and step, so a large batch costs hardly more than a small one.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.engines.simulate`.
        batch_size: recordings that run side by side; by default as many as keep all copies of the network busy, up to
            200, as memory allows.
        target: ``"cython"``, ``"numpy"`` or ``"auto"`` (Cython where it can be compiled, else numpy with a warning in
            the log).
        every_step: update all neurons in every step, as on a GPU (`Execution.every_step`).
    """

    name = "brian2"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: str = "sum",
        record: str = "all",
        batch_size: int | None = None,
        target: str = "auto",
        every_step: bool = False,
    ) -> None:
        super().__init__(circuit, order=order, record=record, batch_size=batch_size)
        if target not in ("auto", "cython", "numpy"):
            raise InputError(f"target must be 'auto', 'cython' or 'numpy', not {target!r}")
        if internals.device_name() != "runtime":
            raise InputError("engine='brian2' needs Brian2's runtime device; call brian2.set_device('runtime') first")
        self._target, self._every_step = target, every_step
        self._built: EventNetwork | None = None

    def _default_batch_size(self, batch: Sequence[InputSpikes]) -> int:
        in_memory = machine.available_bytes() // (2 * estimate(self.circuit).bytes)
        return max(1, min(copies_kept_busy(batch), _LARGEST_BATCH, in_memory))

    @np.errstate(under="ignore")
    def _run_batch(self, inputs: InputSchedule, batch_size: int) -> Raw:
        target = compilers.runtime_target(self._target)
        try:
            return self._run_with(target, inputs, batch_size)
        except compilers.CannotCompile as error:
            if self._target != "auto" or target == "numpy":
                raise
            self._target, self._built = "numpy", None
            compilers.fall_back(error)
        return self._run_with("numpy", inputs, batch_size)

    def _run_with(self, target: str, inputs: InputSchedule, batch_size: int) -> Raw:
        # By default Brian2 ends a run at Ctrl-C as if it had come to its end.
        chosen = {"codegen.target": target, "core.stop_on_keyboard_interrupt": False}
        with (
            preferences(chosen | {internals.COMPILER_FLAGS: EXACT_FLAGS}),
            without_order_warnings(),
            compilers.compiling() if target == "cython" else contextlib.nullcontext(),
        ):
            network = self._built
            if network is None or network.batch_size != batch_size or not network.has_room(inputs):
                execution = replace(for_target(target), every_step=self._every_step)
                network = self._built = self._network(inputs, batch_size, execution, None)
            network.load_inputs(inputs)
            try:
                network.run(network.duration, namespace={})
            except BaseException:
                self._built = None  # its monitors hold a part of a run
                raise
        raw = Raw(
            {name: _records(monitor, "n") for name, monitor in network.monitors.items()},
            None if network.readout_monitor is None else _records(network.readout_monitor, "final"),
            {
                name: np.array(group.total).reshape(-1, self.circuit.population[name].size)
                for name, group in network.totals.items()
            },
            {name: (np.array(group.alarm), np.array(group.alarm_time)) for name, group in network.watched.items()},
        )
        for monitor in (*network.monitors.values(), *filter(None, [network.readout_monitor])):
            internals.empty(monitor)
        for group in network.totals.values():
            group.total = 0
        return raw


def copies_kept_busy(batch: Sequence[InputSpikes]) -> int:
    """All copies step until the longest recording has ended: how many the batch keeps busy as long as that one."""
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


def _records(monitor: brian2.EventMonitor, value: str) -> Records:
    """Every record of a monitor with the named variable."""
    columns = np.array(monitor.i), np.array(getattr(monitor, value))
    if "event_time" in monitor.variables:
        entry = np.array(monitor.event_entry, dtype=np.int64)
        return Records(columns[0], entry, columns[1], np.array(monitor.event_time))
    return Records(columns[0], np.rint(np.asarray(monitor.t / second)).astype(np.int64), columns[1], None)


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
    """Passes on Brian2's warnings except two.

    That serial statements depend on the order of the synapses: here that order does not matter, because the first
    synapse that reaches a neuron brings it up to date, whichever it is, and the rest is a sum. That objects were never
    part of a network that ran: those of a network that was built and not needed, which Python may dispose of at any
    time.
    """
    with internals.caught_messages() as records:
        yield
    for _, _, message in records:
        if internals.ORDER_MATTERS not in message and internals.NEVER_RUN not in message:
            warnings.warn(f"Brian2: {message}", stacklevel=3)
