"""Trains of one to three neurons that one can check on paper, for what only the exact engine runs."""

import math

import numpy as np
import pytest

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF


def train(*events, duration):
    """(t, pixel) pairs, in the order of the recording -> input train."""
    codes, order, n = np.unique(
        np.array([complex(t, i) for t, i in events], dtype=complex), return_inverse=True, return_counts=True
    )
    return InputSpikes(codes.real.copy(), codes.imag.astype(np.int64), n, order, duration)


def matrix(source, target, weight, *delays):
    weight = np.array(weight, dtype=float)
    return Connection(source, target, (Dense(weight, (weight.shape[1],)), *delays), (), weight.shape[1])


def single(rule, weights=((1.0,),)):
    """One neuron ``a`` with input pixel k through ``weights[0][k]``."""
    weights = np.array(weights, dtype=float)
    a = Population("a", (1,), rule)
    return Circuit("input", (weights.shape[1],), (a,), (matrix("input", "a", weights),), "a")


def times(circuit, recording, name="a", **options):
    (result,) = ExactEngine(circuit, **options).run([recording])
    return [t for t, n in zip(result.spikes[name].t, result.spikes[name].n, strict=True) for _ in range(n)]


class TestIntegrators:
    def test_a_biased_neuron_fires_at_equal_intervals_and_an_arrival_brings_the_next_spike_forward(self):
        # Slope 2: spikes at 0.5, 1.0; the jump of 0.25 at 1.2 (v = 0.4) saves 0.125 s; then again every 0.5 s.
        circuit = single(IF(bias=2.0), [[0.25]])
        assert times(circuit, train((1.2, 0), duration=2.4)) == pytest.approx(
            [0.5, 1.0, 1.375, 1.875, 2.375], abs=1e-15
        )

    def test_reset_to_zero_forgets_what_is_above(self):
        # v = 0.75 at 0.75, jumps to 1.5 and falls to -0.5; 1.5 s later it is at the threshold again.
        circuit = single(IF(bias=1.0, reset="zero", v_reset=-0.5), [[0.75]])
        assert times(circuit, train((0.75, 0), duration=3)) == [0.75, 2.25]

    def test_one_spike_per_update_leaves_the_rest_silent_until_the_next_arrival(self):
        # 2.25 at 0.75: one spike, 1.25 left, silent although it rises; the next arrival at 2.0 finds 2.5 + 0.0625.
        circuit = single(IF(bias=1.0, spikes="one"), [[1.5, 0.0625]])
        assert times(circuit, train((0.75, 0), (2.0, 1), duration=4)) == [0.75, 2.0]

    def test_a_crossing_and_an_arrival_at_the_same_instant_are_one_update(self):
        # v would reach 1 at t = 1, where -0.5 arrives: 0.5, no spike; the threshold is reached at 1.5.
        assert times(single(IF(bias=1.0), [[-0.5]]), train((1.0, 0), duration=2)) == [1.5]
        # +1.25 instead: 2.25, two spikes at once, 0.25 left.
        assert times(single(IF(bias=1.0, spikes="many"), [[1.25]]), train((1.0, 0), duration=1.9)) == [1.0, 1.0, 1.75]

    def test_the_lower_bound_acts_at_arrivals_only(self):
        # Slope -1: -2 at t = 2; +0.5 there makes -1.5, raised to -1; at t = 3 it is -2 again, and +4 makes 2.
        circuit = single(IF(bias=-1.0, lower_bound=-1.0, spikes="many"), [[0.5, 4.0]])
        assert times(circuit, train((2.0, 0), (3.0, 1), duration=4)) == [3.0, 3.0]

    def test_during_the_refractory_period_the_potential_is_held_and_arrivals_are_lost(self):
        # Slope 1: spike at 1; held until 1.5 (the arrival at 1.25 is lost, the one at exactly 1.5 counts): 0.25 + 0.75.
        circuit = single(IF(bias=1.0, refractory=0.5), [[0.25]])
        assert times(circuit, train((1.25, 0), (1.5, 0), duration=2.5)) == [1.0, 2.25]

    def test_crossings_reach_the_next_population_at_the_same_instant(self):
        populations = (Population("a", (1,), IF(bias=1.0)), Population("b", (1,), IF()))
        circuit = Circuit("input", (1,), populations, (matrix("input", "a", [[0]]), matrix("a", "b", [[0.5]])), "b")
        assert times(circuit, train(duration=4.5), "b") == [2.0, 4.0]


