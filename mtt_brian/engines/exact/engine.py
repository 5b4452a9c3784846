"""The exact engine: event-driven, in continuous time, without a clock."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import chain, islice, pairwise
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import Any

import numpy as np

from mtt_brian import machine
from mtt_brian.circuit.model import MOST_SUMMED, Circuit, synaptic_operations
from mtt_brian.circuit.spikes import Spikes, naming_recordings
from mtt_brian.engines.base import ORDERS, InputSpikes, Order, Record
from mtt_brian.engines.exact import loops
from mtt_brian.engines.exact.failures import reason_for
from mtt_brian.engines.exact.jit import address
from mtt_brian.engines.exact.linear_neurons import for_another_thread, linear_part
from mtt_brian.engines.exact.state import doubled, new_queues, new_state, new_trace
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
                yield from self._results([recording])
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

    def _results(self, recordings: Sequence[InputSpikes], stop: Event | None = None) -> list[Result]:
        """The results of recordings, run one after another on a state that no other thread uses."""
        started = time.perf_counter()
        try:
            run = self._idle.get_nowait()
        except Empty:
            run = Run(self)
        try:
            results = run.run(recordings, stop)
        finally:
            self._idle.put(run)
        self._seconds_each = (time.perf_counter() - started) / len(recordings)
        return results

    def start(self) -> Run:
        """A run at rest at time 0, which is continued piece by piece."""
        return Run(self)


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
            loops.predict_first_crossings(self._lowered, self._state, self._linear, self._queues.at_rest)
        if self._state.failure[0]:
            raise self._failure()
        self._trace = new_trace(self._lowered)
        self._addresses = self._compiled()
        self.reset()

    def reset(self) -> None:
        """Back to rest at time 0."""
        self._engine._memory.release(self)
        self._ended = -1.0

    def run(self, recordings: Sequence[InputSpikes], stop: Event | None = None) -> list[Result]:
        """Runs whole recordings, one after another, each from rest.

        Args:
            recordings: at least one.
            stop: ends the run when it is set, so that no thread computes what nobody will read.

        Raises:
            InputError: see `ExactEngine`.
            CancelledError: if ``stop`` was set.
        """
        self.reset()
        return self._run(recordings, 0.0, stop)

    def feed(self, piece: InputSpikes, stop: Event | None = None) -> Result:
        """Advances the run to ``piece.duration``.

        Args:
            piece: input spikes later than everything fed before, at absolute times.
            stop: see `run`.

        Returns:
            The spikes of this piece; counts, readout and synops since time 0.

        Raises:
            InputError: see `ExactEngine`; the run must be reset before it is used again.
            CancelledError: if ``stop`` was set; likewise.
        """
        end, begin = float(piece.duration), max(self._ended, 0.0)
        if end < begin or (len(piece.t) and piece.t[0] <= self._ended):
            raise InputError(
                f"a piece of a run must follow the one before it, which ended at {begin:g} s; this one begins at "
                f"{piece.t[0] if len(piece.t) else end:g} s"
            )
        (result,) = self._run([piece], begin, stop)
        self._ended = end
        return result

    @np.errstate(under="ignore")
    def _run(self, pieces: Sequence[InputSpikes], begin: float, stop: Event | None) -> list[Result]:
        engine, cursor = self._engine, self._state.cursor
        batch, arrays = self._batch(pieces)
        self._trace.size[0] = cursor[:] = 0
        cursor[loops.FRESH] = self._ended < 0
        started = noticed = time.monotonic()
        while (status := loops.run_batch(*self._arrays(), batch)) != loops.DONE:
            piece = pieces[cursor[loops.RECORDING]]
            if stop is not None and stop.is_set():
                raise CancelledError
            with naming_recordings(piece):
                self._go_on(status, float(piece.duration))
            if (now := time.monotonic()) - noticed >= _SECONDS_WITHOUT_NOTICE:
                noticed = now
                notice(
                    f"one recording has been running for {now - started:,.0f} s: {int(cursor[loops.NEXT]):,} of its "
                    f"{len(piece.order if engine._fifo else piece.t):,} input spikes are done"
                )
        each = zip(pieces, arrays, batch.outcome.tolist(), self._spikes(batch), strict=True)
        return [
            self._result(piece, counts, readout, synops, most, spikes, begin)
            for piece, (*_, counts, readout), (_, synops, most), spikes in each
        ]

    def _arrays(self) -> tuple[Any, ...]:
        """What every kernel needs."""
        return self._lowered, self._state, self._linear, self._queues, self._trace

    def _compiled(self) -> tuple[int, int]:
        """Addresses of the loop and, if it is needed, of `loops.finish`, compiled for this network."""
        circuit, p = self._engine.circuit, self._engine._numbers[self._engine.circuit.output]
        none = np.zeros(0, np.int64)
        given = loops.Rows(np.zeros(0), none, none, none, 0.0)
        loop = address(loops.run_queued if self._engine._fifo else loops.run_summed, *self._arrays(), given)
        if self._lowered.kind[p] == STATIC or circuit.readout.rule.fires:
            return loop, 0
        return loop, address(loops.finish, self._lowered, self._state, self._linear, p, 0.0)

    def _batch(self, pieces: Sequence[InputSpikes]) -> tuple[loops.Batch, list[tuple[np.ndarray, ...]]]:
        """A batch, and of every recording the arrays that it has the addresses of."""
        circuit, fan_out = self._engine.circuit, self._engine._fan_out
        arrays = [
            (
                np.ascontiguousarray(piece.t, np.float64),
                *(np.ascontiguousarray(column, np.int64) for column in (piece.i, piece.n, piece.order)),
                np.empty(len(fan_out), np.int64),
                np.empty(circuit.readout.size),
            )
            for piece in pieces
        ]
        batch = loops.Batch(
            *self._addresses,
            readout=self._engine._numbers[circuit.output],
            fires=circuit.readout.rule.fires,
            address=loops.addresses(arrays),
            size=np.array([[len(piece.t), len(piece.order)] for piece in pieces]),
            end=np.array([piece.duration for piece in pieces], np.float64),
            fan_out=fan_out,
            outcome=np.zeros((len(pieces), 3), np.int64),
        )
        return batch, arrays

    def _go_on(self, status: int, end: float) -> None:
        """What a loop needs that has returned before the end of its recordings, at ``end`` of one or before it."""
        if status == loops.FAILED:
            raise self._failure()
        if status == loops.UNBOUNDED:
            raise self._unbounded(end)
        if status == loops.FULL:
            self._make_room()

    def _result(
        self,
        piece: InputSpikes,
        counts: np.ndarray,
        readout: np.ndarray,
        synops: int,
        most: int,
        spikes: dict[str, Spikes],
        begin: float,
    ) -> Result:
        engine = self._engine
        with naming_recordings(piece):
            return result_of(
                engine.circuit,
                engine.name,
                engine.record,
                piece,
                spikes,
                {name: counts[part].reshape(shape) for name, part, shape in engine._counted},
                readout,
                synops if most <= MOST_SUMMED else synaptic_operations(counts, engine._fan_out),
                begin,
            )

    def _failure(self) -> InputError:
        code, p, neuron, t = self._state.failure.tolist()
        name = list(self._engine._numbers)[int(p)]
        where = f"population {name!r}, neuron {int(neuron)} (C order), at {t:.9g} s"
        return InputError(f"{where}: {reason_for(int(code), self._lowered.max_rate[0])}")

    def _unbounded(self, end: float) -> InputError:
        """For potentials and currents that float64 cannot hold, which end as inf or NaN."""
        net, at = self._lowered, int(np.argmin(np.isfinite(self._state.y)))
        if self._linear is not None:  # the distance of two states of a linear system
            at %= self._linear.stride
        name = next(
            name
            for name, p in self._engine._numbers.items()
            if any(0 <= at - first < net.offset[p + 1] - net.offset[p] for first in (net.offset[p], net.jump_offset[p]))
        )
        return InputError(
            f"population {name!r}: a potential or current grew larger than float64 can hold (1.8e308) before "
            f"{end:.9g} s; check weights and spike_integral"
        )

    def _make_room(self) -> None:
        """Doubles the arrays that the next step of the kernel might overfill."""
        max_new, cursor = self._lowered.max_new, self._state.cursor
        pending = () if self._queues is None else self._queues.pending
        held = sum(array.nbytes for array in (*self._trace, *pending, self._state.queue))
        if (free := self._engine._memory.reserve(self, held)) is not None:
            remedy = "record fewer populations, or run it" if len(self._trace.t) > len(self._state.queue) else "run it"
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
        queue = self._state.queue
        if cursor[loops.QUEUED] + max_new[2] > len(queue):
            larger = np.zeros((2 * len(queue), 2), np.int64)
            larger[: len(queue)] = np.roll(queue, -cursor[loops.RING], axis=0)
            self._state, cursor[loops.RING] = self._state._replace(queue=larger), 0

    def _spikes(self, batch: loops.Batch) -> list[dict[str, Spikes]]:
        """The recorded spikes of every recording."""
        recorded, recordings = self._engine._recorded, len(batch.end)
        if not recorded:
            return [{}] * recordings
        sizes = [end - begin for begin, end in pairwise([0, *batch.outcome[:, loops.RECORDS].tolist()])]
        arrays = [(np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)) for size in sizes]
        start = np.zeros((recordings, len(self._lowered.group_size) + 1), np.int64)
        loops.split(self._trace, batch, start, loops.addresses(arrays))
        places = [(name, self._engine._numbers[name]) for name in recorded]
        return [
            {name: Spikes(*(array[bounds[p] : bounds[p + 1]] for array in columns)) for name, p in places}
            for columns, bounds in zip(arrays, start.tolist(), strict=True)
        ]


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
