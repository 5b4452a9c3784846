"""Predictions and accuracies."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from tests.plots import legend, lines


@pytest.fixture
def ax():
    return Figure().subplots()


def test_the_readout_draws_the_true_class_on_top(ax):
    plotting.readout([0, 0.1], [[0, 0, 0], [1, 2, 3]], label=2, ax=ax)
    assert len(ax.lines) == 3
    right = lines(ax)["class 2 (right)"]
    assert right.get_xydata().tolist() == [[0, 0], [100, 3]]
    assert right.get_zorder() > ax.lines[0].get_zorder()
    assert legend(ax) == ["class 2 (right)"]


def test_readout_of_ten_classes_in_ten_styles(ax):
    plotting.readout([0, 0.1], np.arange(20).reshape(2, 10), ax=ax)
    assert lines(ax)["class 7"].get_xydata().tolist() == [[0, 7], [100, 17]]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 10
    assert legend(ax) == [f"class {k}" for k in range(10)]


def test_accuracy_over_time(ax):
    plotting.accuracy_over_time([0, 0.1], [0.1, 0.9], label="a", ax=ax)
    plotting.accuracy_over_time([0, 0.1], [0.2, 0.8], label="b", chance=0.1, ax=ax)
    a, b = lines(ax)["a"], lines(ax)["b"]
    assert a.get_xydata().tolist() == [[0, 0.1], [100, 0.9]]
    # They differ without colour, too.
    assert a.get_color() != b.get_color()
    assert a.get_linestyle() != b.get_linestyle()
    assert legend(ax) == ["a", "b", "chance"]


def test_time_step_sweep(ax):
    accuracy = [Estimate(0.5, 0.1), Estimate(0.9, 0.05)]
    plotting.time_step_sweep([1, 100], accuracy, event_driven=Estimate(0.8, 0.03), label="mtt", ax=ax)
    curve, bars = ax.containers[0].lines[0], ax.containers[0].lines[2][0]
    assert curve.get_xydata().tolist() == [[1, 0.5], [100, 0.9]]
    assert np.allclose(bars.get_segments(), [[[1, 0.4], [1, 0.6]], [[100, 0.85], [100, 0.95]]])
    assert ax.get_xscale() == "log"
    (band,) = ax.patches
    assert (band.get_y(), band.get_height()) == (pytest.approx(0.77), pytest.approx(0.06))
    assert set(lines(ax)["mtt, event-driven"].get_ydata()) == {0.8}


def test_accuracy_bars(ax):
    series = {"sdt": [Estimate(0.6, 0.04), None], "mtt": [Estimate(0.8, 0.03), Estimate(0.7, 0.02)]}
    plotting.accuracy_bars(["T = 1", "event-driven"], series, ax=ax)
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in ax.patches]
    assert np.allclose(bars, [(-0.2, 0.6), (0.2, 0.8), (1.2, 0.7)])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["T = 1", "event-driven"]
    sdt, mtt = ax.patches[0], ax.patches[1]
    assert to_hex(sdt.get_facecolor()) != to_hex(mtt.get_facecolor())
    assert sdt.get_hatch() != mtt.get_hatch()


def test_accuracy_bars_need_one_entry_per_group(ax):
    with pytest.raises(InputError, match="'sdt' has 1 accuracies for 2 groups"):
        plotting.accuracy_bars(["a", "b"], {"sdt": [Estimate(0.6, 0.04)]}, ax=ax)
