"""Networks that fire between arrivals, against a plain simulator that finds crossings by sampling and bisection.

The simulator shares no code with the engine: it advances every neuron at every instant by the textbook solution, uses
the written-out matrices, and looks for the first neuron above its threshold on a fine grid between two instants.
"""

import heapq

import numpy as np
import pytest

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.neuron import IF, LIF, CubaLIF

SAMPLES = 64


class Neurons:
    """One population, all neurons at the same time."""

    def __init__(self, population):
        rule, shape = population.rule, population.shape
        full = lambda x: np.broadcast_to(np.asarray(x, dtype=float), shape).ravel().copy()  # noqa: E731
        self.rule, self.size = rule, population.size
        self.v, self.i, self.free = np.zeros(self.size), np.zeros(self.size), np.zeros(self.size)
        self.theta = full(np.inf if rule.threshold is None else rule.threshold)
        self.bound = full(-np.inf if rule.lower_bound is None else rule.lower_bound)
        self.r, self.bias, self.gain, self.dead = full(rule.r), full(rule.bias), full(rule.gain), full(rule.refractory)
        self.v_reset = full(rule.v_reset)
        self.leak = full(rule.v_leak) if isinstance(rule, LIF) else None
        self.tau = full(rule.tau) if isinstance(rule, LIF) else None
        self.tau_syn = full(rule.tau_syn) if isinstance(rule, CubaLIF) else None
        # The bias goes through w_in and the synapse: tau_syn dI/dt = -I + w_in (W z + bias).
        self.held = full(rule.w_in) * self.bias if isinstance(rule, CubaLIF) else 0.0

    def later(self, now, t):
        """(v, I) at ``t``, from the state at ``now``."""
        current = self.i
        if self.tau_syn is not None:
            current = self.held + (self.i - self.held) * np.exp(-(t - now) / self.tau_syn)
        begin = np.clip(self.free, now, t)
        dt = t - begin
        if self.tau is None:
            return self.v + self.r * self.bias * dt, current
        rest = self.leak + self.r * (self.bias if self.tau_syn is None else self.held)
        v = rest + (self.v - rest) * np.exp(-dt / self.tau)
        if self.tau_syn is not None:
            drive = self.r * (self.i - self.held) * np.exp(-(begin - now) / self.tau_syn)
            factor = self.tau_syn / (self.tau_syn - self.tau)
            v += drive * factor * (np.exp(-dt / self.tau_syn) - np.exp(-dt / self.tau))
        return v, current


def simulate(circuit, train):
    """{population: [(t, i, n)]} and the potentials of the readout at the end."""
    neurons = {p.name: Neurons(p) for p in circuit.populations}
    paths = []
    for c in circuit.connections:
        delay = np.zeros(circuit.population[c.target].size)
        for operator in c.operators:
            if isinstance(operator, Delay):
                delay = np.broadcast_to(operator.seconds, delay.shape)
        paths.append((c.source, c.target, c.matrix.toarray(), delay))
    waiting, serial = [], 0  # (t, serial, target, neuron, weight)
    spikes = {name: [] for name in neurons}
    now, row = 0.0, 0
    while True:
        following = min(
            train.t[row] if row < len(train.t) else np.inf, waiting[0][0] if waiting else np.inf, train.duration
        )
        crossing = first_crossing(neurons, now, following)
        t = min(following, crossing[0])
        if t >= train.duration and not (crossing[0] < train.duration or following_is_event(train, row, waiting, t)):
            return spikes, {name: n.later(now, train.duration)[0] for name, n in neurons.items()}
        for n in neurons.values():
            n.v, n.i = n.later(now, t)
        now = t
        drive = {name: np.zeros(n.size) for name, n in neurons.items()}
        touched = {name: np.zeros(n.size, dtype=bool) for name, n in neurons.items()}
        if crossing[0] <= t:
            _, name, k = crossing
            neurons[name].v[k], touched[name][k] = neurons[name].theta[k], True
        while waiting and waiting[0][0] == t:
            _, _, target, k, weight = heapq.heappop(waiting)
            drive[target][k] += weight
            touched[target][k] = True
        fired = {circuit.input: []}
        while row < len(train.t) and train.t[row] == t:
            fired[circuit.input].append((train.i[row], train.n[row]))
            row += 1
        for name in (circuit.input, *neurons):
            if name != circuit.input:
                fired[name] = settle(neurons[name], drive[name], touched[name], t)
                spikes[name] += [(t, k, n) for k, n in fired[name]]
            for source, target, matrix, delay in paths:
                for k, n in fired[name] if source == name else ():
                    for j in np.flatnonzero(matrix[:, k]):
                        if delay[j] > 0:
                            serial += 1
                            heapq.heappush(waiting, (t + delay[j], serial, target, j, n * matrix[j, k]))
                        else:
                            drive[target][j] += n * matrix[j, k]
                            touched[target][j] = True


