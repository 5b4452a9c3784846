"""Spikes of one run as files."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from mtt_brian.engines import Result
from mtt_brian.files import replacing
from mtt_brian.text import printable

#: Characters that mean something in the path of a file, here or on another system.
_NOT_IN_FILE_NAMES = set('/\\:*?"<>|')
#: Bytes, of the 255 that the name of a file may have; a letter has up to four.
_LONGEST_KEY = 200


def write_npz(path: Path, result: Result, **about: str) -> None:
    """All that a run gave, for ``numpy.load``; nothing in it needs pickle.

    ``populations`` lists the names of those whose spikes follow: ``<name>_t`` (float64, seconds), ``<name>_i`` (int64,
    flat index in C order) and ``<name>_n`` (int64, spikes at once), sorted by time. ``<name>_counts`` holds the spikes
    per neuron of these populations and the input, int64 in their shape. Besides: ``readout`` (float64 [classes]),
    ``tool_readout`` (the same in the units of the tool that wrote the network, see `Result.tool_readout`), ``synops``,
    ``duration`` (seconds) and ``engine``.

    The names of arrays are those of files within the archive. A name of a population that could lead out of a folder,
    that a file cannot have or that differs from another one in upper and lower case only is replaced: ``keys`` holds,
    for every population and the input, the name and what stands for it above ([K, 2]).

    Args:
        path: ends in .npz.
        result: of a run with ``record="all"``.
        about: further strings to keep; names that do not end in ``_t``, ``_i``, ``_n`` or ``_counts``.
    """
    keys = array_keys({**result.counts, **result.spikes})
    arrays = {
        f"{keys[name]}_{field}": column
        for name, spikes in result.spikes.items()
        for field, column in spikes._asdict().items()
    }
    arrays |= {f"{keys[name]}_counts": counts for name, counts in result.counts.items()}
    arrays |= {
        "populations": np.array(list(result.spikes), dtype=np.str_),
        "keys": np.array(list(keys.items()), dtype=np.str_).reshape(-1, 2),
        "readout": result.readout,
        "tool_readout": result.tool_readout,
        "synops": np.int64(result.synops),
        "duration": np.float64(result.duration),
        "engine": np.str_(result.engine),
        **{name: np.str_(text) for name, text in about.items()},
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def array_keys(names: Iterable[str]) -> dict[str, str]:
    """What stands for each name in the names of arrays: itself, or one made of letters, digits and ``_ . -`` only."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = printable(name)
        if plain != name or len(name.encode()) > _LONGEST_KEY or ".." in name or set(name) & _NOT_IN_FILE_NAMES:
            plain = re.sub(r"[^\w.-]", "_", plain)[: _LONGEST_KEY // 4].replace("..", "__")
        endings = itertools.chain([""], (f"_{k}" for k in itertools.count(2)))
        keys[name] = next(key for key in (plain + ending for ending in endings) if key.lower() not in taken)
        taken.add(keys[name].lower())
    return keys


def write_spikes(path: Path, result: Result) -> None:
    """A CSV line per spike: population, t (seconds), i (flat index), n (spikes at once).

    Times are written with as many digits as give back the same float64.
    """
    rows = (
        (name, *row)
        for name, spikes in result.spikes.items()
        for row in zip(*(c.tolist() for c in spikes), strict=True)
    )
    # Python before 3.13 does not see that a carriage return has to be quoted, and reads two lines.
    quoted: Literal[0, 2] = csv.QUOTE_NONNUMERIC if any("\r" in n for n in result.spikes) else csv.QUOTE_MINIMAL
    _write_csv(path, ("population", "t", "i", "n"), rows, quoted)


def write_readout(path: Path, times: np.ndarray, readouts: np.ndarray) -> None:
    """A CSV line per instant at which the readout changed: t (seconds), and the readout of every class.

    Args:
        path: of the file.
        times: float64 [K].
        readouts: float64 [K, classes].
    """
    header = ("t", *map(str, range(readouts.shape[1])))
    _write_csv(path, header, np.column_stack([times, readouts]).tolist())


def _write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], quoting: Literal[0, 2] = csv.QUOTE_MINIMAL
) -> None:
    with (
        replacing(path) as temporary,
        # Names from an HDF5 file may hold bytes that are not UTF-8: they are written as they were read.
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n", quoting=quoting)
        writer.writerow(header)
        writer.writerows(rows)
