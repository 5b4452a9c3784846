"""Spikes of one run as files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mtt_brian.files import replacing
from mtt_brian.simulate import Result


def write_npz(path: Path, result: Result, **about: str) -> None:
    """All that a run gave, for ``numpy.load``; nothing in it needs pickle.

    ``populations`` lists the names of those whose spikes follow: ``<name>_t`` (float64, seconds), ``<name>_i`` (int64,
    flat index in C order) and ``<name>_n`` (int64, spikes at once), sorted by time. ``<name>_counts`` holds the spikes
    per neuron of these populations and the input, int64 in their shape. Besides: ``readout`` (float64 [classes]),
    ``synops``, ``duration`` (seconds) and ``engine``.

    Args:
        path: ends in .npz.
        result: of a run with ``record="all"``.
        about: further strings to keep; names that do not end in ``_t``, ``_i``, ``_n`` or ``_counts``.
    """
    arrays = {
        f"{name}_{field}": column
        for name, spikes in result.spikes.items()
        for field, column in spikes._asdict().items()
    }
    arrays |= {f"{name}_counts": counts for name, counts in result.counts.items()}
    arrays |= {
        "populations": np.array(list(result.spikes), dtype=np.str_),
        "readout": result.readout,
        "synops": np.int64(result.synops),
        "duration": np.float64(result.duration),
        "engine": np.str_(result.engine),
        **{name: np.str_(text) for name, text in about.items()},
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def write_spikes(path: Path, result: Result) -> None:
    """A CSV line per spike: population, t (seconds), i (flat index), n (spikes at once).

    Times are written with as many digits as give back the same float64.
    """
    rows = (
        (name, *row)
        for name, spikes in result.spikes.items()
        for row in zip(*(c.tolist() for c in spikes), strict=True)
    )
    _write_csv(path, ("population", "t", "i", "n"), rows)


def write_readout(path: Path, times: np.ndarray, readouts: np.ndarray) -> None:
    """A CSV line per instant at which the readout changed: t (seconds), and the readout of every class.

    Args:
        path: of the file.
        times: float64 [K].
        readouts: float64 [K, classes].
    """
    header = ("t", *map(str, range(readouts.shape[1])))
    _write_csv(path, header, np.column_stack([times, readouts]).tolist())


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