def following_is_event(train, row, waiting, t):
    return (row < len(train.t) and train.t[row] == t) or bool(waiting and waiting[0][0] == t)


def settle(n, drive, touched, t):
    fired = []
    for k in np.flatnonzero(touched):
        listening = t >= n.free[k]
        if n.tau_syn is not None:
            n.i[k] += n.gain[k] * drive[k]
        elif listening:
            n.v[k] += n.gain[k] * drive[k]
        if not listening:
            continue
        n.v[k] = max(n.v[k], n.bound[k])
        if n.v[k] >= n.theta[k]:
            count = 1
            if n.rule.reset == "zero":
                n.v[k] = n.v_reset[k]
            else:
                count = int(n.v[k] // n.theta[k]) if n.rule.spikes == "many" else 1
                n.v[k] -= count * n.theta[k]
            n.free[k] = t + n.dead[k]
            fired.append((k, count))
    return fired


def first_crossing(neurons, now, end):
    best = (np.inf, "", -1)
    for name, n in neurons.items():
        if n.rule.threshold is None:
            continue
        grid = now + (end - now) * np.linspace(0, 1, SAMPLES + 1)
        above = np.array([n.later(now, t)[0] >= n.theta for t in grid])
        rising = above[1:] & ~above[:-1]
        for k in np.flatnonzero(rising.any(axis=0)):
            first = int(np.argmax(rising[:, k]))
            low, high = grid[first], grid[first + 1]
            for _ in range(60):
                middle = (low + high) / 2
                if n.later(now, middle)[0][k] >= n.theta[k]:
                    high = middle
                else:
                    low = middle
            best = min(best, (high, name, k))
    return best


def random_circuit(seed):
    rng = np.random.default_rng(seed)
    rules = {
        "drift": IF(bias=rng.uniform(-5, 25, 7), spikes="many", lower_bound=-0.5, refractory=0.002),
        "leak": LIF(tau=rng.uniform(0.005, 0.02, 6), r=0.01, v_leak=rng.uniform(0, 1.3, 6), reset="zero", v_reset=-0.1),
        "current": CubaLIF(tau=0.01, tau_syn=0.004, w_in=0.02, bias=10.0, lower_bound=-2.0),
        "refractory": CubaLIF(tau=0.01, tau_syn=0.03, w_in=0.03, reset="zero", refractory=0.003),
        "readout": CubaLIF(threshold=None, tau=0.02, tau_syn=0.01, w_in=0.01),
    }
    sizes = {"input": 10, "drift": 7, "leak": 6, "current": 5, "refractory": 4, "readout": 3}
    populations = tuple(Population(name, (sizes[name],), rule) for name, rule in rules.items())

    def connect(source, target, mean, *delays):
        weight = rng.normal(mean, 0.6, (sizes[target], sizes[source])) * (
            rng.random((sizes[target], sizes[source])) < 0.8
        )
        return Connection(source, target, (Dense(weight, (sizes[source],)), *delays), (), sizes[source])

    connections = (
        connect("input", "drift", 0.1),
        connect("input", "leak", 0.2),
        connect("drift", "current", 0.3),
        connect("leak", "current", 0.2),
        connect("drift", "refractory", 0.3, Delay(rng.uniform(0.001, 0.003, 4))),
        connect("refractory", "leak", -0.3, Delay(np.full(6, 0.0015))),
        connect("current", "readout", 0.0),
        connect("refractory", "readout", 0.0),
    )
    return Circuit("input", (10,), populations, connections, "readout")


@pytest.mark.parametrize("seed", range(5))
def test_random_networks_fire_the_same_spikes(seed):
    circuit = random_circuit(seed)
    rng = np.random.default_rng(1000 + seed)
    t = np.sort(rng.uniform(0, 0.06, 60))
    train = InputSpikes(t, rng.integers(0, 10, 60), rng.integers(1, 3, 60), np.zeros(0, np.int64), 0.0601)
    expected, potentials = simulate(circuit, train)
    (result,) = ExactEngine(circuit).run([train])
    assert all(len(expected[name]) > 5 for name in ("drift", "leak", "current", "refractory"))
    for name, spikes in result.spikes.items():
        assert [(int(k), int(n)) for _, k, n in expected[name]] == list(
            zip(spikes.i.tolist(), spikes.n.tolist(), strict=True)
        ), name
        np.testing.assert_allclose(spikes.t, [t for t, _, _ in expected[name]], rtol=0, atol=1e-11)
    np.testing.assert_allclose(result.readout, potentials["readout"], atol=1e-9)
