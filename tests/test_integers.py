"""Integer networks: the bits of a chip, against a simulator that computes in Python's integers."""

import itertools
from dataclasses import replace
from fractions import Fraction

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtt_brian as mb
from mtt_brian import cli
from mtt_brian.circuit.integers import Integers
from mtt_brian.circuit.operators import Conv2d
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF


def chain(*nodes, shape):
    named = {"input": nir.Input({"input": np.array(shape)})}
    named |= {f"n{k}": node for k, node in enumerate(nodes)}
    last = np.shape(getattr(nodes[-1], "v_threshold", None))
    named["output"] = nir.Output({"output": np.array(last)})
    return nir.NIRGraph(named, list(itertools.pairwise(named)), type_check=False)


def if_node(size, threshold=1.0, r=1.0, **metadata):
    metadata = {"reset": "subtract", "spikes": "many", **metadata}
    return nir.IF(np.full(size, r), np.full(size, threshold), metadata=metadata)


def network(seed, threshold=1.0, **metadata):
    rng = np.random.default_rng(seed)
    return chain(
        nir.Linear(rng.normal(0.2, 0.6, (6, 4))),
        if_node(6, threshold, **metadata),
        nir.Linear(rng.normal(0.1, 0.7, (3, 6))),
        if_node(3, threshold, **metadata),
        shape=[4],
    )


def recording(seed, events=120):
    rng = np.random.default_rng(seed)
    return mb.events.make_recording(np.sort(rng.integers(0, 40, events)), rng.integers(0, 4, events))


# ----- the plain simulator


class Layer:
    """Weights, threshold and bounds are Python integers."""

    def __init__(self, weight, threshold, lower, bits, membrane_bits, rule):
        values = [Fraction(float(w)) for w in np.ravel(weight)]
        highest = 2 ** (bits - 1) - 1
        fits = [Fraction(highest) / max(values)] if max(values) > 0 else []
        fits += [Fraction(highest + 1) / -min(values)] if min(values) < 0 else []
        top = 2 ** (membrane_bits - 1)
        fits.append(Fraction(top - 1) / Fraction(threshold))
        if lower is not None and lower < 0:
            fits.append(Fraction(top) / -Fraction(lower))
        scale = float(min(fits))
        self.weight = [[round(float(w) * scale) for w in row] for row in weight]
        self.threshold = round(threshold * scale)
        self.lower = -top if lower is None else round(lower * scale)
        self.upper, self.rule = top - 1, rule
        self.v = [0] * len(weight)

    def arrive(self, jumps):
        """Jumps by neuron, summed and applied once; returns the spikes by neuron."""
        spikes = {}
        for k, jump in jumps.items():
            v = min(max(self.v[k] + jump, self.lower), self.upper)
            n = 0
            if v >= self.threshold:
                n = v // self.threshold if self.rule == "many" else 1
                v = 0 if self.rule == "zero" else v - n * self.threshold
            self.v[k] = v
            if n:
                spikes[k] = n
        return spikes

    def jumps(self, spikes):
        out = {}
        for source, n in spikes.items():
            for k, row in enumerate(self.weight):
                if row[source]:
                    out[k] = out.get(k, 0) + n * row[source]
        return out


def run_plainly(layers, given_, order):
    """Spikes of every layer: (t us, neuron, number)."""
    found = [[] for _ in layers]
    if order == "sum":
        for t in np.unique(given_["t"]).tolist():
            x, n = np.unique(given_["x"][given_["t"] == t], return_counts=True)
            spikes = dict(zip(x.tolist(), n.tolist(), strict=True))
            for layer, out in zip(layers, found, strict=True):
                spikes = layer.arrive(layer.jumps(spikes))
                out += [(t, k, n) for k, n in sorted(spikes.items())]
        return found
    for t, x in zip(given_["t"].tolist(), given_["x"].tolist(), strict=True):
        queue = [(0, x)]
        while queue:
            number, source = queue.pop(0)
            if number == len(layers):
                continue
            layer = layers[number]
            for k in sorted(layer.arrive(layer.jumps({source: 1}))):
                found[number].append((t, k, 1))
                queue.append((number + 1, k))
    return found


