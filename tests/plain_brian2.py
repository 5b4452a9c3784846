"""A plain simulator of linear neurons with thresholds, resets and delays, in 30 digits. It shares no code with mtt_brian.

Every neuron is stepped with the exponential of its matrix on a fine grid from its last event; a change of sign of the
threshold condition is narrowed down by bisection.
"""

import heapq
from dataclasses import dataclass, field

import mpmath

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


class _Running:
    def __init__(self, neuron, step):
        self.n = len(neuron.offset)
        self.rule, self.step = neuron, step
        self.x = [MP.mpf(v) for v in neuron.x]
        self.t, self.free = MP.mpf(0), MP.mpf(-1)
        self.flows = {}

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
        return [MP.fdot(zip(row[:-1], x)) + row[-1] for row in self.flow(held, dt)]

    def above(self, x):
        return MP.fdot(zip(map(MP.mpf, self.rule.row), x)) - MP.mpf(self.rule.level)

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
        while t < until:
            new = self.moved(x, False, self.step)
            if self.above(new) > 0:
                low, high = MP.mpf(0), MP.mpf(self.step)
                for _ in range(80):
                    middle = (low + high) / 2
                    if self.above(self.moved(x, False, middle)) > 0:
                        high = middle
                    else:
                        low = middle
                return t + high
            x, t = new, t + self.step
        return None


def simulate(neurons, synapses, inputs, duration, step):
    """Spikes (time, neuron) of some neurons up to ``duration``.

    Args:
        neurons: of `Neuron`.
        synapses: of `Synapse`; a source from -1 down is an input.
        inputs: (time, source) of the input spikes.
        duration, step: seconds.
    """
    running = [_Running(neuron, MP.mpf(step)) for neuron in neurons]
    queue, spikes = [], []
    end = MP.mpf(duration)

    def send(t, source):
        for s in synapses:
            if s.source == source:
                heapq.heappush(queue, (t + MP.mpf(s.delay), s.target, s.state, s.weight))

    def fire(k, t):
        neuron = running[k]
        spikes.append((float(t), k))
        neuron.x = [MP.fdot(zip(map(MP.mpf, row[:-1]), neuron.x)) + MP.mpf(row[-1]) for row in neuron.rule.reset]
        neuron.free = t + MP.mpf(neuron.rule.refractory)
        send(t, k)

    for t, source in inputs:
        send(MP.mpf(t), source)
    ahead = [neuron.next_spike(end) for neuron in running]
    while True:
        arrival = queue[0][0] if queue else end
        k = min((k for k, t in enumerate(ahead) if t is not None), key=lambda k: ahead[k], default=None)
        if k is not None and ahead[k] < min(arrival, end):
            t = ahead[k]
            running[k].carry(t)
            fire(k, t)
            ahead[k] = running[k].next_spike(end)
        elif arrival < end:
            t, k, state, weight = heapq.heappop(queue)
            neuron = running[k]
            neuron.carry(t)
            if not (t < neuron.free and neuron.rule.held[state]):
                neuron.x[state] += MP.mpf(weight)
            ahead[k] = neuron.next_spike(end)
        else:
            return sorted(spikes)
