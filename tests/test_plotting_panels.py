"""Legends and titles of figures with names of any length."""

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.evaluate import Estimate
from mtt_brian.plotting import SweepCurve

LONG = "MTT: mixed time steps, lower bound none, samples 5, time steps 3, transform soft, weight decay 0.01"


@pytest.mark.parametrize("size", [(3.6, 3.0), (5.6, 3.0), (7.2, 4.0)])
@pytest.mark.parametrize("title", ["data", LONG])
def test_names_of_any_length_are_within_the_figure(size, title):
    """In legends of a figure, above axes and within them."""
    estimates = [Estimate(0.5, 0.1), Estimate(0.6, 0.1)]
    names = [LONG, "SDT: fixed time steps", "x"]
    figures = [Figure(figsize=size, layout="constrained") for _ in range(3)]
    plotting.sweep_panels(figures[0], [SweepCurve(n, [1, 10], estimates, estimates[0]) for n in names], title)
    plotting.accuracy_bars(["a", "b"], dict.fromkeys(names, estimates), ax=figures[1].subplots())
    inside = figures[2].subplots()
    for name in names:
        plotting.loss_line([0, 1], [[1, 2], [3, 4]], label=name, ax=inside)
    for figure, legend in zip(
        figures, [figures[0].legends[0], figures[1].axes[0].get_legend(), inside.get_legend()], strict=True
    ):
        figure.draw_without_rendering()
        assert [" ".join(text.get_text().split()) for text in legend.get_texts()] == names
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_short_names_lie_side_by_side():
    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    estimates = [Estimate(0.5, 0.1), Estimate(0.6, 0.1)]
    plotting.sweep_panels(figure, [SweepCurve(n, [1, 10], estimates, estimates[0]) for n in "abc"], "data")
    figure.draw_without_rendering()
    assert len({round(text.get_window_extent().y0) for text in figure.legends[0].get_texts()}) == 1


def test_titles_of_figures_have_as_many_lines_as_they_need():
    """That of the pairs of a gap study, with the name of the data set in front, was cut on both sides."""
    folder = Path(__file__).parents[1]
    for path in [*folder.glob("mtt_brian/**/*.py"), *folder.glob("studies/*.py")]:
        for call in re.findall(r"\.suptitle\((.*)\)\n", path.read_text()):
            assert call.endswith(", wrap=True"), f"{path}: {call}"