def compared(graph, layers, given_, order, integers):
    result = mb.simulate(graph, given_, order=order, integers=integers)
    expected = run_plainly(layers, given_, order)
    total = 0
    for name, spikes in zip(("n1", "n3"), expected, strict=True):
        # Spikes of one neuron at one instant are one record in ours where the queue gives them one by one.
        merged = {}
        for t, k, n in spikes:
            merged[t, k] = merged.get((t, k), 0) + n
        ours = {}
        for t, k, n in zip(*(column.tolist() for column in result.spikes[name]), strict=True):
            ours[round(t * 1e6), k] = ours.get((round(t * 1e6), k), 0) + n
        assert ours == merged
        total += len(merged)
    return total, result


@pytest.mark.parametrize("order", ["sum", "fifo"])
@pytest.mark.parametrize("rule", ["many", "one", "zero"])
def test_every_spike_is_that_of_python_integers(order, rule):
    spikes = 0
    for seed in range(15):
        for bits, membrane_bits, lower in ((8, 16, -1.0), (4, 6, None), (3, 4, -0.7), (8, 8, None)):
            metadata = {"reset": "zero" if rule == "zero" else "subtract"}
            metadata["spikes"] = "many" if rule == "many" else "one"
            metadata |= {} if lower is None else {"lower_bound": lower}
            graph = network(seed, **metadata)
            fires = "one" if order == "fifo" and rule == "many" else rule
            layers = [Layer(graph.nodes[w].weight, 1.0, lower, bits, membrane_bits, fires) for w in ("n0", "n2")]
            spikes += compared(graph, layers, recording(seed), order, Integers(bits, membrane_bits))[0]
    assert spikes > 1500


def test_a_membrane_saturates_at_both_ends():
    graph = chain(nir.Linear(np.array([[1.0, -1.0]])), if_node(1, 1.0, spikes="one"), shape=[2])
    integers = Integers(bits=4, membrane_bits=4)  # weights 7 and -7, threshold 7, membranes -8 .. 7
    up = mb.events.make_recording([1, 1, 1, 2, 3], 0)
    # Three jumps of 7 at once end at 7, the largest integer: one spike and 0 is left, not 14.
    assert mb.simulate(graph, up, integers=integers).counts["n1"].tolist() == [3]
    assert mb.simulate(graph, up).counts["n1"].tolist() == [3]
    down = mb.events.make_recording([1, 1, 1, 2, 3, 4], [1, 1, 1, 0, 0, 0])
    # From -8, two spikes lead to 6 and the third to 7.
    result = mb.simulate(graph, down, integers=integers)
    assert result.spikes["n1"].t.tolist() == [4e-6]
    assert mb.simulate(graph, down).counts["n1"].tolist() == [0]
    many = chain(nir.Linear(np.array([[1.0]])), if_node(1, 1.0), shape=[1])
    at_once = mb.events.make_recording([1] * 5, 0)
    assert mb.simulate(many, at_once).counts["n1"].tolist() == [5]
    assert mb.simulate(many, at_once, integers=integers).counts["n1"].tolist() == [1]


def test_one_scale_makes_weights_and_thresholds_fit():
    graph = network(3, threshold=0.25, lower_bound=-0.5)
    circuit = Integers().of(mb.translate.read_nir(graph))
    for node, name in (("n0", "n1"), ("n2", "n3")):
        (connection,) = circuit.into(name)
        weight, given_ = connection.operators[-1].weight, graph.nodes[node].weight
        scale = min(127 / given_.max(), 128 / -given_.min())
        assert np.array_equal(weight, np.rint(given_ * scale))
        assert weight.max() == 127 or weight.min() == -128
        rule = circuit.population[name].rule
        assert np.all(rule.threshold == np.rint(0.25 * scale))
        assert rule.lower_bound == np.rint(-0.5 * scale)
        assert (rule.upper_bound, rule.r) == (2**15 - 1, 1.0)
    assert "weights have 8 bits, thresholds and membranes 16 (integers)" in circuit.assumptions
    # A large threshold takes the 16 bits, and leaves less for the weights.
    rule = Integers().of(mb.translate.read_nir(network(3, threshold=1000.0))).population["n1"].rule
    assert np.all(rule.threshold == 2**15 - 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 10), st.integers(4, 20))
