"""Linear systems as flat arrays: what the kernels of the exact engines read of every parameter set.

The kernels follow ``dx/dt = A x + b`` by divided differences of exponentials (`mtt_brian.engines.exact.propagation`
derives them). What does not depend on the state is prepared here: eigenvalues, their differences, matrix products,
bounds and times. Equal or nearly equal eigenvalues are no special case, because the products are formed in exact
arithmetic and rounded once.

Refused by name: systems that grow (an eigenvalue with a positive real part); an oscillation together with two
eigenvalues 0; undamped oscillations in resonance with each other; two damped ones, one of them much faster than the
other decays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.engines.lowered.divided_differences import bounds, reaches, steps
from mtt_brian.engines.lowered.matrices import Matrix, clean, eigenvalues, exchanged, minus, product, projector
from mtt_brian.errors import InputError
from mtt_brian.neuron import LinearSystem

#: Windows of a quarter period after which the search of an oscillating neuron ends without a result.
WINDOWS = 1_000_000
#: exp(-FAR) is negligible.
FAR = 600.0
# Layout of the values of a set: l0 = 0, l1 .. ln; the differences (row b, column a: la - lb); the matrices of the
# propagation (n + 1 of n x (n + 1)); the rows of F1 .. Fn; the rows of the same sum from the limit; with one damped
# pair also the row of its amplitude. Of the reals: row c; row of the limit; row of its slope; bounds of E[l1 .. lk];
# bounds of E[0, l1 .. lk]; rate of the slowest decay; longest window; time after which an oscillation repeats itself;
# damping of the pair.
#: Layout of the integers of a set: numbers of states and of eigenvalues 0, numbers of steps without and with l0,
#: whether there is a constant input, kinds of the eigenvalues, steps.
STATES, ZEROS, OPEN, ALL, AFFINE, ROLE, STEPS = 0, 1, 2, 3, 4, 5, 10
#: Kind of an eigenvalue: real, or the first or second one of a pair.
REAL, FIRST, SECOND = range(3)


class LinearSets(NamedTuple):
    """All parameter sets as arrays for the kernels; read only, shared by threads.

    Attributes:
        oscillates: flag [sets]: the set has complex eigenvalues and is stored in ``complexes``, else in ``values``.
        after: the set of real eigenvalues that remains when an oscillation is over; -1 without one [sets].
        integer_at, value_at, real_at: where a set begins in the arrays that follow [sets].
        integers: numbers of states and of steps, kinds of eigenvalues, steps.
        values, complexes: eigenvalues, their differences, and matrices, as float64 and as complex128.
        reals: rows of the potential and of its limit, bounds and times, float64.
    """

    oscillates: np.ndarray
    after: np.ndarray
    integer_at: np.ndarray
    value_at: np.ndarray
    real_at: np.ndarray
    integers: np.ndarray
    values: np.ndarray
    complexes: np.ndarray
    reals: np.ndarray


class _Set(NamedTuple):
    """One parameter set: int64, float64 or (with complex eigenvalues) complex128, float64."""

    integers: np.ndarray
    values: np.ndarray
    reals: np.ndarray

    @property
    def oscillates(self) -> bool:
        return bool(self.values.dtype == np.complex128)


def linear_sets(systems: Sequence[LinearSystem], exchange: bool = False) -> LinearSets:
    """The arrays for the kernels, one parameter set per system.

    The work is done in exact rational arithmetic where no state acts back on one before it (cascades), and with 120
    digits otherwise. It takes 0.1 ms to 20 ms per set: prepare equal sets once.

    Args:
        systems: the systems.
        exchange: let the potential replace a state (`matrices.potential_last`); otherwise the states are
            those of the systems.

    Raises:
        InputError: for a system that grows, or an undamped one that the search cannot bound.
    """
    sets: list[_Set] = []
    remains: list[_Set] = []
    after: list[int] = []
    for system in systems:
        spectrum = _spectrum(system, exchange)
        rows = _rows(spectrum)
        sets.append(_set(spectrum, rows))
        remain = _without_pair(spectrum, rows)
        after.append(-1 if remain is None else len(systems) + len(remains))
        remains += [] if remain is None else [remain]
    sets += remains
    at = {False: 0, True: 0}
    value_at = []
    for one in sets:
        value_at.append(at[one.oscillates])
        at[one.oscillates] += len(one.values)
    return LinearSets(
        oscillates=np.array([one.oscillates for one in sets], dtype=bool),
        after=np.array(after + [-1] * len(remains), dtype=np.int64),
        integer_at=_begins([one.integers for one in sets]),
        value_at=np.array(value_at, dtype=np.int64),
        real_at=_begins([one.reals for one in sets]),
        integers=np.concatenate([np.zeros(0, np.int64), *(one.integers for one in sets)]),
        values=np.concatenate([np.zeros(0), *(one.values for one in sets if not one.oscillates)]),
        complexes=np.concatenate([np.zeros(0, np.complex128), *(one.values for one in sets if one.oscillates)]),
        reals=np.concatenate([np.zeros(0), *(one.reals for one in sets)]),
    )


def _begins(parts: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *(len(p) for p in parts)])[:-1].astype(np.int64)


class _Spectrum(NamedTuple):
    """A system by its eigenvalues.

    Attributes:
        augmented: the matrix ((A, b), (0, 0)).
        weights: of the states in the potential.
        eigenvalues: of A, fastest first, pairs together, zeros last.
        size, push: the largest entry of A and of b.
        points: l0 = 0, l1 .. ln.
        roles: `REAL`, `FIRST` or `SECOND` for each of l0 .. l4.
    """

    augmented: Matrix
    weights: np.ndarray
    eigenvalues: list[Any]
    size: float
    push: float
    points: list[complex]
    roles: list[int]

    @property
    def n(self) -> int:
        return len(self.eigenvalues)

    @property
    def zeros(self) -> int:
        return sum(value == 0 for value in self.eigenvalues)

    @property
    def fading(self) -> int:
        return self.n - self.zeros

    @property
    def oscillates(self) -> bool:
        return FIRST in self.roles

    @property
    def zero(self) -> Any:
        return self.augmented[self.n][self.n]

    @property
    def identity(self) -> Matrix:
        one, n1 = self.zero + 1, self.n + 1
        return [[one if p == q else self.zero for q in range(n1)] for p in range(n1)]

    @property
    def off(self) -> list[Any]:
        """The eigenvalues 0, that of the constant included."""
        return [self.zero] * (self.zeros + 1)


def _spectrum(system: LinearSystem, exchange: bool) -> _Spectrum:
    n = len(system.offset)
    augmented, values = eigenvalues(system)
    weights = system.row
    if exchange:
        augmented, weights = exchanged(system, augmented), np.eye(n)[-1]
    size = max(float(abs(a)) for row in augmented[:n] for a in row[:n])
    push = max(float(abs(row[n])) for row in augmented)
    for k, value in enumerate(values):
        if float(value.real) > 0.0:
            if float(value.real) > 4 * 2.0**-52 * size:
                raise InputError(
                    f"a linear neuron must not grow: the eigenvalue {complex(value):.6g} of its matrix has a positive "
                    "real part"
                )
            values[k] = value - value.real
    values.sort(key=lambda value: value == 0)  # zeros last; stable
    nodes = [augmented[n][n], *values]
    roles = [REAL] * 5
    k = 1
    while k <= n:
        if nodes[k].imag != 0:
            roles[k], roles[k + 1] = FIRST, SECOND
            k += 1
        k += 1
    return _Spectrum(augmented, weights, values, size, push, [complex(value) for value in nodes], roles)


class _Rows(NamedTuple):
    """Matrices of the propagation, and rows that give the coefficients of the potential.

    Attributes:
        products: (A~ - l1) .. (A~ - lk) for k = 0 .. n, (n + 1) x (n + 1).
        fades: the projector on the decaying components.
        row: the potential, 1 x (n + 1).
        forward, backward: rows of the coefficients, seen from now and from the limit, n each.
        stays, drift: rows of the limit and of its slope.
        pair: the projector on the states of the one damped oscillation; None without one, or without anything else.
    """

    products: list[Matrix]
    fades: Matrix
    row: Matrix
    forward: Matrix
    backward: Matrix
    stays: Matrix
    drift: list[Any]
    pair: Matrix | None


def _rows(spectrum: _Spectrum) -> _Rows:
    augmented, size, push, n, zero = spectrum.augmented, spectrum.size, spectrum.push, spectrum.n, spectrum.zero
    one = zero + 1
    products = [spectrum.identity]
    for value in spectrum.eigenvalues:
        products.append(product(products[-1], minus(augmented, value)))
    products = [clean(p, size**k, size ** max(k - 1, 0) * push) for k, p in enumerate(products)]
    fades = projector(augmented, spectrum.off, spectrum.eigenvalues[: spectrum.fading])
    fades = clean(fades, 1.0, push / size if size else 0.0)
    row: Matrix = [
        [*(one * Fraction(float(c)) if isinstance(one, Fraction) else one * float(c) for c in spectrum.weights), zero]
    ]
    weight = _weight(spectrum)
    forward = [
        clean(product(row, product(augmented, p)), weight * size ** (k + 1), weight * size**k * push)[0]
        for k, p in enumerate(products[:n])
    ]
    backward = [product(row, product(p, fades))[0] for p in products[:n]]
    backward = [r if k < spectrum.fading else [zero] * (n + 1) for k, r in enumerate(backward)]
    stays = [[a - b for a, b in zip(row[0], product(row, fades)[0], strict=True)]]
    drift = clean(product(stays, augmented), weight * size, weight * push)[0]
    return _Rows(products, fades, row, forward, backward, stays, drift, _pair_projector(spectrum))


def _weight(spectrum: _Spectrum) -> float:
    return max(abs(c) for c in spectrum.weights)


def _set(spectrum: _Spectrum, rows: _Rows) -> _Set:
    """The parameter set of a system."""
    n, points, fading = spectrum.n, spectrum.points, spectrum.fading
    rates, window, horizon = _times(spectrum)
    steps_open, steps_all = steps(points, n)
    affine = any(rows.products[k][p][n] != 0 for k in range(n + 1) for p in range(n))
    integers = [n, spectrum.zeros, len(steps_open), len(steps_all), affine, *spectrum.roles]
    values = [
        *points,
        *_differences([spectrum.zero, *spectrum.eigenvalues]),
        *(complex(a) for p in rows.products for r in p[:n] for a in r),
        *(complex(a) for r in (*rows.forward, *rows.backward) for a in r),
    ]
    reals = [
        *spectrum.weights,
        *(complex(a).real for a in rows.stays[0]),
        *(complex(a).real for a in rows.drift),
        *reaches(points, fading),
        0.0 if 0.0 in rates else min(rates, default=0.0),
        window,
        horizon,
    ]
    if rows.pair is not None:
        first = spectrum.roles.index(FIRST)
        one, other = spectrum.eigenvalues[first - 1 : first + 1]
        share = product(rows.row, product(minus(spectrum.augmented, other), rows.pair))[0]
        values += [complex(a / (one - other)) for a in share]
        reals.append(abs(points[first].real))
    return _Set(
        np.array([*integers, *(x for step in steps_all for x in step)], np.int64),
        np.array(values) if spectrum.oscillates else np.array(values).real.copy(),
        np.array(reals),
    )


def _differences(nodes: list[Any]) -> list[complex]:
    """Row b, column a: la - lb."""
    return [complex(a - b) for b in nodes for a in nodes]


def _times(spectrum: _Spectrum) -> tuple[list[float], float, float]:
    """Rates of the decays; the longest window of the search; the time after which an oscillation repeats itself.

    Raises:
        InputError: for oscillations that the search cannot bound.
    """
    points, fading, n = spectrum.points, spectrum.fading, spectrum.n
    if spectrum.oscillates and spectrum.zeros > 1:
        raise InputError("a linear neuron with an oscillation and two eigenvalues 0 is not supported")
    bound = bounds(points)
    peaks = [bound[2 ** (k + 1) - 2] for k in range(1, n + 1)]
    if spectrum.oscillates and any(np.isinf(peaks[:fading])):
        raise InputError("a linear neuron with undamped oscillations in resonance with each other is not supported")
    rates = [abs(point.real) for point in points[1 : fading + 1]]
    longest = max((1 / rate for rate in rates if rate), default=0.0)
    window = 0.0
    if spectrum.oscillates:
        window = 0.5 * math.pi / max(abs(point.imag) for point in points)
        window = min(window, 40.0 * longest) if longest else window
    pairs = spectrum.roles.count(FIRST)
    if pairs > 1 and 0.0 not in rates and 60.0 * longest > WINDOWS * window:
        raise InputError(
            "a linear neuron with two oscillations, one much faster or hardly damped, is not supported: the slowest "
            f"decay takes {longest:.3g} s, the shortest period {2 * math.pi / max(abs(p.imag) for p in points):.3g} s"
        )
    horizon = 4 * FAR * longest
    if 0.0 in rates:  # once the rest is over, one undamped oscillation repeats itself after one period
        horizon = 40.0 * longest + 5 * window if pairs == 1 else np.inf
    return rates, window, horizon


def _pair_projector(spectrum: _Spectrum) -> Matrix | None:
    """The projector on the states of an oscillation that decays and leaves other eigenvalues behind."""
    if spectrum.roles.count(FIRST) != 1 or spectrum.n < 3:
        return None
    first = spectrum.roles.index(FIRST)
    if not spectrum.points[first].real:
        return None
    off = spectrum.off + _remaining(spectrum)[: spectrum.fading - 2]
    return projector(spectrum.augmented, off, spectrum.eigenvalues[first - 1 : first + 1])


def _remaining(spectrum: _Spectrum) -> list[Any]:
    """The eigenvalues without the pair."""
    first = spectrum.roles.index(FIRST)
    return [value for k, value in enumerate(spectrum.eigenvalues) if k not in (first - 1, first)]


def _without_pair(spectrum: _Spectrum, rows: _Rows) -> _Set | None:
    """The parameter set that remains when the oscillation has decayed; None without one."""
    if rows.pair is None:
        return None
    augmented, size, push, zero = spectrum.augmented, spectrum.size, spectrum.push, spectrum.zero
    remaining, fading, pair = _remaining(spectrum), spectrum.fading, rows.pair
    weight, n1 = _weight(spectrum), spectrum.n + 1
    rest = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(spectrum.identity, pair, strict=True)]
    fades = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(rows.fades, pair, strict=True)]
    forward: Matrix = []
    backward: Matrix = []
    power = spectrum.identity
    for k, value in enumerate(remaining):
        moves = product(rows.row, product(product(augmented, power), rest))
        forward += clean(moves, weight * size ** (k + 1), weight * size**k * push)
        backward += product(rows.row, product(power, fades)) if k < fading - 2 else [[zero] * n1]
        power = product(power, minus(augmented, value))
    points = [0j, *(complex(value) for value in remaining)]
    n = len(remaining)
    steps_open, steps_all = steps(points, n)
    head = [n, spectrum.zeros, len(steps_open), len(steps_all), False, *[REAL] * 5]
    rates = [abs(point.real) for point in points[1 : fading - 1]]
    values = [*points, *_differences([zero, *remaining]), *(complex(a) for r in (*forward, *backward) for a in r)]
    return _Set(
        np.array([*head, *(x for step in steps_all for x in step)], np.int64),
        np.array(values).real.copy(),
        np.array([*[0.0] * (3 * n + 2), *reaches(points, fading - 2), min(rates, default=0.0), 0.0, 0.0]),
    )
