"""The order of neurons that are connected without delays."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array


def levels(source: np.ndarray, target: np.ndarray, size: int) -> np.ndarray | None:
    """How many synapses follow one another up to each neuron, at most: int64 [size]; None if some are in a loop.

    Args:
        source, target: neurons of every synapse, integers [K].
        size: neurons.
    """
    ways = csr_array((np.ones(len(source)), (source, target)), shape=(size, size))
    waiting = np.bincount(ways.indices, minlength=size)
    level = np.full(size, -1, np.int64)
    ready, k = np.flatnonzero(waiting == 0), 0
    while len(ready):
        level[ready] = k
        k += 1
        reached = ways[ready].indices
        np.subtract.at(waiting, reached, 1)
        ready = np.unique(reached)
        ready = ready[waiting[ready] == 0]
    return None if np.any(level < 0) else level
