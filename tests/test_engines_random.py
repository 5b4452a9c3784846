"""Random networks and recordings: every engine against the plain, slow simulator in reference.py, spike for spike."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import random_networks
from tests.engines import simulator, trains, with_the_code_of_a_gpu
from tests.reference import Reference


def assert_same(result, reference):
    for name, expected in reference.spikes.items():
        assert trains(result)[name] == expected, name
    assert result.synops == reference.synops
    np.testing.assert_allclose(result.readout, reference.readout, rtol=1e-12, atol=1e-12)


def check(seed, engine, leaky, order="sum", recordings=3, highest_bound=-0.25, **options):
    graph = random_networks.graph(seed, leaky, highest_bound)
    shape = graph.nodes["input"].input_type["input"]
    played = [random_networks.recording(seed + k, shape, events=120 - 40 * k) for k in range(recordings)]
    if engine == "brian2 with the code of a GPU":
        made = with_the_code_of_a_gpu(graph, **options)
    else:
        made = simulator(graph, engine, order=order, **options)
    results = list(made.run(played))
    total = 0
    for recording, result in zip(played, results, strict=True):
        reference = Reference(graph).run(recording, order=order)
        assert_same(result, reference)
        total += sum(map(len, reference.spikes.values()))
    return total


def check_exact(order, leaky, seed, highest_bound):
    check(seed, "exact", leaky, order, highest_bound=highest_bound)


def check_numpy(gpus_code, leaky, seed, batch_size):
    check(seed, "brian2 with the code of a GPU" if gpus_code else "brian2", leaky, batch_size=batch_size)


every_order = pytest.mark.parametrize("order", ["sum", "fifo"])
every_code = pytest.mark.parametrize("gpus_code", [False, True])
leaky_or_not = pytest.mark.parametrize("leaky", [False, True])
a_network = given(seed=st.integers(0, 2**32 - 1), highest_bound=st.sampled_from([-0.25, 0.0, 0.125]))
a_small_run = given(seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 4))


@every_order
@leaky_or_not
@settings(max_examples=25)
@a_network
def test_exact_engine_equals_the_reference(order, leaky, seed, highest_bound):
    check_exact(order, leaky, seed, highest_bound)


@pytest.mark.slow
@every_order
@leaky_or_not
@settings(max_examples=120)
@a_network
def test_exact_engine_equals_the_reference_often(order, leaky, seed, highest_bound):
    check_exact(order, leaky, seed, highest_bound)


@every_code
@leaky_or_not
@settings(max_examples=2)
@example(seed=0, batch_size=2)  # one copy is at its end before the other
@a_small_run
def test_brian2_numpy_equals_the_reference(gpus_code, leaky, seed, batch_size):
    check_numpy(gpus_code, leaky, seed, batch_size)


@pytest.mark.slow
@every_code
@leaky_or_not
@settings(max_examples=15)
@a_small_run
def test_brian2_numpy_equals_the_reference_often(gpus_code, leaky, seed, batch_size):
    check_numpy(gpus_code, leaky, seed, batch_size)


#: Of a small network of both rules, resets and numbers of spikes, some neurons with a bound; a compiler takes its time
#: for every population.
ALL_RULES = 21


@pytest.mark.slow
def test_brian2_cython_equals_the_reference(unoptimised):
    assert check(ALL_RULES, "brian2", None, batch_size=2, target="cython") > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, ALL_RULES])
def test_brian2_cpp_equals_the_reference(seed):
    assert check(seed, "brian2-cpp", None, batch_size=2) > 0


def test_the_random_networks_do_fire():
    """The comparisons above would be empty if nothing fired."""
    assert sum(check(seed, "exact", leaky) for seed in range(10) for leaky in (False, True)) > 2000
