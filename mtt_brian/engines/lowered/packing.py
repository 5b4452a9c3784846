"""Two indices in one int64: the first in the upper 32 bits, the second in the lower ones.

The kernels compile the same two functions (`mtt_brian.engines.exact.jit`).
"""

from __future__ import annotations

from typing import Any

_LOWER = 0xFFFFFFFF


def pack(upper: Any, lower: Any) -> Any:
    """Two integers, or int64 arrays of one shape, >= 0 and below 2**31 and 2**32, as int64 of the same shape."""
    return upper << 32 | lower


def unpack(packed: Any) -> Any:
    """The two integers of `pack`."""
    return packed >> 32, packed & _LOWER
