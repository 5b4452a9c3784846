"""Random Brian2 networks that find their instants themselves, against the exact engine: delays.

A file of its own, so that several processes share the work.
"""

import pytest

from tests.self_timed import compare


@pytest.mark.slow
@pytest.mark.parametrize("block", range(2))
def test_the_same_spikes_as_the_exact_engine_200_times(block):
    """40 structures with five sets of values each, side by side: Brian2 makes code for each structure."""
    for seed in range(100 + 20 * block, 120 + 20 * block):
        compare(seed, "delays", parts=5, batch_size=1 + seed % 3)


@pytest.mark.slow
def test_counts_and_final_states_in_tables_often():
    for seed in range(8):
        compare(seed, "delays", record=["counts", "output"][seed % 2], every_step=True, parts=3, batch_size=2)
