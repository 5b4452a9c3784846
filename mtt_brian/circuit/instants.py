"""Equal times: whole microseconds, and times that differ by rounding only.

Recordings count whole microseconds. A sum of whole microseconds (time + delay, spike + refractory period, duration)
must be the same float64 as the recorded time that it equals, so it is computed in integers and converted once:
``microseconds / 1e6``. Times that follow from an equation carry rounding errors; two of them that lie closer together
than `window` are one instant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

#: Two computed times ``t`` are one instant if they differ by at most ``RELATIVE * t + ABSOLUTE`` seconds.
RELATIVE, ABSOLUTE = 4e-15, 1e-16
#: Two different whole microseconds are never one instant, at any time.
LARGEST = 4e-7


def window(t: float) -> float:
    """Largest difference of two computed times near ``t`` seconds that are one instant, in seconds."""
    return min(RELATIVE * abs(t) + ABSOLUTE, LARGEST)


@np.errstate(under="ignore")
def windows(t: ArrayLike) -> np.ndarray:
    """`window` for times of any shape."""
    return np.minimum(RELATIVE * np.abs(t) + ABSOLUTE, LARGEST)


def just_before(t: float) -> float:
    """The end of a piece of a run: computed times that are ``t`` up to rounding lie behind it, in the next piece."""
    return t - 3 * window(t)


def at_or_after(t: ArrayLike) -> np.ndarray:
    """Times behind everything that is at ``t`` up to rounding, in the shape of ``t``."""
    return np.asarray(t) + 3 * windows(t)


def on_whole_microseconds(seconds: ArrayLike) -> np.ndarray:
    """Seconds that are a whole number of microseconds up to rounding become that number divided by 1e6.

    Others stay as they are. ``0.1 + 0.2`` and ``3 * 100_000 * 1e-6`` both become ``0.3``. Of single precision
    (float32), which holds about 7 digits, the result is the microsecond whose nearest float32 this is, if the digits
    distinguish consecutive microseconds (below 8 s).

    Args:
        seconds: of any shape; float64 unless it is a float32 array.

    Returns:
        float64 in the same shape.
    """
    given = np.asarray(seconds)
    wide = given.astype(np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = np.rint(wide * 1e6) / 1e6
        same = np.abs(nearest - wide) <= windows(wide)
        if given.dtype == np.float32:
            same |= (np.abs(wide) < 8) & (nearest.astype(np.float32) == given)
    return np.where(same, nearest, wide)
