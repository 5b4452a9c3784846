"""A plain simulator of linear and quadratic neurons with thresholds, resets and delays, in 40 digits, without our code.

An instant is what a clock does with steps of no length: thresholds, arrivals without a delay, resets, and again.

The course of every neuron from its last event is looked at on a fine grid. In the cell in which the threshold condition
changes its sign, the crossing is found by halving. States move by the Taylor series of their equations.
"""

import decimal
import heapq
import math
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from tests.lazy_series import Series

DIGITS = 40


@dataclass
class Neuron:
    """dx/dt = matrix x + offset (per second); fires where row . x > level; held states stop while refractory.

    ``products``: (p, j, k, c) adds c xj xk to dxp/dt. ``functions``: of all states, as `tests.lazy_series` or numbers,
    gives (p, what is added to dxp/dt), whose series converge for a time that is long against 1 / ``rate``.
    """

    matrix: list
    offset: list
    row: list
    level: float
    reset: list  # rows of n + 1: x becomes this times (x, 1)
    refractory: float = 0.0
    held: list = field(default_factory=list)
    x: list = field(default_factory=list)
    products: tuple = ()
    functions: object = None
    rate: float = 0.0


@dataclass
class Synapse:
    """A spike of neuron ``source`` adds ``weight`` to state ``state`` of neuron ``target`` after ``delay`` seconds."""

    source: int
    target: int
    state: int
    weight: float
    delay: float


@dataclass
class PlasticSynapse:
    """Variables (floats) that obey dx/dt = a x + b between events, and what spikes of both ends do to them.

    ``on_pre`` and ``on_post`` (or None) change ``values`` and return what is added to ``state`` of the target.
    """

    source: int
    target: int
    state: int
    values: dict
    slopes: dict  # variable: (a, b) per second
    on_pre: object
    on_post: object
    delays: tuple = (0.0, 0.0)
    last: Decimal = Decimal(0)

    @property
    def ends(self):
        """The neurons whose spikes call ``on_pre`` and ``on_post``."""
        return (self.source, self.target) if self.on_post else (self.source,)

    def carry(self, t):
        for name, (a, b) in self.slopes.items():
            grown = math.expm1(a * float(t - self.last))
            self.values[name] += (self.values[name] + b / a) * grown
        self.last = t


