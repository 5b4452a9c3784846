"""Sums of whole microseconds are the recorded times themselves."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtt_brian.circuit.instants import on_whole_microseconds, window


@given(st.integers(0, 2**45), st.integers(0, 2**45))
def test_seconds_computed_in_any_way_become_the_recorded_time(a, b):
    total = (a + b) / 1e6
    for computed in (a / 1e6 + b / 1e6, (a + b) * 1e-6, a * 1e-6 + b * 1e-6):
        assert on_whole_microseconds(computed) == total


def test_other_times_stay_as_they_are():
    times = np.array([0.0, 1e-7, 1 / 3, 0.1 + 1e-12, np.pi, np.inf])
    np.testing.assert_array_equal(on_whole_microseconds(times), times)


@given(st.integers(0, 7_999_999))
def test_single_precision_below_8_s_gives_back_the_microsecond(us):
    assert on_whole_microseconds(np.float32(us / 1e6)) == us / 1e6


def test_the_window_is_a_few_units_in_the_last_place():
    for t in (1e-3, 1.0, 300.0):
        assert 4 * np.spacing(t) < window(t) < 1e-12 * max(1.0, t)
