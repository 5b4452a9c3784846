"""The exact engine: event by event in continuous time, without a clock."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue

import numpy as np

from mtt_brian.errors import InputError, check_whole
from mtt_brian.simulate.base import InputTrain
from mtt_brian.simulate.exact import kernels
from mtt_brian.simulate.exact.network import STATIC, Network, crosses, network
from mtt_brian.simulate.exact.state import doubled, new_crossings, new_pending, new_queue, new_state, new_trace, reset
from mtt_brian.simulate.result import RECORDS, Result, Spikes
from mtt_brian.translate.circuit import Circuit

ORDERS = ("sum", "fifo")
#: Recordings in one task of a thread: as many as take about so long, and not more than so many.
_SECONDS_TOGETHER, _MOST_TOGETHER = 0.01, 16


class ExactEngine:
    """Runs a circuit spike by spike, every one at its own time.

    Between instants states follow their closed-form solution from their own last update, and a neuron that drifts to
    its threshold fires when it gets there. A neuron that the rule "one" left at or above its threshold is silent until
    its next arrival; if it sinks below the threshold first and comes up to it again on its own, that is a crossing.

    Args:
        circuit: the network.
        order: ``"sum"`` adds up all arrivals of an instant, then compares with the threshold, one sweep through the
            populations per instant. ``"fifo"`` works off a queue of single events: one event is applied to all its
            targets, then the lower bound, then every target at or above its threshold fires once, and these spikes join
            the queue in ascending C order (several target populations: in the order of the circuit's connections);
            when the queue is empty the next event of the recording enters.
        record: whose spikes are kept: ``"all"`` populations, ``"output"`` (the populations that feed the readout, and
            the readout if it fires), or only their numbers, ``"counts"``.
        threads: recordings run at the same time; by default one per core this process may use.

    Raises:
        InputError: for an unknown order or record; for a loop without a delay; for ``order="fifo"`` with a delay or
            with a population that fires between arrivals, where a queue without times says nothing.
    """

    name = "exact"

    def __init__(
        self, circuit: Circuit, *, order: str = "sum", record: str = "all", threads: int | None = None
    ) -> None:
        if order not in ORDERS:
            raise InputError(f"order must be one of {', '.join(map(repr, ORDERS))}, not {order!r}")
        if record not in RECORDS:
            raise InputError(f"record must be one of {', '.join(map(repr, RECORDS))}, not {record!r}")
        if threads is not None:
            check_whole("threads", threads, most=1024)
            if threads < 1:
                raise InputError(f"threads must be at least 1, not {threads}")
        if order == "fifo":
            _require_arrivals_only(circuit)
        self.circuit = circuit
        self._fifo = order == "fifo"
        self._threads = threads or _cores()
        self._recorded = _recorded(circuit, record)
        self._network = network(circuit, frozenset(self._recorded), one_spike=self._fifo)
        self._places = {circuit.input: 0} | {p.name: k for k, p in enumerate(circuit.populations, 1)}
        self._fan_out = np.concatenate([circuit.fan_out[name] for name in self._places])
        self._idle: SimpleQueue[Run] = SimpleQueue()
        self._pace = math.inf  # seconds per recording, lately

    def run(self, trains: Sequence[InputTrain]) -> Iterator[Result]:
        """Runs recordings, each from rest at time 0, several at once.

        Args:
            trains: the recordings.

        Yields:
            Results in the order of ``trains``, each as soon as it is there.
        """
        if len(trains) < 2 or self._threads == 1:
            for train in trains:
                yield self._result(train)
            return
        ahead = 4 * self._threads  # enough to keep every thread busy, few enough to bound what waits for the reader
        futures: deque[Future[list[Result]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                start = 0
                while start < len(trains):
                    # Every hand-over wakes the reader, which takes a core from the threads.
                    end = start + max(1, min(_MOST_TOGETHER, int(_SECONDS_TOGETHER / self._pace)))
                    futures.append(pool.submit(self._results, trains[start:end]))
                    start = end
                    if len(futures) > ahead:
                        yield from futures.popleft().result()
                while futures:
                    yield from futures.popleft().result()
            finally:
                for future in futures:
                    future.cancel()

    def _results(self, trains: Sequence[InputTrain]) -> list[Result]:
        started = time.perf_counter()
        results = [self._result(train) for train in trains]
        self._pace = (time.perf_counter() - started) / len(trains)
        return results

    def start(self) -> Run:
        """A run at rest at time 0, to be carried on piece by piece."""
        return Run(self)

    def _result(self, train: InputTrain) -> Result:
        try:
            run = self._idle.get_nowait()
        except Empty:
            run = Run(self)
        run.reset()
        try:
            return run.feed(train)
        finally:
            self._idle.put(run)


class Run:
    """One network on its way through time: its state, to be fed with input piece by piece.

    ``feed`` carries it to the end of a piece; feeding a recording in pieces gives the spikes of the whole.
    """

    def __init__(self, engine: ExactEngine) -> None:
        self._engine = engine
        self._network: Network = engine._network
        self._state = new_state(self._network)
        self._crossings = new_crossings(self._network)
        kernels.foresee_all(self._network, self._state, self._crossings)
        self._first_crossings = tuple(a.copy() for a in self._crossings)
        self._pending = new_pending(self._network)
        self._trace = new_trace(self._network)
        self._queue = new_queue(self._network)

    def reset(self) -> None:
        """Back to rest at time 0."""
        reset(self._state)
        for array, first in zip(self._crossings, self._first_crossings, strict=True):
            array[:] = first
        self._pending.state[:] = 0

    def feed(self, train: InputTrain) -> Result:
        """Carries the run on to ``train.duration``.

        Args:
            train: input spikes later than everything fed before, at absolute times.

        Returns:
            The spikes of this piece; counts, readout and synops since time 0.
        """
        net, state, circuit = self._network, self._state, self._engine.circuit
        end = float(train.duration)
        self._trace.size[0] = state.cursor[:] = 0
        while self._advance(train, end) == kernels.FULL:
            self._make_room()
        places = self._engine._places
        p = places[circuit.output]
        if net.kind[p] != STATIC and not circuit.readout.rule.fires:
            kernels.finish(net, state, p, end)
        counts = {
            name: state.counts[net.offset[k] : net.offset[k + 1]].reshape(shape).copy()
            for name, k, shape in self._fired()
        }
        spikes = self._spikes()
        if circuit.input in self._engine._recorded:
            heard = slice(np.searchsorted(train.t, end, side="right"))
            spikes[circuit.input] = Spikes(train.t[heard], train.i[heard], train.n[heard])
        return Result(
            spikes=spikes,
            counts=counts,
            readout=self._readout(p),
            synops=int(state.counts @ self._engine._fan_out),
            duration=end,
            engine=self._engine.name,
            circuit=circuit,
        )

    def _advance(self, train: InputTrain, end: float) -> int:
        common = self._network, self._state, self._crossings, self._pending, self._trace
        if self._engine._fifo:
            return kernels.run_queued(*common, self._queue, train.t, train.i, train.order, end)
        return kernels.run_summed(*common, train.t, train.i, train.n, end)

    def _make_room(self) -> None:
        """Twice the room for whatever the next step of the kernel might overfill."""
        most, cursor = self._network.most, self._state.cursor
        if self._trace.size[0] + most[0] > len(self._trace.t):
            self._trace = doubled(self._trace)
        if self._pending.state[0] + most[1] > len(self._pending.t):
            self._pending = doubled(self._pending)
        if cursor[2] + most[2] > len(self._queue):
            self._queue = np.concatenate([self._queue[cursor[1] :], self._queue[: cursor[1]], 0 * self._queue])
            cursor[1] = 0

    def _fired(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        circuit = self._engine.circuit
        yield circuit.input, 0, circuit.input_shape
        for k, population in enumerate(circuit.populations, 1):
            if population.rule.fires:
                yield population.name, k, population.shape

    def _spikes(self) -> dict[str, Spikes]:
        recorded = [name for name in self._engine._recorded if name != self._engine.circuit.input]
        if not recorded:
            return {}
        size, start = int(self._trace.size[0]), np.zeros(len(self._network.group) + 1, np.int64)
        t, i, n = np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)
        kernels.split(self._trace, start, t, i, n)
        out = {}
        for name in recorded:
            k = self._engine._places[name]
            part = slice(start[k], start[k + 1])
            out[name] = Spikes(t[part], i[part], n[part])
        return out

    def _readout(self, p: int) -> np.ndarray:
        net, part = self._network, slice(self._network.offset[p], self._network.offset[p + 1])
        if self._engine.circuit.readout.rule.fires:
            return self._state.counts[part].astype(np.float64)
        readout = np.empty(part.stop - part.start)
        readout[net.flat[part]] = self._state.y[part]
        return readout


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _recorded(circuit: Circuit, record: str) -> tuple[str, ...]:
    """Names of the populations whose spikes are kept; the input among them where it feeds the readout."""
    firing = [p.name for p in circuit.populations if p.rule.fires]
    heard = {c.source for c in circuit.into(circuit.output)}
    if record == "counts":
        return ()
    kept = firing if record == "all" else [name for name in firing if name in heard or name == circuit.output]
    return (*([circuit.input] if circuit.input in heard else []), *kept)


def _require_arrivals_only(circuit: Circuit) -> None:
    for connection in circuit.connections:
        if connection.delayed:
            raise InputError(
                f"order='fifo' knows no delays, but {connection.source!r} -> {connection.target!r} has one; "
                "use order='sum'"
            )
    for population in circuit.populations:
        if crosses(population.rule):
            raise InputError(
                f"order='fifo' needs neurons that fire at arrivals only; {population.name!r} also crosses its "
                "threshold between them (bias or synaptic current); use order='sum'"
            )
