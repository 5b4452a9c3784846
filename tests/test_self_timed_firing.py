"""Random Brian2 networks that find their instants themselves, against the exact engine: firing.

A file of its own, so that several processes share the work.
"""

import pytest

from tests.self_timed import FIRING, compare_100, compare_tables


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIRING)
def test_the_same_spikes_as_the_exact_engine_100_times(kind):
    compare_100(kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIRING)
def test_counts_and_final_states_in_tables_often(kind):
    compare_tables(kind)
