"""The idx format of MNIST: a magic number (type, dimensions), the size of every dimension, the values; big endian.

LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import math
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import read_checked

_UNSIGNED_BYTES = 0x0800


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes in an idx file with this number of dimensions; gzipped if the name ends in .gz.

    Raises:
        InputError: for another magic number or a truncated file, with its name.
    """
    return read_checked(path, "an idx file", partial(_read_idx, path, dimensions))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    start = 4 * (1 + dimensions)
    magic, *shape = (int.from_bytes(content[i : i + 4]) for i in range(0, start, 4))
    if magic != _UNSIGNED_BYTES + dimensions:
        expected = f"{_UNSIGNED_BYTES + dimensions:#06x} (unsigned bytes in {dimensions} dimension(s))"
        raise InputError(f"{path}: begins with the magic number {magic:#06x}, expected {expected}")
    if len(content) != start + math.prod(shape):
        sizes = " x ".join(map(str, shape))
        promised = f"its header of {sizes} promises {start + math.prod(shape)}"
        raise InputError(f"{path}: truncated or damaged: {len(content)} bytes, {promised}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
