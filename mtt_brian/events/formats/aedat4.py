"""AEDAT 4 files, read by the package ``aedat``, an optional dependency."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import read_checked, to_events
from mtt_brian.events.recording import EVENT_DTYPE


def read_aedat4(path: Path) -> np.ndarray:
    """Recording in an AEDAT 4 file: the events of its only camera. Times are as in the file.

    Raises:
        InputError: for a file of no or several cameras, one that cannot be read, and without the package ``aedat``.
    """
    return read_checked(path, "AEDAT 4", partial(_read, path))


def require_aedat() -> ModuleType:
    """The package.

    Raises:
        InputError: where it is not installed.
    """
    try:
        return import_module("aedat")
    except ImportError as error:
        raise InputError(f"AEDAT 4 files need the package 'aedat' ({error}); get it with: pip install aedat") from None


def _read(path: Path) -> np.ndarray:
    try:
        package = require_aedat()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    decoder = package.Decoder(str(path))
    cameras = [number for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"]
    if len(cameras) != 1:
        raise InputError(f"{path}: holds the events of {len(cameras)} cameras; files of one camera are read")
    packets = [packet["events"] for packet in decoder if packet["stream_id"] == cameras[0]]
    if not packets:
        return np.zeros(0, dtype=EVENT_DTYPE)
    events = np.concatenate(packets)
    t, x, y, p = (events[name] for name in events.dtype.names[:4])  # the polarity is called "on" there
    return to_events(t, x, y, p)