class TestLeaky:
    TAU = 0.010

    def test_a_bias_current_above_the_threshold_fires_at_tau_ln(self):
        # v(t) = 1.5 (1 - exp(-t / tau)) reaches 1 after tau ln 3, again and again from 0.
        period = self.TAU * math.log(3)
        rule = LIF(tau=self.TAU, r=1.0, bias=1.5)
        assert times(single(rule), train(duration=3.5 * period)) == pytest.approx(
            [period, 2 * period, 3 * period], abs=1e-15
        )

    def test_a_bias_current_below_the_threshold_only_helps(self):
        # At rest at 0.5 after 40 time constants; r * w / tau = 0.5 then reaches the threshold exactly.
        rule = LIF(tau=self.TAU, r=0.01, v_leak=0.5)
        assert times(single(rule, [[0.5]]), train((0.5, 0), duration=0.6)) == [0.5]
        assert times(single(rule, [[0.49]]), train((0.5, 0), duration=0.6)) == []

    def test_the_refractory_period_delays_the_recovery(self):
        period = self.TAU * math.log(3) + 0.002
        rule = LIF(tau=self.TAU, bias=1.5, reset="zero", refractory=0.002)
        expected = [self.TAU * math.log(3), self.TAU * math.log(3) + period]
        assert times(single(rule), train(duration=0.03)) == pytest.approx(expected, abs=1e-15)


class TestCurrents:
    def test_equal_time_constants_cross_where_the_alpha_function_does(self):
        # v(t) = drive * x exp(-x) with x = t / tau; a drive of 2 e has its top, 2, at x = 1 and passes 1 before.
        tau, drive = 0.010, 2 * math.e
        rule = CubaLIF(tau=tau, tau_syn=tau, w_in=tau, reset="zero", v_reset=-1e6)
        (t,) = times(single(rule, [[drive]]), train((0.001, 0), duration=0.1))
        x = (t - 0.001) / tau
        assert 0 < x < 1
        assert drive * x * math.exp(-x) == pytest.approx(1.0, abs=1e-14)

    def test_the_current_continues_during_the_refractory_period(self):
        # The potential starts at 0 when the period ends, driven by what is left of the current.
        tau, synaptic, dead = 0.010, 0.005, 0.003
        rule = CubaLIF(tau=tau, tau_syn=synaptic, w_in=synaptic, reset="zero", refractory=dead)
        first, second = times(single(rule, [[12.0]]), train((0.0, 0), duration=0.1))[:2]
        gone = second - first - dead
        drive = 12 * math.exp(-(first + dead) / synaptic)
        response = synaptic / (synaptic - tau) * (math.exp(-gone / synaptic) - math.exp(-gone / tau))
        assert drive * response == pytest.approx(1.0, abs=1e-13)


class TestDelays:
    def test_every_element_has_its_own_delay(self):
        populations = (Population("a", (2,), IF()),)
        delay = Delay(np.array([0.5, 0.0]))
        circuit = Circuit("input", (1,), populations, (matrix("input", "a", [[1], [1]], delay),), "a")
        (result,) = ExactEngine(circuit).run([train((1.0, 0), (2.0, 0), duration=2.4)])
        assert result.spikes["a"].t.tolist() == [1.0, 1.5, 2.0]
        assert result.spikes["a"].i.tolist() == [1, 0, 1]
        assert result.synops == 4

    def test_a_loop_with_a_delay_rings(self):
        loop = Connection("a", "a", (Delay(np.array([0.25])),), (), 1)
        circuit = Circuit("input", (1,), (Population("a", (1,), IF()),), (matrix("input", "a", [[1]]), loop), "a")
        assert times(circuit, train((1.0, 0), duration=2.0)) == [1.0, 1.25, 1.5, 1.75, 2.0]

    def test_a_loop_without_a_delay_is_refused_by_name(self):
        loop = Connection("a", "a", (Dense(np.ones((1, 1)), (1,)),), (), 1)
        circuit = Circuit("input", (1,), (Population("a", (1,), IF()),), (matrix("input", "a", [[1]]), loop), "a")
        with pytest.raises(InputError, match="'a' -> 'a' closes a loop without a delay"):
            ExactEngine(circuit)

    def test_arrivals_that_meet_after_different_delays_are_summed(self):
        # 0.5 s and 0 s: the event of t = 1 and the one of t = 1.5 meet, +1 and -1.
        connections = (
            matrix("input", "a", [[1.0, 0.0]], Delay(np.array([0.5]))),
            matrix("input", "a", [[0.0, -1.0]]),
        )
        circuit = Circuit("input", (2,), (Population("a", (1,), IF()),), connections, "a")
        assert times(circuit, train((1.0, 0), (1.5, 1), duration=3)) == []


