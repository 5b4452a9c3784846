"""Tables in colours."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.errors import InputError


@pytest.fixture
def ax():
    return Figure().subplots()


def written(ax):
    """Texts by (row, column)."""
    return {text.get_position()[::-1]: text.get_text() for text in ax.texts}


class TestConfusionMatrix:
    def test_rows_are_the_truth(self, ax):
        assert plotting.confusion_matrix([[3, 1], [0, 2]], ["cat", "dog"], ax=ax) is ax
        # Shaded by the part of the class, labelled with the count; nothing is written where nothing happened.
        assert ax.images[0].get_array().tolist() == [[0.75, 0.25], [0, 1]]
        assert written(ax) == {(0, 0): "3", (0, 1): "1", (1, 1): "2"}
        assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first class on top
        (bar,) = [other for other in ax.figure.axes if other is not ax]
        assert bar.get_ylabel() == "part of the class"

    def test_numbers_are_dark_on_light_and_light_on_dark(self, ax):
        plotting.confusion_matrix([[9, 1], [0, 2]], ax=ax)
        assert [text.get_color() for text in ax.texts] == ["white", "black", "white"]

    def test_a_class_without_recordings_is_empty(self, ax):
        plotting.confusion_matrix([[0, 0], [1, 1]], ax=ax)
        assert np.ma.getmaskarray(ax.images[0].get_array()).tolist() == [[True, True], [False, False]]

    def test_many_classes_go_without_numbers_and_with_fewer_names(self, ax):
        plotting.confusion_matrix(np.eye(50), ax=ax)
        assert not ax.texts
        assert [label.get_text() for label in ax.get_xticklabels()] == [str(k) for k in range(0, 50, 3)]

    @pytest.mark.parametrize(
        ("matrix", "classes", "message"),
        [
            ([[1, 2]], None, r"the shape \(1, 2\)"),
            ([[1, -2], [0, 0]], None, "counts, not -2"),
            ([[1, np.nan], [0, 0]], None, "counts, not nan"),
            ([[1]], ["a", "b"], "2 names of classes for a confusion matrix of 1"),
        ],
    )
    def test_refuses(self, matrix, classes, message, ax):
        with pytest.raises(InputError, match=message):
            plotting.confusion_matrix(matrix, classes, ax=ax)


def test_change_matrix(ax):
    plotting.change_matrix(["a", "b"], [[0.5, np.nan], [np.nan, 1]], ax=ax)
    assert written(ax) == {(0, 0): "50.0", (1, 1): "100.0"}
    assert ax.images[0].get_clim() == (0, 1)
