"""Eight neurons at once: the same numbers, bit for bit, as one after the other."""

import numpy as np
import pytest

from mtt_brian.engines.exact import jit, vectors

RNG = np.random.default_rng(5)


@jit.kernel
def add(y, to, weight, w, length, amount):
    vectors.add_products(y, to, weight, w, length, amount)


@jit.kernel
def compared(y, at, threshold, q, width):
    return vectors.at_threshold(y, at, threshold, q, width)


@jit.kernel
def places_of_bits(bits, places):
    count = 0
    while bits != 0:
        places[count] = vectors.lowest_bit(bits)
        bits &= bits - 1
        count += 1
    return count


@jit.kernel
def prefetched(x, at):
    vectors.prefetch(x, at)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_are_added_without_contraction_at_every_length(dtype):
    weight = RNG.normal(size=60).astype(dtype)
    for length in range(45):
        for to, w in ((0, 0), (3, 5)):
            y = RNG.normal(size=60)
            expected = y.copy()
            expected[to : to + length] += 0.3 * weight[w : w + length].astype(np.float64)
            add(y, to, weight, w, length, 0.3)
            assert y.tobytes() == expected.tobytes()


def test_neurons_at_their_thresholds_are_the_bits_of_a_mask():
    y, threshold = RNG.normal(size=20), RNG.normal(size=20)
    y[4], threshold[4], y[6] = 0.5, 0.5, np.nan
    for width in range(9):
        for at in range(10):
            mask = compared(y, at, threshold, at, width)
            assert mask == sum(1 << k for k in range(width) if y[at + k] >= threshold[at + k])


def test_bits_come_from_the_lowest_to_the_highest():
    places = np.zeros(8, np.int64)
    for bits in range(256):
        count = places_of_bits(bits, places)
        assert places[:count].tolist() == [k for k in range(8) if bits >> k & 1]


def test_loading_ahead_changes_nothing_and_may_be_outside():
    x = np.arange(4, dtype=np.int32)
    for at in (0, 3, 10**6, -(10**6)):
        prefetched(x, at)
    assert x.tolist() == [0, 1, 2, 3]