class TestReadouts:
    def test_an_integrator_with_a_bias_a_leaky_one_and_one_with_a_current(self):
        tau, synaptic = 0.010, 0.004
        event = train((0.002, 0), duration=0.012)
        for rule, expected in (
            (IF(threshold=None, bias=3.0), 3.0 * 0.012 + 1.0),
            (LIF(threshold=None, tau=tau, r=tau), math.exp(-1.0)),
            (
                CubaLIF(threshold=None, tau=tau, tau_syn=synaptic, w_in=synaptic),
                synaptic / (synaptic - tau) * (math.exp(-0.010 / synaptic) - math.exp(-0.010 / tau)),
            ),
        ):
            (result,) = ExactEngine(single(rule)).run([event])
            assert result.readout == pytest.approx([expected], abs=1e-15)


class TestQueue:
    def test_every_event_is_compared_with_the_threshold_alone(self):
        # +1.5, -1 at one instant. Queue: one spike, 0.5 left, then -0.5. Sum: 0.5, no spike.
        circuit = single(IF(spikes="many"), [[1.5, -1.0]])
        recording = train((1.0, 0), (1.0, 1), duration=1)
        assert times(circuit, recording, order="sum") == []
        assert times(circuit, recording, order="fifo") == [1.0]
        # In the other order -1 is raised to the bound first.
        bounded = single(IF(spikes="many", lower_bound=-0.25), [[1.5, -1.0]])
        (result,) = ExactEngine(bounded, order="fifo").run([train((1.0, 1), (1.0, 0), duration=1)])
        assert result.counts["a"].tolist() == [1]

    def test_a_neuron_fires_once_per_event_and_keeps_the_rest(self):
        # 2.5 and then 0.25: one spike each although 2.5 holds two.
        circuit = single(IF(spikes="many"), [[2.5, 0.25]])
        (result,) = ExactEngine(circuit, order="fifo").run([train((1.0, 0), (1.0, 1), duration=1)])
        assert result.spikes["a"].n.tolist() == [2]  # both at one instant: one record
        assert times(circuit, train((1.0, 0), (2.0, 1), duration=2), order="fifo") == [1.0, 2.0]

    def test_spikes_are_worked_off_breadth_first_in_ascending_order(self):
        # b receives a0 with +1 and a1 with -1, a0 first: it fires. With the signs exchanged it does not.
        for weight, spikes in (([[1.0, -1.0]], [1.0]), ([[-1.0, 1.0]], [])):
            populations = (Population("a", (2,), IF()), Population("b", (1,), IF()))
            connections = (matrix("input", "a", [[1], [1]]), matrix("a", "b", weight))
            circuit = Circuit("input", (1,), populations, connections, "b")
            assert times(circuit, train((1.0, 0), duration=1), "b", order="fifo") == spikes

    @pytest.mark.parametrize("rule", [IF(bias=1.0), LIF(tau=1.0, bias=2.0), CubaLIF(tau=1.0, tau_syn=1.0)])
    def test_neurons_that_fire_between_arrivals_are_refused_by_name(self, rule):
        with pytest.raises(InputError, match="'a' also crosses its threshold between them"):
            ExactEngine(single(rule), order="fifo")

    def test_delays_are_refused_by_name(self):
        delayed = matrix("input", "a", [[1.0]], Delay(np.array([0.5])))
        with pytest.raises(InputError, match="'input' -> 'a'"):
            ExactEngine(Circuit("input", (1,), (Population("a", (1,), IF()),), (delayed,), "a"), order="fifo")
