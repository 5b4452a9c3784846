"""Random Brian2 networks that find their instants themselves, against the exact engine: readouts.

A file of its own, so that several processes share the work.
"""

import pytest

from tests.self_timed import SILENT, compare


@pytest.mark.slow
@pytest.mark.parametrize("kind", SILENT)
def test_the_same_spikes_as_the_exact_engine_200_times(kind):
    """40 structures with five sets of values each, side by side: Brian2 makes code for each structure."""
    for seed in range(100, 140):
        compare(seed, kind, parts=5, batch_size=1 + seed % 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SILENT)
def test_counts_and_final_states_in_tables_often(kind):
    for seed in range(8):
        compare(seed, kind, record=["counts", "output"][seed % 2], every_step=True, parts=3, batch_size=2)
