"""Rasters, rates and spike time differences."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtt_brian import events, plotting
from mtt_brian.errors import InputError
from tests.plots import legend, lines, result, stairs, train


@pytest.fixture
def ax():
    return Figure().subplots()


class TestRaster:
    def test_every_spike_is_a_dot_in_its_band(self, ax):
        spikes = {"input": train([0.1, 0.2, 0.3], [0, 1, 3]), "out": train([0.25], [1])}
        assert plotting.raster(spikes, sizes={"input": 4, "out": 2}, ax=ax) is ax
        dots = lines(ax)
        assert np.allclose(dots["input"].get_xydata(), [[100, 0.125], [200, 0.375], [300, 0.875]])
        assert np.allclose(dots["out"].get_xydata(), [[250, 1.75]])
        assert [label.get_text() for label in ax.get_yticklabels()] == ["input\n4 neurons", "out\n2 neurons"]
        assert ax.get_ylim() == (2, 0)  # the input on top
        assert ax.get_xlabel() == "time (ms)"

    def test_a_result_brings_its_sizes_and_order(self, ax):
        spikes = {"out": train([0.3], [0]), "hidden": train([0.2], [3])}
        plotting.raster(result(spikes, {"input": (3,), "hidden": (1, 2, 2), "out": (2,)}), ax=ax)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["hidden\n4 neurons", "out\n2 neurons"]
        assert np.allclose(lines(ax)["hidden"].get_xydata(), [[200, 3.5 / 4]])
        assert ax.get_xlim() == pytest.approx((-10, 1010))  # all of the run

    def test_the_recording_is_the_input_band(self, ax):
        run = result({"hidden": train([0.2], [3])}, {"input": (2, 2, 3), "hidden": (4,)})
        recording = events.make_recording([5_000, 9_000], x=[2, 0], y=[1, 1], p=[0, 1])
        plotting.raster(run, recording=recording, ax=ax)
        # (p, y, x) in C order of 2 x 2 x 3: 5 and 9 of 12.
        assert np.allclose(lines(ax)["input"].get_xydata(), [[5, 5.5 / 12], [9, 9.5 / 12]])
        assert np.allclose(lines(ax)["hidden"].get_xydata(), [[200, 1 + 3.5 / 4]])

    def test_silence_is_an_empty_band(self, ax):
        plotting.raster({"input": train([0.1], [0]), "out": train([], [])}, ax=ax)
        assert len(lines(ax)["out"].get_xdata()) == 0
        assert len(ax.get_yticks()) == 2

    @pytest.mark.parametrize("count", [2, 12, 40])
    def test_labels_of_many_populations_do_not_overlap(self, count):
        figure = Figure(layout="constrained")
        ax = plotting.raster({f"layer{k}": train([0.1], [0]) for k in range(count)}, ax=figure.subplots())
        FigureCanvasAgg(figure).draw()
        boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert all(upper.y0 > lower.y1 - 1 for upper, lower in itertools.pairwise(boxes))

    def test_highlighted_neurons_lie_on_top(self, ax):
        spikes = {"out": train([0.1, 0.2, 0.3], [0, 1, 0])}
        plotting.raster(spikes, sizes={"out": 2}, highlight={"out": 0}, ax=ax)
        every, chosen = ax.lines
        assert len(every.get_xdata()) == 3
        assert np.allclose(chosen.get_xydata(), [[100, 0.25], [300, 0.25]])
        assert chosen.get_markersize() > every.get_markersize()

    @pytest.mark.parametrize(
        ("spikes", "options", "message"),
        [
            ({}, {}, "at least one population"),
            ({"a": train([1], [4])}, {"sizes": {"a": 4}}, "'a' has 4 neurons, numbered from 0, and no neuron 4"),
            ({"a": train([1], [0])}, {"highlight": {"a": [0, 1]}}, "'a' has 1 neurons.* no neuron 1"),
            ({"a": train([1], [0])}, {"highlight": {"b": 0}}, "no population 'b' to highlight neurons of; there are a"),
            ({"a": train([1], [0])}, {"recording": events.make_recording([1], 0)}, "follow from a result only"),
        ],
    )
    def test_refuses(self, spikes, options, message, ax):
        with pytest.raises(InputError, match=message):
            plotting.raster(spikes, **options, ax=ax)


class TestRates:
    def test_spikes_per_neuron_and_second(self, ax):
        # 4 neurons, bins of 0.5 s: 3 + 2 spikes in the first one, 1 in the second.
        spikes = {"a": train([0.1, 0.4, 0.9], [0, 1, 3], [3, 2, 1]), "b": train([1.0], [0])}
        assert plotting.rates(spikes, sizes={"a": 4, "b": 1}, bin_width=0.5, ax=ax) is ax
        drawn = stairs(ax)
        assert drawn["a"].values.tolist() == [2.5, 0.5]
        assert drawn["b"].values.tolist() == [0, 2]  # at the very end
        assert drawn["a"].edges.tolist() == [0, 500, 1000]
        assert legend(ax) == ["a", "b"]

    def test_a_result_brings_sizes_duration_and_order(self, ax):
        spikes = {"out": train([0.3], [0]), "hidden": train([0.2], [3])}
        run = result(spikes, {"input": (1, 2, 2), "hidden": (4,), "out": (2,)}, duration=0.4)
        recording = events.make_recording([300_000, 300_000], x=[1, 1])  # one pixel twice at once
        plotting.rates(run, recording=recording, bin_width=0.2, ax=ax)
        assert {name: drawn.values.tolist() for name, drawn in stairs(ax).items()} == {
            "input": pytest.approx([0, 2 / 4 / 0.2]),
            "hidden": pytest.approx([0, 1 / 4 / 0.2]),
            "out": pytest.approx([0, 1 / 2 / 0.2]),
        }
        assert ax.get_xlim() == pytest.approx((0, 400))

    def test_bins_fill_the_duration(self, ax):
        spikes = {"a": train(np.linspace(0, 0.99, 100), np.zeros(100))}
        plotting.rates(spikes, sizes={"a": 1}, bin_width=0.3, duration=1.0, ax=ax)
        values, edges, _ = stairs(ax)["a"]
        assert np.allclose(edges, [0, 1000 / 3, 2000 / 3, 1000])
        assert np.sum(values * np.diff(edges)) * 1e-3 == pytest.approx(100)  # nothing is lost

    def test_lines_differ_in_more_than_colour(self, ax):
        plotting.rates({"a": train([1], [0]), "b": train([1], [0])}, sizes={"a": 1, "b": 1}, ax=ax)
        a, b = ax.patches
        assert a.get_linestyle() != b.get_linestyle()
        assert a.get_edgecolor() != b.get_edgecolor()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "sizes has no 'a'"),
            ({"sizes": {"a": 1}, "bin_width": 0.0}, "bin_width must be > 0 seconds and finite, not 0.0"),
            ({"sizes": {"a": 1}, "duration": 0.0}, "duration must be > 0 seconds and finite, not 0.0"),
        ],
    )
    def test_refuses(self, options, message, ax):
        with pytest.raises(InputError, match=message):
            plotting.rates({"a": train([1], [0])}, **options, ax=ax)


class TestSpikeTimeDifferences:
    def test_histogram_of_every_population(self, ax):
        first = {"a": train([0.1, 0.2, 0.3], [0, 1, 1]), "b": train([0.1], [0])}
        second = {"a": train([0.103, 0.2], [0, 1]), "b": train([0.098], [0])}
        assert plotting.spike_time_differences(first, second, bins=3, ax=ax) is ax
        drawn = stairs(ax)
        a, b = "a: 2 pairs, 1 + 0 unpaired", "b: 1 pairs, 0 + 0 unpaired"
        assert legend(ax) == [a, b]
        assert np.allclose(drawn[a].edges, [-3, -1, 1, 3])
        assert drawn[a].values.tolist() == [0, 1, 1]
        assert drawn[b].values.tolist() == [1, 0, 0]
        assert ax.get_xlabel() == "later in the second run by (ms)"

    def test_what_is_beyond_the_limit_is_in_the_outermost_bins(self, ax):
        first = {"a": train([0.5, 0.5, 0.5], [0, 1, 2])}
        second = {"a": train([0.1, 0.5, 0.9], [0, 1, 2])}
        plotting.spike_time_differences(first, second, bins=3, limit=0.003, ax=ax)
        ((values, edges, _),) = stairs(ax).values()
        assert values.tolist() == [1, 1, 1]
        assert np.allclose(edges, [-3, -1, 1, 3])

    def test_equal_runs_have_all_pairs_at_zero(self, ax):
        run = result({"out": train([0.2, 0.3], [0, 1])}, {"input": (1,), "out": (2,)})
        plotting.spike_time_differences(run, run, bins=5, ax=ax)
        ((values, edges, _),) = stairs(ax).values()
        assert values.tolist() == [0, 0, 2, 0, 0]
        assert edges[[0, -1]].tolist() == [-1, 1]  # a millisecond, as there is no difference

    @pytest.mark.parametrize(
        ("second", "options", "message"),
        [
            ({"a": train([1], [0]), "b": train([], [])}, {}, "'b' was recorded in one of two runs only"),
            ({"a": train([1], [0])}, {"bins": 10}, "must be odd.*not 10"),
            ({"a": train([1], [0])}, {"limit": -1.0}, "must be > 0 seconds and finite, not -1"),
        ],
    )
    def test_refuses(self, second, options, message, ax):
        with pytest.raises(InputError, match=message):
            plotting.spike_time_differences({"a": train([1], [0])}, second, **options, ax=ax)
