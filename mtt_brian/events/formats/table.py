"""Tables of events: .npy, .npz and .csv files, the latter perhaps compressed, with columns t, x, y, p."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import read_checked
from mtt_brian.events.recording import FIELDS, check_column, check_fields, check_other_columns, make_recording
from mtt_brian.machine import available_bytes
from mtt_brian.text import shown

#: First bytes of a compressed file -> what opens it.
_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


def read_npy(path: Path) -> np.ndarray:
    """Recording in a structured array with the fields t, x and, where the file has them, y and p.

    Raises:
        InputError: for anything else, with the file's name.
    """
    return _read_table(_columns_of_npy, "a structured array", path)


def read_npz(path: Path) -> np.ndarray:
    """The same from an archive of such an array, or of one array for each column."""
    return _read_table(_columns_of_npz, "arrays t, x, y, p", path)


def read_csv(path: Path) -> np.ndarray:
    """The same from a table whose first line names the columns, also compressed by gzip, bzip2 or xz."""
    return _read_table(_columns_of_csv, "a CSV table with the header t,x,y,p", path)


def _read_table(read: Callable[[Path], Mapping[str, np.ndarray]], kind: str, path: Path) -> np.ndarray:
    def recording() -> np.ndarray:
        table = read(path)
        columns = {name: table[name] for name in FIELDS if name in table}
        try:
            rows = make_recording(**columns)[list(columns)]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        check_other_columns(table, len(rows), str(path))
        return rows

    return read_checked(path, kind, recording)


def _columns_of_npy(path: Path) -> Mapping[str, np.ndarray]:
    array = load_numpy(path)
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: it is an archive of arrays; give it the ending .npz")
    return _fields(path, array)


def _columns_of_npz(path: Path) -> Mapping[str, np.ndarray]:
    archive = load_numpy(path)
    if isinstance(archive, np.ndarray):
        raise InputError(f"{path}: it is a single array, not an archive; give it the ending .npy")
    with archive as file:
        _check_names(path, file.files, "arrays")
        size, most = sum(member.file_size for member in file.zip.infolist()), available_bytes() // 2
        if size > most:
            raise InputError(f"{path}: its arrays are {size:,} bytes, more than half of the memory ({most:,} bytes)")
        try:
            arrays = {name: file[name] for name in file.files}
        except ValueError as error:
            raise _without_objects(path, error) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: {shown(name)} in it is no array (.npy); only arrays are accepted")
    if len(arrays) == 1:
        return _fields(path, *arrays.values())
    _check_needed(path, arrays)
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
    _check_needed(path, array.dtype.names)
    check_fields(array, [field for field in FIELDS if field in array.dtype.names], str(path))
    return {name: array[name] for name in array.dtype.names}


def _columns_of_csv(path: Path) -> Mapping[str, np.ndarray]:
    with _lines(path) as lines:
        header = _cells(next(lines, ""))
        _check_names(path, header, "columns")
        _check_needed(path, header, "; the first line names the columns, separated by commas")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            # As float, which holds every microsecond of centuries: as integers, fractions would be cut off.
            # Without comments: the rest of a line behind a # would be left out.
            try:
                rows = np.loadtxt(lines, delimiter=",", comments=None, quotechar='"', ndmin=2)
            except UnicodeDecodeError:
                raise
            except ValueError:
                _name_line(path, header)
                raise
    if rows.size and rows.shape[1] != len(header):
        raise InputError(f"{path}: the header names {len(header)} columns, and the lines below have {rows.shape[1]}")
    columns = rows.T if rows.size else np.zeros((len(header), 0))
    return dict(zip(header, columns, strict=True))


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a text, also of a compressed one: its first bytes tell."""
    with open(path, "rb") as file:
        start = file.read(max(map(len, _COMPRESSED)))
    opened = next((opens for first, opens in _COMPRESSED.items() if start.startswith(first)), open)
    with opened(path, "rb") as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        yield _limited(path, text)


def _limited(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """The same lines; a small compressed file may hold more of them than the memory."""
    length, most = 0, available_bytes() // 2
    for line in lines:
        length += len(line)
        if length > most:
            raise InputError(f"{path}: its text is longer than {most:,} bytes, half of the memory")
        yield line


def _cells(line: str) -> list[str]:
    """The cells of a line of a table, without quotation marks."""
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True), [])]


def _name_line(path: Path, header: Sequence[str]) -> None:
    """Names the first line of a table that is not one number for each column."""
    with _lines(path) as lines:
        for number, line in enumerate(lines, 1):
            cells = _cells(line)
            if number > 1 and cells and not (len(cells) == len(header) and all(map(_is_number, cells))):
                names = shown(",".join(header))[1:-1]
                raise InputError(
                    f"{path}: cannot be read as a CSV table with the header {names}: line {number} is "
                    f"{shown(line.strip())}; accepted are {len(header)} numbers separated by commas"
                )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def load_numpy(path: Path) -> Any:
    """The array, or the archive of arrays, in a file of numpy.

    Raises:
        InputError: for Python objects, and for anything behind an array; names the file.
    """
    with open(path, "rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
        except ValueError as error:
            raise _without_objects(path, error) from None
        if isinstance(found, np.ndarray):
            if rest := len(file.read()):
                raise InputError(f"{path}: {rest:,} bytes follow the array; accepted is a file with one array")
            return found
    return np.load(path, allow_pickle=False)  # an archive, which keeps its file open


def _without_objects(path: Path, error: ValueError) -> Exception:
    """The reason why numpy cannot read a file; numpy's own advice is to trust it."""
    if "allow_pickle" in str(error):
        return InputError(f"{path}: it is no file of numpy, or holds Python objects, which are not read; save integers")
    return error


def _check_needed(path: Path, names: Iterable[str], more: str = "") -> None:
    names = list(names)
    if not {"t", "x"} <= set(names):
        found = ", ".join(map(shown, names)) or "none"
        raise InputError(f"{path}: events need t (microseconds) and x, as a rule y and p; there are {found}{more}")


def _check_names(path: Path, names: Sequence[str], what: str) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice and {"t", "x"} <= set(names):  # first: without these columns it is no table of events
        raise InputError(
            f"{path}: there are {names.count(twice[0])} {what} named {twice[0]!r}; one of each is accepted"
        )
