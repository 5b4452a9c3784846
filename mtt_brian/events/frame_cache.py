"""Binned frames on disk, for later trainings with the same recordings."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.binning import bin_recordings
from mtt_brian.events.collections import Recordings
from mtt_brian.files import cache_folder, message_of, replacing, warn
from mtt_brian.progress import notice

#: From [N, T, H, W, C] in the file to [N, T, C, H, W], and back.
_CHANNELS_THIRD, _CHANNELS_LAST = (0, 1, 4, 2, 3), (0, 1, 3, 4, 2)


def cached_frames(recordings: Recordings, time_steps: int, workers: int = 0) -> np.ndarray:
    """`bin_recordings`, from a file in `cache_folder` if there is one for these recordings.

    The file is named by a digest of all that determines the frames: ids, time steps, the parameters of the function
    that reads (a simulated camera and its images, for instance), size and time of all files in a folder that it reads
    from, and the code. A damaged file is made again, with a warning.

    Args:
        recordings, time_steps, workers: see `bin_recordings`.

    Returns:
        As `bin_recordings`, as a copy-on-write map of the file.

    Raises:
        InputError: if two functions like the one that reads cannot be compared, and as `bin_recordings`.
    """
    path = cache_folder() / f"frames-{_key(recordings, time_steps)}.npy"
    try:
        if path.exists():
            notice(f"reading frames of {recordings.title} from {path}")
            return _read(path)
    except (OSError, ValueError) as error:
        warn(f"{path} cannot be read ({message_of(error)}); making it anew")
    frames = bin_recordings(recordings, time_steps, workers)
    try:
        _write(path, frames)
    except OSError as error:
        warn(f"{path} cannot be written ({message_of(error)}); the recordings will be binned again next time")
    return frames


def _key(recordings: Recordings, time_steps: int) -> str:
    digest = hashlib.sha256()
    code = Path(__file__).parent
    parts = [recordings.read, recordings.ids, recordings.sensor_size, time_steps, code]
    try:
        for part in _described(parts):
            digest.update(part + b"\0")
    except TypeError as error:
        raise InputError(f"cache_frames: {recordings.title} cannot be recognised in a later run: {error}") from None
    return digest.hexdigest()[:24]


def _described(value: Any) -> Iterator[bytes]:
    """What determines a value: the same in another process for the same value.

    Raises:
        TypeError: for a type without such a description.
    """
    yield type(value).__qualname__.encode()
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        yield repr(value).encode()
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype.descr} {value.shape}".encode()
        yield hashlib.sha256(np.ascontiguousarray(value).data).digest()
    elif isinstance(value, Path):
        yield str(value.resolve()).encode()
        yield from _files(value)
    elif isinstance(value, list | tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _described(item)
    elif isinstance(value, functools.partial):
        yield from _described([value.func, value.args, sorted(value.keywords.items())])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _described([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif inspect.isfunction(value) and value.__closure__ is None and value.__name__ != "<lambda>":
        yield f"{value.__module__}.{value.__qualname__}".encode()
        yield from _described(Path(inspect.getfile(value)))
    else:
        raise TypeError(f"it is read by a {type(value).__name__} ({value!r}), whose content is not accessible")


def _files(path: Path) -> Iterator[bytes]:
    """Name, size and time of a file, or of all files of a folder; not of the cache folder, which this package fills."""
    whole, cache = path.resolve(), cache_folder().resolve()
    filled = path / cache.relative_to(whole) if cache.is_relative_to(whole) else None
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".pyc" and not (filled and file.is_relative_to(filled)):
            status = os.stat(file)
            yield f"{file.relative_to(path)} {status.st_size} {status.st_mtime_ns}".encode()


def _write(path: Path, frames: np.ndarray) -> None:
    """As a .npy file, followed by a digest of its content and of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            np.lib.format.write_array(file, frames.transpose(_CHANNELS_LAST), allow_pickle=False)
        with open(temporary, "r+b") as file:
            file.write(_digest(file, path.name))


def _read(path: Path) -> np.ndarray:
    """
    Raises:
        ValueError: if the file is not what was written.
    """
    with open(path, "rb") as file:
        size = hashlib.sha256().digest_size
        length = max(0, os.fstat(file.fileno()).st_size - size)
        expected = _digest(file, path.name, length)
        if file.read() != expected:
            raise ValueError("its contents are not what was written")
    return np.load(path, mmap_mode="c", allow_pickle=False).transpose(_CHANNELS_THIRD)


def _digest(file: BinaryIO, name: str, length: int | None = None) -> bytes:
    """Of the next ``length`` bytes of a file; None: of all."""
    digest = hashlib.sha256(name.encode() + b"\0")
    while length != 0:
        block = file.read(1 << 20 if length is None else min(1 << 20, length))
        if not block:
            break
        digest.update(block)
        length = None if length is None else length - len(block)
    return digest.digest()
