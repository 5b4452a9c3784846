"""Instants that are equal on paper are one instant, whatever rounding does to their float64 values.

Random networks with constant currents, where many neurons cross their thresholds at equal instants, against exact
rational arithmetic; and the smallest such cases, by hand.
"""

import numpy as np
import pytest

from mtt_brian.circuit.instants import window
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.neuron import IF
from tests import rational

PIXELS = 6


def network(seed):
    """A circuit, and the same network for `rational.simulate`: convolution, matrix, delayed matrix, all rules."""
    rng = np.random.default_rng(seed)
    conv = Conv2d(rng.integers(-3, 7, (2, 1, 1, 3)) / 8, (1, 1), ((0, 0), (1, 1)), (1, 1), 1, (1, 1, PIXELS))
    shapes = {"a": conv.output_shape, "b": (5,), "c": (4,)}
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    populations, rules = [], {}
    for name, shape in shapes.items():
        # A current per channel or per neuron, as biases of a convolution or of a matrix are.
        slope = rng.choice([-10.0, 0.0, 10.0, 20.0, 25.0, 30.0, 70.0], (shape[0], *(1 for _ in shape[1:])))
        slope = np.broadcast_to(slope, shape)
        rule = {
            "threshold": float(rng.choice([0.5, 0.75, 1.0])),
            "reset": str(rng.choice(["subtract", "zero"])),
            "spikes": str(rng.choice(["one", "many"])),
            "v_reset": float(rng.choice([0.0, -0.25])),
            "bound": [None, -1.0, -0.25][rng.integers(3)],
            "dead": [0, 0, 1000, 3000][rng.integers(4)],
        }
        populations.append(
            Population(
                name,
                shape,
                IF(
                    threshold=rule["threshold"],
                    reset=rule["reset"],
                    spikes=rule["spikes"],
                    v_reset=rule["v_reset"],
                    lower_bound=rule["bound"],
                    refractory=rule["dead"] / 1e6,
                    bias=slope,
                ),
            )
        )
        rules[name] = (sizes[name], rule | {"slope": slope.ravel(), "dead": rational.Fraction(rule["dead"], 10**6)})
    connections, plain = [Connection("input", "a", (conv,), (), PIXELS)], [("input", "a", None, 0)]
    for source, target, delay in (("a", "b", 0), ("a", "c", 2000), ("b", "c", 0), ("c", "a", 5000)):
        # The loop is weak: a potential of thousands of thresholds keeps three digits less of its own drift.
        weight = rng.integers(-4, 8, (sizes[target], sizes[source])) / (64 if target == "a" else 16)
        wait = (Delay(np.full(sizes[target], delay / 1e6)),) if delay else ()
        flat = Dense(weight, (sizes[source],))
        connections.append(Connection(source, target, (flat, *wait), (), sizes[source]))
        plain.append((source, target, weight, delay))
    plain[0] = ("input", "a", connections[0].matrix.toarray(), 0)
    circuit = Circuit("input", (PIXELS,), tuple(populations), tuple(connections), "c")
    events = sorted(
        {(int(t) * 1000, int(i)) for t, i in zip(rng.integers(0, 40, 25), rng.integers(0, PIXELS, 25), strict=True)}
    )
    return circuit, rules, plain, events


def compare(seed):
    """Returns how many spikes there were, and how many of them fell together with others."""
    circuit, rules, connections, events = network(seed)
    end = 40_000
    expected = rational.simulate(rules, connections, events, end)
    t, i = (np.array(column) for column in zip(*events, strict=True))
    train = InputSpikes(t / 1e6, i, np.ones(len(t), np.int64), np.arange(len(t)), end / 1e6)
    (result,) = ExactEngine(circuit, threads=1).run([train])
    instants = {}
    for name, spikes in expected.items():
        got = result.spikes[name]
        assert [(k, n) for _, k, n in spikes] == list(zip(got.i.tolist(), got.n.tolist(), strict=True)), (seed, name)
        for (exact, *_), found in zip(spikes, got.t.tolist(), strict=True):
            assert abs(float(exact) - found) <= window(found), (seed, name)
            instants.setdefault(exact, set()).add(found)
    assert all(len(found) == 1 for found in instants.values()), f"seed {seed}: one instant, several float64 times"
    assert len({next(iter(found)) for found in instants.values()}) == len(instants), f"seed {seed}: merged instants"
    spikes = sum(map(len, expected.values()))
    return spikes, spikes - len(instants)


@pytest.mark.parametrize("block", range(3))
def test_random_networks_equal_rational_arithmetic(block):
    total = np.sum([compare(seed) for seed in range(10 * block, 10 * block + 10)], axis=0)
    assert total[0] > 500
    assert total[1] > 100, "hardly any two spikes at one instant: the test proves nothing"


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_300_random_networks_equal_rational_arithmetic(block):
    for seed in range(100 + 30 * block, 130 + 30 * block):
        compare(seed)
