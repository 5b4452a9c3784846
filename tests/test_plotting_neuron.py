"""The membrane of one neuron, checked on paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.engines.exact.trace import membrane_trace
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from tests.plots import lines


class TestMembraneTrace:
    def test_staircase_of_an_if_neuron(self):
        trace = membrane_trace(IF(), [1, 2], [0.5, 0.75], duration=3)
        assert trace.t.tolist() == [0, 1, 1, 2, 2, 2, 3]
        assert trace.v.tolist() == [0, 0, 0.5, 0.5, 1.25, 0.25, 0.25]
        assert (trace.spike_t.tolist(), trace.spike_v.tolist(), trace.spike_n.tolist()) == ([2], [1.25], [1])

    def test_simultaneous_jumps_are_summed_before_the_test(self):
        trace = membrane_trace(IF(), [1, 1], [2.0, -1.5])
        assert trace.spike_t.size == 0
        assert trace.v[-1] == 0.5

    def test_exact_hit_fires(self):
        assert membrane_trace(IF(threshold=0.5), [1], [0.5]).spike_n.tolist() == [1]

    @pytest.mark.parametrize(("spikes", "n", "rest"), [("many", 2, 0.5), ("one", 1, 1.5)])
    def test_a_jump_of_two_and_a_half_thresholds(self, spikes, n, rest):
        trace = membrane_trace(IF(spikes=spikes), [1], [2.5], duration=5)
        assert trace.spike_n.tolist() == [n]
        assert trace.v[-1] == rest  # above the threshold and silent, for "one"

    def test_reset_to_zero_and_lower_bound(self):
        rule = IF(reset="zero", v_reset=-0.25, lower_bound=-0.5)
        trace = membrane_trace(rule, [1, 2], [1.7, -9])
        assert trace.v[-3:].tolist() == [-0.25, -0.25, -0.5]

    def test_bias_carries_an_if_neuron_over_the_threshold(self):
        # 2 per second: crossings at 0.5, 1, 1.5; the one at the very end counts as well.
        trace = membrane_trace(IF(bias=2.0), [], [], duration=1.75)
        assert trace.spike_t.tolist() == [0.5, 1.0, 1.5]
        assert trace.v[-1] == pytest.approx(0.5)

    def test_leak_between_arrivals(self):
        trace = membrane_trace(LIF(tau=0.5), [1.0], [0.8], duration=2.0)
        after = trace.t >= 1.0
        assert np.allclose(trace.v[after][1:], 0.8 * np.exp(-(trace.t[after][1:] - 1.0) / 0.5))

    def test_bias_crossing_of_a_lif_neuron_in_closed_form(self):
        # v = 2 (1 - exp(-t / tau)) reaches 1 after tau ln 2, again and again.
        trace = membrane_trace(LIF(tau=0.1, bias=2.0, reset="zero"), [], [], duration=0.25)
        assert np.allclose(trace.spike_t, 0.1 * np.log(2) * np.arange(1, 4), atol=1e-15)

    def test_bias_that_does_not_reach_the_threshold(self):
        assert membrane_trace(LIF(tau=0.1, bias=1.0), [], [], duration=9.0).spike_t.size == 0

    def test_a_crossing_at_an_arrival_is_one_instant(self):
        # The bias alone reaches 1 at t = 0.5, where -0.5 arrives: the jump acts first, and there is no spike.
        trace = membrane_trace(IF(bias=2.0), [0.5], [-0.5], duration=0.6)
        assert trace.spike_t.size == 0
        assert trace.v[-1] == pytest.approx(0.7)

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(-8, 12)), max_size=30), st.sampled_from(["one", "many"]))
    def test_if_neuron_neither_gains_nor_loses(self, arrivals, spikes):
        # Without a lower bound, what came in is either in the membrane or was fired away.
        t, jumps = (np.array([a[k] for a in arrivals], dtype=float) for k in (0, 1))
        trace = membrane_trace(IF(threshold=4.0, spikes=spikes), t, jumps)
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
            membrane_trace(rule, [1.0], [1.0])

    @pytest.mark.parametrize(("t", "jumps"), [([1.0], [1.0, 2.0]), ([-1.0], [1.0])])
    def test_refuses_bad_arrivals(self, t, jumps):
        with pytest.raises(InputError):
            membrane_trace(IF(), t, jumps)


def test_membrane():
    ax = Figure().subplots()
    trace = membrane_trace(IF(spikes="many", lower_bound=-1.0), [0.001, 0.002], [2.5, -7], 0.003)
    plotting.membrane(trace, ax=ax)
    drawn = lines(ax)
    assert drawn["membrane"].get_ydata()[-1] == -1.0
    assert drawn["spike"].get_xydata().tolist() == [[1.0, 2.5]]
    assert set(drawn["threshold"].get_ydata()) == {1.0}
    assert set(drawn["lower bound"].get_ydata()) == {-1.0}
    assert [text.get_text() for text in ax.texts] == ["x2"]
