"""Poisson processes in continuous time, one per neuron, that do not depend on how a run is cut into pieces."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

#: Gaps that are drawn for a neuron at a time, at least.
_BLOCK = 32


class PoissonProcess:
    """Independent Poisson processes of ``size`` neurons, from time ``t`` on.

    In the time that a rate of 1 would need, the arrivals of a neuron have independent exponential gaps. These come from
    a random stream of the neuron; the rate says how they lie in seconds. A change of the rate moves only arrivals that
    are still to come.

    Args:
        seeds: of the streams.
        size: neurons.
        t: seconds.
    """

    def __init__(self, seeds: np.random.SeedSequence, size: int, t: float) -> None:
        self._streams = [np.random.default_rng(seed) for seed in seeds.spawn(size)]
        self._rate = np.zeros(size)
        self._since = np.full(size, t)  # seconds, and the same in units of mean gaps
        self._position = np.zeros(size)
        #: Arrivals of every neuron that are still to come, at least one, in units of mean gaps.
        self._ahead = [stream.standard_exponential(1) for stream in self._streams]

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
        following = np.array([ahead[0] for ahead in self._ahead])
        due = np.flatnonzero((self._rate > 0) & (self._seconds(following, slice(None)) < end))
        parts = [self._take(k, end) for k in due.tolist()]
        times = np.maximum(np.concatenate([np.zeros(0), *parts]), begin)
        neurons = np.repeat(due, [len(part) for part in parts]).astype(np.int64)
        order = np.lexsort((neurons, times))
        return times[order], neurons[order]

    def _seconds(self, arrivals: np.ndarray, k: int | slice) -> np.ndarray:
        """Times of arrivals, given in units of mean gaps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._since[k] + np.maximum(arrivals - self._position[k], 0.0) / self._rate[k]

    def _take(self, k: int, end: float) -> np.ndarray:
        """The times of neuron ``k`` before ``end``; its later arrivals stay ahead."""
        ahead = [self._ahead[k]]
        while self._seconds(ahead[-1][-1:], k)[0] < end:
            missing = self._position[k] + (end - self._since[k]) * self._rate[k] - ahead[-1][-1]
            gaps = self._streams[k].standard_exponential(_BLOCK + int(missing))
            ahead.append(np.cumsum(np.append(ahead[-1][-1], gaps))[1:])  # one by one, as in any other pieces
        arrivals = np.concatenate(ahead)
        t = self._seconds(arrivals, k)
        count = int(np.searchsorted(t, end))
        self._ahead[k] = arrivals[count:].copy()
        return t[:count]

    def keep(self) -> Any:
        """A copy, for `store`."""
        return copy.deepcopy(self)
