"""Differences in time between the spikes of two runs of one population."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.circuit.spikes import Spikes
from mtt_brian.errors import InputError, check_array, check_number
from mtt_brian.text import shown
from mtt_brian.translate.nir_files import LARGEST

#: Most spikes of one population that can be compared.
MOST_SPIKES = 1_000_000_000


class SpikeTimeDifferences(NamedTuple):
    """Spikes of one population in two runs, matched in pairs.

    Attributes:
        seconds: float64 [K], time in the second run minus time in the first; sorted by neuron, then time.
        neuron: int64 [K], the neuron of each pair.
        only_first, only_second: spikes of either run that have no partner.
    """

    seconds: np.ndarray
    neuron: np.ndarray
    only_first: int
    only_second: int


def spike_time_differences(first: Spikes, second: Spikes) -> SpikeTimeDifferences:
    """Pairs the k-th spike of every neuron in one run with the k-th spike of the same neuron in the other.

    n spikes fired at once are n spikes at one time. If a neuron fires more often in one run, its last spikes there have
    no partner: they are counted and have no difference. For equal numbers of spikes no other matching has a smaller sum
    of ``|difference|``. But one additional early spike shifts all later pairs of its neuron by one, and their
    differences are then those between successive spikes: read the times together with the counts (`spike_difference`).

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


def checked_spikes(name: str, t: ArrayLike, i: ArrayLike, n: ArrayLike) -> Spikes:
    """Spikes of one population from their columns, sorted by time, then neuron.

    Args:
        name: what a message calls them.
        t, i, n: see `Spikes`, in any order.

    Raises:
        InputError: for other types, lengths and values, and for more than `MOST_SPIKES`.
    """
    t, i, n = (check_array(f"{name}: {what}", x) for what, x in (("t", t), ("i", i), ("n", n)))
    if t.ndim != 1 or not t.shape == i.shape == n.shape:
        raise InputError(f"{name}: t {t.shape}, i {i.shape} and n {n.shape} must be lists of one length")
    if t.size and (i.dtype.kind == "f" or n.dtype.kind == "f"):
        raise InputError(f"{name}: t must hold seconds, i and n integers, not {t.dtype}, {i.dtype} and {n.dtype}")
    if (total := float(np.sum(n, dtype=np.float64))) > MOST_SPIKES:
        raise InputError(f"{name}: {total:.6g} spikes; at most {MOST_SPIKES:,} can be compared")
    if np.any(wrong := ~(np.isfinite(t) & (t >= 0)) | (i < 0) | (i > LARGEST) | (n < 1)):
        k = int(np.argmax(wrong))
        raise InputError(
            f"{name}: t = {t[k]} s, i = {i[k]}, n = {n[k]} (spike {k}) must be >= 0, from 0 to {LARGEST} and >= 1"
        )
    order = np.lexsort((i, t))
    return Spikes(t[order].astype(np.float64), i[order].astype(np.int64), n[order].astype(np.int64))


