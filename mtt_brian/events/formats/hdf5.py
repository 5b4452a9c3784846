"""Recordings in HDF5, by the names of their groups and data sets (`hdf5_tree.PLACES`):

* ``events/{x,y,t,p}``: DSEC, TUM-VIE and others; ``prophesee/left/{x,y,t,p}`` and ``prophesee/right``: M3ED;
  ``CD/events``, a compound data set of these fields: Prophesee; ``events``, an array of uint32, columns t, x, y, p:
  v2e. Times are integers, microseconds. Time 0 is as in the file: DSEC's ``t_offset``, the time of its clock then, is
  not added.
* ``events/{xs,ys,ts,ps}``: rpg, E2VID; ``davis/left/events`` and ``davis/right/events``, arrays of the columns x, y, t,
  p: MVSEC. Times are seconds of any clock in floating point; time 0 is the first event.
* ``spikes/{times,units}``: SHD and SSC, a list for each recording. Times are seconds in floating point.

Polarities are 0 and 1, or -1 and 1.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import hdf5_files, hdf5_tree
from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import from_seconds, read_checked
from mtt_brian.events.recording import check_other_columns, make_recording


class NIRData(InputError):
    """The file holds spikes of a network's nodes (`translate.nir_data`)."""


def read_hdf5(path: Path, number: int | None = None) -> np.ndarray:
    """A recording in an HDF5 file; see above.

    Args:
        path: of the file.
        number: of the recording in it, counted from 0; None: the only one.

    Raises:
        NIRData: for a file of NIRData.
        InputError: for any other file, and for times and polarities of another kind; names the file.
    """
    return read_checked(path, "a recording in HDF5", partial(_read, path, number))


def _read(path: Path, number: int | None) -> np.ndarray:
    try:
        columns, _ = hdf5_files.read_apart(str(path), hdf5_files.EVENTS, number)
        if not columns:
            raise NIRData(
                "it is NIRData, spikes of a network's nodes: mtt-brian simulate reads it, and "
                "mtt_brian.translate.nir_data.recording_of"
            )
        recording, others = _recording(columns)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    check_other_columns(others, len(recording), str(path))
    return recording


def _recording(columns: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """The recording in columns of the names of their members, and the columns that are not a part of it."""
    for names in [name for name in columns if "," in name]:  # the columns of one array
        columns |= zip(names.split(","), columns.pop(names).T, strict=True)
    kind = next(names for names in hdf5_tree.COLUMNS if set(names) <= columns.keys())
    t, x, *rest = (columns.pop(name) for name in kind)
    if not rest:
        return make_recording(from_seconds(t, "spikes/times"), x)[["t", "x"]], columns
    y, p = rest
    if kind[0] == "ts":
        t = from_seconds(t, "the column ts", exact=True)
        t -= t.min(initial=2**62)
    elif t.dtype.kind not in "iu":
        raise InputError(f"its times t are {t.dtype}; accepted are integers, which count microseconds")
    return make_recording(t, x, y, _polarities(p)), columns


def _polarities(p: np.ndarray) -> np.ndarray:
    """0 and 1, from these or from -1 and 1."""
    low = -1 if np.any(p == -1) else 0
    wrong = (p != low) & (p != 1)
    if np.any(wrong):
        k = int(np.argmax(wrong))
        raise InputError(f"event {k} has the polarity {p[k]}; accepted are 0 and 1, or -1 and 1")
    return p == 1
