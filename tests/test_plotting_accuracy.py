"""Predictions and accuracies."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.plotting import SweepCurve
from mtt_brian.plotting.axes import accuracy_axis, accuracy_ceiling, accuracy_floor, cut_accuracy_axis, spelled_out
from tests.plots import legend, lines


@pytest.fixture
def ax():
    return Figure().subplots()


def test_the_readout_draws_the_true_class_on_top(ax):
    plotting.readout([0, 0.1], [[0, 0, 0], [1, 2, 3]], label=2, ax=ax)
    right = lines(ax)["class 2 (right)"]
    assert right.get_xydata().tolist() == [[0, 0], [100, 1]]  # above the mean of the classes
    assert right.get_zorder() > ax.lines[0].get_zorder()
    assert legend(ax) == ["class 2 (right)"]


def test_readout_shows_the_prediction_where_it_is_wrong(ax):
    plotting.readout([0, 0.1], [[0, 0, 0], [-1, -5, -3]], label=2, ax=ax)
    assert legend(ax) == ["class 0 (predicted)", "class 2 (right)"]
    assert lines(ax)["class 0 (predicted)"].get_ydata().tolist() == [0, 2]


def test_readout_of_ten_classes_in_ten_styles(ax):
    plotting.readout([0, 0.1], np.arange(20).reshape(2, 10), ax=ax)
    assert lines(ax)["class 7"].get_xydata().tolist() == [[0, 2.5], [100, 2.5]]
    classes = [line for line in ax.lines if line.get_label().startswith("class")]
    assert len({(line.get_color(), line.get_linestyle()) for line in classes}) == 10
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
    assert set(lines(ax)["_event-driven"].get_ydata()) == {0.8}
    assert [text.get_text() for text in ax.texts] == ["event-driven\n80.0%"]
    assert legend(ax) == ["mtt"]
    for accuracy_event_driven in (0.78, 0.9, 0.7):  # labels: the lowest below its line, the highest above
        plotting.time_step_sweep([1, 100], accuracy, event_driven=Estimate(accuracy_event_driven, 0.03), ax=ax)
    assert {text.get_text()[-5:]: text.get_va() for text in ax.texts} == {
        "80.0%": "center",
        "78.0%": "center",
        "90.0%": "bottom",
        "70.0%": "top",
    }


def test_accuracy_bars(ax):
    series = {"sdt": [Estimate(0.6, 0.04), None], "mtt": [Estimate(0.8, 0.03), Estimate(0.7, 0.02)]}
    plotting.accuracy_bars(["T = 1", "event-driven"], series, ax=ax)
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in ax.patches]
    assert np.allclose(bars, [(-0.2, 0.6), (0.2, 0.8), (1.2, 0.7)])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["T = 1", "event-driven"]
    sdt, mtt = ax.patches[0], ax.patches[1]
    assert to_hex(sdt.get_facecolor()) != to_hex(mtt.get_facecolor())
    assert sdt.get_hatch() != mtt.get_hatch()
    assert [text.get_text() for text in ax.texts] == ["60.0", "80.0", "70.0"]


@pytest.mark.parametrize("groups", [2, 5, 8])
def test_names_below_accuracy_bars_do_not_overlap(groups):
    figure = Figure(figsize=(6.4, 4.5), layout="constrained")
    bars = [Estimate(0.6, 0.04)] * groups
    ax = plotting.accuracy_bars(["event-driven\nsum"] * groups, {"sdt": bars}, ax=figure.subplots())
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_accuracy_bars_write_what_there_is_room_for():
    def texts(bars):
        ax = Figure(figsize=(4, 3)).subplots()
        plotting.accuracy_bars(["a"] * bars, {"sdt": [Estimate(0.604, 0.04)] * bars}, ax=ax)
        return {text.get_text() for text in ax.texts}

    assert [texts(6), texts(12), texts(24)] == [{"60.4"}, {"60"}, set()]


@pytest.mark.parametrize(
    ("lowest", "floor"), [(0.95, 0.9), (0.93, 0.8), (0.52, 0.4), (0.36, 0.3), (0.33, 0), (0.1, 0), (0.0, 0)]
)
def test_where_an_accuracy_axis_is_cut(lowest, floor, ax):
    assert accuracy_floor(lowest) == pytest.approx(floor)
    accuracy_axis(ax)
    cut_accuracy_axis(ax, floor)
    assert ax.get_ylim()[0] == floor
    marked = [line for line in ax.lines if line.get_label() == "_cut"]
    assert len(marked) == bool(floor)
    assert ax.get_ylabel() == (f"accuracy (axis from {100 * floor:.0f}%)" if floor else "accuracy")


@pytest.mark.parametrize(("highest", "ceiling"), [(0.6, 0.7), (0.57, 0.6), (0.68, 0.7), (0.69, 1), (0.95, 1), (1, 1)])
def test_where_an_accuracy_axis_ends(highest, ceiling, ax):
    assert accuracy_ceiling(highest) == pytest.approx(ceiling)
    accuracy_axis(ax)
    cut_accuracy_axis(ax, 0.0, ceiling)
    assert ax.get_ylim() == pytest.approx((0, 1.02 * ceiling))
    assert ax.get_ylabel() == "accuracy"


def test_twelve_curves_differ_and_both_panels_agree(tmp_path):
    curves = [SweepCurve(str(k), [1, 10], [Estimate(0.5, 0.01)] * 2, Estimate(0.4, 0.01)) for k in range(12)]
    with plotting.figure(tmp_path / "figure.png") as figure:
        plotting.sweep_panels(figure, curves, "data")
        left, right = figure.axes

        def styles(lines):
            return [(line.get_color(), line.get_marker()) for line in lines]

        drawn = styles(container.lines[0] for container in left.containers)
        assert len(set(drawn)) == 12
        assert drawn == styles(container.lines[0] for container in right.containers)


def test_methods_in_words():
    assert spelled_out("sdt") == "SDT: fixed time steps"
    assert spelled_out("mtt, lower_bound None") == "MTT: mixed time steps, lower bound None"
    assert spelled_out("digits-sdt-0") == "digits-sdt-0"


def test_sweep_panels_show_the_gap():
    figure = Figure()
    curves = [
        SweepCurve("a", [1, 10], [Estimate(0.3, 0.1), Estimate(0.95, 0.01)], Estimate(0.8, 0.02)),
        SweepCurve("b", [1, 10], [Estimate(0.9, 0.1), Estimate(0.94, 0.01)], Estimate(0.95, 0.02)),
    ]
    plotting.sweep_panels(figure, curves, "data")
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["below: 30% (T = 1)"]
    assert [text.get_text() for text in right.texts if text.get_text()] == ["-15.0", "+1.0"]
    assert left.get_ylim()[0] == right.get_ylim()[0] == pytest.approx(0.7)
    assert right.get_xlabel() == "hollow: T = 10\nfull: event-driven\nabove: change\nin points"
    (names,) = figure.legends
    assert [text.get_text() for text in names.get_texts()] == ["a", "b"]
    assert left.get_legend() is None


def test_numbers_are_names(ax):
    """Numbers of time steps, seeds and classes."""
    estimates = [Estimate(0.5, 0.1), Estimate(0.9, 0.1)]
    plotting.accuracy_bars([1, np.int64(10)], {0: estimates, 1: estimates}, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "10"]
    assert legend(ax) == ["0", "1"]
    matrix = plotting.confusion_matrix(np.eye(2), range(2), ax=Figure().subplots())
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["0", "1"]


def test_accuracy_bars_need_one_entry_per_group(ax):
    with pytest.raises(InputError, match="'sdt' has 1 accuracies for 2 groups"):
        plotting.accuracy_bars(["a", "b"], {"sdt": [Estimate(0.6, 0.04)]}, ax=ax)


@pytest.mark.parametrize(
    "draw",
    [
        lambda accuracy, ax: plotting.time_step_sweep([1, 2], accuracy, ax=ax),
        lambda accuracy, ax: plotting.accuracy_against(["a", "b"], accuracy, ax=ax),
        lambda accuracy, ax: plotting.early_exit([1, 2], accuracy, name="SynOps", ax=ax),
        lambda accuracy, ax: plotting.accuracy_bars(["a", "b"], {"mtt": accuracy}, ax=ax),
    ],
)
@pytest.mark.parametrize("accuracy", [[0.5, 0.9], [0.5, 0.1, 0.9, 0.1], [Estimate(0.5, 0.1)], ["high", "low"]])
def test_accuracies_are_pairs_of_value_and_error(draw, accuracy, ax):
    """Four numbers are no two estimates."""
    with pytest.raises(InputError, match=r"accuracy must be 2 of `Estimate`|accuracy must be `Estimate`|for 2 groups"):
        draw(accuracy, ax)


def test_panels_without_lines_with_names():
    """Two lines without names, and a panel without lines."""
    lines_ = [plotting.AccuracyLine("", None, [Estimate(0.9, 0.1)])]
    figure = Figure()
    plotting.accuracy_panels(
        figure, [plotting.AccuracyPanel(["a"], "noise", lines_), plotting.AccuracyPanel([], "none", [])], "title"
    )
    assert [ax.get_xlabel() for ax in figure.axes] == ["noise", "none"]
