"""Matrices of a linear system in exact rational arithmetic, or with 120 digits where eigenvalues need them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

from mtt_brian.errors import InputError
from mtt_brian.neuron import LinearSystem

#: Rows of fractions, or of numbers of mpmath.
Matrix: TypeAlias = "list[list[Any]]"


def product(left: Matrix, right: Matrix) -> Matrix:
    """The product of two matrices."""
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*right, strict=True)] for row in left
    ]


def minus(matrix: Matrix, number: Any) -> Matrix:
    """The matrix minus a multiple of the identity."""
    return [[a - number if p == q else a for q, a in enumerate(row)] for p, row in enumerate(matrix)]


def eigenvalues(system: LinearSystem) -> tuple[Matrix, list[Any]]:
    """The augmented matrix ((A, b), (0, 0)) and the eigenvalues of A, fastest first, pairs together.

    As fractions for a cascade, else as numbers of mpmath.
    """
    n = len(system.offset)
    taus = [Fraction(float(tau)) for tau in system.tau]
    exact = [[Fraction(float(a)) / tau for a in row] for row, tau in zip(system.matrix, taus, strict=True)]
    column = [Fraction(float(b)) / tau for b, tau in zip(system.offset, taus, strict=True)]
    left = set(range(n))  # without states on which only they themselves and states removed before act
    while left:
        free = [p for p in left if all(exact[p][q] == 0 for q in left if q != p)]
        if not free:
            break
        left.difference_update(free)
    augmented: Matrix = [[*row, b] for row, b in zip(exact, column, strict=True)] + [[Fraction(0)] * (n + 1)]
    if not left:
        return augmented, sorted((exact[p][p] for p in range(n)), key=lambda value: -abs(value))

    import mpmath

    context = mpmath.MPContext()
    context.dps = 120
    augmented = [[context.mpf(a.numerator) / a.denominator for a in row] for row in augmented]
    found = context.eig(context.matrix([row[:n] for row in augmented[:n]]), left=False, right=False)
    size = max(abs(a) for row in augmented[:n] for a in row[:n])
    eigenvalues = []
    for value in found:
        if abs(value.imag) <= size * context.mpf(10) ** -25:
            value = value.real  # equal eigenvalues differ by less than this in the result
        if abs(value) <= size * context.mpf(10) ** -25:
            value = context.zero
        if context.im(value) < 0:
            continue
        eigenvalues += [value, context.conj(value)] if context.im(value) > 0 else [value]
    if len(eigenvalues) != n:
        raise InputError(f"the eigenvalues of a linear neuron could not be paired: {[complex(x) for x in found]}")
    # Nearly equal pairs stay pairs: sorted by size and sign of the first member, the second follows.
    blocks = []
    k = 0
    while k < n:
        width = 2 if context.im(eigenvalues[k]) != 0 else 1
        blocks.append(eigenvalues[k : k + width])
        k += width
    blocks.sort(key=lambda block: -abs(block[0]))
    return augmented, [value for block in blocks for value in block]


def potential_last(system: LinearSystem) -> tuple[Matrix, Matrix]:
    """The change to states whose last one is the potential, and the way back, as fractions.

    The potential takes the place of the state with the largest weight in it (of several, the first one).
    """
    row = [Fraction(float(c)) for c in system.row]
    n = len(row)
    out = max(range(n), key=lambda k: abs(row[k]))
    others = [k for k in range(n) if k != out]
    to = [[Fraction(int(k == q)) for q in range(n)] for k in others] + [row]
    back = [[Fraction(0)] * n for _ in range(n)]
    for place, k in enumerate(others):
        back[k][place] = Fraction(1)
        back[out][place] = -row[k] / row[out]
    back[out][n - 1] = 1 / row[out]
    return to, back


def exchanged(system: LinearSystem, augmented: Matrix) -> Matrix:
    """The augmented matrix for the states of `potential_last`."""
    n = len(system.offset)
    one = augmented[n][n] + 1
    to, back = (
        [[a.numerator * one / a.denominator for a in row] + [0 * one] for row in matrix] + [[0 * one] * n + [one]]
        for matrix in potential_last(system)
    )
    return product(product(to, augmented), back)


def projector(augmented: Matrix, off: list[Any], on: list[Any]) -> Matrix:
    """The polynomial of the matrix that is 0 at the eigenvalues ``off`` and 1 at the eigenvalues ``on``."""
    zero = augmented[-1][-1]
    n1 = len(augmented)
    nodes = off + on
    table = [zero] * len(off) + [zero + 1] * len(on)
    total = [[zero] * n1 for _ in range(n1)]
    power = [[zero + 1 if p == q else zero for q in range(n1)] for p in range(n1)]
    for k, value in enumerate(nodes):
        total = [[a + table[0] * b for a, b in zip(x, y, strict=True)] for x, y in zip(total, power, strict=True)]
        power = product(power, minus(augmented, value))
        table = [
            zero if table[q] == table[q + 1] else (table[q + 1] - table[q]) / (nodes[q + k + 1] - nodes[q])
            for q in range(len(table) - 1)
        ]
    return total


def clean(matrix: Matrix, size: float, constant: float) -> Matrix:
    """Sets to 0 what is 0 by the theorem of Cayley and Hamilton, also where 120 digits left a remainder.

    Args:
        matrix: rows of n + 1.
        size, constant: how large the first n columns and the last one could have become.
    """
    return [
        [a * 0 if abs(a) <= 1e-60 * (constant if q == len(row) - 1 else size) else a for q, a in enumerate(row)]
        for row in matrix
    ]
