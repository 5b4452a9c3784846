"""The engine: recordings in batches, two of them at a time, so that copies and computations overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian.circuit.model import Circuit, synaptic_operations
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines.base import InputSpikes, Order, Record
from mtt_brian.engines.exact.engine import ExactEngine
from mtt_brian.engines.exact_cuda.arrays import Block, kernel_arrays
from mtt_brian.engines.exact_cuda.gpu import CupyGpu, Gpu, Stream
from mtt_brian.engines.lowered.arrays import lower_circuit
from mtt_brian.engines.result import Result, recorded_populations, result_of
from mtt_brian.errors import InputError, check_whole

_KERNEL = Path(__file__).with_name("kernel.cu")
#: Largest number of recordings of a batch; two batches of a small network fill an H100.
_MOST_TOGETHER = 2048
#: Share of the free memory of the GPU that the two batches in flight may use.
_SHARE = 0.8
#: A record of `kernel.cu`, and room for such records beyond those of one instant. A full buffer is emptied and the run
#: continues.
_RECORD = np.dtype([("t", np.float64), ("n", np.int64), ("p", np.int32), ("i", np.int32)])
_ROOM = 4096
#: Columns of a cursor of `kernel.cu`.
_ROW, _NOW, _RECORDS, _FAILED = range(4)


class ExactCudaEngine:
    """Runs a circuit spike by spike on a GPU, each recording in a block of threads of its own.

    For IF neurons without bias, LIF neurons that cannot reach their threshold between arrivals, and readouts of these
    kinds. Every neuron adds its jumps in the order of the engine `exact`, every product and sum is rounded alone, and the
    exponential function of leaks is that of the C library of Linux. So spikes and potentials are those of `exact` to
    the last bit, with any weights.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: recorded spikes, see `ExactEngine`.
        batch_size: recordings on the GPU at the same time, half of them in each of two batches; by default as many as
            its memory holds, up to 4096.
        gpu: the GPU; by default the current one of CuPy.
        block: the shape of a block of threads; by default by the size of the network.

    Raises:
        InputError: for a network that it cannot run, and without CuPy or a GPU. In a run: see `ExactEngine`.
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
        if order != "sum":
            raise InputError(f"engine='exact-cuda' takes order='sum', not {order!r}")
        if batch_size is not None:
            check_whole("batch_size", batch_size, most=2**20)
            if batch_size < 1:
                raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self.circuit = circuit
        self.record = record
        self._recorded = [name for name in recorded_populations(circuit, record) if name != circuit.input]
        lowered = lower_circuit(circuit, frozenset(self._recorded), one_spike=False)
        self._sizes = kernel_arrays(circuit, lowered, block)
        self.block = self._sizes.block
        self._gpu = CupyGpu() if gpu is None else gpu
        self._streams = (self._gpu.stream(), self._gpu.stream())
        self._kernel = self._gpu.compile(_KERNEL, "run_summed", self._sizes.macros())
        self._budget = self._check_memory()
        self._most = _MOST_TOGETHER if batch_size is None else -(-batch_size // 2)
        with self._streams[0].use():
            self._network = [self._gpu.upload(array) for array in self._sizes.arrays]
        self._streams[0].synchronize()
        names = [circuit.input, *(p.name for p in circuit.populations)]
        self._fan_out = np.concatenate([circuit.fan_out[name] for name in names])
        ends = dict(zip(names, zip(lowered.offset[:-1], lowered.offset[1:], strict=True), strict=True))
        fires = [circuit.input, *(p.name for p in circuit.populations if p.rule.fires)]
        self._parts = {name: slice(*map(int, ends[name])) for name in fires}
        self._numbers = {name: names.index(name) for name in self._recorded}

    def _check_memory(self) -> int:
        """Bytes that a batch may use."""
        free, needed = self._gpu.free_bytes(), self._sizes.bytes + 2 * self._bytes(0)
        if needed > _SHARE * free:
            raise InputError(
                f"{self._gpu.name}: the network and two recordings need {needed / 2**20:,.0f} MiB of its memory, of "
                f"which {free / 2**20:,.0f} MiB are free; use engine='exact'"
            )
        return int(_SHARE * free - self._sizes.bytes) // 2

    def _bytes(self, rows: int) -> int:
        """Memory of a recording with ``rows`` input spikes."""
        return self._sizes.bytes_per_recording + self._capacity * _RECORD.itemsize + 20 * rows

    @property
    def _capacity(self) -> int:
        """Records that a run holds before they are fetched."""
        return self._sizes.most_new + _ROOM if self._recorded else 1

    def run(self, inputs: Iterable[InputSpikes]) -> Iterator[Result]:
        """Runs recordings, each from rest at time 0.

        Args:
            inputs: input spikes of each recording, read lazily, two batches ahead.

        Yields:
            Results in the order of ``inputs``, those of a batch together.
        """
        recordings = iter(inputs)
        running: deque[_Batch] = deque()
        number = 0
        first = next(recordings, None)
        while first is not None:
            together, first = self._take(first, recordings)
            running.append(_Batch(self, together, self._streams[number % 2]))
            number += 1
            if len(running) == 2:
                yield from running.popleft().results()
        while running:
            yield from running.popleft().results()

    def _take(
        self, first: InputSpikes, recordings: Iterator[InputSpikes]
    ) -> tuple[list[InputSpikes], InputSpikes | None]:
        """The recordings of the next batch, and the first one that does not fit into it."""
        together, used = [first], self._bytes(len(first.t))
        if used > self._budget:
            raise InputError(
                f"{self._gpu.name}: a recording with {len(first.t):,} events needs {used / 2**20:,.0f} MiB of its memory, "
                f"and {self._budget / 2**20:,.0f} MiB are left; use engine='exact'"
            )
        for recording in recordings:
            used += self._bytes(len(recording.t))
            if len(together) == self._most or used > self._budget:
                return together, recording
            together.append(recording)
        return together, None


class _Batch:
    """Recordings that run at the same time.

    Args:
        engine: of the network.
        recordings: at least one.
        stream: in which they run.
    """

    def __init__(self, engine: ExactCudaEngine, recordings: Sequence[InputSpikes], stream: Stream) -> None:
        self._engine, self._recordings, self._stream = engine, recordings, stream
        gpu, sizes, number = engine._gpu, engine._sizes, len(recordings)
        with stream.use():
            self._inputs = self._upload()
            zeros = {
                "y": gpu.zeros((number, sizes.neurons), np.float64),
                "last": gpu.zeros((number, sizes.neurons), np.float64) if sizes.moves else None,
                "stamp": gpu.zeros((number, sizes.groups), np.int32),
                "mark": gpu.zeros((number, sizes.neurons), np.int32) if sizes.marked else None,
                "touched": gpu.zeros((number, sizes.groups), np.int32),
                "keys": gpu.zeros((number, sizes.neurons), np.int64),
                "fired": gpu.zeros((number, sizes.neurons), np.int64),
                "counts": gpu.zeros((number, sizes.neurons), np.int64),
                "readout": gpu.zeros((number, sizes.readout), np.float64),
                "records": gpu.zeros((number, engine._capacity * _RECORD.itemsize // 8), np.int64),
                "cursors": gpu.zeros((number, 4), np.int32),
            }
        self._buffers: Mapping[str, Any] = zeros
        self._advance()

    def _upload(self) -> list[Any]:
        """Begins and ends of the recordings, and their spikes one after another."""
        gpu, recordings = self._engine._gpu, self._recordings
        begin = gpu.staging(len(recordings) + 1, np.int64)
        begin[0] = 0
        np.cumsum([len(recording.t) for recording in recordings], out=begin[1:])
        end = gpu.staging(len(recordings), np.float64)
        end[:] = [recording.duration for recording in recordings]
        self._staged = [begin, end]
        for column, dtype in (("t", np.float64), ("i", np.int32), ("n", np.int64)):
            joined = gpu.staging(max(1, int(begin[-1])), dtype)
            parts = [getattr(recording, column) for recording in recordings]
            np.concatenate(parts, out=joined[: begin[-1]], casting="unsafe")
            self._staged.append(joined)
        return [gpu.upload(array) for array in self._staged]

    def _advance(self) -> None:
        """Starts the kernel: every recording runs to its end, or until it has no room for records."""
        engine, sizes = self._engine, self._engine._sizes
        addresses = [0 if buffer is None else engine._gpu.address(buffer) for buffer in self._buffers.values()]
        with self._stream.use():
            engine._kernel(
                len(self._recordings),
                sizes.block.threads,
                sizes.shared_bytes,
                [
                    *map(engine._gpu.address, engine._network),
                    *(sizes.populations, sizes.output, sizes.block.tile),
                    *map(engine._gpu.address, self._inputs),
                    *(sizes.neurons, sizes.groups, sizes.most_new, engine._capacity),
                    *addresses,
                ],
            )

    def results(self) -> Iterator[Result]:
        """Waits for the end of all runs, and gives their results."""
        gpu, buffers = self._engine._gpu, self._buffers
        pieces: list[list[np.ndarray]] = [[] for _ in self._recordings]
        rows = [len(recording.t) for recording in self._recordings]
        while True:
            self._stream.synchronize()
            with self._stream.use():
                cursors = gpu.download(buffers["cursors"])
                self._fetch_records(cursors[:, _RECORDS], pieces)
            if np.array_equal(cursors[:, _ROW], rows):
                break
            self._advance()
        with self._stream.use():
            counts, readouts = gpu.download(buffers["counts"]), gpu.download(buffers["readout"])
        self._buffers = {}
        for k, recording in enumerate(self._recordings):
            if cursors[k, _FAILED]:
                self._raise_failure(recording)
            yield self._result(recording, counts[k].copy(), readouts[k].copy(), pieces[k])

    def _fetch_records(self, numbers: np.ndarray, pieces: list[list[np.ndarray]]) -> None:
        """Appends the new records of every run to its pieces."""
        words = _RECORD.itemsize // 8
        if most := int(numbers.max()):
            found = self._engine._gpu.download(self._buffers["records"][:, : words * most])
            for k, number in enumerate(numbers):
                pieces[k].append(found[k, : words * number].copy().view(_RECORD))

    def _result(
        self, recording: InputSpikes, counts: np.ndarray, readout: np.ndarray, pieces: list[np.ndarray]
    ) -> Result:
        engine = self._engine
        spikes = {}
        if engine._recorded:
            records = np.concatenate(pieces) if pieces else np.zeros(0, _RECORD)
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
            synaptic_operations(counts, engine._fan_out),
        )

    def _raise_failure(self, recording: InputSpikes) -> None:
        """Raises the message of the engine `exact` for a run that cannot continue."""
        list(ExactEngine(self._engine.circuit, record="counts", threads=1).run([recording]))
        raise InputError(
            "a potential grew larger than float64 can hold (1.8e308), or a neuron fired more spikes than can be counted; "
            "check weights and spike_integral"
        )
