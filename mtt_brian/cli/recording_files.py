"""The recording that a command is given: a file of events, or one of a data set."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.events.datasets import cifar10dvs
from mtt_brian.events.formats.aedat import aedat_version, read_aedat3
from mtt_brian.events.formats.columns import from_first_event, read_checked
from mtt_brian.events.formats.five_byte import read_five_byte
from mtt_brian.events.recording import FIELDS, check_column, check_fields, check_other_columns
from mtt_brian.text import shown

_REFERENCE = re.compile(r"(?P<name>[\w-]+|[\w.]+:\w+):(?P<split>\w+):(?P<number>\d+)")


@dataclass(frozen=True, eq=False)
class Recording:
    """Events, and what is known about them.

    Attributes:
        name: for people.
        events: structured array ``t`` [us], ``x`` and, where the file has them, ``y`` and ``p``; not checked against
            any sensor.
        label: the right class, where a data set tells it.
        classes: names of the classes, likewise.
    """

    name: str
    events: np.ndarray
    label: int | None = None
    classes: tuple[str, ...] = ()


def open_recording(text: str, data_root: str | None, config: Mapping[str, Any]) -> Recording:
    """A recording from a file, or from a data set.

    Args:
        text: a path, or ``DATASET:SPLIT:NUMBER`` with numbers from 0; DATASET may be ``package.module:NAME``.
        data_root: folder that holds the data set; by default the one that the network was trained from.
        config: settings of the run that trained the network: recordings come at its resolution.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    path = Path(text)
    if (reference := _REFERENCE.fullmatch(text)) and not path.exists():
        name, split, number = reference["name"], reference["split"], int(reference["number"])
        root = data_root or (config.get("data_root") if config.get("dataset") == name else None)
        return _of_a_data_set(text, events.load(name, root=root, split=split), number, config.get("resolution"))
    if path.suffix.lower() not in _READERS:
        raise InputError(
            f"{text}: a recording is a file that ends in {', '.join(_READERS)}, or DATASET:SPLIT:NUMBER, for instance"
            " digits:test:0"
        )
    return Recording(text, _READERS[path.suffix.lower()](path))


def _of_a_data_set(text: str, data: Recordings | events.Images, number: int, resolution: int | None) -> Recording:
    if not isinstance(data, Recordings):
        raise InputError(f"{text}: {data.title} are still images, without events")
    if number >= len(data):
        raise InputError(f"{text}: {data.title} has {len(data)} {data.split} recordings here, numbered from 0")
    chosen = data[number : number + 1]
    if resolution is not None:
        chosen = events.at_resolution(chosen, resolution)
    return Recording(f"{text} ({chosen.ids[0]})", chosen[0], int(data.labels[number]), tuple(data.classes))


# ----- files


def _read_aedat4(path: Path) -> np.ndarray:
    return cifar10dvs.read_recording(path.parent, path.name)


def _read_aedat(path: Path) -> np.ndarray:
    version = aedat_version(path)
    if version.startswith("3"):
        return from_first_event(read_checked(path, "AEDAT 3", partial(read_aedat3, path)))
    if version.startswith("4"):
        raise InputError(f"{path}: an AEDAT {version} file; its name must end in .aedat4")
    return cifar10dvs.read_recording(path.parent, path.name)


def _read_table(read: Callable[[Path], Mapping[str, np.ndarray]], kind: str, path: Path) -> np.ndarray:
    def recording() -> np.ndarray:
        table = read(path)
        columns = {name: table[name] for name in FIELDS if name in table}
        if not {"t", "x"} <= columns.keys():
            found = ", ".join(map(repr, table)) or "none"
            raise InputError(f"{path}: events need t (microseconds) and x, as a rule y and p; there are {found}")
        try:
            rows = events.make_recording(**columns)[list(columns)]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        check_other_columns(table, len(rows), str(path))
        return rows

    return read_checked(path, kind, recording)


def _columns_of_npy(path: Path) -> Mapping[str, np.ndarray]:
    return _fields(path, np.load(path, allow_pickle=False))


def _columns_of_npz(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        _check_names(path, file.files, "arrays")
        arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: {shown(name)} in it is no array (.npy); only arrays are accepted")
    if len(arrays) == 1:
        return _fields(path, *arrays.values())
    for name in FIELDS:
        if name in arrays:
            check_column(name, arrays[name], str(path))
    return arrays


def _fields(path: Path, array: np.ndarray) -> Mapping[str, np.ndarray]:
    if array.ndim != 1 or array.dtype.names is None:
        raise InputError(
            f"{path}: not a one-dimensional structured array with the fields t, x, y, p, but {array.dtype}"
            f" of shape {array.shape}"
        )
    check_fields(array, [field for field in FIELDS if field in array.dtype.names], str(path))
    return {name: array[name] for name in array.dtype.names}


def _columns_of_csv(path: Path) -> Mapping[str, np.ndarray]:
    with open(path, encoding="utf-8-sig") as file:
        header = [name.strip() for name in file.readline().split(",")]
        _check_names(path, header, "columns")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            # As float, which holds every microsecond of centuries: as integers, fractions would be cut off.
            # Without comments: the rest of a line behind a # would be left out.
            rows = np.loadtxt(file, delimiter=",", comments=None, ndmin=2)
    if rows.size and rows.shape[1] != len(header):
        raise InputError(f"{path}: the header names {len(header)} columns, and the lines below have {rows.shape[1]}")
    columns = rows.T if rows.size else np.zeros((len(header), 0))
    return dict(zip(header, columns, strict=True))


def _check_names(path: Path, names: Sequence[str], what: str) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice and {"t", "x"} <= set(names):  # without these it is no table of events, whatever else is wrong
        raise InputError(
            f"{path}: there are {names.count(twice[0])} {what} named {twice[0]!r}; one of each is accepted"
        )


_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".bin": read_five_byte,
    ".aedat": _read_aedat,
    ".aedat4": _read_aedat4,
    ".npy": partial(_read_table, _columns_of_npy, "a structured array"),
    ".npz": partial(_read_table, _columns_of_npz, "arrays t, x, y, p"),
    ".csv": partial(_read_table, _columns_of_csv, "a CSV table with the header t,x,y,p"),
}
