"""A simulator of IF networks in exact rational arithmetic (`fractions.Fraction`). It shares no code with the package.

Every number is the rational that its float64 stands for; times of input events are whole microseconds. No rounding
happens anywhere, so two instants are equal if and only if they are equal on paper.
"""

from fractions import Fraction

import numpy as np


class Neurons:
    def __init__(self, size, rule):
        """``rule``: threshold, reset, spikes, v_reset, bound (or None), dead (s), slope [size]."""
        self.size, self.rule = size, rule
        self.v, self.free = [Fraction(0)] * size, [Fraction(0)] * size
        self.slope = [Fraction(s) for s in rule["slope"]]
        self.theta, self.v_reset, self.dead = (Fraction(rule[key]) for key in ("threshold", "v_reset", "dead"))
        self.bound = None if rule["bound"] is None else Fraction(rule["bound"])

    def advance(self, now, t):
        for k in range(self.size):
            begin = min(max(self.free[k], now), t)
            self.v[k] += self.slope[k] * (t - begin)

    def next_crossing(self, now, k):
        """The instant at which drift carries neuron k up to its threshold, or None."""
        if self.v[k] >= self.theta or self.slope[k] <= 0:
            return None
        return max(now, self.free[k]) + (self.theta - self.v[k]) / self.slope[k]

    def update(self, k, drive, t):
        """All that arrives at neuron k at one instant; returns the number of its spikes."""
        if t < self.free[k]:
            return 0
        self.v[k] += drive
        if self.bound is not None:
            self.v[k] = max(self.v[k], self.bound)
        if self.v[k] < self.theta:
            return 0
        n = self.v[k] // self.theta if self.rule["reset"] == "subtract" and self.rule["spikes"] == "many" else 1
        self.v[k] = self.v_reset if self.rule["reset"] == "zero" else self.v[k] - n * self.theta
        self.free[k] = t + self.dead
        return int(n)


def simulate(rules, connections, events, end):
    """Run a network.

    Args:
        rules: {population: (size, rule)} in topological order, see `Neurons`.
        connections: (source, target, matrix [target, source], delay in whole microseconds); the input is "input".
        events: (microsecond, pixel).
        end: microseconds.

    Returns:
        {population: [(Fraction seconds, neuron, spikes)]}, sorted.
    """
    populations = {name: Neurons(size, rule) for name, (size, rule) in rules.items()}
    fan_out = [
        (source, target, [[(j, Fraction(m[j, k])) for j in np.flatnonzero(m[:, k])] for k in range(m.shape[1])], delay)
        for source, target, m, delay in connections
    ]
    end = Fraction(end, 10**6)
    waiting = {}  # instant -> [(target, neuron, amount)]
    inputs = {}
    for t, pixel in events:
        inputs.setdefault(Fraction(t, 10**6), []).append(pixel)
    spikes = {name: [] for name in populations}
    now = Fraction(0)
    while True:
        crossings = {
            (name, k): t
            for name, p in populations.items()
            for k in range(p.size)
            if (t := p.next_crossing(now, k)) is not None
        }
        due = [*crossings.values(), *waiting, *inputs]
        if not due or min(due) > end:
            return spikes
        t = min(due)
        for p in populations.values():
            p.advance(now, t)
        now = t
        touched = {name: {} for name in populations}
        for (name, k), when in crossings.items():
            if when == t:
                touched[name][k] = Fraction(0)
        for target, k, amount in waiting.pop(t, []):
            touched[target][k] = touched[target].get(k, 0) + amount
        fired = {"input": [(pixel, 1) for pixel in inputs.pop(t, [])]}
        for name in ("input", *populations):
            if name != "input":
                p = populations[name]
                fired[name] = [(k, n) for k, drive in sorted(touched[name].items()) if (n := p.update(k, drive, t))]
                spikes[name] += [(t, k, n) for k, n in fired[name]]
            for source, target, fan, delay in fan_out:
                for k, n in fired[name] if source == name else ():
                    for j, weight in fan[k]:
                        if delay:
                            waiting.setdefault(t + Fraction(delay, 10**6), []).append((target, j, n * weight))
                        else:
                            touched[target][j] = touched[target].get(j, 0) + n * weight
