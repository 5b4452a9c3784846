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
from mtt_brian.machine import available_bytes

_UNSIGNED_BYTES = 0x0800
#: The first bytes of a gzipped file, and a bound of the bytes that one of its bytes can hold.
_GZIP, _MOST_PACKED = b"\x1f\x8b", 1100


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes in an idx file with this number of dimensions; gzipped or not, whatever its name is.

    Raises:
        InputError: for another magic number, a truncated file, and one that the memory cannot hold, with its name.
    """
    return read_checked(path, "an idx file", partial(_read_idx, path, dimensions))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    with open(path, "rb") as packed:
        gzipped = packed.read(2) == _GZIP
    size = path.stat().st_size
    with gzip.open(path) if gzipped else open(path, "rb") as file:
        start = 4 * (1 + dimensions)
        header = file.read(start)
        # Not more than its header promises: a file of some megabytes can hold as many gigabytes.
        magic, *shape = (int.from_bytes(header[i : i + 4]) for i in range(0, start, 4))
        promised = start + math.prod(shape)
        values = b""
        if len(header) == start and promised <= size * (_MOST_PACKED if gzipped else 1):
            if promised > (most := available_bytes() // 2):
                raise InputError(f"{path}: {promised:,} bytes, more than half of the memory ({most:,} bytes)")
            values = file.read(promised - start + 1)
        found = start + len(values) if gzipped else size
    if magic != _UNSIGNED_BYTES + dimensions:
        expected = f"{_UNSIGNED_BYTES + dimensions:#06x} (unsigned bytes in {dimensions} dimension(s))"
        raise InputError(f"{path}: begins with the magic number {magic:#06x}, expected {expected}")
    if found != promised:
        sizes = " x ".join(map(str, shape))
        raise InputError(f"{path}: truncated or damaged: {found} bytes, its header of {sizes} promises {promised}")
    return np.frombuffer(values, np.uint8).reshape(shape).copy()
