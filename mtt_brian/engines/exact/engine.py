"""The exact engine: event-driven, in continuous time, without a clock."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import chain, islice
from queue import Empty, SimpleQueue
from threading import Event, Lock

import numpy as np

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit, synaptic_operations
from mtt_brian.circuit.spikes import Spikes, naming_recordings
from mtt_brian.engines.base import ORDERS, InputSpikes, Order, Record
from mtt_brian.engines.exact import loops
from mtt_brian.engines.exact.failures import reason_for
from mtt_brian.engines.exact.linear_neurons import for_another_thread, linear_part
from mtt_brian.engines.exact.state import (
    doubled,
    new_queue,
    new_queues,
    new_state,
    new_trace,
    reset,
)
from mtt_brian.engines.lowered.arrays import lower_circuit
from mtt_brian.engines.lowered.rules import STATIC
from mtt_brian.engines.result import RECORDS, Result, recorded_populations, result_of
from mtt_brian.errors import InputError, check_choice, check_number, check_whole
from mtt_brian.progress import notice

#: Size of one task of a thread: its target duration, and the largest number of recordings.
_SECONDS_TOGETHER, _MOST_TOGETHER = 0.01, 16
#: Time after which a run of one recording reports its progress, and then again and again.
_SECONDS_WITHOUT_NOTICE = 60.0


class ExactEngine:
    """Runs a circuit spike by spike, each at its exact time.

    Between instants states follow their closed-form solution from their own last update, and a neuron that drifts to
    its threshold fires when it reaches it. A neuron that is at or above its threshold after a spike (rule "one") is
    silent until its next arrival. If it first falls below the threshold and then rises to it again, that is a crossing.

    Args:
        circuit: the network.
        order: ``"sum"`` adds up all arrivals of an instant, then compares with the threshold, population by population.
            ``"fifo"`` processes a queue of single events: one event is applied to all its targets, then the lower
            bound, then every target at or above its threshold fires once, and these spikes join the queue in ascending
            C order (several target populations: in the order of the circuit's connections); when the queue is empty the
            next event of the recording enters.
        record: recorded spikes: of ``"all"`` populations, ``"output"`` (the populations that feed the readout, and
            the readout if it fires), or only ``"counts"``.
        threads: recordings run at the same time; by default one per core this process may use.
        max_rate: spikes per second above which a neuron that fires without input events (bias, synaptic current,
            delayed loop) ends the run; in addition it may fire 1,000 spikes at any rate.

    Raises:
        InputError: for an unknown order or record; for a loop without a delay; for ``order="fifo"`` with a delay or
            with a population that fires between arrivals, because the queue has no times. In a run: for a
            neuron that fires faster than ``max_rate`` or more than 2**53 spikes at once, and for a potential that
            float64 cannot hold; the message names the population, the neuron and the instant.
    """

    name = "exact"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: Order = "sum",
        record: Record = "all",
        threads: int | None = None,
        max_rate: float = 1e6,
    ) -> None:
        check_choice("order", order, ORDERS)
        check_choice("record", record, RECORDS)
        if threads is not None:
            threads = check_whole("threads", threads, most=1024, least=1)
        max_rate = check_number("max_rate", max_rate, np.inf)
        if not max_rate > 0:
            raise InputError(f"max_rate must be > 0 spikes per second, not {max_rate}")
        if order == "fifo":
            _require_arrivals_only(circuit)
        self.circuit = circuit
        self._fifo = order == "fifo"
        self._threads = threads or machine.cores()
        self.record = record
        self._recorded = [name for name in recorded_populations(circuit, record) if name != circuit.input]
        self._lowered = lower_circuit(circuit, frozenset(self._recorded), self._fifo, max_rate)
        self._linear = linear_part(self._lowered, circuit.populations)
        self._numbers = {circuit.input: 0} | {p.name: k for k, p in enumerate(circuit.populations, 1)}
        self._counted = list(_counted(circuit))
        self._fan_out = np.concatenate([*circuit.fan_out.values()])
        machine.return_freed_memory()  # of the lowering
        self._idle: SimpleQueue[Run] = SimpleQueue()
        self._seconds_each = math.inf  # of the recordings in the last task
        self._memory = _Memory()

    def run(self, inputs: Iterable[InputSpikes]) -> Iterator[Result]:
        """Runs recordings, each from rest at time 0, several at once.

        Args:
            inputs: input spikes of each recording, read lazily.

        Yields:
            Results in the order of ``inputs``, each as soon as it is available.
        """
        recordings = iter(inputs)
        first = list(islice(recordings, 2))
        if len(first) < 2 or self._threads == 1:
            for recording in chain(first, recordings):
                yield self._result(recording)
            return
        recordings = chain(first, recordings)
        ahead = 4 * self._threads  # enough tasks for every thread, few enough to bound the number of unread results
        stop = Event()
        futures: deque[Future[list[Result]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                # Every finished task schedules the reading thread, which uses a core of the others.
                while batch := list(islice(recordings, self._batch_size())):
                    futures.append(pool.submit(self._results, batch, stop))
                    if len(futures) > ahead:
                        yield from futures.popleft().result()
                while futures:
                    yield from futures.popleft().result()
            finally:  # after an error, or where no more results are read, the pool waits for what it computes
                stop.set()
                for future in futures:
                    future.cancel()

    def _batch_size(self) -> int:
        """Recordings in the next task of a thread."""
        return max(1, min(_MOST_TOGETHER, int(_SECONDS_TOGETHER / self._seconds_each)))

    def _results(self, recordings: Sequence[InputSpikes], stop: Event) -> list[Result]:
        started = time.perf_counter()
        results = [self._result(recording, stop) for recording in recordings]
        self._seconds_each = (time.perf_counter() - started) / len(recordings)
        return results

    def start(self) -> Run:
        """A run at rest at time 0, which is continued piece by piece."""
        return Run(self)

    def _result(self, recording: InputSpikes, stop: Event | None = None) -> Result:
        try:
            run = self._idle.get_nowait()
        except Empty:
            run = Run(self)
        run.reset()
        try:
            with naming_recordings(recording):
                return run.feed(recording, stop)
        finally:
            self._idle.put(run)


class Run:
    """One run of a network: its state, advanced piece by piece.

    ``feed`` advances it to the end of a piece of input; a recording fed in pieces gives the spikes of the whole.
    """

    def __init__(self, engine: ExactEngine) -> None:
        self._engine = engine
        self._lowered = engine._lowered
        self._state = new_state(self._lowered)
        self._linear = for_another_thread(engine._linear)
        self._queues = new_queues(self._lowered)
        if self._queues is not None:
            loops.predict_first_crossings(self._lowered, self._state, self._linear, self._queues.crossings)
            self._first_crossings = tuple(a.copy() for a in self._queues.crossings)
        if self._state.failure[0]:
            raise self._failure()
        self._ended = -1.0
        self._trace = new_trace(self._lowered)
        self._queue = new_queue(self._lowered)

    def reset(self) -> None:
        """Back to rest at time 0."""
        reset(self._lowered, self._state)
        self._engine._memory.release(self)
        self._ended = -1.0
        if self._queues is not None:
            for array, first in zip(self._queues.crossings, self._first_crossings, strict=True):
                array[:] = first
            self._queues.pending.state[:] = 0

    @np.errstate(under="ignore")
    def feed(self, piece: InputSpikes, stop: Event | None = None) -> Result:
        """Advances the run to ``piece.duration``.

        Args:
            piece: input spikes later than everything fed before, at absolute times.
            stop: ends the run when it is set, so that no thread computes what nobody will read.

        Returns:
            The spikes of this piece; counts, readout and synops since time 0.

        Raises:
            InputError: see `ExactEngine`; the run must be reset before it is used again.
            CancelledError: if ``stop`` was set; likewise.
        """
        net, state, circuit = self._lowered, self._state, self._engine.circuit
        end, begin = float(piece.duration), max(self._ended, 0.0)
        if end < begin or (len(piece.t) and piece.t[0] <= self._ended):
            raise InputError(
                f"a piece of a run must follow the one before it, which ended at {begin:g} s; this one begins at "
                f"{piece.t[0] if len(piece.t) else end:g} s"
            )
        self._trace.size[0] = state.cursor[:] = 0
        started = noticed = time.monotonic()
        while (status := self._advance(piece, end)) != loops.DONE:
            if status == loops.FAILED:
                raise self._failure()
            if stop is not None and stop.is_set():
                raise CancelledError
            if status == loops.FULL:
                self._make_room()
            if (now := time.monotonic()) - noticed >= _SECONDS_WITHOUT_NOTICE:
                noticed = now
                notice(
                    f"one recording has been running for {now - started:,.0f} s: {int(state.cursor[0]):,} of its "
                    f"{len(piece.order if self._engine._fifo else piece.t):,} input spikes are done"
                )
        places = self._engine._numbers
        p = places[circuit.output]
        if net.kind[p] != STATIC and not circuit.readout.rule.fires:
            loops.finish(net, state, self._linear, p, end)
        self._check_finite(end)
        self._ended = end
        counts = state.counts.copy()
        synops = synaptic_operations(counts, self._engine._fan_out)
        return result_of(
            circuit,
            self._engine.name,
            self._engine.record,
            piece,
            self._spikes(),
            {name: counts[part].reshape(shape) for name, part, shape in self._engine._counted},
            self._readout(p),
            synops,
            begin,
        )

    def _failure(self) -> InputError:
        code, p, neuron, t = self._state.failure.tolist()
        name = list(self._engine._numbers)[int(p)]
        where = f"population {name!r}, neuron {int(neuron)} (C order), at {t:.9g} s"
        return InputError(f"{where}: {reason_for(int(code), self._lowered.max_rate[0])}")

    def _check_finite(self, end: float) -> None:
        """Refuses potentials and currents that float64 cannot hold, which end as inf or NaN."""
        finite = np.isfinite(self._state.y)
        if not finite.all():
            net, at = self._lowered, int(np.argmin(finite))
            if self._linear is not None:  # the distance of two states of a linear system
                at %= self._linear.stride
            name = next(
                name
                for name, p in self._engine._numbers.items()
                if any(
                    0 <= at - first < net.offset[p + 1] - net.offset[p] for first in (net.offset[p], net.jump_offset[p])
                )
            )
            raise InputError(
                f"population {name!r}: a potential or current grew larger than float64 can hold (1.8e308) before "
                f"{end:.9g} s; check weights and spike_integral"
            )

    def _advance(self, piece: InputSpikes, end: float) -> int:
        common = self._lowered, self._state, self._linear, self._queues, self._trace
        if self._engine._fifo:
            return loops.run_queued(*common, self._queue, piece.t, piece.i, piece.order, end)
        return loops.run_summed(*common, piece.t, piece.i, piece.n, end)

    def _make_room(self) -> None:
        """Doubles the arrays that the next step of the kernel might overfill."""
        max_new, cursor = self._lowered.max_new, self._state.cursor
        pending = () if self._queues is None else self._queues.pending
        held = sum(array.nbytes for array in (*self._trace, *pending, self._queue))
        if (free := self._engine._memory.reserve(self, held)) is not None:
            remedy = "record fewer populations, or run it" if len(self._trace.t) > len(self._queue) else "run it"
            raise InputError(
                f"the spikes of this run need more than the {free / 2**20:,.0f} MiB of memory that are free; {remedy} "
                "for a shorter duration, in fewer threads, or with smaller weights"
            )
        if self._trace.size[0] + max_new[0] > len(self._trace.t):
            self._trace = doubled(self._trace, int(self._trace.size[0]))
        if self._queues is not None:
            pending = self._queues.pending
            if pending.state[0] + max_new[1] > len(pending.t):
                self._queues = self._queues._replace(pending=doubled(pending, int(pending.state[0])))
        if cursor[2] + max_new[2] > len(self._queue):
            larger, first = np.zeros((2 * len(self._queue), 2), np.int64), len(self._queue) - cursor[1]
            larger[:first], larger[first : len(self._queue)] = self._queue[cursor[1] :], self._queue[: cursor[1]]
            self._queue, cursor[1] = larger, 0

    def _spikes(self) -> dict[str, Spikes]:
        recorded = self._engine._recorded
        if not recorded:
            return {}
        size, start = int(self._trace.size[0]), np.zeros(len(self._lowered.group_size) + 1, np.int64)
        t, i, n = np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)
        loops.split(self._trace, start, t, i, n)
        out = {}
        for name in recorded:
            k = self._engine._numbers[name]
            part = slice(start[k], start[k + 1])
            out[name] = Spikes(t[part], i[part], n[part])
        return out

    def _readout(self, p: int) -> np.ndarray:
        net, part = self._lowered, slice(self._lowered.offset[p], self._lowered.offset[p + 1])
        if self._engine.circuit.readout.rule.fires:
            return self._state.counts[part].astype(np.float64)
        readout = np.empty(part.stop - part.start)
        readout[net.flat[part]] = self._state.y[part]
        return readout


class _Memory:
    """Memory that the runs of an engine have allocated and not yet written to, which the system counts as free."""

    def __init__(self) -> None:
        self._unwritten: dict[Run, int] = {}
        self._lock = Lock()

    def reserve(self, run: Run, held: int) -> int | None:
        """Lets a run double its arrays.

        Args:
            run: one of the engine.
            held: bytes of its arrays, which are full.

        Returns:
            None, or the number of free bytes if these are too few.
        """
        with self._lock:
            self._unwritten.pop(run, None)
            free = machine.available_bytes() - sum(self._unwritten.values())
            if 2 * held > free:
                return max(free, 0)
            self._unwritten[run] = held
        return None

    def release(self, run: Run) -> None:
        """The run needs no more memory."""
        with self._lock:
            self._unwritten.pop(run, None)


def _counted(circuit: Circuit) -> Iterator[tuple[str, slice, tuple[int, ...]]]:
    """Name, neurons and shape of the input and of every population that fires."""
    yield circuit.input, slice(circuit.input_size), circuit.input_shape
    begin = circuit.input_size
    for population in circuit.populations:
        if population.rule.fires:
            yield population.name, slice(begin, begin + population.size), population.shape
        begin += population.size


def _require_arrivals_only(circuit: Circuit) -> None:
    for connection in circuit.connections:
        if connection.delayed:
            raise InputError(
                f"order='fifo' has no delays, but {connection.source!r} -> {connection.target!r} has one; "
                "use order='sum'"
            )
    for population in circuit.populations:
        if population.rule.crosses:
            raise InputError(
                f"order='fifo' needs neurons that fire at arrivals only; {population.name!r} also crosses its "
                "threshold between them (bias, synaptic current or a rule of its own); use order='sum'"
            )
