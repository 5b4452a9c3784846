"""Events of a recording as input spikes; compiled, so that threads convert recordings at the same time."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np

from mtt_brian.circuit import sorting
from mtt_brian.kernel_cache import WITHOUT_RUNTIME, kept

_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, **WITHOUT_RUNTIME}
_keep = kept([Path(__file__), Path(sorting.__file__)])
_ascend = numba.njit(**_OPTIONS, no_cpython_wrapper=True)(sorting.ascend)


@_keep
@numba.njit(**_OPTIONS)
def fit(t: np.ndarray, places: np.ndarray, sizes: np.ndarray, latest: int) -> bool:
    """Whether all events lie on the sensor and follow each other.

    Args:
        t: microseconds, int64 [E].
        places: coordinates, int64 [axes, E].
        sizes: of the axes, int64 [axes].
        latest: the last valid microsecond.
    """
    wrong = False
    for k in range(len(t)):
        wrong |= (t[k] < 0) | (t[k] > latest)
    for k in range(1, len(t)):
        wrong |= t[k] < t[k - 1]
    for axis in range(len(sizes)):
        for k in range(len(t)):
            wrong |= (places[axis, k] < 0) | (places[axis, k] >= sizes[axis])
    return not wrong


@_keep
@numba.njit(**_OPTIONS)
def merge(
    t: np.ndarray,
    places: np.ndarray,
    sizes: np.ndarray,
    seconds: np.ndarray,
    i: np.ndarray,
    n: np.ndarray,
    order: np.ndarray,
) -> int:
    """Merges the events of one pixel at one instant.

    Args:
        t, places, sizes: as in `fit`, which must hold; the first ``len(order)`` events are read.
        seconds, i, n, order: receive the fields of `InputSpikes`, each with room for one row per event.

    Returns:
        the number of rows.
    """
    events, rows, begin = len(order), 0, 0
    for k in range(events):
        i[k] = places[0, k]
    for axis in range(1, len(sizes)):
        for k in range(events):
            i[k] = i[k] * sizes[axis] + places[axis, k]
    while begin < events:
        end = begin + 1
        if end == events or t[end] != t[begin]:  # most events are alone
            seconds[rows], i[rows], n[rows], order[begin] = t[begin] / 1e6, i[begin], 1, rows
            rows, begin = rows + 1, end
            continue
        while end < events and t[end] == t[begin]:
            end += 1
        together, last = end - begin, -1
        for k in range(begin, end):
            i[k] = i[k] * together + (k - begin)
        _ascend(i, begin, end)
        for k in range(begin, end):  # a row is not behind its event, so that no key is overwritten before it is read
            pixel, event = divmod(i[k], together)
            if pixel != last:
                last = pixel
                seconds[rows], i[rows], n[rows] = t[begin] / 1e6, pixel, 0
                rows += 1
            n[rows - 1] += 1
            order[begin + event] = rows - 1
        begin = end
    return rows
