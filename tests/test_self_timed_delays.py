"""Random Brian2 networks that find their instants themselves, against the exact engine: delays.

A file of its own, so that several processes share the work.
"""

import pytest

from tests.self_timed import compare_200, compare_tables


@pytest.mark.slow
@pytest.mark.parametrize("block", range(2))
def test_the_same_spikes_as_the_exact_engine_200_times(block):
    compare_200("delays", range(20 * block, 20 * block + 20))


@pytest.mark.slow
def test_counts_and_final_states_in_tables_often():
    compare_tables("delays")
