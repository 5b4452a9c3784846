"""Trainings and the landscape that they end in."""

import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtt_brian import plotting
from tests.plots import legend, lines


@pytest.fixture
def ax():
    return Figure().subplots()


def test_training_curve(ax):
    metrics = [
        {"epoch": 1, "loss": 2.0, "train_accuracy": 0.3, "lr": 0.1},
        {"epoch": 2, "loss": 1.0, "train_accuracy": 0.6, "validation_accuracy": 0.5, "lr": 0.1},
    ]
    plotting.training_curve(metrics, ax=ax)
    assert set(lines(ax)) == {"train accuracy", "validation accuracy"}
    assert lines(ax)["train accuracy"].get_xydata().tolist() == [[1, 0.3], [2, 0.6]]
    assert np.isnan(lines(ax)["validation accuracy"].get_ydata()[0])
    (right,) = [other for other in ax.figure.axes if other is not ax]
    assert lines(right)["loss"].get_ydata().tolist() == [2.0, 1.0]
    assert legend(ax) == ["train accuracy", "validation accuracy", "loss"]
    assert all(epoch == round(epoch) for epoch in ax.get_xticks())


def test_loss_line_is_the_mean_of_its_directions(ax):
    plotting.loss_line([0, 1], [[1, 2], [3, 4]], label="mtt", color=1, ax=ax)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 2], [3, 4], [2, 3]]
    assert {line.get_color() for line in ax.lines} == {plotting.COLORS[1]}
    assert legend(ax) == ["mtt"]


def test_loss_surface_has_a_line_at_every_level(ax):
    offsets = np.linspace(-1, 1, 81)
    first, second = np.meshgrid(offsets, offsets, indexing="ij")
    plotting.loss_surface(offsets, first**2 + 4 * second**2 + 0.01, [0.17, 0.26], ax=ax)
    areas, contours = ax.collections
    assert np.allclose(contours.levels, [0.17, 0.26])
    (line,) = contours.get_paths()[0].to_polygons()
    # 0.16 = x^2 + 4 y^2: 0.4 along the first direction, which points upwards, and 0.2 along the second.
    assert np.allclose(line.max(axis=0), [0.2, 0.4], atol=0.01)
    shades = areas.get_facecolor()[:, :3].sum(axis=1)
    assert np.all(np.diff(shades) < 0)  # the darker the higher
    assert ax.lines[0].get_xydata().tolist() == [[0, 0]]  # the weights


BOWL = 0.01 * np.add.outer([1, 0, 1], [1, 0, 1])


@pytest.mark.parametrize("surface", [np.ones((3, 3)), BOWL, 1 + BOWL, np.zeros((3, 3))])
def test_loss_surfaces_that_are_flat_or_zero(surface):
    """The network is silent everywhere, or right beyond doubt."""
    figure = Figure(layout="constrained")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plotting.loss_surfaces(figure, [-1, 0, 1], [{"sdt": surface, "mtt": surface}], "losses")
        FigureCanvasAgg(figure).draw()
    assert [ax.get_title() for ax in figure.axes] == ["sdt", "mtt"]


def test_a_training_of_one_epoch(ax):
    """Its loss is a point, its axis has the number of the epoch alone."""
    plotting.training_curve([{"epoch": 1, "loss": 2.0, "accuracy": 0.5}], ax=ax)
    assert ax.get_xticks().tolist() == [1]
    (loss,) = ax.figure.axes[1].lines
    assert (loss.get_xydata().tolist(), loss.get_marker() not in ("", "None")) == ([[1, 2]], True)


@pytest.mark.parametrize(
    ("levels", "texts"), [([0.17, 0.26], ["0.17", "0.26"]), ([2.301, 2.304, 2.4], ["2.301", "2.304", "2.4"])]
)
def test_levels_of_a_loss_surface_are_told_apart(levels, texts, ax):
    offsets = np.linspace(-1, 1, 81)
    first, second = np.meshgrid(offsets, offsets, indexing="ij")
    losses = levels[0] + (levels[-1] - levels[0]) * (first + second)
    plotting.loss_surface(offsets, losses, levels, ax=ax)
    assert sorted({text.get_text() for text in ax.texts}) == texts


def test_a_logarithmic_axis_of_less_than_a_decade_has_plain_numbers(ax):
    plotting.loss_line([0, 1], [[1.5, 4.5]], ax=ax)
    ax.figure.draw_without_rendering()
    shown = {text for text in (label.get_text() for label in ax.yaxis.get_ticklabels(which="both")) if text}
    assert {"2", "3", "4"} <= shown
    assert not any("^" in text for text in shown)
