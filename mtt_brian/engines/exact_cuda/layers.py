"""A batch of recordings with ``order="sum"``: population after population, each through all instants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.circuit.spikes import InputSpikes, Spikes
from mtt_brian.engines.exact_cuda.arrays import HIT_BYTES, SPIKE_BYTES
from mtt_brian.engines.exact_cuda.gpu import Kernel, OutOfMemory, Stream
from mtt_brian.engines.exact_cuda.loaded import LoadedNetwork
from mtt_brian.engines.exact_cuda.output import Output, outputs
from mtt_brian.engines.exact_cuda.transfers import Transfers, begins
from mtt_brian.errors import InputError

SOURCES = (Path(__file__).with_name("common.cu"), Path(__file__).with_name("layers.cu"))
#: A spike of ``layers.cu``.
_SPIKE = np.dtype([("row", np.int32), ("i", np.int32), ("n", np.int64)])
#: Room for spikes of a population, for each of the input, before it has run once; and at least.
_FIRST_RATIO, _LEAST_ROOM = 1.0, 64


class LayerKernels(NamedTuple):
    """The kernels of ``layers.cu``."""

    list_input: Kernel
    count_hits: Kernel
    list_hits: Kernel
    update: Kernel
    sort_spikes: Kernel
    finish: Kernel


FUNCTIONS = LayerKernels._fields


class LayerRunner:
    """Runs batches of a network."""

    def __init__(self, loaded: LoadedNetwork) -> None:
        self.loaded, self.kernels = loaded, LayerKernels(*loaded.kernels)
        #: Most spikes of every population so far, for each of the input, in recordings that are not short.
        self.ratio = np.full(loaded.sizes.populations, _FIRST_RATIO)

    def run(self, recordings: Sequence[InputSpikes], stream: Stream) -> list[Output]:
        """The outputs of some recordings; of halves of them, one after the other, if they need too much memory."""
        try:
            with stream.use():
                return _Batch(self, recordings).run()
        except OutOfMemory as error:
            stream.synchronize()  # nothing is copied any more from memory that will be reused
            if len(recordings) == 1:
                raise InputError(
                    f"{self.loaded.gpu.name}: a recording with {len(recordings[0].order):,} events causes more spikes "
                    "than its memory holds; use engine='exact'"
                ) from error
        half = len(recordings) // 2
        return [*self.run(recordings[:half], stream), *self.run(recordings[half:], stream)]


class _Batch:
    """Recordings that run at the same time, in the current stream."""

    def __init__(self, runner: LayerRunner, recordings: Sequence[InputSpikes]) -> None:
        self._runner, self._gpu, self._sizes = runner, runner.loaded.gpu, runner.loaded.sizes
        self._recordings, self._number = recordings, len(recordings)
        self._rows = np.array([len(recording.t) for recording in recordings])
        self._transfers = Transfers(self._gpu)
        self._begin = self._transfers.copied(begins(self._rows))
        self._end = self._transfers.copied([recording.duration for recording in recordings], np.float64)
        self._t, self._i, self._n = (
            self._transfers.joined((getattr(recording, name) for recording in recordings), dtype)
            for name, dtype in (("t", np.float64), ("i", np.int32), ("n", np.int64))
        )
        sizes, number = self._sizes, self._number
        self._lists: list[Any] = [None] * sizes.populations
        self._at = np.zeros((sizes.populations, number + 1), np.int64)
        self._lengths = np.zeros((sizes.populations, number), np.int32)
        self._lengths[0] = [np.searchsorted(r.t, r.duration, "right") for r in recordings]  # later ones are left out
        self._y = self._gpu.empty((number, sizes.neurons), np.float64)
        self._last = self._gpu.empty((number, sizes.neurons), np.float64) if sizes.moves else None
        self._counts = self._gpu.zeros((number, sizes.neurons), np.int64)
        self._failed = self._gpu.zeros((number,), np.int32)

    def run(self) -> list[Output]:
        """Runs all populations, and fetches the outputs."""
        runner, sizes, number = self._runner, self._sizes, self._number
        self._make_room(0, self._rows)
        self._start("list_input", number, self._i, self._n, sizes.neurons, self._counts)
        for p in range(1, sizes.populations):
            self._run_population(p)
            for done in np.flatnonzero(sizes.last_target <= p):
                if done not in runner.loaded.recorded.values():
                    self._lists[done] = None
        readout = self._gpu.empty((number, sizes.readout), np.float64)
        synops = self._gpu.zeros((number,), np.int64)
        state = self._y, self._last, self._counts
        self._start("finish", number, self._end, sizes.neurons, sizes.output, *state, readout, synops, self._failed)
        fetched = self._transfers.fetched
        spikes = {name: self._spikes(p) for name, p in runner.loaded.recorded.items()}
        return outputs(
            fetched(self._failed),
            fetched(self._counts),
            fetched(readout),
            fetched(synops),
            [{name: each[k] for name, each in spikes.items()} for k in range(number)],
        )

    def _run_population(self, p: int) -> None:
        """Lists the hits of a population, runs its neurons through them, and sorts their spikes."""
        runner, gpu, units, number = self._runner, self._gpu, self._sizes.units[p], self._number
        self._check_number_of_hits(p)
        counters = gpu.zeros((number, units.number * units.parts), np.int32)
        totals = gpu.empty((number,), np.int64)
        of_units = p, units.number, units.parts, counters
        self._start("count_hits", number, *of_units, totals)
        first = begins(self._transfers.fetched(totals))
        hits = gpu.empty((max(1, int(first[-1])), (HIT_BYTES - 8) // 8), np.int64)
        amounts, begin = gpu.empty((max(1, int(first[-1])),), np.float64), self._transfers.copied(first)
        self._start("list_hits", number, *of_units, begin, hits, amounts)
        fires = self._sizes.fires[p]
        room = np.maximum(_LEAST_ROOM, np.ceil(1.1 * runner.ratio[p] * self._rows)).astype(np.int64) * fires
        workers = number * units.number * -(-units.size // self._sizes.block.channels)
        while True:
            self._make_room(p, room)
            self._start(
                "update",
                -(-workers // self._sizes.block.threads),
                *(*of_units, begin, hits, amounts),
                *(self._sizes.neurons, self._y, self._last, self._counts, self._failed),
            )
            self._lengths = self._transfers.fetched(self._tables[-1]).reshape(self._lengths.shape).copy()
            found = self._lengths[p].astype(np.int64)
            if np.all(found <= room):
                break
            room = found  # nothing but the spikes was lost
        long = self._rows >= max(1, self._rows.mean())
        runner.ratio[p] = max(runner.ratio[p], float((found[long] / self._rows[long]).max(initial=0)))
        if found.max(initial=0) > 1:
            other = gpu.empty((max(1, int(room.sum())), SPIKE_BYTES // 8), np.int64)
            self._start("sort_spikes", number, p, other)

    def _check_number_of_hits(self, p: int) -> None:
        """Refuses hits that 32 bits cannot number; their list would need 48 GiB."""
        spikes = sum(int(self._lengths[source].max()) for source in self._sizes.sources[p])
        if spikes * self._sizes.units[p].hits >= 2**31:
            raise OutOfMemory(f"{self._gpu.name}: more than 2**31 hits")

    def _make_room(self, p: int, room: np.ndarray) -> None:
        """An empty list for the spikes of a population: so many of each recording."""
        self._at[p] = begins(room)
        self._lists[p] = self._gpu.empty((max(1, int(room.sum())), SPIKE_BYTES // 8), np.int64)
        if p:
            self._lengths[p] = 0
        addresses = np.array([0 if spikes is None else self._gpu.address(spikes) for spikes in self._lists])
        self._tables = (
            self._transfers.copied(addresses),
            self._transfers.copied(self._at),
            self._transfers.copied(self._lengths, np.int32),
        )

    def _start(self, kernel: str, blocks: int, *arguments: Any) -> None:
        """Starts a kernel with the network, the batch, and more arguments: buffers or numbers."""
        batch = self._begin, self._t, *self._tables, self._number
        given = [*self._runner.loaded.addresses, *map(self._argument, (*batch, *arguments))]
        getattr(self._runner.kernels, kernel)(blocks, self._sizes.block.threads, 0, given)

    def _argument(self, value: Any) -> int:
        return 0 if value is None else int(value) if isinstance(value, int | np.integer) else self._gpu.address(value)

    def _spikes(self, p: int) -> list[Spikes]:
        """The spikes of a population in each recording."""
        spikes = self._transfers.fetched(self._lists[p]).reshape(-1).view(_SPIKE)
        parts = [
            spikes[begin : begin + length] for begin, length in zip(self._at[p, :-1], self._lengths[p], strict=True)
        ]
        return [
            Spikes(recording.t[part["row"]], part["i"].astype(np.int64), part["n"].copy())
            for recording, part in zip(self._recordings, parts, strict=True)
        ]
