"""Factorial analysis: the effect of each of several changes of a network, from the results of all combinations.

A combination is a tuple of changes; the empty tuple is the unchanged network. The result of a network under a
combination is a cell with ``"right"``, a string with a 1 for every correctly classified recording and a 0 for every
other, so that differences are paired by recording.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mtt_brian.errors import InputError
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.statistics import mean_estimate, over_seeds

Combination: TypeAlias = tuple[str, ...]
#: Result by name of the network and combination, see `cell_name`.
Cells: TypeAlias = Mapping[str, Mapping[str, Any]]
#: Names of networks that differ in their seed, by label.
Groups: TypeAlias = Mapping[str, Sequence[str]]

UNCHANGED: Combination = ()


def combinations(changes: Sequence[str], never_together: Collection[tuple[str, str]]) -> list[Combination]:
    """All combinations of ``changes`` without the excluded pairs, the smallest first.

    Args:
        changes: names.
        never_together: pairs of names, each in the order of ``changes``.
    """
    return [
        combination
        for size in range(len(changes) + 1)
        for combination in itertools.combinations(changes, size)
        if not set(itertools.combinations(combination, 2)) & set(never_together)
    ]


def title(combination: Combination) -> str:
    """``"instants + no bound"``."""
    return " + ".join(combination) or "time-stepped"


def cell_name(network: str, combination: Combination) -> str:
    return f"{network}: {title(combination)}"


def as_bits(right: ArrayLike) -> str:
    """A 1 for every correctly classified recording, a 0 for every other."""
    return "".join("1" if hit else "0" for hit in np.asarray(right))


def from_bits(bits: str) -> np.ndarray:
    """The recordings of `as_bits`: bool [N]."""
    return np.array([bit == "1" for bit in bits], dtype=bool)


def right(cells: Cells, name: str, combination: Combination) -> np.ndarray:
    """Which recordings a network classifies correctly under a combination: bool [N]."""
    return from_bits(cells[cell_name(name, combination)]["right"])


def effect(
    cells: Cells, names: Sequence[str], plus: Sequence[Combination], minus: Sequence[Combination] = ()
) -> Estimate:
    """Accuracies, added and subtracted paired by recording and network, so that common variation cancels.

    One combination in ``plus`` is an accuracy; another one in ``minus`` makes a difference.

    Args:
        cells: the results.
        names: of the networks, which differ in their seed; see `over_seeds` for the error.
        plus, minus: combinations.
    """

    def score(name: str, combination: Combination) -> np.ndarray:
        return right(cells, name, combination).astype(np.float64)

    scores = [np.sum([score(n, c) for c in plus] + [-score(n, c) for c in minus], axis=0) for n in names]
    return over_seeds([mean_estimate(s) for s in scores])


class Share(NamedTuple):
    """Fraction of N recordings, with its exact 95 % interval (Clopper and Pearson 1934)."""

    value: float
    low: float
    high: float


def share(count: int, of: int) -> Share:
    """``count`` of ``of`` recordings.

    Raises:
        InputError: unless ``0 <= count <= of`` and ``of >= 1``.
    """
    if not 0 <= count <= of or of < 1:
        raise InputError(f"{count} of {of} recordings are no part of them")
    low = special.betaincinv(count, of - count + 1, 0.025) if count else 0.0
    high = special.betaincinv(count + 1, of - count, 0.975) if count < of else 1.0
    return Share(count / of, float(low), float(high))
