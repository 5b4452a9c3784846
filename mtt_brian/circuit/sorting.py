"""Sorting in place, as a function that kernels compile."""

from __future__ import annotations

import numpy as np

#: Up to this length a plain insertion sort is the fastest.
_SHORT = 24


def ascend(keys: np.ndarray, begin: int, end: int) -> None:
    """Sorts ``keys[begin:end]``, which are most often few or already sorted."""
    gap = 1
    while end - begin > _SHORT and gap < (end - begin) // 9:
        gap = 3 * gap + 1
    while gap > 0:  # Shell's sort; an insertion sort for few keys
        for j in range(begin + gap, end):
            key = keys[j]
            k = j
            while k - gap >= begin and keys[k - gap] > key:
                keys[k] = keys[k - gap]
                k -= gap
            keys[k] = key
        gap //= 3
