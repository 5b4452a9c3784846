"""How far apart the spikes of two runs of one population are in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.spikes import Spikes


class SpikeTimeDifferences(NamedTuple):
    """Spikes of one population in two runs, matched in pairs.

    Attributes:
        seconds: float64 [K], time in the second run minus time in the first; sorted by neuron, then time.
        neuron: int64 [K], whose spike it is.
        only_first, only_second: spikes of either run that have no partner.
    """

    seconds: np.ndarray
    neuron: np.ndarray
    only_first: int
    only_second: int


def spike_time_differences(first: Spikes, second: Spikes) -> SpikeTimeDifferences:
    """The k-th spike of every neuron in one run held against the k-th spike of the same neuron in the other.

    n spikes fired at once are n spikes at one time. Where a neuron fired more often in one run, its last spikes there
    have no partner: they are counted, and there is no difference for them. For equal numbers of spikes no other
    matching has a smaller sum of ``|difference|``. But one additional early spike shifts all later pairs of its neuron
    by one, and their differences are then those between successive spikes: read the times together with the counts
    (`spike_difference`).

    Args:
        first, second: spikes of one population, in any order.
    """
    (i, t, rank), (other_i, other_t, other_rank) = _ranked(first), _ranked(second)
    neurons = int(max(np.max(i, initial=-1), np.max(other_i, initial=-1))) + 1
    both = np.minimum(np.bincount(i, minlength=neurons), np.bincount(other_i, minlength=neurons))
    paired, other_paired = rank < both[i], other_rank < both[other_i]
    return SpikeTimeDifferences(
        seconds=other_t[other_paired] - t[paired],
        neuron=i[paired],
        only_first=int(np.sum(~paired)),
        only_second=int(np.sum(~other_paired)),
    )


def _ranked(spikes: Spikes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neuron, time and rank within the neuron (0 for its first) of single spikes, sorted by neuron, then time."""
    n = np.asarray(spikes.n, dtype=np.int64)
    i, t = np.repeat(np.asarray(spikes.i, dtype=np.int64), n), np.repeat(np.asarray(spikes.t, dtype=np.float64), n)
    order = np.lexsort((t, i))
    i, t = i[order], t[order]
    return i, t, np.arange(len(i)) - np.searchsorted(i, i)
