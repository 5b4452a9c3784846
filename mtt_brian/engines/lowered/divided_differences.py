"""Divided differences of exponentials: the order in which they are computed, and bounds of them.

``E[S](t)`` is the divided difference of ``exp(z t)`` over a set ``S`` of eigenvalues. A set is a bit mask over the
eigenvalues l0 = 0, l1 .. ln (`linear_sets`).
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np


def steps(points: list[complex], n: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The sets of eigenvalues whose divided differences are needed, smaller ones first: without 0, and all.

    A step is (set, set without b, set without a, a, b), where a and b are the members farthest from each other.
    """

    def farthest(members: int) -> tuple[int, int]:
        inside = [k for k in range(n + 1) if members >> k & 1]
        a, b = max(combinations(inside, 2), key=lambda pair: abs(points[pair[0]] - points[pair[1]]))
        return (a, b) if points[a].real >= points[b].real else (b, a)

    def closure(wanted: set[int]) -> list[tuple[int, ...]]:
        needed: dict[int, tuple[int, ...]] = {}
        while wanted:
            members = wanted.pop()
            if members.bit_count() < 2 or members in needed:
                continue
            a, b = farthest(members)
            needed[members] = (members, members & ~(1 << b), members & ~(1 << a), a, b)
            wanted |= {members & ~(1 << a), members & ~(1 << b)}
        return [needed[key] for key in sorted(needed, key=lambda key: (key.bit_count(), key))]

    opened = closure({2 ** (k + 1) - 2**j for j in range(1, n + 1) for k in range(j, n + 1)})
    everything = closure({2 ** (k + 1) - 2**j for j in range(n + 1) for k in range(j, n + 1)})
    return opened, opened + [step for step in everything if step not in opened]


def bounds(points: list[complex]) -> dict[int, float]:
    """Upper bounds of |E[S](t)| over all t >= 0, for sets of eigenvalues without number 0."""
    n = len(points) - 1
    bound: dict[int, float] = {1 << k: 1.0 for k in range(1, n + 1)}
    for members in sorted(range(2, 2 ** (n + 1), 2), key=int.bit_count):
        inside = [k for k in range(1, n + 1) if members >> k & 1]
        if len(inside) < 2:
            continue
        best = np.inf
        for k in inside:  # a convolution with exp(points[k] t)
            if points[k].real < 0:
                best = min(best, bound[members & ~(1 << k)] / -points[k].real)
        for a, b in combinations(inside, 2):
            gap = abs(points[a] - points[b])
            if gap:
                best = min(best, (bound[members & ~(1 << a)] + bound[members & ~(1 << b)]) / gap)
            if len(inside) == 2 and points[a].conjugate() == points[b] and points[a].imag:
                best = min(best, 1 / abs(points[a].imag))
            if len(inside) == 2 and not points[a].imag and not points[b].imag and points[a] and points[b]:
                q = max(points[a].real / points[b].real, points[b].real / points[a].real)
                slow = min(-points[a].real, -points[b].real)
                power = 1.0 if q - 1 < 1e-9 else math.log(q) / (q - 1)
                best = min(best, math.exp(-power) / (slow * q) * (1 + 1e-9))
        bound[members] = best
    return bound


def reaches(points: list[complex], fading: int) -> list[float]:
    """How large E[l1 .. lk](t) and E[0, l1 .. lk](t) become at most, for k = 1 .. n; 0 where it is not used."""
    n = len(points) - 1
    bound = bounds(points)
    peaks = [bound[2 ** (k + 1) - 2] if k <= fading else 0.0 for k in range(1, n + 1)]
    sums = [1.0]
    for k in range(1, n + 1):
        sums.append(sums[-1] / abs(points[k].real) if k <= fading and points[k].real else 0.0)
    return [*peaks, *sums[1:]]
