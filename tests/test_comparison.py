"""Comparisons with numbers that can be checked by hand."""

import math

import pytest

from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.evaluate.statistics import gap, over_seeds, same_but_seed
from mtt_brian.evaluate.tables import markdown_table, percent


def test_gap_is_paired():
    # right: 1 1 1 0 against 1 0 0 0: differences 0 1 1 0, mean 1/2, deviation 1/2, four recordings
    assert gap([0, 1, 2, 9], [0, 9, 9, 9], [0, 1, 2, 3]) == Estimate(0.5, 0.25)
    assert gap([9, 9], [0, 1], [0, 1]) == Estimate(-1.0, 0.0)
    assert gap([0, 1], [0, 1], [0, 1]) == Estimate(0.0, 0.0)


def test_over_seeds():
    # deviations from 0.8: -0.1, 0, 0.1; variance 0.02 / 2; over three seeds
    mean = over_seeds([Estimate(0.7, 9.0), Estimate(0.8, 9.0), Estimate(0.9, 9.0)])
    assert mean == pytest.approx((0.8, 0.1 / math.sqrt(3)))
    assert over_seeds([Estimate(0.7, 0.03)]) == Estimate(0.7, 0.03)
    with pytest.raises(InputError, match="without a run"):
        over_seeds([])


class TestSameButSeed:
    def test_seeds_and_places_make_one_group(self):
        runs = {
            "a": {"method": "mtt", "epochs": 3, "seed": 0, "data_root": "x"},
            "b": {"method": "sdt", "epochs": 3, "seed": 0},
            "c": {"method": "mtt", "epochs": 3, "seed": 1, "threads": 2},
        }
        assert same_but_seed(runs, ("data_root", "threads")) == {"mtt": ["a", "c"], "sdt": ["b"]}

    def test_other_settings_are_named(self):
        runs = {
            "a": {"method": "mtt", "epochs": 3, "seed": 0},
            "b": {"method": "mtt", "epochs": 4, "seed": 0},
            "c": {"method": "mtt", "epochs": 3, "seed": 1},
            "d": {"method": "sdt", "epochs": 9},
        }
        assert same_but_seed(runs) == {"mtt, epochs 3": ["a", "c"], "mtt, epochs 4": ["b"], "sdt": ["d"]}


def test_table():
    assert percent(Estimate(0.871, 0.016)) == "87.1 ± 1.6"
    assert percent(Estimate(0.072, 0.013), sign=True) == "+7.2 ± 1.3"
    assert markdown_table([["", "long"], ["row", "1"]]) == "|     | long |\n| --- | ---- |\n| row | 1    |"
