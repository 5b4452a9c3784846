"""Recordings in files of any known format: `read`, and the table of formats, to which `register_format` adds."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtt_brian.errors import InputError, check_whole
from mtt_brian.events.formats.aedat import aedat_version, read_aedat2, read_aedat3
from mtt_brian.events.formats.aedat4 import read_aedat4
from mtt_brian.events.formats.columns import from_first_event, read_checked
from mtt_brian.events.formats.five_byte import read_five_byte
from mtt_brian.events.formats.hdf5 import read_hdf5
from mtt_brian.events.formats.prophesee import read_dat, read_raw
from mtt_brian.events.formats.table import read_csv, read_npy, read_npz
from mtt_brian.events.recording import check_fields
from mtt_brian.files import as_path
from mtt_brian.registry import Registry
from mtt_brian.text import shown

#: Entry point group. An entry point names the module that calls `register_format`, and has the ending as its name.
GROUP = "mtt_brian.event_formats"


def read(path: str | os.PathLike[str], *, sort: bool = False, number: int | None = None) -> np.ndarray:
    """The recording in a file.

    | ending | what is read | time 0 |
    | --- | --- | --- |
    | ``.csv``, ``.csv.gz``, ``.csv.bz2``, ``.csv.xz`` | a header t,x,y,p, then a line per event | as in the file |
    | ``.npy``, ``.npz`` | a structured array, or an array for each of t, x, y, p | as in the file |
    | ``.bin`` | five bytes per event (N-MNIST, N-Caltech101) | as in the file |
    | ``.aedat``, ``.aedat4`` | AEDAT 2 (DVS128, DAVIS), 3.1, 4 (with the package ``aedat``) | the first event |
    | ``.dat`` | Prophesee's DAT, version 2 | as in the file |
    | ``.raw`` | Prophesee's RAW, EVT 2.0 and EVT 3.0 | the first event |
    | ``.h5``, ``.hdf5`` | the layouts of DSEC, Prophesee, v2e, M3ED and SHD | as in the file |
    | | of MVSEC, and of rpg and E2VID | the first event |

    Clocks that overflow are continued.

    Args:
        path: of the file; its ending defines the format. `mtt_brian.events.formats.hdf5` lists the layouts of HDF5.
        sort: sort events by time, those of one instant as in the file. Without it, times that go backwards are refused.
        number: of the recording, from 0, in a file of several (HDF5).

    Returns:
        structured array [E] with the fields ``t`` (microseconds, sorted, >= 0), ``x`` and, where the file has them,
        ``y`` and ``p``. Coordinates are not checked against a sensor (`check_recording`).

    Raises:
        InputError: for another ending, and for a truncated, damaged or unsorted file; names the file, and the byte or
            event.
    """
    path = as_path(path, "path")
    ending = ending_of(path)
    if ending is None:
        raise InputError(f"{path}: a recording is a file that ends in {', '.join(FORMATS)}")
    kind = FORMATS[ending]
    if number is not None:
        if not kind.several:
            raise InputError(f"{path}: there is no recording number {number}: a file that ends in {ending} holds one")
        check_whole("number", number, most=2**63 - 1, least=0)
    recording = kind.read(path, number) if kind.several else kind.read(path)
    t = recording["t"]
    if sort:
        recording = recording[np.argsort(t, kind="stable")]
    elif np.any(backwards := t[1:] < t[:-1]):
        k = int(np.argmax(backwards)) + 1
        raise InputError(
            f"{path}: times go backwards at event {k} (t = {t[k]} after {t[k - 1]} us); events must be sorted: "
            "mtt_brian.events.read(path, sort=True) sorts them"
        )
    if kind.at_first_event:
        return from_first_event(recording)
    if len(t) and t.min() < 0:
        k = int(np.argmin(t))
        raise InputError(f"{path}: event {k} has t = {t[k]} us; times are microseconds >= 0")
    return recording


def ending_of(path: Path) -> str | None:
    """The ending of a file's name that defines its format, such as ``.csv`` or ``.csv.gz``; None for another one."""
    name = path.name.lower()
    fits = [ending for ending in FORMATS if name.endswith(ending) and name != ending]
    return max(fits, key=len, default=None)


def _read_aedat(path: Path) -> np.ndarray:
    """Any version: the first line defines it, not the ending."""
    version = aedat_version(path)
    if version.startswith("3"):
        return read_checked(path, "AEDAT 3", partial(read_aedat3, path))
    if version.startswith("4") or (not version and path.suffix.lower() == ".aedat4"):
        return read_aedat4(path)
    return read_checked(path, "AEDAT 2", partial(read_aedat2, path))


class EventFormat(NamedTuple):
    """How files of one format are read.

    Attributes:
        read: path -> recording; for files of several, (path, number or None) -> recording.
        at_first_event: whether time 0 is the first event, because the format's clock starts at an arbitrary time.
        several: whether a file may hold several recordings.
    """

    read: Callable[..., np.ndarray]
    at_first_event: bool = False
    several: bool = False


#: Ending, with its dot and in lower case -> `EventFormat`, read only; `register_format` adds one.
FORMATS: Registry[EventFormat] = Registry(
    "an event file format",
    GROUP,
    {
        ".bin": EventFormat(read_five_byte),
        ".aedat": EventFormat(_read_aedat, at_first_event=True),
        ".aedat4": EventFormat(_read_aedat, at_first_event=True),
        ".npy": EventFormat(read_npy),
        ".npz": EventFormat(read_npz),
        **{f".csv{compressed}": EventFormat(read_csv) for compressed in ("", ".gz", ".bz2", ".xz")},
        ".dat": EventFormat(read_dat),
        ".raw": EventFormat(read_raw, at_first_event=True),
        **dict.fromkeys((".h5", ".hdf5"), EventFormat(read_hdf5, several=True)),
    },
)


def register_format(
    ending: str, reader: Callable[[Path], np.ndarray], *, at_first_event: bool = False, replace: bool = False
) -> None:
    """Adds a format to `read` and to the commands.

    An installed package registers its format through an entry point of the group ``mtt_brian.event_formats``: the
    ending, with its dot = the module that calls this function.

    Args:
        ending: of file names, with its dot and in lower case.
        reader: path -> structured array with integers ``t`` [us], ``x`` and, if the file has them, ``y`` and ``p``. It
            raises `InputError`, which names the file, for an unreadable file.
        at_first_event: time 0 is the first event.
        replace: replace one that was registered before.

    Raises:
        InputError: for an ending that is in use or not of this form, and for a reader that is no function.
    """
    if not isinstance(ending, str) or not ending.startswith(".") or ending != ending.lower() or len(ending) < 2:
        raise InputError(f"the ending must start with a dot and be in lower case, as in '.abc', not {shown(ending)}")
    if not callable(reader):
        raise InputError(f"the reader of {ending!r} must be a function path -> recording, not {shown(reader)}")

    def checked(path: Path) -> np.ndarray:
        recording = read_checked(path, f"a {ending} file", partial(reader, path))
        check_fields(recording, ("t", "x"), str(path))
        return recording

    FORMATS.add(ending, EventFormat(checked, at_first_event), replace)


def unregister_format(ending: str) -> None:
    """Removes a registered format, if there is one."""
    FORMATS.discard(ending)
