"""The temporal flexibility score, with numbers one can check on paper."""

import numpy as np
import pytest

from mtt_brian.errors import InputError
from mtt_brian.evaluate import Flexibility, flexibility
from mtt_brian.evaluate.tables import ranking, score
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS


def right(count, of=10):
    """The first ``count`` recordings."""
    return np.arange(of) < count


def conditions(counts, of=10):
    """Correct recordings by T, and event-driven (the last of nine)."""
    *stepped, last = (right(count, of) for count in counts)
    return dict(zip(TIME_STEPS, stepped, strict=True)), last


class TestScore:
    def test_nine_conditions(self):
        assert TIME_STEPS == (1, 2, 5, 10, 20, 50, 100, 200)

    @pytest.mark.parametrize(
        ("counts", "value"),
        [
            ([8] * 9, 1.0),
            ([8] * 8 + [4], (8 * 0.8 + 0.4) / 9 / 0.8),  # 0.944: half of the accuracy is lost without time steps
            ([2, 4, 6, 8, 8, 8, 8, 8, 5], 5.7 / 9 / 0.8),
            ([0] * 3 + [9] + [0] * 5, 1 / 9),
            ([1] * 8 + [10], (8 * 0.1 + 1) / 9),  # the best is the event-driven one
            ([0] * 9, 0.0),
        ],
    )
    def test_mean_over_the_best(self, counts, value):
        assert flexibility(*conditions(counts)).value == pytest.approx(value)

    def test_accuracy_itself_is_not_part_of_it(self):
        assert flexibility(*conditions([2] * 9)).value == flexibility(*conditions([9] * 9)).value == 1

    def test_other_numbers_of_time_steps_are_not_used(self):
        stepped, event_driven = conditions([8] * 8 + [4])
        assert flexibility(stepped | {3: right(0), 150: right(10)}, event_driven) == flexibility(stepped, event_driven)


class TestInterval:
    def test_two_recordings_by_hand(self):
        """One recording is right everywhere, the other at T = 1 only: resamples AA, AB, BA, BB."""
        both, first = np.array([True, True]), np.array([True, False])
        stepped = {t: both if t == 1 else first for t in TIME_STEPS}
        found = flexibility(stepped, first, resamples=4000)
        assert found.value == pytest.approx((1 + 8 * 0.5) / 9)
        # AA: 1; AB, BA: 5/9; BB: right at T = 1 only, 1/9. Each end has a quarter of the resamples.
        assert (found.low, found.high) == pytest.approx((1 / 9, 1))

    def test_recordings_are_drawn_for_all_conditions_together(self):
        """Where all conditions have the same correct recordings the score is 1 in every resample that has one."""
        assert flexibility(*conditions([30] * 9, of=40)) == Flexibility(1, 1, 1)

    @pytest.mark.parametrize(
        ("chances", "together"),
        [
            ([0.3, 0.5, 0.7, 0.8, 0.8, 0.75, 0.7, 0.7, 0.5], True),
            ([0.2, 0.4, 0.6, 0.95, 0.6, 0.5, 0.4, 0.3, 0.2], False),
            ([0.6, 0.75, 0.85, 0.88, 0.9, 0.9, 0.9, 0.9, 0.85], False),  # the best of five similar ones is too good
            ([0.9] * 9, False),
        ],
    )
    def test_it_contains_the_true_score_of_repeated_samples(self, chances, together):
        """In 95 % of 100 draws of 300 recordings, which are hard under all conditions together, or under each alone."""
        rng = np.random.default_rng(3)
        true = np.mean(chances) / np.max(chances)
        inside = 0
        for _ in range(100):
            drawn = rng.random((300, 1 if together else 9)) < chances
            found = flexibility(dict(zip(TIME_STEPS, drawn.T[:-1], strict=True)), drawn.T[-1], resamples=200)
            assert found.low <= found.value <= found.high
            inside += found.low <= true + 1e-9 and true - 1e-9 <= found.high
        assert inside >= 88  # 95 - 3 standard errors

    def test_same_arguments_same_interval(self):
        assert flexibility(*conditions([2, 4, 6, 8, 8, 8, 8, 8, 5])) == flexibility(
            *conditions([2, 4, 6, 8, 8, 8, 8, 8, 5])
        )


class TestBadInput:
    def test_missing_time_steps(self):
        stepped, event_driven = conditions([8] * 9)
        del stepped[50]
        with pytest.raises(InputError, match=r"T = 1, 2, 5, 10, 20, 50, 100, 200; without \[50\]"):
            flexibility(stepped, event_driven)

    def test_other_recordings(self):
        stepped, event_driven = conditions([8] * 9)
        with pytest.raises(InputError, match="the same recordings"):
            flexibility(stepped, event_driven[:-1])

    def test_none(self):
        with pytest.raises(InputError, match="without a recording"):
            flexibility({t: [] for t in TIME_STEPS}, [])


class TestTables:
    def test_a_cell(self):
        assert str(score(Flexibility(0.871, 0.84, 0.9))) == "0.87 (0.84 to 0.90)"
        assert str(score(None)) == "-"

    def test_the_best_comes_first(self):
        one, two = Flexibility(0.5, 0.4, 0.6), Flexibility(0.7, 0.6, 0.8)
        table = ranking({"sdt": [one, two], "nothing": [], "mtt": [two]})
        assert [list(map(str, row)) for row in table.rows] == [
            ["mtt", "0.70", "0.70 (0.60 to 0.80)"],
            ["sdt", "0.60", "0.50 (0.40 to 0.60), 0.70 (0.60 to 0.80)"],
        ]
