"""Spikes of two runs, matched in pairs."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtt_brian.errors import InputError
from mtt_brian.evaluate.spike_times import compare_spikes, spike_time_differences
from tests.plots import train

SPIKES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4), st.integers(1, 3)), max_size=25)


def spikes(rows):
    """Whole seconds, so that differences are exact."""
    t, i, n = zip(*rows, strict=True) if rows else ((), (), ())
    return train(t, i, np.array(n, dtype=np.int64))


def test_kth_spike_with_kth_spike_of_the_same_neuron():
    first = train([1, 2, 4, 8], [0, 1, 0, 0])
    second = train([1.5, 3, 5], [1, 0, 0])
    found = spike_time_differences(first, second)
    # Neuron 0: 1 -> 3 and 4 -> 5, its third spike (8) has no partner; neuron 1: 2 -> 1.5.
    assert found.seconds.tolist() == [2, 1, -0.5]
    assert found.neuron.tolist() == [0, 0, 1]
    assert (found.only_first, found.only_second) == (1, 0)


def test_spikes_at_once_are_spikes_each():
    found = spike_time_differences(train([1], [0], [3]), train([1, 2], [0, 0], [2, 1]))
    assert found.seconds.tolist() == [0, 0, 1]
    assert (found.only_first, found.only_second) == (0, 0)


def test_neurons_that_are_silent_in_one_run():
    found = spike_time_differences(train([1], [7]), train([1, 2], [2, 3]))
    assert found.seconds.size == found.neuron.size == 0
    assert (found.only_first, found.only_second) == (1, 2)


def test_silence():
    found = spike_time_differences(train([], []), train([], []))
    assert (found.seconds.size, found.only_first, found.only_second) == (0, 0, 0)


@given(SPIKES, SPIKES)
def test_against_a_dictionary(first, second):
    times = [defaultdict(list), defaultdict(list)]
    for of_run, rows in zip(times, (first, second), strict=True):
        for t, i, n in sorted(rows):
            of_run[i] += [t] * n
    expected = [(i, b - a) for i in range(5) for a, b in zip(times[0][i], times[1][i], strict=False)]
    found = spike_time_differences(spikes(first), spikes(second))
    assert list(zip(found.neuron.tolist(), found.seconds.tolist(), strict=True)) == expected
    fired = [sum(n for _, _, n in rows) for rows in (first, second)]
    assert [found.only_first + len(expected), found.only_second + len(expected)] == fired


@given(SPIKES, SPIKES)
def test_the_other_way_round(first, second):
    there, back = (spike_time_differences(*map(spikes, runs)) for runs in ((first, second), (second, first)))
    assert np.array_equal(there.seconds, -back.seconds)
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)


@given(SPIKES, st.sampled_from([0.0, 0.25, 3.0]))
def test_a_run_that_is_late(rows, delay):
    run = spikes(rows)
    found = spike_time_differences(run, run._replace(t=run.t + delay))
    assert found.seconds.tolist() == pytest.approx([delay] * int(run.n.sum()))
    assert found.only_first == found.only_second == 0


@pytest.mark.parametrize("tolerance", [-1e-6, float("nan"), "0", True])
def test_a_tolerance_is_a_number_of_seconds(tolerance):
    one = train([1], [0])
    with pytest.raises(InputError, match=r"tolerance must be (a number|at least 0)"):
        compare_spikes(one, one, tolerance)
