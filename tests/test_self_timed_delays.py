"""Random Brian2 networks that find their instants themselves, against the exact engine: delays.

A file of its own, so that several processes share the work.
"""

import pytest

from tests.self_timed import compare_100, compare_tables


@pytest.mark.slow
def test_the_same_spikes_as_the_exact_engine_100_times():
    compare_100("delays")


@pytest.mark.slow
def test_counts_and_final_states_in_tables_often():
    compare_tables("delays")
