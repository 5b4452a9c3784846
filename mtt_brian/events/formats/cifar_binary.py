"""The binary version of CIFAR: rows of bytes, the label (CIFAR-100: coarse, then fine), then 3 x 32 x 32 pixels.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import read_checked

#: Bytes of pixels in a row.
PIXELS = 3 * 32 * 32


def read_cifar_binary(path: Path, label_bytes: int) -> np.ndarray:
    """Rows of a file of the binary version, ``label_bytes`` and `PIXELS` each: uint8 [N, label_bytes + PIXELS].

    Raises:
        InputError: for a truncated file, with its name.
    """
    return read_checked(path, "CIFAR's binary version", partial(_read, path, label_bytes + PIXELS))


def read_cifar_row(path: Path, label_bytes: int, number: int) -> np.ndarray:
    """One row of such a file: uint8 [label_bytes + PIXELS].

    Raises:
        InputError: if the file ends before the end of the row, with its name.
    """
    return read_checked(path, "CIFAR's binary version", partial(_read_row, path, label_bytes + PIXELS, number))


def _read_row(path: Path, row: int, number: int) -> np.ndarray:
    found = np.fromfile(path, np.uint8, row, offset=number * row)
    if len(found) < row:
        raise InputError(f"{path}: truncated: it ends before the end of image {number}")
    return found


def _read(path: Path, row: int) -> np.ndarray:
    content = path.read_bytes()
    if len(content) % row:
        raise InputError(f"{path}: truncated: {len(content)} bytes are not a multiple of the {row} bytes per image")
    return np.frombuffer(content, np.uint8).reshape(-1, row)
