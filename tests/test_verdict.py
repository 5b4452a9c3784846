"""The sentence on top of a report."""

import math
from dataclasses import replace

import pytest

from mtt_brian.evaluate import verdict
from mtt_brian.evaluate.sign_test import sign_test
from tests.test_html import REPORT, event_driven, run


def of(*runs):
    return verdict(replace(REPORT, runs=runs))


def named(name, stepped, events, **changes):
    return run(name, {10: stepped}, 10, event_driven("sum", events, 1.0, **changes))


@pytest.mark.parametrize(
    ("stepped", "events", "text"),
    [
        (0.969, 0.859, "Without time steps mtt loses 11.0 points (96.9 -> 85.9 %)"),
        (0.859, 0.969, "Without time steps mtt gains 11.0 points (85.9 -> 96.9 %)"),
        (0.95, 0.9501, "Without time steps mtt keeps its accuracy (95.0 %)"),
        # the printed difference is that of the printed numbers
        (0.9004, 0.8996, "Without time steps mtt keeps its accuracy (90.0 %)"),
    ],
)
def test_one_network(stepped, events, text):
    assert of(named("mtt", stepped, events)) == f"{text}; most spikes change in hidden (25 %)."


@pytest.mark.parametrize(
    ("lost", "gained", "text"),
    [
        (6, 0, "loses 10.0 points (90.0 -> 80.0 %)"),  # p = 2 / 2**6
        (5, 0, "goes from 90.0 to 80.0 %, which 13 recordings cannot tell from chance (sign test p = 0.062)"),
        (2, 1, "goes from 90.0 to 80.0 %, which 13 recordings cannot tell from chance (sign test p = 1.000)"),
    ],
)
def test_a_difference_that_may_be_chance_is_no_loss(lost, gained, text):
    change = sign_test([True] * lost + [False] * gained, [False] * lost + [True] * gained)
    said = of(named("mtt", 0.9, 0.8, spike_difference={}, change=change))
    assert said == f"Without time steps mtt {text}."


@pytest.mark.parametrize("differences", [{"output": 0.5}, {"hidden": math.inf}, {"hidden": 0.0}])
def test_no_population_to_name(differences):
    text = of(named("mtt", 0.9, 0.8, spike_difference=differences))
    assert text == "Without time steps mtt loses 10.0 points (90.0 -> 80.0 %)."


def test_the_most_changed_population():
    text = of(named("mtt", 0.9, 0.8, spike_difference={"a": 0.1, "b": 0.5, "c": 0.2, "output": 3.0}))
    assert text.endswith("most spikes change in b (50 %).")


def test_several_networks_in_their_order():
    text = of(named("sdt", 0.956, 0.798), named("mtt", 0.953, 0.882))
    assert text == "Without time steps sdt loses 15.8 points (95.6 -> 79.8 %), mtt loses 7.1 points (95.3 -> 88.2 %)."


def test_of_many_networks_the_extremes():
    text = of(named("a", 0.9, 0.8), named("b", 0.9, 0.85), named("c", 0.9, 0.6), named("d", 0.9, 0.7))
    assert text == (
        "Without time steps 4 networks change between these two: b loses 5.0 points (90.0 -> 85.0 %), "
        "c loses 30.0 points (90.0 -> 60.0 %)."
    )


def test_a_name_is_printable():
    assert "a\\nb loses" in of(named("a\nb", 0.9, 0.8))
