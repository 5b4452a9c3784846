"""Temporal flexibility: one number for how much a network depends on the number of its time steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, check_array, check_whole
from mtt_brian.text import shown

#: Numbers of time steps of the score, from 1 to 200, about evenly spaced on a logarithmic axis.
TIME_STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
#: Resamples of the bootstrap.
RESAMPLES = 1000
#: Part of the resamples beyond each end of the interval.
_TAIL = 0.025


class Flexibility(NamedTuple):
    """A temporal flexibility score with its 95 % interval.

    Attributes:
        value: 1: the same accuracy at every T and event-driven.
        low, high: of a bootstrap over the recordings, see `flexibility`; they enclose ``value``.
    """

    value: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """The score, its interval and its definition."""
        return (
            f"Temporal flexibility {self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f}): mean accuracy "
            f"over T = {', '.join(map(str, TIME_STEPS))} steps per recording and event-driven, relative to the best of "
            "them."
        )

    def __str__(self) -> str:
        """``"0.87 (0.84 to 0.90)"``."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def flexibility(
    time_stepped: Mapping[int, ArrayLike], event_driven: ArrayLike, resamples: int = RESAMPLES
) -> Flexibility:
    """The temporal flexibility score: mean accuracy over all conditions, divided by the largest of them.

    ``F = mean_c(a_c) / max_c(a_c)``; the conditions c are the T of `TIME_STEPS` and the event-driven run, with equal
    weights, and a_c is the accuracy under c. F is 1 if all accuracies are equal, and 1/9 if the network is right under
    one condition only. F does not contain the accuracy itself: a network that is at chance everywhere has 1. It is 0 if
    no prediction is correct.

    The largest of nine measured accuracies is on average above the largest true one, so that F is too low where several
    accuracies are close to each other, by up to 0.04 with 100 recordings and 0.01 with 1000. Resampled scores are lower
    still: their percentiles are no interval of F. The interval is therefore the union of those of ``mean_c(a_c) /
    a_k``, quantiles 0.025 and 0.975, over all conditions k that may be the best: in 2.5 % of the resamples or more, k
    is at least as accurate as the measured best. In simulations it contains the true score in 93 to 100 %.

    The bootstrap draws recordings with replacement, the same ones for all conditions of a resample (paired). The random
    numbers are fixed: equal arguments give equal intervals.

    Args:
        time_stepped: by T, whether each recording is classified correctly, bool [N]; T besides those of `TIME_STEPS`
            are not used.
        event_driven: likewise for the event-driven run (reports use the convention ``sum``).
        resamples: of the bootstrap.

    Raises:
        InputError: if a T is missing, there is no recording, or the lengths differ.
    """
    check_whole("resamples", resamples, most=1_000_000, least=1)
    if not isinstance(time_stepped, Mapping):
        raise InputError(f"time_stepped must be truth values by number of time steps, not {shown(time_stepped)}")
    if missing := [t for t in TIME_STEPS if t not in time_stepped]:
        raise InputError(f"the flexibility score needs T = {', '.join(map(str, TIME_STEPS))}; without {missing}")
    given = {**{f"time_stepped[{t}]": time_stepped[t] for t in TIME_STEPS}, "event_driven": event_driven}
    rows = [_truth(name, values) for name, values in given.items()]
    if {row.shape for row in rows} != {rows[0].shape} or rows[0].ndim != 1:
        raise InputError(f"the conditions need the same recordings, not {sorted({row.shape for row in rows})} of them")
    if not rows[0].size:
        raise InputError("no flexibility score without a recording")
    correct = np.stack(rows, axis=1)
    rng = np.random.default_rng(0)
    drawn = np.stack([correct[rng.integers(0, len(correct), len(correct))].sum(axis=0) for _ in range(resamples)])
    value, (low, high) = _score(correct), _interval(drawn, best=int(correct.sum(axis=0).argmax()))
    return Flexibility(value, min(value, low), max(value, high))


def _truth(name: str, values: ArrayLike) -> np.ndarray:
    """Truth values; 0 and 1 of any type are accepted.

    Raises:
        InputError: for other values, such as classes.
    """
    array = check_array(name, values, "biuf", "truth values: is each prediction correct")
    if not np.isin(array, (0, 1)).all():
        raise InputError(f"{name} must be truth values, is each prediction correct, not {shown(values)}")
    return array.astype(bool)


def _interval(drawn: np.ndarray, best: int) -> tuple[float, float]:
    """Of the score, from the correct predictions of each resample [resamples, conditions]; ``best`` is as measured."""
    possible = drawn[:, np.mean(drawn >= drawn[:, [best]], axis=0) >= _TAIL]
    mean = drawn.mean(axis=1, keepdims=True)
    ratios = np.where(possible > 0, np.minimum(1.0, mean / np.maximum(possible, 1)), mean > 0)
    low, high = np.quantile(ratios, [_TAIL, 1 - _TAIL], axis=0)
    return float(low.min()), float(high.max())


def _score(correct: np.ndarray) -> float:
    """Of correct predictions [N, conditions]."""
    counts = correct.sum(axis=0)
    return float(counts.sum() / (counts.size * counts.max())) if counts.any() else 0.0
