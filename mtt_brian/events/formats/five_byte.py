"""The five-byte format of N-MNIST and N-Caltech101: x, y, polarity (1 bit) and time in microseconds (23 bits).

Orchard, Jayawant, Cohen, Thakor, "Converting static image datasets to spiking neuromorphic datasets using saccades",
Front. Neurosci. 9:437, 2015.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import read_checked, to_events

BYTES_PER_EVENT = 5

#: A record with this row is no event: the clock has overflowed (as in the authors' eventvision.py and tonic).
_OVERFLOW_ROW, _OVERFLOW_US = 240, 2**13


def read_five_byte(path: Path) -> np.ndarray:
    """The recording in a file; times as in the file, continued at each overflow of the clock.

    Raises:
        InputError: for a truncated file, with its name.
    """
    return read_checked(path, "a recording in the five-byte N-MNIST format", partial(_read, path))


def _read(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size % BYTES_PER_EVENT:
        raise InputError(f"{path}: truncated: {size} bytes are not a multiple of the {BYTES_PER_EVENT} bytes per event")
    x, y, high, middle, low = np.fromfile(path, dtype=np.uint8).reshape(-1, BYTES_PER_EVENT).T.astype(np.int64)
    overflow = y == _OVERFLOW_ROW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + np.cumsum(overflow) * _OVERFLOW_US
    pixel = ~overflow
    return to_events(t[pixel], x[pixel], y[pixel], high[pixel] >> 7)