def _ranked(spikes: Spikes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neuron, time and rank within the neuron (0 for its first) of single spikes, sorted by neuron, then time.

    Raises:
        InputError: for what are no spikes.
    """
    if not isinstance(spikes, Spikes):
        raise InputError(f"spikes must be Spikes(t, i, n), as result.spikes[name], not {shown(spikes)}")
    t, i, n = checked_spikes("spikes", *spikes)
    i, t = np.repeat(i, n), np.repeat(t, n)
    order = np.lexsort((t, i))
    i, t = i[order], t[order]
    return i, t, np.arange(len(i)) - np.searchsorted(i, i)


@dataclass(frozen=True)
class FirstDifference:
    """The earliest spike in which two runs differ.

    Attributes:
        t: seconds; of a pair at different times, the earlier one.
        neuron: flat index.
        kind: kind of the spike of the second run.
        shift: seconds by which the second run is later; 0 for a spike without a partner.
    """

    t: float
    neuron: int
    kind: Literal["missing", "additional", "early", "late"]
    shift: float = 0.0


@dataclass(frozen=True)
class SpikeComparison:
    """Spikes of one population in a run, compared with those of a reference.

    Attributes:
        reference, spikes: number of spikes in the reference and in the run.
        same: pairs at the same time, within the tolerance.
        early, late: pairs of which the run's spike comes earlier or later than that.
        missing: spikes of the reference without a partner.
        additional: spikes of the run without a partner.
        largest_shift: seconds, the largest ``|run - reference|`` of a pair.
        first: the earliest difference; None if there is none.
    """

    reference: int
    spikes: int
    same: int
    early: int
    late: int
    missing: int
    additional: int
    largest_shift: float
    first: FirstDifference | None

    @property
    def equal(self) -> bool:
        """Whether every spike has a partner at the same time, within the tolerance."""
        return self.first is None


def compare_spikes(reference: Spikes, spikes: Spikes, tolerance: float = 0.0) -> SpikeComparison:
    """Compares the spikes of a run with those of another run of the same network on the same recording.

    For every neuron, first as many spikes as possible are paired within the tolerance. The remaining spikes are paired
    in order, the k-th with the k-th: these are early or late. Spikes without a partner are missing or additional. n
    spikes fired at once are n spikes at one time.

    Args:
        reference, spikes: of one population, in any order.
        tolerance: seconds; with 0, times must be equal bit for bit. Another one counts up to rounding of the times.

    Raises:
        InputError: unless the tolerance is a number >= 0.
    """
    check_number("tolerance", tolerance, most=np.inf, least=0)
    (i, t, rank), (other_i, other_t, other_rank) = _ranked(reference), _ranked(spikes)
    neurons = int(max(np.max(i, initial=-1), np.max(other_i, initial=-1))) + 1
    starts, other_starts = np.searchsorted(i, np.arange(neurons + 1)), np.searchsorted(other_i, np.arange(neurons + 1))
    both = np.minimum(np.diff(starts), np.diff(other_starts))
    paired = rank < both[i]
    shift, whose = other_t[other_rank < both[other_i]] - t[paired], i[paired]
    is_far = np.abs(shift) > tolerance + _rounding(t[paired], tolerance)
    # If the k-th spikes are at the same times, all are paired at once; otherwise neuron by neuron.
    differ = np.diff(starts) != np.diff(other_starts)
    differ[whose[is_far]] = True
    shifts = [shift[~differ[whose]]]
    same = len(shifts[0])
    found: list[FirstDifference] = []
    for neuron in np.flatnonzero(differ).tolist():
        ours = t[starts[neuron] : starts[neuron + 1]]
        theirs = other_t[other_starts[neuron] : other_starts[neuron + 1]]
        pairs, rest, other_rest = _paired(ours, theirs, tolerance)
        same += len(pairs)
        shifts.append(np.array([theirs[b] - ours[a] for a, b in pairs]))
        for a, b in zip(rest, other_rest, strict=False):
            by = float(theirs[b] - ours[a])
            found.append(FirstDifference(min(ours[a], theirs[b]).item(), neuron, "late" if by > 0 else "early", by))
            shifts.append(np.array([by]))
        found += [FirstDifference(float(ours[a]), neuron, "missing") for a in rest[len(other_rest) :]]
        found += [FirstDifference(float(theirs[b]), neuron, "additional") for b in other_rest[len(rest) :]]
    number = Counter(difference.kind for difference in found)
    return SpikeComparison(
        reference=len(t),
        spikes=len(other_t),
        same=same,
        early=number["early"],
        late=number["late"],
        missing=number["missing"],
        additional=number["additional"],
        largest_shift=float(np.max(np.abs(np.concatenate(shifts)), initial=0.0)),
        first=min(found, key=lambda difference: (difference.t, difference.neuron), default=None),
    )


def _rounding(t: np.ndarray, tolerance: float) -> np.ndarray:
    """The allowance for rounding that is added to the tolerance."""
    return 4e-15 * t + 1e-16 if tolerance > 0 else np.zeros(np.shape(t))


def _paired(
    first: np.ndarray, second: np.ndarray, tolerance: float
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """The largest number of pairs within the tolerance of two sorted lists of times; and the rest of either list."""
    pairs, rest, other_rest = [], [], []
    allowed = tolerance + _rounding(first, tolerance)
    a = b = 0
    while a < len(first) and b < len(second):
        if abs(second[b] - first[a]) <= allowed[a]:
            pairs.append((a, b))
            a, b = a + 1, b + 1
        elif first[a] < second[b]:
            rest.append(a)
            a += 1
        else:
            other_rest.append(b)
            b += 1
    return pairs, [*rest, *range(a, len(first))], [*other_rest, *range(b, len(second))]
