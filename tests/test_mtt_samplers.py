"""Samplers: how time steps are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mtt_brian.errors import InputError
from mtt_brian.mtt import MTT, NMT, SDT


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_sdt_is_one_fixed_configuration_and_draws_nothing() -> None:
    generator = rng()
    assert SDT(10).sample(generator, 3) == [(10, 10, 10)]
    assert generator.bit_generator.state == rng().bit_generator.state


def test_nmt_gives_all_stages_the_same_number() -> None:
    drawn = NMT(6, min_steps=2, samples=4).sample(rng(), 5)
    assert len(drawn) == 4
    assert all(len(c) == 5 and len(set(c)) == 1 and 2 <= c[0] <= 6 for c in drawn)


def test_nmt_is_uniform() -> None:
    drawn = [c[0] for c in NMT(5, samples=10_000).sample(rng(), 2)]
    assert stats.chisquare(np.bincount(drawn, minlength=6)[1:]).pvalue > 0.01


def test_mtt_is_uniform_over_all_vectors() -> None:
    """Uniform over {2, 3, 4}^3 is uniform in every stage **and** independent between stages."""
    drawn = np.array(MTT(4, min_steps=2, samples=27_000).sample(rng(), 3)) - 2
    assert drawn.min() == 0
    assert drawn.max() == 2
    counts = np.bincount(drawn @ [9, 3, 1], minlength=27)
    assert stats.chisquare(counts).pvalue > 0.01


def test_mtt_draws_are_independent_from_sample_to_sample() -> None:
    drawn = np.array(MTT(3, samples=30_000).sample(rng(), 1))[:, 0]
    pairs = np.histogram2d(drawn[:-1], drawn[1:], bins=3)[0]
    assert stats.chi2_contingency(pairs).pvalue > 0.01


def test_mtt_without_a_range_is_sdt() -> None:
    assert MTT(7, min_steps=7, samples=1).sample(rng(), 4) == SDT(7).sample(rng(), 4)


def test_configurations_are_plain_integers() -> None:
    assert all(type(t) is int for sampler in (NMT(9), MTT(9)) for c in sampler.sample(rng(), 2) for t in c)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SDT(0), "time_steps must be at least 1, not 0"),
        (lambda: SDT(2.5), "time_steps must be a whole number, not 2.5"),
        (lambda: NMT(3, samples=1.5), "samples must be a whole number, not 1.5"),
        (lambda: NMT(3, min_steps=4), "min_steps = 4 must not exceed the largest number of time steps, 3"),
        (lambda: MTT(3, min_steps=0), "min_steps must be at least 1, not 0"),
        (lambda: MTT(3, samples=0), "samples must be at least 1, not 0"),
    ],
)
def test_bad_numbers_are_refused(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()
