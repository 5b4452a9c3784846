"""Volts of potentials without a unit, and back."""

import doctest

import numpy as np
import pytest
from brian2 import Quantity, ms, mV, volt

from mtt_brian.engines.brian2 import units
from mtt_brian.errors import InputError
from mtt_brian.translate import VoltageScale


def test_the_example_in_the_docstring():
    found = doctest.testmod(units)
    assert (found.attempted, found.failed) == (4, 0)


def test_two_points_make_the_line():
    scale = VoltageScale(rest=-65 * mV, threshold=-45 * mV)
    potentials = scale.potential([[0.0, 1.0], [-1.0, 0.25]])
    assert isinstance(potentials, Quantity)
    np.testing.assert_allclose(potentials / mV, [[-65, -45], [-85, -60]])
    np.testing.assert_allclose(scale.jump(np.array([0.0, 1.0, -0.5])) / mV, [0, 20, -10], atol=1e-12)


def test_a_network_with_another_threshold():
    scale = VoltageScale(rest=0 * mV, threshold=15 * mV, trained_threshold=0.5)
    assert float(scale.potential(0.5) / mV) == pytest.approx(15)
    assert float(scale.jump(0.1) / mV) == pytest.approx(3)


def test_there_and_back_again():
    scale = VoltageScale(trained_threshold=2.0)
    values = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(scale.from_potential(scale.potential(values)), values, atol=1e-12)
    np.testing.assert_allclose(scale.from_jump(scale.jump(values)), values, atol=1e-12)
    assert isinstance(scale.from_jump(1 * volt), np.ndarray)
    assert not isinstance(scale.from_jump(1 * volt), Quantity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rest": -70 * ms}, r"rest must be one voltage, such as -70\*mV, not -70\. \* msecond"),
        ({"threshold": -50}, r"threshold must be one voltage"),
        ({"rest": [-70, -60] * mV}, r"rest must be one voltage"),
        ({"threshold": np.nan * volt}, r"threshold must be one voltage"),
        ({"rest": -40 * mV}, r"the threshold \(-50\. mV\) must lie above the rest \(-40\. mV\)"),
        ({"trained_threshold": 0.0}, r"trained_threshold must be a potential > 0, not 0\.0"),
    ],
)
def test_bad_scales_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        VoltageScale(**options)


@pytest.mark.parametrize("method", ["from_potential", "from_jump"])
def test_only_volts_become_potentials(method):
    with pytest.raises(InputError, match=r"expected volts, such as -60\*mV, not 3\. \* msecond"):
        getattr(VoltageScale(), method)(3 * ms)
