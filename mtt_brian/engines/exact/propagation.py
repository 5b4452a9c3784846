"""Propagation of neurons that are linear systems, by divided differences of exponentials.

A neuron with up to four states follows ``dx/dt = A x + b`` (`mtt_brian.neuron.LinearSystem`). The eigenvalues of ``A``
may be real or complex, equal, nearly equal or 0. Let ``E[S](t)`` be the divided difference of ``exp(z t)`` over a set
``S`` of eigenvalues. By Newton's interpolation (Putzer's formula) every solution is a finite sum of them,

    x(t) = sum over k of E[l1 .. lk](t) (A - l1) .. (A - l(k-1)) x(0),

and the constant ``b`` counts as one more eigenvalue, 0. Equal eigenvalues are no special case of it. Two properties
make it accurate. The matrix products are formed once per parameter set in exact arithmetic and then rounded
(`mtt_brian.engines.lowered.linear_sets`). The eigenvalues go from the fastest to the slowest: then no term is much
larger than the solution itself, however stiff the system is. (Scaling and squaring of ``A t`` would lose the slow part
of a stiff system.) ``E[S]`` comes from the Taylor series around one end of ``S`` where the two farthest members lie
closer than `_CLOSE` / t, and from the recursion over these two members otherwise. All terms of the series are positive
for real eigenvalues, and the recursion cancels at most two bits.

In the kernels ``z`` is an array of float64 or complex128 with the set at ``v``; ``m`` holds integers with the set at
``i``; ``e`` is ``real`` or ``complex`` of the scratch memory. A run of eigenvalues j .. k has the bit mask
2 ** (k + 1) - 2 ** j; 0 is the constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mtt_brian.engines.exact.jit import inlined, kernel, piece
from mtt_brian.engines.lowered.linear_sets import AFFINE, ALL, OPEN, STATES, STEPS, LinearSets

#: Up to this distance times t the Taylor series is used.
_CLOSE = 2.0
#: 1 / k
INVERSE = np.array([0.0, *(1.0 / k for k in range(1, 64))])
_INVERSE_FACTORIAL = np.array([1.0 / math.factorial(k) for k in range(8)])

#: Layout of `Scratch.real` and `Scratch.complex`: divided differences by bit mask, a series, its nodes, two rows of
#: coefficients, the limit with its slope and whether there is one.
SERIES, _NODES, FORWARD, BACKWARD, LIMIT, _ROOM = 32, 37, 42, 47, 52, 56


class Scratch(NamedTuple):
    """Working memory of one thread; a call does not use the values of an earlier one.

    Attributes:
        real, complex: divided differences and coefficients.
        zeros: zeros of one function of the chain and of the next, and the values there.
        matrix: n rows of n + 1, the last transition, float64 [20]: ``x(t + dt)`` is the matrix times ``(x(t), 1)``.
        state: a state, float64 [4].
    """

    real: np.ndarray
    complex: np.ndarray
    zeros: np.ndarray
    matrix: np.ndarray
    state: np.ndarray


def new_scratch() -> Scratch:
    """Working memory for one thread."""
    return Scratch(np.zeros(_ROOM), np.zeros(_ROOM, np.complex128), np.zeros(20), np.zeros(20), np.zeros(4))


@piece
def differences(z: np.ndarray, v: int, m: np.ndarray, i: int, e: np.ndarray, t: float, steps: int) -> None:
    """The divided differences of exp(l t) over the sets of eigenvalues of the first ``steps`` steps, into ``e``."""
    n1 = m[i + STATES] + 1
    for k in range(n1):
        e[1 << k] = np.exp(z[v + k] * t)
    for step in range(steps):
        at = i + STEPS + 5 * step
        members, a, b = m[at], m[at + 3], m[at + 4]
        gap = z[v + n1 + b * n1 + a]
        reach = abs(gap) * t
        if reach > _CLOSE:
            e[members] = (e[m[at + 1]] - e[m[at + 2]]) / gap
            continue
        # h(q) = complete symmetric polynomial of degree q of the distances to member b; the sum of h(q) / (order + q)!
        size = 0
        for k in range(n1):
            if k != b and (members >> k) & 1:
                e[_NODES + size] = z[v + n1 + b * n1 + k] * t
                size += 1
        scale = 1.0
        for k in range(size):
            e[SERIES + k] = _INVERSE_FACTORIAL[size]
            scale *= t
        total = e[SERIES + size - 1]
        bound, q = 1.0, 1
        while q < 60:
            bound *= reach * INVERSE[q]
            if bound < 1e-18:
                break
            inverse = INVERSE[size + q]
            e[SERIES] *= e[_NODES] * inverse
            for k in range(1, size):
                e[SERIES + k] = e[SERIES + k - 1] + e[_NODES + k] * e[SERIES + k] * inverse
            total += e[SERIES + size - 1]
            q += 1
        e[members] = e[1 << b] * scale * total


@piece
def write_transition(
    z: np.ndarray, v: int, m: np.ndarray, i: int, e: np.ndarray, dt: float, matrix: np.ndarray
) -> None:
    n, affine = m[i + STATES], m[i + AFFINE]
    n1 = n + 1
    differences(z, v, m, i, e, dt, m[i + ALL] if affine else m[i + OPEN])
    at = v + n1 + n1 * n1
    for q in range(n * n1):
        matrix[q] = 0.0
    for k in range(n1 if affine else n):
        factor = e[(1 << (k + 2)) - 2] if k < n else e[(1 << n1) - 1]
        for q in range(n * n1):
            matrix[q] += (factor * z[at + k * n * n1 + q]).real


@piece
def transition(linear: LinearSets, s: int, dt: float, scratch: Scratch) -> None:
    """Writes the transition of set ``s`` over ``dt`` >= 0 seconds into ``scratch.matrix``, n rows of n + 1."""
    i, v = linear.integer_at[s], linear.value_at[s]
    if linear.oscillates[s]:
        write_transition(linear.complexes, v, linear.integers, i, scratch.complex, dt, scratch.matrix)
    else:
        write_transition(linear.values, v, linear.integers, i, scratch.real, dt, scratch.matrix)


@inlined
def apply_transition(y: np.ndarray, at: int, stride: int, n: int, scratch: Scratch) -> None:
    """Applies ``scratch.matrix`` to the states ``y[at + stride * k]``, k < n, of one neuron."""
    for k in range(n):
        scratch.state[k] = y[at + stride * k]
    for k in range(n):
        total = scratch.matrix[k * (n + 1) + n]
        for q in range(n):
            total += scratch.matrix[k * (n + 1) + q] * scratch.state[q]
        y[at + stride * k] = total


@kernel
def evolve(linear: LinearSets, s: int, y: np.ndarray, at: int, stride: int, dt: float, scratch: Scratch) -> None:
    """Advances the states ``y[at + stride * k]``, k < n, of a neuron with set ``s`` by ``dt`` >= 0 seconds."""
    transition(linear, s, dt, scratch)
    apply_transition(y, at, stride, linear.integers[linear.integer_at[s] + STATES], scratch)
