"""A plain simulator of linear neurons with thresholds, resets and delays, in 30 digits, without code of mtt_brian.

An instant is what a clock does with steps of no length: thresholds, arrivals without a delay, resets, and again.

The course of every neuron from its last event is looked at on a fine grid. In the cell in which the threshold condition
changes its sign, the crossing is found with the exponential of its matrix in 30 digits.
"""

import heapq
from dataclasses import dataclass, field

import mpmath
import numpy as np

MP = mpmath.MPContext()
MP.dps = 30


@dataclass
class Neuron:
    """dx/dt = matrix x + offset (per second); fires where row . x > level; held states stop while refractory."""

    matrix: list
    offset: list
    row: list
    level: float
    reset: list  # rows of n + 1: x becomes this times (x, 1)
    refractory: float = 0.0
    held: list = field(default_factory=list)
    x: list = field(default_factory=list)


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
    """Variables that obey dx/dt = a x + b between events, and what spikes of both ends do to them.

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
    last: object = MP.mpf(0)

    @property
    def ends(self):
        """The neurons whose spikes call ``on_pre`` and ``on_post``."""
        return (self.source, self.target) if self.on_post else (self.source,)

    def carry(self, t):
        for name, (a, b) in self.slopes.items():
            a, b = MP.mpf(a), MP.mpf(b)
            growth = MP.exp(a * (t - self.last))
            self.values[name] = self.values[name] * growth + b * (growth - 1) / a
        self.last = t


class _Running:
    def __init__(self, neuron, step):
        self.n = len(neuron.offset)
        self.rule, self.step = neuron, step
        self.x = [MP.mpf(v) for v in neuron.x]
        self.t, self.free = MP.mpf(0), MP.mpf(-1)
        self.flows, self.grid = {}, None

    def flow(self, held, dt):
        """The matrix that carries (x, 1) over dt."""
        key = (held, dt)
        if key not in self.flows:
            m = MP.zeros(self.n + 1)
            for p in range(self.n):
                if held and self.rule.held[p]:
                    continue
                for q in range(self.n):
                    m[p, q] = MP.mpf(self.rule.matrix[p][q]) * dt
                m[p, self.n] = MP.mpf(self.rule.offset[p]) * dt
            found = MP.expm(m, method="taylor")
            rows = [[found[p, q] for q in range(self.n + 1)] for p in range(self.n)]
            if dt != self.step:
                return rows
            self.flows[key] = rows
        return self.flows[key]

    def moved(self, x, held, dt):
        return [MP.fdot(zip(row[:-1], x, strict=True)) + row[-1] for row in self.flow(held, dt)]

    def above(self, x):
        return MP.fdot(zip(map(MP.mpf, self.rule.row), x, strict=True)) - MP.mpf(self.rule.level)

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
        cells = int(MP.ceil((until - t) / self.step))
        condition = self.courses(cells) @ np.array([*map(float, x), 1.0]) - self.rule.level
        if not np.any(condition > 0):
            return None
        k = int(np.argmax(condition > 0))  # cell k ends at (k + 1) steps
        x, t = self.moved(x, False, k * self.step), t + k * self.step
        if self.above(x) > 0:  # decided otherwise by float64
            x, t = self.moved(x, False, -self.step), t - self.step
        ends = (MP.mpf(0), 2 * self.step)
        return t + MP.findroot(lambda dt: self.above(self.moved(x, False, dt)), ends, solver="anderson", tol=1e-40)

    def courses(self, cells):
        """Rows that give the potential after 1, 2, .. steps from (x, 1), float64 [cells, n + 1]."""
        if self.grid is None or len(self.grid) < cells:
            step = np.eye(self.n + 1)
            step[:-1] = [[float(v) for v in row] for row in self.flow(False, self.step)]
            row, rows = np.array([*self.rule.row, 0.0]), []
            for _ in range(cells):
                row = row @ step
                rows.append(row)
            self.grid = np.array(rows)
        return self.grid[:cells]


def simulate(neurons, synapses, inputs, duration, step, plastic=()):
    """Spikes (time, neuron) of some neurons up to ``duration``.

    Args:
        neurons: of `Neuron`.
        synapses: of `Synapse`; a source from -1 down is an input.
        inputs: (time, source) of the input spikes.
        duration, step: seconds.
        plastic: of `PlasticSynapse`, whose values change.
    """
    running = [_Running(neuron, MP.mpf(step)) for neuron in neurons]
    queue, programs, spikes = [], [], []
    end = MP.mpf(duration)

    def arrive(k, state, weight, t):
        neuron = running[k]
        neuron.carry(t)
        if not (t < neuron.free and neuron.rule.held[state]):
            neuron.x[state] += MP.mpf(weight)

    def send(t, source):
        """The targets that are reached at once."""
        reached = set()
        for s in synapses:
            if s.source == source and s.delay == 0:
                arrive(s.target, s.state, s.weight, t)
                reached.add(s.target)
            elif s.source == source:
                heapq.heappush(queue, (t + MP.mpf(s.delay), s.target, s.state, s.weight))
        return reached

    def send_programs(t, sources):
        """The targets that are reached at once; all that is due now, spikes of sources before those of targets."""
        for number, s in enumerate(plastic):
            for which, fires in enumerate(s.ends):
                for _ in range(sources.count(fires)):
                    heapq.heappush(programs, (t + MP.mpf(s.delays[which]), which, number))
        reached = set()
        due = []
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
        neuron.x = [
            MP.fdot(zip(map(MP.mpf, row[:-1]), neuron.x, strict=True)) + MP.mpf(row[-1]) for row in neuron.rule.reset
        ]

    for t, source in inputs:
        for s in synapses:
            if s.source == source:
                heapq.heappush(queue, (MP.mpf(t) + MP.mpf(s.delay), s.target, s.state, s.weight))
        for number, s in enumerate(plastic):
            for which, fires in enumerate(s.ends):
                if fires == source:
                    heapq.heappush(programs, (MP.mpf(t) + MP.mpf(s.delays[which]), which, number))
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
                running[k].free = t + MP.mpf(running[k].rule.refractory)
            for k in fired:
                touched |= send(t, k)
            touched |= send_programs(t, fired)
            for k in fired:
                reset(k)
        for k in touched:
            ahead[k] = running[k].next_spike(end)