class _Running:
    def __init__(self, neuron, step):
        self.n = len(neuron.offset)
        self.rule, self.step = neuron, step
        self.x = [Decimal(v) for v in neuron.x]
        self.row, self.level = [Decimal(v) for v in neuron.row], Decimal(neuron.level)
        self.t, self.free = Decimal(0), Decimal(-1)
        self.matrix = [[Decimal(v) for v in row] for row in neuron.matrix]
        self.offset = [Decimal(v) for v in neuron.offset]
        self.fastest = max(sum(map(abs, row)) for row in self.matrix)
        self.products = [(p, j, k, Decimal(c)) for p, j, k, c in neuron.products]
        self.grid = None

    def series(self, x, held):
        """The Taylor coefficients of the states: x, dx/dt, d2x/dt2 / 2, ..."""
        found = [x]
        states = [Series(lambda k, p=p: found[k][p]) for p in range(self.n)]
        added = list(self.rule.functions(*states)) if self.rule.functions else []
        for k in range(1, 100):
            yield x
            slope = [_dot(self.matrix[p], x) + (self.offset[p] if k == 1 else 0) for p in range(self.n)]
            for p, j, q, c in self.products:
                slope[p] += c * sum(a[j] * b[q] for a, b in zip(found, reversed(found), strict=True))
            for p, series in added:
                slope[p] += series[k - 1]
            x = [Decimal(0) if held and self.rule.held[p] else slope[p] / k for p in range(self.n)]
            found.append(x)
        raise AssertionError("the series does not end")

    def moved(self, x, held, dt):
        """In pieces that are much shorter than the fastest time constant."""
        while dt:
            rate = self.fastest + 2 * sum(abs(c) * (abs(x[j]) + abs(x[k]) + 1) for _, j, k, c in self.products)
            piece = dt / (1 + int(4 * (rate + Decimal(self.rule.rate)) * abs(dt)))
            total, power = [Decimal(0)] * self.n, Decimal(1)
            for k, terms in enumerate(self.series(x, held)):
                terms = [v * power for v in terms]
                total = [a + b for a, b in zip(total, terms, strict=True)]
                if k > 1 and max(map(abs, terms)) < Decimal(10) ** -DIGITS:
                    break
                power *= piece
            x = total
            dt = Decimal(0) if piece == dt else dt - piece
        return x

    def above(self, x):
        return _dot(self.row, x) - self.level

    def carry(self, t):
        """To t; the refractory period may end on the way."""
        if self.t < self.free <= t:
            self.x, self.t = self.moved(self.x, True, self.free - self.t), self.free
        if t > self.t:
            self.x, self.t = self.moved(self.x, t < self.free, t - self.t), t

    def next_spike(self, until):
        """The first time in (t, until) at which the condition holds and the neuron listens, or None."""
        x, t = self.x, self.t
        if t < self.free:
            if self.free >= until:
                return None
            x, t = self.moved(x, True, self.free - t), self.free
        if self.above(x) > 0:
            return t
        cells = int(((until - t) / self.step).to_integral_value(decimal.ROUND_CEILING))
        bent = self.products or self.rule.functions
        condition = (self.curve(x, cells) if bent else self.line(x, cells)) - self.rule.level
        if not np.any(condition > 0):
            return None
        k = int(np.argmax(condition > 0))  # cell k ends at (k + 1) steps
        x, t = self.moved(x, False, k * self.step), t + k * self.step
        if self.above(x) > 0:  # decided otherwise by float64
            x, t = self.moved(x, False, -self.step), t - self.step
        return t + self.crossing(x)

    def crossing(self, x):
        """The time from states below the threshold to the crossing, which two steps contain."""
        terms = [_dot(self.row, v) for v, _ in zip(self.series(x, False), range(40), strict=False)]
        terms[0] -= self.level

        def condition(dt):
            value = Decimal(0)
            for c in reversed(terms):
                value = value * dt + c
            return value

        low, high = Decimal(0), self.step if condition(self.step) > 0 else 2 * self.step
        assert condition(low) <= 0 < condition(high)
        while high - low > Decimal(10) ** -(DIGITS - 10):
            middle = (low + high) / 2
            low, high = (low, middle) if condition(middle) > 0 else (middle, high)
        return high

    def line(self, x, cells):
        """The potential after 1, 2, .. steps in float64: of linear neurons."""
        return self.courses(cells) @ np.array([*map(float, x), 1.0])

    def curve(self, x, cells):
        """The same for all others, by the classical method of Runge and Kutta."""
        rule, h, parts, out = self.rule, float(self.step) / 2, 2, []
        matrix, offset, row = (np.array(part, float) for part in (rule.matrix, rule.offset, rule.row))

        def slope(x):
            total = matrix @ x + offset
            for p, j, k, c in rule.products:
                total[p] += c * x[j] * x[k]
            for p, value in rule.functions(*x.tolist()) if rule.functions else ():
                total[p] += value
            return total

        x = np.array([*map(float, x)])
        for _ in range(cells):
            for _ in range(parts):
                k1 = slope(x)
                k2 = slope(x + h / 2 * k1)
                k3 = slope(x + h / 2 * k2)
                x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3))
            out.append(row @ x)
            if out[-1] > rule.level:
                break
        return np.array(out)

    def courses(self, cells):
        """Rows that give the potential after 1, 2, .. steps from (x, 1), float64 [cells, n + 1]."""
        if self.grid is None or len(self.grid) < cells:
            step = np.eye(self.n + 1)
            units = [[Decimal(p == q) for q in range(self.n)] for p in range(self.n + 1)]
            step[:-1] = np.array([self.moved(unit, False, self.step) for unit in units], float).T
            step[:-1, :-1] -= step[:-1, -1:]
            row, rows = np.array([*self.rule.row, 0.0]), []
            for _ in range(cells):
                row = row @ step
                rows.append(row)
            self.grid = np.array(rows)
        return self.grid[:cells]


