"""Poisson processes in continuous time, one per neuron, that do not depend on how a run is cut into pieces."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

#: Arrivals that are drawn for every neuron at a time.
_BLOCK = 32


class PoissonProcess:
    """Independent Poisson processes of ``size`` neurons, from time ``t`` on.

    In the time that a rate of 1 would need, the arrivals of a neuron have independent exponential gaps. These are drawn
    once; the rate says how they lie in seconds. A change of the rate moves only arrivals that are still to come.

    Args:
        random: where the gaps are drawn from.
        size: neurons.
        t: seconds.
    """

    def __init__(self, random: np.random.Generator, size: int, t: float) -> None:
        self._random, self._size = random, size
        self._rate = np.zeros(size)
        self._since = np.full(size, t)  # seconds, and the same in units of mean gaps
        self._position = np.zeros(size)
        self._arrivals = np.zeros((0, size))
        self._taken = np.zeros(size, np.int64)

    def until(self, rate: np.ndarray, begin: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """The arrivals from the end of the last piece up to ``end``, which is left out.

        Args:
            rate: Hz, float64 [size], from ``begin`` on.
            begin, end: seconds.

        Returns:
            times in seconds and neurons, sorted by time.
        """
        changed = rate != self._rate
        self._position = np.where(changed, self._position + (begin - self._since) * self._rate, self._position)
        self._since = np.where(changed, begin, self._since)
        self._rate = np.where(changed, rate, self._rate)
        while True:
            with np.errstate(divide="ignore", invalid="ignore"):
                t = self._since + np.maximum(self._arrivals - self._position, 0.0) / self._rate
            t[:, self._rate == 0] = np.inf
            if len(t) and np.all(t[-1] >= end):
                break
            last = self._arrivals[-1] if len(t) else np.zeros(self._size)
            gaps = self._random.standard_exponential((_BLOCK, self._size))
            self._arrivals = np.concatenate([self._arrivals, last + np.cumsum(gaps, axis=0)])
        new = (np.arange(len(t))[:, None] >= self._taken) & (t < end)
        row, neuron = np.nonzero(new)
        self._taken += new.sum(axis=0)
        times = np.maximum(t[row, neuron], begin)
        order = np.lexsort((neuron, times))
        gone = min(int(self._taken.min()), len(t) - 1)
        self._arrivals, self._taken = self._arrivals[gone:], self._taken - gone
        return times[order], neuron[order]

    def keep(self) -> Any:
        """A copy, for `store`."""
        return copy.deepcopy(self)
