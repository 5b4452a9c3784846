"""Figures, checked by what the artists hold and not by pixels."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mtt_brian import events, plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.simulate.result import Result, Spikes
from mtt_brian.translate.circuit import Circuit, Population


@pytest.fixture
def ax():
    return Figure().subplots()


def train(t, i):
    return Spikes(np.asarray(t, dtype=float), np.asarray(i), np.ones(len(t), dtype=np.int64))


def lines(ax):
    """Lines of data by label."""
    return {line.get_label(): line for line in ax.lines}


class TestImport:
    def test_picks_no_backend(self):
        code = "import sys, mtt_brian.plotting; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0

    def test_makes_its_own_axes_for_a_notebook(self):
        import matplotlib.pyplot as plt

        plt.switch_backend("Agg")
        axes = plotting.accuracy_over_time([0, 1], [0, 1])
        assert axes.figure is plt.gcf()
        plt.close(axes.figure)


class TestRaster:
    def test_every_spike_is_a_dot_in_its_band(self, ax):
        spikes = {"input": train([0.1, 0.2, 0.3], [0, 1, 3]), "out": train([0.25], [1])}
        assert plotting.raster(spikes, sizes={"input": 4, "out": 2}, ax=ax) is ax
        dots = lines(ax)
        assert np.allclose(dots["input"].get_xydata(), [[100, 0.125], [200, 0.375], [300, 0.875]])
        assert np.allclose(dots["out"].get_xydata(), [[250, 1.75]])
        assert [label.get_text() for label in ax.get_yticklabels()] == ["input\n(4)", "out\n(2)"]
        assert ax.get_ylim() == (2, 0)  # the input on top
        assert ax.get_xlabel() == "time (ms)"

    def test_a_result_brings_its_sizes_and_order(self, ax):
        populations = (Population("hidden", (1, 2, 2), IF()), Population("out", (2,), IF()))
        circuit = Circuit("input", (3,), populations, (), "out")
        spikes = {"out": train([0.3], [0]), "hidden": train([0.2], [3])}
        result = Result(spikes, {}, np.zeros(2), 0, 1.0, "test", circuit)
        plotting.raster(result, ax=ax)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["hidden\n(4)", "out\n(2)"]
        assert np.allclose(lines(ax)["hidden"].get_xydata(), [[200, 3.5 / 4]])

    def test_the_recording_is_the_input_band(self, ax):
        circuit = Circuit("input", (2, 2, 3), (Population("hidden", (4,), IF()),), (), "hidden")
        result = Result({"hidden": train([0.2], [3])}, {}, np.zeros(4), 0, 1.0, "test", circuit)
        recording = events.make_recording([5_000, 9_000], x=[2, 0], y=[1, 1], p=[0, 1])
        plotting.raster(result, recording=recording, ax=ax)
        # (p, y, x) in C order of 2 x 2 x 3: 5 and 9 of 12.
        assert np.allclose(lines(ax)["input"].get_xydata(), [[5, 5.5 / 12], [9, 9.5 / 12]])
        assert np.allclose(lines(ax)["hidden"].get_xydata(), [[200, 1 + 3.5 / 4]])

    def test_silence_is_an_empty_band(self, ax):
        plotting.raster({"input": train([0.1], [0]), "out": train([], [])}, ax=ax)
        assert len(lines(ax)["out"].get_xdata()) == 0
        assert len(ax.get_yticks()) == 2

    def test_without_any_spikes(self, ax):
        with pytest.raises(InputError, match="at least one population"):
            plotting.raster({}, ax=ax)


class TestMembraneTrace:
    def test_staircase_of_an_if_neuron(self):
        trace = plotting.membrane_trace(IF(), [1, 2], [0.5, 0.75], duration=3)
        assert trace.t.tolist() == [0, 1, 1, 2, 2, 2, 3]
        assert trace.v.tolist() == [0, 0, 0.5, 0.5, 1.25, 0.25, 0.25]
        assert (trace.spike_t.tolist(), trace.spike_v.tolist(), trace.spike_n.tolist()) == ([2], [1.25], [1])

    def test_simultaneous_jumps_are_summed_before_the_test(self):
        trace = plotting.membrane_trace(IF(), [1, 1], [2.0, -1.5])
        assert trace.spike_t.size == 0
        assert trace.v[-1] == 0.5

    def test_exact_hit_fires(self):
        assert plotting.membrane_trace(IF(threshold=0.5), [1], [0.5]).spike_n.tolist() == [1]

    @pytest.mark.parametrize(("spikes", "n", "rest"), [("many", 2, 0.5), ("one", 1, 1.5)])
    def test_a_jump_of_two_and_a_half_thresholds(self, spikes, n, rest):
        trace = plotting.membrane_trace(IF(spikes=spikes), [1], [2.5], duration=5)
        assert trace.spike_n.tolist() == [n]
        assert trace.v[-1] == rest  # above the threshold and silent, for "one"

    def test_reset_to_zero_and_lower_bound(self):
        rule = IF(reset="zero", v_reset=-0.25, lower_bound=-0.5)
        trace = plotting.membrane_trace(rule, [1, 2], [1.7, -9])
        assert trace.v[-3:].tolist() == [-0.25, -0.25, -0.5]

    def test_bias_carries_an_if_neuron_over_the_threshold(self):
        # 2 per second: crossings at 0.5, 1, 1.5; the one at the very end counts as well.
        trace = plotting.membrane_trace(IF(bias=2.0), [], [], duration=1.75)
        assert trace.spike_t.tolist() == [0.5, 1.0, 1.5]
        assert trace.v[-1] == pytest.approx(0.5)

    def test_leak_between_arrivals(self):
        trace = plotting.membrane_trace(LIF(tau=0.5), [1.0], [0.8], duration=2.0)
        after = trace.t >= 1.0
        assert np.allclose(trace.v[after][1:], 0.8 * np.exp(-(trace.t[after][1:] - 1.0) / 0.5))

    def test_bias_crossing_of_a_lif_neuron_in_closed_form(self):
        # v = 2 (1 - exp(-t / tau)) reaches 1 after tau ln 2, again and again.
        trace = plotting.membrane_trace(LIF(tau=0.1, bias=2.0, reset="zero"), [], [], duration=0.25)
        assert np.allclose(trace.spike_t, 0.1 * np.log(2) * np.arange(1, 4), atol=1e-15)

    def test_bias_that_does_not_reach_the_threshold(self):
        assert plotting.membrane_trace(LIF(tau=0.1, bias=1.0), [], [], duration=9.0).spike_t.size == 0

    def test_a_crossing_at_an_arrival_is_one_instant(self):
        # The bias alone reaches 1 at t = 0.5, where -0.5 arrives: the jump acts first, nobody fires.
        trace = plotting.membrane_trace(IF(bias=2.0), [0.5], [-0.5], duration=0.6)
        assert trace.spike_t.size == 0
        assert trace.v[-1] == pytest.approx(0.7)

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(-8, 12)), max_size=30), st.sampled_from(["one", "many"]))
    def test_if_neuron_neither_gains_nor_loses(self, arrivals, spikes):
        # Without a lower bound, what came in is either in the membrane or was fired away.
        t, jumps = (np.array([a[k] for a in arrivals], dtype=float) for k in (0, 1))
        trace = plotting.membrane_trace(IF(threshold=4.0, spikes=spikes), t, jumps)
        assert trace.v[-1] == jumps.sum() - 4.0 * trace.spike_n.sum()
        assert np.all(np.diff(trace.t) >= 0)

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            (CubaLIF(tau=0.1, tau_syn=0.1), "synaptic current"),
            (IF(refractory=0.1), "refractory"),
            (IF(threshold=np.ones(3)), "threshold has one value per neuron"),
            (LIF(tau=np.ones(3)), "tau has one value per neuron"),
        ],
    )
    def test_refuses_what_it_cannot_draw(self, rule, message):
        with pytest.raises(InputError, match=message):
            plotting.membrane_trace(rule, [1.0], [1.0])

    @pytest.mark.parametrize(("t", "jumps"), [([1.0], [1.0, 2.0]), ([-1.0], [1.0])])
    def test_refuses_bad_arrivals(self, t, jumps):
        with pytest.raises(InputError):
            plotting.membrane_trace(IF(), t, jumps)


def test_membrane(ax):
    plotting.membrane(IF(spikes="many", lower_bound=-1.0), [0.001, 0.002], [2.5, -7], 0.003, ax=ax)
    drawn = lines(ax)
    assert drawn["membrane"].get_ydata()[-1] == -1.0
    assert drawn["spike"].get_xydata().tolist() == [[1.0, 2.5]]
    assert set(drawn["threshold"].get_ydata()) == {1.0}
    assert set(drawn["lower bound"].get_ydata()) == {-1.0}
    assert [text.get_text() for text in ax.texts] == ["x2"]


def test_readout_puts_the_right_class_in_front(ax):
    plotting.readout([0, 0.1], [[0, 0, 0], [1, 2, 3]], label=2, ax=ax)
    assert len(ax.lines) == 3
    right = lines(ax)["class 2 (right)"]
    assert right.get_xydata().tolist() == [[0, 0], [100, 3]]
    assert right.get_zorder() > ax.lines[0].get_zorder()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 2 (right)"]


def test_accuracy_over_time(ax):
    plotting.accuracy_over_time([0, 0.1], [0.1, 0.9], label="a", ax=ax)
    plotting.accuracy_over_time([0, 0.1], [0.2, 0.8], label="b", chance=0.1, ax=ax)
    a, b = lines(ax)["a"], lines(ax)["b"]
    assert a.get_xydata().tolist() == [[0, 0.1], [100, 0.9]]
    # Told apart without colour as well.
    assert a.get_color() != b.get_color()
    assert a.get_linestyle() != b.get_linestyle()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "chance"]


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
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["train accuracy", "validation accuracy", "loss"]
