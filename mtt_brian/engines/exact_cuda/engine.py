"""The engine: recordings in batches, several at a time, so that copies and computations overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle
from threading import Lock

from mtt_brian.circuit.model import Circuit
from mtt_brian.engines.base import ORDERS, InputSpikes, Order, Record
from mtt_brian.engines.exact.engine import ExactEngine
from mtt_brian.engines.exact_cuda import layers, queue
from mtt_brian.engines.exact_cuda.arrays import FAILED, Block, KernelArrays, kernel_arrays
from mtt_brian.engines.exact_cuda.gpu import CupyGpu, Gpu, Stream
from mtt_brian.engines.exact_cuda.layers import LayerRunner
from mtt_brian.engines.exact_cuda.loaded import LoadedNetwork
from mtt_brian.engines.exact_cuda.output import Output
from mtt_brian.engines.exact_cuda.queue import QueueRunner
from mtt_brian.engines.lowered.arrays import lower_circuit
from mtt_brian.engines.result import Result, recorded_populations, result_of
from mtt_brian.errors import InputError, check_choice, check_whole

#: Largest number of recordings of a batch, and of batches in flight. Together they fill an H100, and the first batch
#: begins while the next ones are read.
_MOST_TOGETHER, _IN_FLIGHT = 512, 8
#: Bytes of spike counts of a batch: those of large networks take as long to fetch as to compute, and are fetched while
#: other batches run.
_MOST_COUNTS = 2**28
#: Share of the free memory of the GPU that the batches in flight may use.
_SHARE = 0.8


class ExactCudaEngine:
    """Runs a circuit spike by spike on a GPU, many recordings at the same time.

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
                self._loaded = _OnGpu.load(self._gpu or CupyGpu(), self._sizes, self._bytes(0), self._numbers)
            return self._loaded

    def _bytes(self, rows: int) -> int:
        """Memory of a recording with ``rows`` input spikes or events."""
        sizes = self._sizes
        records = queue.capacity(sizes, self._numbers) * queue.RECORD.itemsize if sizes.queued else 0
        return sizes.bytes_per_recording + records + sizes.bytes_per_event * rows

    def run(self, inputs: Iterable[InputSpikes]) -> Iterator[Result]:
        """Runs recordings, each from rest at time 0.

        Args:
            inputs: input spikes of each recording, read lazily, eight batches ahead.

        Yields:
            Results in the order of ``inputs``, those of a batch together.
        """
        there, recordings = self._on_gpu(), iter(inputs)
        running: deque[tuple[Sequence[InputSpikes], Future[list[Output]]]] = deque()
        streams = cycle(there.streams)
        first = next(recordings, None)
        with ThreadPoolExecutor(len(there.streams)) as pool:
            while first is not None or running:
                while first is not None and len(running) < len(there.streams):
                    together, first = self._take(there, first, recordings)
                    running.append((together, pool.submit(there.runner.run, together, next(streams))))
                done, future = running.popleft()
                for recording, output in zip(done, future.result(), strict=True):
                    yield self._elsewhere(recording, output) if output.ended_early else self._result(recording, output)

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

    def _result(self, recording: InputSpikes, output: Output) -> Result:
        return result_of(
            self.circuit,
            self.name,
            self.record,
            recording,
            output.spikes,
            {name: output.counts[part] for name, part in self._parts.items()},
            output.readout,
            output.synops,
        )

    def _elsewhere(self, recording: InputSpikes, output: Output) -> Result:
        """The result of `exact`, or its message, for a run that has ended early."""
        exact = ExactEngine(self.circuit, order=self._order, record=self.record, threads=1)
        (result,) = exact.run([recording])
        if output.ended_early == FAILED:
            raise InputError(
                "a potential grew larger than float64 can hold (1.8e308), or a neuron fired more spikes than can be"
                " counted; check weights and spike_integral"
            )
        return replace(result, engine=self.name)


@dataclass(frozen=True, eq=False)
class _OnGpu:
    """A network on a GPU.

    Attributes:
        gpu: the GPU.
        runner: runs batches.
        streams: one for each batch that runs at the same time.
        budget: bytes that a batch may use.
    """

    gpu: Gpu
    runner: LayerRunner | QueueRunner
    streams: list[Stream]
    budget: int

    @classmethod
    def load(cls, gpu: Gpu, sizes: KernelArrays, each: int, recorded: Mapping[str, int]) -> _OnGpu:
        """Compiles the kernels and copies the network.

        Args:
            gpu: the GPU.
            sizes: the network.
            each: bytes of a recording without events.
            recorded: numbers of the populations whose spikes are kept, by name.

        Raises:
            InputError: if there is no memory for the network and one recording, and for a GPU that is too old.
        """
        module, runner = (queue, QueueRunner) if sizes.queued else (layers, LayerRunner)
        kernels = gpu.compile(module.SOURCES, module.FUNCTIONS, sizes.macros())
        free = gpu.free_bytes()
        left = int(_SHARE * free) - sizes.bytes
        if left < each:
            raise InputError(
                f"{gpu.name}: the network and one recording need {(sizes.bytes + each) / 2**20:,.1f} MiB of its memory,"
                f" of which {free / 2**20:,.1f} MiB are free; use engine='exact'"
            )
        streams = [gpu.stream() for _ in range(min(_IN_FLIGHT, left // each))]
        with streams[0].use():
            loaded = LoadedNetwork(gpu, sizes, kernels, [gpu.upload(array) for array in sizes.arrays], recorded)
        streams[0].synchronize()
        return cls(gpu, runner(loaded), streams, left // len(streams))