def _dot(row, x):
    return sum(map(Decimal.__mul__, row, x), Decimal(0))


def simulate(neurons, synapses, inputs, duration, step, plastic=()):
    """Spikes (time, neuron) of some neurons up to ``duration``.

    Args:
        neurons: of `Neuron`.
        synapses: of `Synapse`; a source from -1 down is an input.
        inputs: (time, source) of the input spikes.
        duration, step: seconds.
        plastic: of `PlasticSynapse`, whose values change.
    """
    with decimal.localcontext(prec=DIGITS):
        return _simulated(neurons, synapses, inputs, duration, step, plastic)


def _simulated(neurons, synapses, inputs, duration, step, plastic):
    running = [_Running(neuron, Decimal(step)) for neuron in neurons]
    queue, programs, spikes = [], [], []
    end = Decimal(duration)

    def arrive(k, state, weight, t):
        neuron = running[k]
        neuron.carry(t)
        if not (t < neuron.free and neuron.rule.held[state]):
            neuron.x[state] += Decimal(weight)

    def send(t, source):
        """The targets that are reached at once."""
        reached = set()
        for s in synapses:
            if s.source == source and s.delay == 0:
                arrive(s.target, s.state, s.weight, t)
                reached.add(s.target)
            elif s.source == source:
                heapq.heappush(queue, (t + Decimal(s.delay), s.target, s.state, s.weight))
        return reached

    def send_programs(t, sources):
        """The targets that are reached at once; all that is due now, spikes of sources before those of targets."""
        for number, s in enumerate(plastic):
            for which, fires in enumerate(s.ends):
                for _ in range(sources.count(fires)):
                    heapq.heappush(programs, (t + Decimal(s.delays[which]), which, number))
        reached, due = set(), []
        while programs and programs[0][0] == t:
            due.append(heapq.heappop(programs))
        for _, which, number in sorted(due, key=lambda event: event[1]):
            s = plastic[number]
            s.carry(t)
            added = s.on_post(s.values) if which else s.on_pre(s.values)
            if added is not None:
                arrive(s.target, s.state, added, t)
                reached.add(s.target)
        return reached

    def reset(k):
        neuron = running[k]
        neuron.x = [_dot(map(Decimal, row[:-1]), neuron.x) + Decimal(row[-1]) for row in neuron.rule.reset]

    for t, source in inputs:
        for s in synapses:
            if s.source == source:
                heapq.heappush(queue, (Decimal(t) + Decimal(s.delay), s.target, s.state, s.weight))
        for number, s in enumerate(plastic):
            for which, fires in enumerate(s.ends):
                if fires == source:
                    heapq.heappush(programs, (Decimal(t) + Decimal(s.delays[which]), which, number))
    ahead = [neuron.next_spike(end) for neuron in running]
    while True:
        t = min([end, *(time for time in ahead if time is not None), *(q[0][0] for q in (queue, programs) if q)])
        if t >= end:
            return sorted(spikes)
        due = {k for k, time in enumerate(ahead) if time == t}
        touched = set(due)
        for k in due:
            running[k].carry(t)
        while queue and queue[0][0] == t:
            _, k, state, weight = heapq.heappop(queue)
            arrive(k, state, weight, t)
            touched.add(k)
        touched |= send_programs(t, [])
        while True:
            fired = [k for k in touched if t >= running[k].free and (k in due or running[k].above(running[k].x) > 0)]
            if not fired:
                break
            due = set()
            for k in fired:
                spikes.append((float(t), k))
                running[k].free = t + Decimal(running[k].rule.refractory)
            for k in fired:
                touched |= send(t, k)
            touched |= send_programs(t, fired)
            for k in fired:
                reset(k)
        for k in touched:
            ahead[k] = running[k].next_spike(end)
