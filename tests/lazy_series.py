"""Taylor series of differential equations in 40 digits, from right sides as plain Python, without our code.

The terms of a `Series` are computed when they are asked for. A right side is a function of states, which are `Series`,
or numbers; it uses + - * / and `exp`, `tanh` of this module.
"""

import decimal
import math
from decimal import Decimal

DIGITS = 40
ORDER = 40


class Series:
    """Terms 0, 1, .. of a function of time, each from a function that may use the terms before."""

    def __init__(self, term):
        self._term, self.terms = term, []

    def __getitem__(self, k):
        while len(self.terms) <= k:
            self.terms.append(self._term(len(self.terms)))
        return self.terms[k]

    def __add__(self, other):
        other = _series(other)
        return Series(lambda k: self[k] + other[k])

    def __neg__(self):
        return Series(lambda k: -self[k])

    def __sub__(self, other):
        return self + (-_series(other))

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        if not isinstance(other, Series):
            return Series(lambda k: self[k] * Decimal(other))
        return Series(lambda k: sum(self[j] * other[k - j] for j in range(k + 1)))

    def __truediv__(self, other):
        if not isinstance(other, Series):
            return Series(lambda k: self[k] / Decimal(other))
        out = Series(lambda k: (self[k] - sum(other[j] * out[k - j] for j in range(1, k + 1))) / other[0])
        return out

    def __rtruediv__(self, other):
        return _series(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def exp(self):
        def term(k):
            return self[0].exp() if k == 0 else sum(j * self[j] * out[k - j] for j in range(1, k + 1)) / k

        out = Series(term)
        return out


def _series(x):
    return x if isinstance(x, Series) else Series(lambda k: Decimal(x) if k == 0 else Decimal(0))


def exp(x):
    return x.exp() if isinstance(x, Series | Decimal) else math.exp(x)


def tanh(x):
    return 1 - 2 / (1 + exp(2 * x))


def solution(right, x):
    """The series of all states from their values at time 0."""
    states = [Series(lambda k, p=p: Decimal(x[p]) if k == 0 else Decimal(slopes[p][k - 1]) / k) for p in range(len(x))]
    slopes = [_series(slope) for slope in right(*states)]
    return states


def value(series, t):
    total = Decimal(0)
    for c in reversed(series.terms):
        total = total * t + c
    return total


def spikes(right, x, threshold, reset, end, arrivals=(), held=None, refractory=0):
    """Spike times in the unit of the right sides: state 0 crosses ``threshold``, then x becomes ``reset(*x)``.

    ``arrivals``: (time, state, jump) by time. Right sides during a refractory period are ``held``. Every spike is found
    by halving, in steps whose rest is below 1e-26.
    """
    with decimal.localcontext(prec=DIGITS):
        x, t, free, out = [Decimal(v) for v in x], Decimal(0), Decimal(0), []
        events = [(Decimal(time), p, Decimal(jump)) for time, p, jump in arrivals] + [(Decimal(end), 0, Decimal(0))]
        while events:
            states = solution(held if t < free else right, x)
            until = min(events[0][0], free) if t < free else events[0][0]
            step = until - t
            for state in states:
                last = max(abs(state[ORDER]), abs(state[ORDER - 1]))
                if last:
                    size = abs(state[0]) + abs(state[1]) + 1
                    step = min(step, ((size / last).ln() / ORDER - Decimal("1.5")).exp())
            if t >= free and value(states[0], step) >= Decimal(threshold):
                low, high = Decimal(0), step
                for _ in range(100):
                    middle = (low + high) / 2
                    below = value(states[0], middle) < Decimal(threshold)
                    low, high = (middle, high) if below else (low, middle)
                t += high
                free = t + Decimal(refractory)
                out.append(float(t))
                x = [Decimal(v) for v in reset(*(value(state, high) for state in states))]
                continue
            x = [value(state, step) for state in states]
            t = until if step == until - t else t + step
            if t == events[0][0]:
                _, p, jump = events.pop(0)
                x[p] += jump
        return out


def hodgkin_huxley(v, m, n, h):
    """Slopes per ms with the rates of Traub and Miles 1991, driven by 4; v in mV."""
    a, b, c = (x / (exp(x / k) - 1) for x, k in ((13 - v, 4), (v - 40, 5), (15 - v, 5)))
    return (
        4 - (v + 2) / 10 - 100 * (m * m * m) * h * (v - 113) - 30 * (n * n * n * n) * (v + 27),
        Decimal("0.32") * a * (1 - m) - Decimal("0.28") * b * m,
        Decimal("0.032") * c * (1 - n) - exp((10 - v) / 40) * n / 2,
        Decimal("0.128") * exp((17 - v) / 18) * (1 - h) - 4 / (1 + exp((40 - v) / 5)) * h,
    )