def test_weights_and_thresholds_of_any_size_fit(seed, bits, membrane_bits):
    rng = np.random.default_rng(seed)
    graph = network(seed, threshold=float(10.0 ** rng.uniform(-2, 3)))
    try:
        circuit = Integers(bits, membrane_bits).of(mb.translate.read_nir(graph))
    except InputError as error:
        assert "its threshold rounds to 0" in str(error)  # noqa: PT017
        return
    for connection in circuit.connections:
        values = connection.matrix.data
        assert np.array_equal(values, np.rint(values))
        assert -(2 ** (bits - 1)) <= values.min(initial=0)
        assert values.max(initial=0) <= 2 ** (bits - 1) - 1
    for population in circuit.populations:
        assert np.all(population.rule.threshold <= population.rule.upper_bound)
        assert population.rule.upper_bound == 2 ** (membrane_bits - 1) - 1


def convolution(average, r=1.0):
    rng = np.random.default_rng(5)
    pool = (nir.AvgPool2d if average else nir.SumPool2d)(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    kernel = rng.normal(0.1, 0.5, (3, 2, 2, 2))
    return chain(
        nir.Conv2d(None, kernel, 1, 0, 1, 1, np.zeros(3)),
        if_node((3, 3, 3), r=r),
        nir.Conv2d(None, rng.normal(0.1, 0.5, (3, 3, 2, 2)), 1, 1, 1, 1, np.zeros(3)),
        pool,
        nir.Flatten({"input": np.array([3, 2, 2])}, 0, -1),
        nir.Linear(rng.normal(0.1, 0.5, (4, 12))),
        if_node(4),
        shape=[2, 4, 4],
    )


def test_convolutions_are_kept_and_include_the_factor_of_a_pool():
    graph = convolution(average=True, r=0.5)
    circuit = Integers().of(mb.translate.read_nir(graph))
    (operator,) = circuit.into("n1")[0].operators
    assert isinstance(operator, Conv2d)
    kernel = 0.5 * graph.nodes["n0"].weight
    assert np.array_equal(operator.weight, np.rint(kernel * min(127 / kernel.max(), 128 / -kernel.min())))
    # Two nodes with weights in one connection become one integer matrix.
    (connection,) = circuit.into("n6")
    assert np.array_equal(connection.matrix.data, np.rint(connection.matrix.data))
    pooled = chain(
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Conv2d(None, graph.nodes["n0"].weight, 1, 1, 1, 1, np.zeros(3)),
        if_node((3, 3, 3)),
        shape=[2, 4, 4],
    )
    pool, conv = Integers().of(mb.translate.read_nir(pooled)).into("n2")[0].operators
    assert set(np.unique(pool.weight)) == {1.0}
    weight = graph.nodes["n0"].weight / 4
    assert np.array_equal(conv.weight, np.rint(weight * min(127 / weight.max(), 128 / -weight.min())))
    events = mb.events.make_recording(np.arange(300), *np.random.default_rng(1).integers(0, [[4], [4], [2]], (3, 300)))
    counts = [mb.simulate(pooled, events, integers=i).counts["n2"] for i in (None, Integers(30, 40))]
    assert np.array_equal(*counts)  # with many bits nothing changes


def test_a_readout_that_sums_up_is_in_integers_too():
    graph = network(1)
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(5, 3))
    graph.nodes["n4"] = nir.Linear(weight)
    graph.nodes["output"] = nir.Output({"output": np.array([5])})
    graph.edges = [*graph.edges[:-1], ("n3", "n4"), ("n4", "output")]
    result = mb.simulate(graph, recording(1), integers=Integers(8, 16))
    scale = min(127 / weight.max(), 128 / -weight.min())
    assert np.array_equal(result.readout, np.rint(weight * scale) @ result.counts["n3"])
    assert result.tool_readout == pytest.approx(result.readout / scale)


