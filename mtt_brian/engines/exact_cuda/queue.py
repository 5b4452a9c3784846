"""A batch of recordings with ``order="fifo"``: each in a block of threads, single event by single event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian.circuit.spikes import InputSpikes, Spikes
from mtt_brian.engines.exact_cuda.arrays import KernelArrays
from mtt_brian.engines.exact_cuda.gpu import Stream
from mtt_brian.engines.exact_cuda.loaded import LoadedNetwork
from mtt_brian.engines.exact_cuda.output import Output, outputs
from mtt_brian.engines.exact_cuda.transfers import Transfers, begins

SOURCES = (Path(__file__).with_name("common.cu"), Path(__file__).with_name("queue.cu"))
FUNCTIONS = ("run_recordings",)
#: A record of ``queue.cu``, and room for such records beyond those of one event. A full buffer is emptied and the run
#: continues.
RECORD = np.dtype([("t", np.float64), ("n", np.int64), ("p", np.int32), ("i", np.int32)])
_ROOM = 4096
#: Columns of a cursor of ``queue.cu``.
_ROW, _RECORDS, _ENDED_EARLY, _COLUMNS = 0, 2, 3, 6


def capacity(sizes: KernelArrays, recorded: Mapping[str, int]) -> int:
    """Records that a run holds before they are fetched."""
    return sizes.most_new + _ROOM if recorded else 1


class QueueRunner:
    """Runs batches of a network."""

    def __init__(self, loaded: LoadedNetwork) -> None:
        self._loaded = loaded

    def run(self, recordings: Sequence[InputSpikes], stream: Stream) -> list[Output]:
        """The outputs of some recordings."""
        with stream.use():
            return _Batch(self._loaded, recordings).run()


class _Batch:
    """Recordings that run at the same time, in the current stream."""

    def __init__(self, loaded: LoadedNetwork, recordings: Sequence[InputSpikes]) -> None:
        self._loaded, self._recordings = loaded, recordings
        gpu, sizes, number = loaded.gpu, loaded.sizes, len(recordings)
        self._capacity = capacity(sizes, loaded.recorded)
        self._transfers = Transfers(gpu)
        copied, joined = self._transfers.copied, self._transfers.joined
        self._inputs = [
            copied(begins(len(recording.t) for recording in recordings)),
            copied([recording.duration for recording in recordings], np.float64),
            joined((recording.t for recording in recordings), np.float64),
            joined((recording.i for recording in recordings), np.int32),
            copied(begins(len(recording.order) for recording in recordings)),
            joined((recording.order for recording in recordings), np.int32),
        ]
        self._buffers: Mapping[str, Any] = {
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
            "records": gpu.zeros((number, self._capacity * RECORD.itemsize // 8), np.int64),
            "cursors": gpu.zeros((number, _COLUMNS), np.int32),
        }

    def run(self) -> list[Output]:
        """Runs every recording to its end, and fetches the outputs."""
        pieces: list[list[np.ndarray]] = [[] for _ in self._recordings]
        rows = [len(recording.order) for recording in self._recordings]
        while True:
            self._advance()
            cursors = self._transfers.fetched(self._buffers["cursors"])
            self._fetch_records(cursors[:, _RECORDS], pieces)
            if np.array_equal(cursors[:, _ROW], rows):
                break
        counts, readouts, synops = (
            self._transfers.fetched(self._buffers[name]) for name in ("counts", "readout", "synops")
        )
        return outputs(cursors[:, _ENDED_EARLY], counts, readouts, synops, [self._spikes(each) for each in pieces])

    def _advance(self) -> None:
        """Starts the kernel: every recording runs to its end, or until it has no room for records."""
        gpu, sizes, (run_recordings,) = self._loaded.gpu, self._loaded.sizes, self._loaded.kernels
        run_recordings(
            len(self._recordings),
            sizes.block.threads,
            sizes.shared_bytes,
            [
                *(*self._loaded.addresses, sizes.populations, sizes.output, sizes.block.tile),
                *map(gpu.address, self._inputs),
                *(sizes.neurons, sizes.groups, sizes.most_new, self._capacity, sizes.most_caused, sizes.room),
                *(0 if buffer is None else gpu.address(buffer) for buffer in self._buffers.values()),
            ],
        )

    def _fetch_records(self, numbers: np.ndarray, pieces: list[list[np.ndarray]]) -> None:
        """Appends the new records of every run to its pieces."""
        words = RECORD.itemsize // 8
        if most := int(numbers.max()):
            found = np.empty((len(numbers), words * most), np.int64)
            self._loaded.gpu.download(self._buffers["records"][:, : words * most], found)
            for k, number in enumerate(numbers):
                pieces[k].append(found[k, : words * number].copy().view(RECORD))

    def _spikes(self, pieces: Sequence[np.ndarray]) -> dict[str, Spikes]:
        """The spikes of the recorded populations."""
        records = _merged(np.concatenate([np.zeros(0, RECORD), *pieces]))
        spikes = {}
        for name, number in self._loaded.recorded.items():
            own = records[records["p"] == number]
            spikes[name] = Spikes(own["t"].copy(), own["i"].astype(np.int64), own["n"].copy())
        return spikes


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
