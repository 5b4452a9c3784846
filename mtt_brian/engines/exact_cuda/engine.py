"""The engine: recordings in batches, several at a time, so that copies and computations overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines.base import ORDERS, InputSpikes, Order, Record
from mtt_brian.engines.exact.engine import ExactEngine
from mtt_brian.engines.exact_cuda.arrays import FAILED, Block, KernelArrays, kernel_arrays
from mtt_brian.engines.exact_cuda.gpu import CupyGpu, Gpu, Kernel, Stream
from mtt_brian.engines.lowered.arrays import lower_circuit
from mtt_brian.engines.result import Result, recorded_populations, result_of
from mtt_brian.errors import InputError, check_choice, check_whole

_KERNEL = Path(__file__).with_name("kernel.cu")
#: Largest number of recordings of a batch, and of batches in flight. Together they fill an H100, and the first batch
#: begins while the next ones are read.
_MOST_TOGETHER, _IN_FLIGHT = 512, 8
#: Bytes of spike counts of a batch: those of large networks take as long to fetch as to compute, and are fetched while
#: other batches run.
_MOST_COUNTS = 2**28
#: Threads that fetch results.
_FETCHING = 4
#: Share of the free memory of the GPU that the batches in flight may use.
_SHARE = 0.8
#: A record of `kernel.cu`, and room for such records beyond those of one instant. A full buffer is emptied and the run
#: continues.
_RECORD = np.dtype([("t", np.float64), ("n", np.int64), ("p", np.int32), ("i", np.int32)])
_ROOM = 4096
#: Columns of a cursor of `kernel.cu`.
_ROW, _RECORDS, _ENDED_EARLY, _COLUMNS = 0, 2, 3, 6


class ExactCudaEngine:
    """Runs a circuit spike by spike on a GPU, each recording in a block of threads of its own.

    For IF neurons without bias, LIF neurons that cannot reach their threshold between arrivals, and readouts of these
    kinds. Every neuron adds its jumps in the order of the engine `exact`, every product and sum is rounded alone, and
    the exponential function of leaks is that of the C library of Linux. So spikes and potentials are those of `exact`
    to the last bit, with any weights.

    Args:
        circuit: the network.
        order: see `ExactEngine`. Of ``"fifo"`` a recording whose queue grows beyond four times the number of neurons is
            run by `exact`.
        record: recorded spikes, see `ExactEngine`.
        batch_size: recordings of a batch; by default as many as an eighth of the free memory of the GPU holds, up to
            512, and to 256 MiB of spike counts. Eight batches run at the same time.
        gpu: the GPU; by default the current one of CuPy.
        block: the shape of a block of threads; by default by the size of the network.

    Raises:
        InputError: for a network that it cannot run. In a run: without CuPy, a GPU or enough memory on it, and see
            `ExactEngine`.
    """

    name = "exact-cuda"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: Order = "sum",
        record: Record = "all",
        batch_size: int | None = None,
        gpu: Gpu | None = None,
        block: Block | None = None,
    ) -> None:
        check_choice("order", order, ORDERS)
        if batch_size is not None:
            batch_size = check_whole("batch_size", batch_size, most=2**20, least=1)
        self.circuit = circuit
        self.record = record
        self._recorded = [name for name in recorded_populations(circuit, record) if name != circuit.input]
        self._order = order
        lowered = lower_circuit(circuit, frozenset(self._recorded), one_spike=order == "fifo")
        self._sizes = kernel_arrays(circuit, lowered, order == "fifo", block)
        self.block = self._sizes.block
        fetched = max(1, min(_MOST_TOGETHER, _MOST_COUNTS // (8 * self._sizes.neurons)))
        self._most = fetched if batch_size is None else batch_size
        self._gpu, self._lock = gpu, Lock()
        self._loaded: _OnGpu | None = None
        names = [circuit.input, *(p.name for p in circuit.populations)]
        ends = dict(zip(names, zip(lowered.offset[:-1], lowered.offset[1:], strict=True), strict=True))
        fires = [circuit.input, *(p.name for p in circuit.populations if p.rule.fires)]
        self._parts = {name: slice(*map(int, ends[name])) for name in fires}
        self._numbers = {name: names.index(name) for name in self._recorded}

    def _on_gpu(self) -> _OnGpu:
        """The network on the GPU, copied there by the first run."""
        with self._lock:
            if self._loaded is None:
                self._loaded = _OnGpu.load(self._gpu or CupyGpu(), self._sizes, self._bytes(0))
            return self._loaded

    def _bytes(self, rows: int) -> int:
        """Memory of a recording with ``rows`` input spikes or events."""
        return self._sizes.bytes_per_recording + self._capacity * _RECORD.itemsize + 24 * rows

    @property
    def _capacity(self) -> int:
        """Records that a run holds before they are fetched."""
        return self._sizes.most_new + _ROOM if self._recorded else 1

    def run(self, inputs: Iterable[InputSpikes]) -> Iterator[Result]:
        """Runs recordings, each from rest at time 0.

        Args:
            inputs: input spikes of each recording, read lazily, eight batches ahead.

        Yields:
            Results in the order of ``inputs``, those of a batch together.
        """
        there, recordings = self._on_gpu(), iter(inputs)
        running: deque[Future[_Batch]] = deque()
        streams = cycle(there.streams)
        first = next(recordings, None)
        with ThreadPoolExecutor(1) as starting, ThreadPoolExecutor(_FETCHING) as fetching:
            while first is not None:
                together, first = self._take(there, first, recordings)
                started = starting.submit(_Batch, self, there, together, next(streams))
                running.append(fetching.submit(_fetched, started))
                if len(running) == len(there.streams):
                    yield from running.popleft().result().results()
            while running:
                yield from running.popleft().result().results()

    def _take(
        self, there: _OnGpu, first: InputSpikes, recordings: Iterator[InputSpikes]
    ) -> tuple[list[InputSpikes], InputSpikes | None]:
        """The recordings of the next batch, and the first one that does not fit into it."""
        together, used = [first], self._bytes(len(first.order))
        if used > there.budget:
            raise InputError(
                f"{there.gpu.name}: a recording with {len(first.order):,} events needs {used / 2**20:,.0f} MiB of its"
                f" memory, and {there.budget / 2**20:,.0f} MiB are left for it; use engine='exact'"
            )
        for recording in recordings:
            used += self._bytes(len(recording.order))
            if len(together) == self._most or used > there.budget:
                return together, recording
            together.append(recording)
        return together, None


@dataclass(frozen=True, eq=False)
class _OnGpu:
    """A network on a GPU.

    Attributes:
        gpu: the GPU.
        kernel: compiled for it and the network.
        network: the buffers of `KernelArrays.arrays`.
        streams: one for each batch that runs at the same time.
        budget: bytes that a batch may use.
    """

    gpu: Gpu
    kernel: Kernel
    network: list[Any]
    streams: list[Stream]
    budget: int

    @classmethod
    def load(cls, gpu: Gpu, sizes: KernelArrays, each: int) -> _OnGpu:
        """Compiles the kernel and copies the network.

        Args:
            gpu: the GPU.
            sizes: the network.
            each: bytes of a recording without events.

        Raises:
            InputError: if there is no memory for the network and one recording, and for a GPU that is too old.
        """
        kernel = gpu.compile(_KERNEL, "run_recordings", sizes.macros())
        free = gpu.free_bytes()
        left = int(_SHARE * free) - sizes.bytes
        if left < each:
            raise InputError(
                f"{gpu.name}: the network and one recording need {(sizes.bytes + each) / 2**20:,.1f} MiB of its memory,"
                f" of which {free / 2**20:,.1f} MiB are free; use engine='exact'"
            )
        streams = [gpu.stream() for _ in range(min(_IN_FLIGHT, left // each))]
        with streams[0].use():
            network = [gpu.upload(array) for array in sizes.arrays]
        streams[0].synchronize()
        return cls(gpu, kernel, network, streams, left // len(streams))


def _fetched(started: Future[_Batch]) -> _Batch:
    batch = started.result()
    batch.fetch()
    return batch


class _Batch:
    """Recordings that run at the same time.

    Args:
        engine: of the network.
        there: the network on the GPU.
        recordings: at least one.
        stream: in which they run.
    """

    def __init__(
        self, engine: ExactCudaEngine, there: _OnGpu, recordings: Sequence[InputSpikes], stream: Stream
    ) -> None:
        self._engine, self._there, self._recordings, self._stream = engine, there, recordings, stream
        gpu, sizes, number = there.gpu, engine._sizes, len(recordings)
        with stream.use():
            self._inputs = self._upload()
            zeros = {
                "y": gpu.zeros((number, sizes.pitch), np.float64),
                "last": gpu.zeros((number, sizes.pitch), np.float64) if sizes.moves else None,
                "stamp": gpu.zeros((number, sizes.groups), np.int32),
                "mark": gpu.zeros((number, sizes.neurons), np.int32) if sizes.marked else None,
                "touched": gpu.zeros((number, sizes.groups), np.int32),
                "spikes": gpu.zeros((number, 2 * sizes.neurons), np.int64),
                "counts": gpu.zeros((number, sizes.neurons), np.int64),
                "readout": gpu.zeros((number, sizes.readout), np.float64),
                "synops": gpu.zeros((number,), np.int64),
                "queue": gpu.zeros((number, max(1, sizes.room)), np.int64),
                "records": gpu.zeros((number, engine._capacity * _RECORD.itemsize // 8), np.int64),
                "cursors": gpu.zeros((number, _COLUMNS), np.int32),
            }
        self._buffers: Mapping[str, Any] = zeros
        self._advance()

    def _upload(self) -> list[Any]:
        """Begins and ends of the recordings, and their spikes one after another."""
        gpu, recordings = self._there.gpu, self._recordings
        begin = gpu.staging((len(recordings) + 1,), np.int64)
        begin[0] = 0
        np.cumsum([len(recording.t) for recording in recordings], out=begin[1:])
        end = gpu.staging((len(recordings),), np.float64)
        end[:] = [recording.duration for recording in recordings]
        self._staged = [begin, end]
        for column, dtype in (("t", np.float64), ("i", np.int32), ("n", np.int64)):
            joined = gpu.staging((max(1, int(begin[-1])),), dtype)
            parts = [getattr(recording, column) for recording in recordings]
            np.concatenate(parts, out=joined[: begin[-1]], casting="unsafe")
            self._staged.append(joined)
        events = [recording.order for recording in recordings] if self._engine._sizes.queued else []
        first_event = gpu.staging((len(recordings) + 1,), np.int64)
        first_event[:] = 0
        np.cumsum([len(order) for order in events], out=first_event[1 : len(events) + 1])
        order = gpu.staging((max(1, int(first_event[-1])),), np.int32)
        np.concatenate([np.zeros(0, np.int64), *events], out=order[: first_event[-1]], casting="unsafe")
        self._staged += [first_event, order]
        return [gpu.upload(array) for array in self._staged]

    def _advance(self) -> None:
        """Starts the kernel: every recording runs to its end, or until it has no room for records."""
        engine, gpu, sizes = self._engine, self._there.gpu, self._engine._sizes
        addresses = [0 if buffer is None else gpu.address(buffer) for buffer in self._buffers.values()]
        with self._stream.use():
            self._there.kernel(
                len(self._recordings),
                sizes.block.threads,
                sizes.shared_bytes,
                [
                    *map(gpu.address, self._there.network),
                    *(sizes.populations, sizes.output, sizes.block.tile),
                    *map(gpu.address, self._inputs),
                    *(sizes.neurons, sizes.groups, sizes.most_new, engine._capacity, sizes.most_caused, sizes.room),
                    *addresses,
                ],
            )

    def fetch(self) -> None:
        """Waits for the end of all runs, and copies their results from the GPU."""
        sizes, number = self._engine._sizes, len(self._recordings)
        pieces: list[list[np.ndarray]] = [[] for _ in self._recordings]
        queued = sizes.queued
        rows = [len(recording.order if queued else recording.t) for recording in self._recordings]
        while True:
            self._stream.synchronize()
            cursors = self._download("cursors", (number, _COLUMNS), np.int32)
            self._fetch_records(cursors[:, _RECORDS], pieces)
            if np.array_equal(cursors[:, _ROW], rows):
                break
            self._advance()
        counts = self._download("counts", (number, sizes.neurons), np.int64)
        readouts = self._download("readout", (number, sizes.readout), np.float64)
        synops = self._download("synops", (number,), np.int64)
        self._buffers, self._inputs, self._staged = {}, [], []
        # Copies: the results must not keep page-locked memory.
        self._outputs = [
            (int(cursors[k, _ENDED_EARLY]), counts[k].copy(), readouts[k].copy(), int(synops[k]), pieces[k])
            for k in range(number)
        ]

    def results(self) -> Iterator[Result]:
        """The results, once they have been fetched."""
        for recording, (ended_early, *outputs) in zip(self._recordings, self._outputs, strict=True):
            yield self._elsewhere(recording, ended_early) if ended_early else self._result(recording, *outputs)

    def _download(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """The content of a buffer."""
        gpu = self._there.gpu
        content = gpu.staging(shape, dtype)
        with self._stream.use():
            gpu.download(self._buffers[name], content)
        return content

    def _fetch_records(self, numbers: np.ndarray, pieces: list[list[np.ndarray]]) -> None:
        """Appends the new records of every run to its pieces."""
        words = _RECORD.itemsize // 8
        if most := int(numbers.max()):
            found = np.empty((len(numbers), words * most), np.int64)
            with self._stream.use():
                self._there.gpu.download(self._buffers["records"][:, : words * most], found)
            for k, number in enumerate(numbers):
                pieces[k].append(found[k, : words * number].copy().view(_RECORD))

    def _result(
        self, recording: InputSpikes, counts: np.ndarray, readout: np.ndarray, synops: int, pieces: list[np.ndarray]
    ) -> Result:
        engine = self._engine
        spikes = {}
        if engine._recorded:
            records = np.concatenate(pieces) if pieces else np.zeros(0, _RECORD)
            if engine._sizes.queued:
                records = _merged(records)
            for name, number in engine._numbers.items():
                own = records[records["p"] == number]
                spikes[name] = Spikes(own["t"].copy(), own["i"].astype(np.int64), own["n"].copy())
        return result_of(
            engine.circuit,
            engine.name,
            engine.record,
            recording,
            spikes,
            {name: counts[part] for name, part in engine._parts.items()},
            readout,
            synops,
        )

    def _elsewhere(self, recording: InputSpikes, reason: int) -> Result:
        """The result of `exact`, or its message, for a run that has ended early."""
        engine = self._engine
        exact = ExactEngine(engine.circuit, order=engine._order, record=engine.record, threads=1)
        (result,) = exact.run([recording])
        if reason == FAILED:
            raise InputError(
                "a potential grew larger than float64 can hold (1.8e308), or a neuron fired more spikes than can be"
                " counted; check weights and spike_integral"
            )
        return replace(result, engine=engine.name)


def _merged(records: np.ndarray) -> np.ndarray:
    """Records sorted by time, population and neuron, with those of one neuron and time added."""
    if len(records) == 0:
        return records
    records = records[np.lexsort((records["i"], records["p"], records["t"]))]
    same = np.ones(len(records) - 1, dtype=bool)
    for column in ("t", "p", "i"):
        same &= records[column][1:] == records[column][:-1]
    first = np.flatnonzero(np.append(True, ~same))
    merged = records[first]
    merged["n"] = np.add.reduceat(records["n"], first)
    return merged