def with_bias():
    graph = network(1)
    graph.nodes["n0"] = nir.Affine(graph.nodes["n0"].weight, np.ones(6))
    return graph


def leaky():
    graph = network(1)
    graph.nodes["n1"] = nir.LIF(np.ones(6), np.ones(6), np.zeros(6), np.ones(6), metadata={"reset": "subtract"})
    return graph


BAD = {
    "bias": (with_bias, Integers(), "population 'n1' has a bias, which integer neurons"),
    "leak": (leaky, Integers(), "population 'n1' is a LIF; integers"),
    "refractory": (lambda: network(1, refractory=1e-3), Integers(), "population 'n1' has a refractory period"),
    "threshold": (lambda: network(1, threshold=1e-3), Integers(4, 16), "population 'n1': its threshold rounds to 0 at"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_chip_does_not_have_is_refused(case):
    graph, integers, message = BAD[case]
    with pytest.raises(InputError, match=message):
        mb.Simulator(graph(), integers=integers)


def test_numbers_of_bits_are_checked():
    for arguments, message in (
        ((1, 16), "bits must be at least 2"),
        ((8, 60), "membrane_bits must be at most 52"),
        ((2.5,), "bits must be a whole number"),
    ):
        with pytest.raises(InputError, match=message):
            Integers(*arguments)


def test_engines_without_saturation_refuse():
    with pytest.raises(InputError, match=r"'n1' has an upper bound \(membrane_bits\)"):
        mb.Simulator(network(1), "brian2", integers=Integers())
    circuit = Integers().of(mb.translate.read_nir(network(1)))
    with pytest.raises(InputError, match=r"'n1' has an upper bound \(membrane_bits\), which a clock-driven network"):
        mb.translate.to_clock_driven(circuit, recording(1))


def test_an_upper_bound_needs_a_neuron_without_drift():
    with pytest.raises(InputError, match="upper_bound must not lie below the threshold, not at"):
        IF(threshold=2.0, upper_bound=1.0)
    circuit = mb.translate.read_nir(with_bias())
    population = circuit.populations[0]
    saturating = replace(population, rule=population.rule.with_(upper_bound=2.0))
    with pytest.raises(InputError, match="'n1' has an upper_bound, which needs an IF without bias and refractory"):
        mb.Simulator(replace(circuit, populations=(saturating, *circuit.populations[1:])))


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nir.write("a.nir", network(1))
    given_ = recording(1)
    np.savez("a.npz", t=given_["t"], x=given_["x"])
    assert cli.main("simulate", ["a.nir", "a.npz", "--bits", "4", "--membrane-bits", "6", "--out", "out"]) == 0
    assert "assumed: weights have 4 bits, thresholds and membranes 6 (integers)" in capsys.readouterr().out
    expected = mb.simulate("a.nir", given_, integers=Integers(4, 6))
    assert np.load("out/spikes.npz")["n3_t"].tolist() == expected.spikes["n3"].t.tolist()
    assert cli.main("info", ["a.nir", "--bits", "8"]) == 0
    assert "upper bound 32767" in capsys.readouterr().out
    assert cli.main("simulate", ["a.nir", "a.npz", "--membrane-bits", "6"]) == 2
    assert "--membrane-bits goes with --bits" in capsys.readouterr().err


def test_numbers_of_bits_may_be_integers_of_numpy():
    """2^7 overflows int8."""
    assert Integers(np.int8(8), np.int16(16)) == Integers(8, 16)
    assert type(Integers(np.int8(8)).bits) is int
