"""Plain Brian2 scripts on the device event_driven, with numbers that one can check on paper."""

import gc
import itertools
import math
import warnings

import brian2
import numpy as np
import pytest
from brian2 import Hz, ms, mV, second

import mtt_brian.event_driven
from mtt_brian.engines.brian2 import internals
from mtt_brian.engines.brian2.poisson import PoissonProcess

TAU = 0.010


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def times(monitor):
    """Spikes as (neuron, seconds)."""
    return [(int(i), float(t)) for i, t in zip(monitor.i, monitor.t_, strict=True)]


def close(found, expected, tolerance=1e-15):
    assert [i for i, _ in found] == [i for i, _ in expected]
    np.testing.assert_allclose([t for _, t in found], [t for _, t in expected], rtol=tolerance * 10, atol=tolerance)


def lif(n=1, equations="dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1", threshold="v > 1", reset="v = 0", **options):
    return brian2.NeuronGroup(n, equations, threshold=threshold, reset=reset, **options)


def inputs(*spikes, n=1, **options):
    """A generator of spikes (seconds, neuron)."""
    t, i = zip(*spikes, strict=True) if spikes else ((), ())
    return brian2.SpikeGeneratorGroup(n, np.array(i, int), np.array(t) * second, **options)


def joined(source, target, on_pre="v_post += w", weight=1.0, delay=0.0, **connect):
    synapses = brian2.Synapses(source, target, "w : 1", on_pre=on_pre)
    synapses.connect(**connect)
    synapses.w = weight
    synapses.delay = delay * second
    return synapses


# ----- neurons


def test_a_constant_drive_reaches_the_threshold_after_tau_ln_3():
    group = lif()
    group.drive = 1.5
    monitor = brian2.SpikeMonitor(group)
    brian2.run(40 * ms)
    close(times(monitor), [(0, k * TAU * math.log(3)) for k in (1, 2, 3)])
    assert list(monitor.count) == [3]
    assert [float(t) for t in monitor.spike_trains()[0] / second] == [t for _, t in times(monitor)]


def test_many_spikes_in_delays_before_the_first_neuron_fires():
    source, group = inputs(*((0.0001 * k, 0) for k in range(1, 100))), lif(equations="v : 1", threshold="v >= 99")
    way, monitor = joined(source, group, delay=0.5), brian2.SpikeMonitor(group)
    brian2.Network(source, group, way, monitor).run(1 * second)
    close(times(monitor), [(0, 0.5099)])


def test_a_cell_of_a_notebook_that_is_run_again_starts_anew():
    """New objects under the old names, while a spike of the old ones is in a delay and their neuron is refractory."""

    def cell():
        brian2.start_scope()
        source, group = (
            inputs((0.001, 0), (0.004, 0)),
            lif(equations="dv/dt = -v / (10*ms) : 1 (unless refractory)", refractory=9 * ms),
        )
        way, monitor = joined(source, group, weight=1.5, delay=0.002), brian2.SpikeMonitor(group)
        brian2.run(5 * ms)
        return len(way), times(monitor)

    assert cell() == cell() == (1, [(0, 0.003)])


def test_parameters_can_differ_between_neurons_and_be_shared():
    group = brian2.NeuronGroup(
        3,
        "dv/dt = (drive * gain - v) / tau : 1\ndrive : 1\ntau : second\ngain : 1 (shared)",
        threshold="v > 1",
        reset="v = 0",
    )
    group.drive, group.tau, group.gain = [1, 2, 0.5], [10, 20, 30] * ms, 1.5
    monitor = brian2.SpikeMonitor(group)
    brian2.run(20 * ms)
    close(times(monitor), [(1, 0.020 * math.log(3 / 2)), (0, 0.010 * math.log(3)), (1, 0.040 * math.log(3 / 2))])


def test_conditions_of_parameters_of_one_and_of_all_neurons():
    group = lif(3, "dv/dt = (1.5*int(i > 0 and on > 0) - v) / (10*ms) : 1\non : 1 (shared)")
    group.on = 1
    monitor = brian2.SpikeMonitor(group)
    brian2.run(15 * ms)
    close(times(monitor), [(1, TAU * math.log(3)), (2, TAU * math.log(3))])


def test_conditions_in_synapses_of_indices_and_of_one_number():
    source, group = inputs((0.001, 0)), lif(3, "v : 1")
    way = brian2.Synapses(source, group, on_pre="v_post += 2*int(j > 0 and on > 0)", namespace={"on": 1})
    way.connect()
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, way, monitor).run(2 * ms)
    close(times(monitor), [(1, 0.001), (2, 0.001)])


def test_a_subexpression_and_units():
    El, tau = -70 * mV, 20 * ms
    group = brian2.NeuronGroup(
        1,
        "dv/dt = (rest - v) / tau : volt\nrest = El + push : volt\npush : volt",
        threshold="v > -50*mV",
        reset="v = El",
    )
    group.v, group.push = El, 40 * mV
    monitor = brian2.SpikeMonitor(group)
    brian2.run(30 * ms)
    close(times(monitor), [(0, 0.020 * math.log(2)), (0, 0.040 * math.log(2))], 1e-14)
    assert tau, El


def test_an_integrator_without_leak():
    group = lif(equations="dv/dt = slope : 1\nslope : Hz")
    group.slope = 128 * Hz
    monitor = brian2.SpikeMonitor(group)
    brian2.run(20 * ms)
    close(times(monitor), [(0, 1 / 128), (0, 2 / 128)])


def test_a_parameter_that_spikes_change_counts_them():
    # 0.25 per spike: the fourth reaches 1 for >=, the fifth exceeds it for >.
    source = inputs(*((0.001 * k, 0) for k in range(1, 10)))
    at_least, above = lif(equations="v : 1", threshold="v >= 1"), lif(equations="v : 1", threshold="v > 1")
    both = joined(source, at_least, weight=0.25), joined(source, above, weight=0.25)
    monitors = brian2.SpikeMonitor(at_least), brian2.SpikeMonitor(above)
    brian2.Network(source, at_least, above, both, monitors).run(20 * ms)
    assert times(monitors[0]) == [(0, 0.004), (0, 0.008)]
    assert times(monitors[1]) == [(0, 0.005)]
    assert at_least.v[:] == [0.25]
    assert above.v[:] == [1.0]


def test_resets():
    # A jump of 2.5 at 1 ms: v = 0 fires once; v -= 1 fires as often as the condition holds.
    found = {}
    for reset in ("v = 0", "v -= 1", "v *= 0.2", "v = 0.5*v - 0.5", "b += 1; v = 0"):
        source, group = inputs((0.001, 0)), lif(equations="v : 1\nb : 1", reset=reset)
        synapses = joined(source, group, weight=2.5)
        monitor = brian2.SpikeMonitor(group)
        brian2.Network(source, group, synapses, monitor).run(2 * ms)
        found[reset] = len(monitor.t), float(group.v[0]), float(group.b[0])
    assert found == {
        "v = 0": (1, 0.0, 0.0),
        "v -= 1": (2, 0.5, 0.0),
        "v *= 0.2": (1, 0.5, 0.0),
        "v = 0.5*v - 0.5": (1, 0.75, 0.0),
        "b += 1; v = 0": (1, 0.0, 1.0),
    }


@pytest.mark.parametrize(
    ("threshold", "firing"), [("v > 1 and i > 1", [2, 3]), ("on and v > 1", [0, 2]), ("i < 3 and v > 1 and on", [0, 2])]
)
def test_a_threshold_for_some_neurons_only(threshold, firing):
    group = lif(4, "dv/dt = (1.5 - v) / (10*ms) : 1\non : boolean", threshold)
    group.on = [True, False, True, False]
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, monitor).run(15 * ms)
    close(times(monitor), [(i, TAU * math.log(3)) for i in firing])
    assert group.v[1] == pytest.approx(1.5 * (1 - math.exp(-1.5)), abs=1e-14)


def test_a_threshold_that_a_timed_array_opens():
    """It is a level: a neuron that has passed it meanwhile fires when it opens."""
    gate = brian2.TimedArray([1, 0, 1], dt=12 * ms)
    group = lif(threshold="v > 1 and gate(t) > 0")
    group.drive = 1.5
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, monitor).run(40 * ms, namespace={"gate": gate})
    close(times(monitor), [(0, TAU * math.log(3)), (0, 0.024), (0, 0.024 + TAU * math.log(3))])


def test_a_reset_that_leaves_the_condition_fulfilled_is_refused():
    group = lif(reset="v = 1.5")
    group.v = 2
    with pytest.raises(ValueError, match=r"neuron 0 of 'neurongroup\w*' fires without end at 0 s: its reset leaves"):
        brian2.run(1 * ms)


def test_an_adapting_threshold():
    # v holds at 1.5 by its drive of 0; theta jumps by 1 at each spike and decays with 10 ms.
    group = brian2.NeuronGroup(
        1, "v : 1\ndtheta/dt = (1 - theta) / (10*ms) : 1", threshold="v > theta", reset="theta += 1"
    )
    group.v, group.theta = 1.5, 2
    monitor = brian2.SpikeMonitor(group, variables="theta")
    brian2.run(20 * ms)
    first = TAU * math.log(2)  # 1 + exp(-t / tau) = 1.5
    second_ = first + TAU * math.log(3)  # theta = 2.5: 1 + 1.5 exp(-t / tau) = 1.5
    close(times(monitor), [(0, first), (0, second_)], 1e-14)
    np.testing.assert_allclose(monitor.theta, [1.5, 1.5], rtol=1e-14)


def test_equal_time_constants_of_membrane_and_synapse():
    # v = (t / tau) exp(-t / tau) * g reaches its top g / e at tau; a threshold of g / (2 e) is reached earlier.
    group = brian2.NeuronGroup(
        1, "dv/dt = (g - v) / (10*ms) : 1\ndg/dt = -g / (10*ms) : 1", threshold="v > 0.5", reset="v = 0; g = 0"
    )
    group.g = math.e
    monitor = brian2.SpikeMonitor(group)
    brian2.run(20 * ms)
    ((_, t),) = times(monitor)
    assert t / TAU * math.exp(1 - t / TAU) == pytest.approx(0.5, abs=1e-15)
    assert t < TAU


def test_an_oscillation():
    # v = sin(w t) with w = 100 / s reaches 0.5 at asin(0.5) / w.
    group = brian2.NeuronGroup(
        1, "dv/dt = u * 100*Hz : 1\ndu/dt = -v * 100*Hz : 1", threshold="v > 0.5", reset="v = 0; u = 0"
    )
    group.u = 1
    monitor = brian2.SpikeMonitor(group)
    brian2.run(20 * ms)
    close(times(monitor), [(0, math.asin(0.5) / 100)], 1e-14)


def test_the_refractory_period_holds_marked_states_and_silences_all():
    source = inputs((0.002, 0), (0.004, 0), (0.006, 0))
    held = lif(
        equations="v : 1 (constant)\ndx/dt = 0*Hz : 1 (unless refractory)",
        threshold="x > 0.5",
        reset="x = 0",
        refractory=3 * ms,
    )
    free = lif(equations="dx/dt = 0*Hz : 1", threshold="x > 0.5", reset="x = 0", refractory=3 * ms)
    networks = [joined(source, g, "x_post += w") for g in (held, free)]
    monitors = [brian2.SpikeMonitor(g) for g in (held, free)]
    brian2.Network(source, held, free, networks, monitors).run(10 * ms)
    assert times(monitors[0]) == [(0, 0.002), (0, 0.006)]  # the arrival at 4 ms is lost
    assert times(monitors[1]) == [(0, 0.002), (0, 0.005), (0, 0.008)]  # they are not


def test_a_refractory_period_per_neuron():
    group = lif(2, equations="dv/dt = 200*Hz : 1 (unless refractory)\nref : second", refractory="ref")
    group.ref = [0, 2] * ms
    monitor = brian2.SpikeMonitor(group)
    brian2.run(13 * ms)
    close(times(monitor), [(0, 0.005), (1, 0.005), (0, 0.010), (1, 0.012)])
    np.testing.assert_allclose(group.lastspike_, [0.010, 0.012], rtol=1e-14)
    assert list(group.not_refractory) == [True, False]


def test_initial_values_above_the_threshold_fire_at_once():
    group = lif(2)
    group.v = [1.5, 0.5]
    monitor = brian2.SpikeMonitor(group)
    brian2.run(1 * ms)
    assert times(monitor) == [(0, 0.0)]


def test_a_neuron_that_rests_at_its_threshold():
    strict, not_strict = lif(threshold="v > 1"), lif(threshold="v >= 1")
    for group in (strict, not_strict):
        group.drive = group.v = 1
    monitors = brian2.SpikeMonitor(strict), brian2.SpikeMonitor(not_strict)
    brian2.Network(strict, not_strict, monitors).run(50 * ms)
    assert times(monitors[0]) == []
    assert times(monitors[1]) == [(0, 0.0)]  # afterwards it comes close to 1, and does not reach it


# ----- synapses and inputs


def test_times_of_a_generator_are_not_rounded():
    source = inputs((0.00012345, 0), (1 / 3000, 0))
    group = lif(equations="v : 1", threshold="v > 0.5")
    synapses = joined(source, group)
    monitors = brian2.SpikeMonitor(source), brian2.SpikeMonitor(group)
    brian2.Network(source, group, synapses, monitors).run(1 * ms)
    assert times(monitors[0]) == times(monitors[1]) == [(0, 0.00012345), (0, 1 / 3000)]


def test_a_generator_with_a_period():
    source = brian2.SpikeGeneratorGroup(2, [0, 1], [1, 2] * ms, period=5 * ms)
    monitor = brian2.SpikeMonitor(source)
    network = brian2.Network(source, monitor)
    network.run(7 * ms)
    network.run(5 * ms)
    close(times(monitor), [(0, 0.001), (1, 0.002), (0, 0.006), (1, 0.007), (0, 0.011)], 1e-17)


def test_spikes_before_the_begin_of_a_run_are_named():
    source = inputs((0.001, 0), (0.012, 0), name="source")
    monitor = brian2.SpikeMonitor(source)
    network = brian2.Network(source, monitor)
    with internals.caught_messages() as messages:
        network.run(5 * ms)
        network.run(5 * ms)
        assert not messages
        source.set_spikes([0, 0, 0], [0.004, 0.009, 0.013] * second)
        network.run(5 * ms)
        network.run(5 * ms)
    assert times(monitor) == [(0, 0.001), (0, 0.013)]
    assert [text for _, _, text in messages] == [
        "source: 2 of 3 spikes are before the begin of this run and are left out; times count from the begin of the "
        "first run"
    ]


def test_delays_of_synapses():
    source = inputs((0.001, 0), (0.0025, 1), n=2)
    group = lif(3, equations="v : 1", threshold="v > 0.5")
    synapses = brian2.Synapses(source, group, on_pre="v_post += 1")
    synapses.connect(i=[0, 0, 0, 1], j=[0, 1, 2, 2])
    synapses.delay = [0, 0.5, 3.25, 0.1] * ms
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, synapses, monitor).run(10 * ms)
    close(times(monitor), [(0, 0.001), (1, 0.0015), (2, 0.0026), (2, 0.00425)], 1e-18)


def test_one_delay_for_all():
    source, group = inputs((0.001, 0)), lif(equations="v : 1", threshold="v > 0.5")
    synapses = brian2.Synapses(source, group, on_pre="v_post += 1", delay=0.123 * ms)
    synapses.connect()
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, synapses, monitor).run(2 * ms)
    close(times(monitor), [(0, 0.001123)], 1e-18)


def test_several_statements_pathways_and_values():
    source = inputs((0.001, 0))
    group = brian2.NeuronGroup(2, "v : 1\nu : 1\ngain : 1")
    group.gain = [1, 10]
    synapses = brian2.Synapses(
        source,
        group,
        "w : 1\ndouble = 2*w : 1",
        on_pre={"one": "v_post += w * gain_post; u -= double", "two": "v += 100 + j"},
    )
    synapses.connect()
    synapses.w = [0.5, 0.25]
    synapses.two.delay = 2 * ms
    network = brian2.Network(source, group, synapses)
    network.run(2 * ms)
    assert list(group.v) == [0.5, 2.5]
    assert list(group.u) == [-1.0, -0.5]
    network.run(2 * ms)
    assert list(group.v) == [100.5, 103.5]


def test_subgroups():
    source = lif(3, equations="dv/dt = slope : 1\nslope : Hz")
    source.slope = [1000, 500, 400] * Hz
    group = lif(4, equations="v : 1", threshold="v > 0.5")
    synapses = brian2.Synapses(source[1:], group[2:], on_pre="v_post += 1")
    synapses.connect(j="i")
    monitor, half = brian2.SpikeMonitor(group), brian2.SpikeMonitor(group[3:])
    brian2.Network(source, group, synapses, monitor, half).run(3 * ms)
    close(times(monitor), [(2, 0.002), (3, 0.0025)])
    close(times(half), [(0, 0.0025)])


def test_a_sequence_without_delays_is_one_instant_and_a_loop_with_delays_repeats():
    source = inputs((0.001, 0))
    a, b = (lif(equations="v : 1", threshold="v > 0.5") for _ in range(2))
    synapses = joined(source, a), joined(a, b), joined(b, a, delay=0.002)
    monitors = brian2.SpikeMonitor(a), brian2.SpikeMonitor(b)
    brian2.Network(source, a, b, synapses, monitors).run(6 * ms)
    for monitor in monitors:
        close(times(monitor), [(0, 0.001), (0, 0.003), (0, 0.005)], 1e-18)


def test_a_loop_without_a_delay_through_a_current_has_a_meaning():
    # A spike adds to a current; the potential goes on from where it is. Two neurons excite each other.
    group = brian2.NeuronGroup(
        2, "dv/dt = (2 - v + g) / (10*ms) : 1\ndg/dt = -g / (5*ms) : 1", threshold="v > 1", reset="v = 0"
    )
    group.v = [0.0, 0.5]
    synapses = brian2.Synapses(group, group, on_pre="g_post += 1")
    synapses.connect(condition="i != j")
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, synapses, monitor).run(10 * ms)
    t1 = TAU * math.log(1.5)  # neuron 1 from 0.5
    v0 = 2 - 2 * math.exp(-t1 / TAU)

    def potential(s):  # of neuron 0 after t1: tau v' = 2 - v + exp(-2 s / tau)
        return 2 + (v0 - 2) * math.exp(-s / TAU) + math.exp(-s / TAU) - math.exp(-2 * s / TAU)

    (_, found), (i, t) = times(monitor)[:2]
    assert found == pytest.approx(t1, abs=1e-16)
    assert i == 0
    assert potential(t - t1) == pytest.approx(1.0, abs=1e-13)


def test_a_chain_without_delays_within_a_group_is_one_instant():
    source, group = inputs((0.001, 0)), lif(5, equations="v : 1", threshold="v > 0.5")
    first, chain = joined(source, group, j="0"), joined(group, group, condition="j == i + 1")
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, first, chain, monitor).run(2 * ms)
    assert times(monitor) == [(k, 0.001) for k in range(5)]


@pytest.mark.parametrize("groups", [1, 3])
def test_inhibition_through_one_neuron_more_comes_after_the_spike_that_it_would_prevent(groups):
    """0 excites 1 and 2, and 1 inhibits 2. On a clock, the inhibition comes a step later than the excitation."""
    source = inputs((0.001, 0), (0.003, 0))
    cells = [lif(3 // groups, equations="v : 1", name=f"cells{k}") for k in range(groups)]

    def wire(i, j, weight):
        pre, post = (cells[k % groups] for k in (i, j))
        return joined(pre, post, weight=weight, i=i // groups, j=j // groups)

    wires = [wire(0, 1, 1.5), wire(0, 2, 1.25), wire(1, 2, -1.0)]
    monitors = [brian2.SpikeMonitor(group) for group in cells]
    brian2.Network(source, cells, wires, joined(source, cells[0], weight=1.5, j="0"), monitors).run(2 * ms)
    assert [spike for monitor in monitors for spike in times(monitor)] == [(k // groups, 0.001) for k in range(3)]
    assert cells[-1].v[-1] == 0.0


@pytest.mark.parametrize(("reset", "left"), [("v = 0", [0.25, 0.25, 0.0]), ("v -= 1", [1.0, 1.0, 0.75])])
def test_in_a_loop_without_a_delay_spikes_arrive_before_the_resets_of_their_round(reset, left):
    """Neurons 0 and 1 fire in the first round and excite each other, and neuron 2, which fires in the second one."""
    source, group = inputs((0.001, 0)), lif(3, equations="v : 1", reset=reset)
    drive = joined(source, group, weight=[1.5, 1.5, 0.25])
    loop = joined(group, group, weight=0.25, condition="i != j and j != 2")
    tip = joined(group, group, weight=0.75, condition="i != 2 and j == 2")
    monitor = brian2.SpikeMonitor(group, variables="v")
    brian2.Network(source, group, drive, loop, tip, monitor).run(2 * ms)
    assert times(monitor) == [(0, 0.001), (1, 0.001), (2, 0.001)]
    assert list(monitor.v) == [1.5, 1.5, 1.75]
    assert list(group.v) == left


@pytest.mark.parametrize(("reset", "left"), [("v = 0; g = 0", 0.0), ("v = 0; g *= 0.5", 0.25), ("v = -g", 0.5)])
def test_a_loop_without_a_delay_into_what_the_reset_uses(reset, left):
    """Both neurons fire, and each sends 0.5 to the other one before it is reset."""
    source, group = inputs((0.001, 0)), lif(2, equations="v : 1\ng : 1", reset=reset)
    drive, loop = joined(source, group, weight=1.5), joined(group, group, "g_post += w", 0.5, condition="i != j")
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, drive, loop, monitor).run(2 * ms)
    assert times(monitor) == [(0, 0.001), (1, 0.001)]
    assert list(group.g) == [left, left]
    assert list(group.v) == ([-0.5, -0.5] if reset == "v = -g" else [0.0, 0.0])


def test_inhibition_without_a_delay_within_a_group():
    group = lif(2)
    group.drive, group.v = 1.5, [0.0, 0.5]
    loop, monitor = joined(group, group, "v_post -= w", 0.4, condition="i != j"), brian2.SpikeMonitor(group)
    network = brian2.Network(group, loop, monitor)
    network.store()
    network.run(25 * ms)
    other = (
        1.5 * (1 - 1 / 2.3) - 0.4
    )  # neuron 1 after the spike of neuron 0, which had 0.75 - 0.4 after that of neuron 1
    gaps = TAU * np.cumsum([math.log(2), math.log(2.3), math.log((1.5 - other) / 0.5)])
    close(times(monitor), [(1, gaps[0]), (0, gaps[1]), (1, gaps[2])])
    network.restore()
    group.v = 0  # both fire, and what they send comes before their resets
    network.run(15 * ms)
    close(times(monitor), [(0, TAU * math.log(3)), (1, TAU * math.log(3))])
    assert list(group.v) == pytest.approx([1.5 * (1 - 3 * math.exp(-1.5))] * 2, abs=1e-14)


def test_excitation_in_a_loop_without_an_end_is_refused_and_nothing_is_changed():
    source, group = inputs((0.001, 0), (0.003, 0)), lif(2, equations="v : 1", reset="v -= 1")
    drive, loop = joined(source, group, weight=1.5), joined(group, group)
    network = brian2.Network(source, group, drive, loop)
    with pytest.raises(
        ValueError, match=r"neuron 0 .* fires without end at 0.001 s: .* or the synapses of a loop a delay"
    ):
        network.run(2 * ms)
    assert list(group.v) == [0, 0]
    loop.w = 0
    monitor = brian2.SpikeMonitor(group)
    network.add(monitor)
    network.run(2 * ms)
    assert times(monitor) == [(0, 0.001), (1, 0.001)]
    assert list(group.v) == [0.5, 0.5]


def test_more_spikes_in_one_instant_than_there_was_memory_for():
    n = 300
    source, group = inputs((0.001, 0)), lif(n, equations="v : 1", threshold="v >= 1", reset="v -= 1")
    first, chain = (
        joined(source, group, weight=40.0, j="0"),
        joined(group, group, i=np.arange(n - 1), j=np.arange(1, n)),
    )
    late, monitor = joined(group, group, weight=0.001, delay=0.5, j="i"), brian2.SpikeMonitor(group)
    brian2.Network(source, group, first, chain, late, monitor).run(1 * second)
    assert list(monitor.i) == np.repeat(np.arange(n), 40).tolist()
    assert set(monitor.t_) == {0.001}
    np.testing.assert_allclose(group.v, 0.04, rtol=1e-13)


def test_what_arrives_together_is_summed_before_the_threshold():
    source = inputs((0.001, 0), (0.001, 1), n=2)
    group = lif(equations="v : 1", threshold="v > 0.5")
    synapses = joined(source, group, weight=[1.0, -0.75])
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, synapses, monitor).run(2 * ms)
    assert times(monitor) == []
    assert group.v[:] == [0.25]


def test_poisson_groups_have_their_rate_and_their_seed():
    def spikes(seed, *durations):
        brian2.seed(seed)
        group = brian2.PoissonGroup(100, rates="50*Hz + i*Hz")
        monitor = brian2.SpikeMonitor(group)
        network = brian2.Network(group, monitor)
        for duration in durations:
            network.run(duration * second)
        return np.array(monitor.t_), np.array(monitor.i)

    t, i = spikes(1, 2.0)
    assert abs(len(t) - 2 * (50 * 100 + 4950)) < 4 * math.sqrt(19900)
    assert not np.all(np.isin(np.round(t * 1e4, 6) % 1, (0, 1)))
    halves = np.bincount(i, minlength=100)[:50].sum(), np.bincount(i, minlength=100)[50:].sum()
    assert abs(halves[0] - 2 * 50 * 74.5) < 4 * math.sqrt(7450)
    pieces = spikes(1, 0.3, 0.7, 1.0)
    assert np.array_equal(pieces[0], t)
    assert np.array_equal(pieces[1], i)
    assert not np.array_equal(spikes(2, 2.0)[0][:10], t[:10])


@pytest.mark.parametrize("magic", [True, False])
def test_trials_in_new_networks_have_other_poisson_spikes(magic):
    def trial():
        brian2.start_scope()
        group = brian2.PoissonGroup(20, 100 * Hz)
        monitor = brian2.SpikeMonitor(group)
        (brian2 if magic else brian2.Network(group, monitor)).run(50 * ms)
        return times(monitor)

    found = []
    for _ in range(2):
        brian2.seed(5)
        found.append([trial() for _ in range(3)])
    assert found[0] == found[1]
    assert len({t for one in found[0] for _, t in one}) == sum(map(len, found[0]))


def test_poisson_groups_that_come_later_are_independent():
    brian2.seed(5)
    groups = [brian2.PoissonGroup(20, 100 * Hz, name=name) for name in ("later", "first")]
    monitors = [brian2.SpikeMonitor(group) for group in groups]
    network = brian2.Network(groups[1], monitors[1])
    network.run(250 * ms)
    network.add(groups[0], monitors[0])
    network.run(250 * ms)
    moved = np.array(monitors[0].t_) - 0.25
    assert np.abs(moved[:, None] - np.array(monitors[1].t_)).min() > 1e-12


def test_the_random_state_of_a_network_that_has_not_run():
    brian2.seed(5)
    group = brian2.PoissonGroup(20, 100 * Hz)
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(group, monitor)
    network.store()
    found = []
    for same in (True, True, False):
        network.restore(restore_random_state=same)
        network.run(50 * ms)
        found.append(times(monitor))
    assert found[0] == found[1] != found[2]


def test_gaps_of_a_poisson_group_are_exponential():
    from scipy import stats

    brian2.seed(4)
    group = brian2.PoissonGroup(20, 100 * Hz)
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, monitor).run(5 * second)
    gaps = np.concatenate([np.diff(t / second) for t in monitor.spike_trains().values()])
    assert stats.kstest(gaps * 100, "expon").pvalue > 0.01


def test_a_poisson_input_is_a_sum_of_poisson_processes():
    brian2.seed(3)
    group = brian2.NeuronGroup(50, "v : 1\nw : 1")
    group.w = 0.5
    source = brian2.PoissonInput(group, "v", N=20, rate=10 * Hz, weight="w")
    brian2.Network(group, source).run(1 * second)
    assert abs(group.v[:].sum() / 0.5 - 50 * 200) < 4 * 100


@pytest.mark.parametrize(
    ("weight", "each"), [("i", [0, 1, 2]), ("N", [3, 3, 3]), ("own", [3, 4, 5]), ("own - i + all", [9, 9, 9])]
)
def test_the_weight_of_a_poisson_input_counts_the_neurons_of_its_subgroup(weight, each):
    """As in Brian2, where subexpressions belong to the whole group."""

    def values(weight):
        brian2.seed(1)
        group = brian2.NeuronGroup(6, "v : 1\nown = i + 0.0 : 1\nall = N + 0.0 : 1")
        source = brian2.PoissonInput(group[3:], "v", N=1, rate=1000 * Hz, weight=weight)
        brian2.Network(group, source).run(100 * ms)
        return group.v[:]

    assert values(weight).tolist() == (values("1") * [0, 0, 0, *each]).tolist()


def test_spikes_from_outside_come_in_pieces_with_the_bits_of_one(monkeypatch):
    def script():
        brian2.start_scope()
        brian2.seed(5)
        poisson, source = brian2.PoissonGroup(20, np.arange(20) * 50 * Hz), inputs((0.001, 0), (0.003, 0), n=2)
        periodic = inputs((0.0007, 1), n=2, period=2 * ms)
        group = lif(20)
        group.drive = 0.9
        ways = [joined(s, group, weight=0.3, delay=0.002) for s in (poisson, source, periodic)]
        noise = brian2.PoissonInput(group, "v", N=10, rate=10 * Hz, weight=0.1)
        monitors = [brian2.SpikeMonitor(s) for s in (group, poisson, source, periodic)]
        rate = brian2.PopulationRateMonitor(poisson)
        network = brian2.Network(poisson, source, periodic, group, ways, noise, monitors, rate)
        network.run(50 * ms)
        network.run(50 * ms)
        return [times(m) for m in monitors], rate.rate_[:].tolist()

    whole = script()
    assert min(map(len, whole[0])) == 2
    monkeypatch.setattr("mtt_brian.engines.brian2.device._AT_ONCE", 20)
    assert script() == whole


# ----- monitors


def test_a_state_monitor_records_the_closed_form_at_its_interval():
    group = lif(2, equations="dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1\ntwice = 2*v : 1")
    group.drive = [0.5, 1.5]
    monitor = brian2.StateMonitor(group, ["v", "twice", "drive"], record=[1, 0], dt=0.7 * ms)
    brian2.run(7 * ms)
    t = 0.0007 * np.arange(10)
    np.testing.assert_allclose(monitor.t_, t, rtol=1e-15)
    np.testing.assert_allclose(monitor.v, [1.5 * (1 - np.exp(-t / TAU)), 0.5 * (1 - np.exp(-t / TAU))], atol=1e-15)
    np.testing.assert_allclose(monitor.twice, 2 * monitor.v)
    assert np.all(monitor.drive[0] == 1.5)


def test_a_state_monitor_holds_the_state_before_what_happens_at_its_time():
    source, group = inputs((0.001, 0)), brian2.NeuronGroup(1, "v : 1")
    synapses = joined(source, group)
    monitor = brian2.StateMonitor(group, "v", record=0, dt=0.5 * ms)
    brian2.Network(source, group, synapses, monitor).run(2 * ms)
    assert list(monitor.v[0]) == [0, 0, 0, 1]


def test_a_state_monitor_in_a_late_slot_holds_the_state_behind_what_happens_at_its_time():
    """A spike at 1 ms; another one is answered and resets at 2 ms; the drive begins at 3 ms; a run ends at 4 ms."""
    source = inputs((0.001, 0), (0.002, 0), (0.004, 0))
    names = {"drive": brian2.TimedArray([0, 1], dt=3 * ms)}
    equations = "dv/dt = drive(t) / (10*ms) : 1\nnow = v + drive(t) : 1"
    group = lif(1, equations, threshold="v > 1.5", namespace=names)
    learning = brian2.Synapses(source, group, "w : 1", on_pre="w += 1\nv_post += 1")
    learning.connect()
    monitors = [
        brian2.StateMonitor(part, names, record=0, dt=1 * ms, when=when)
        for part, names in ((group, ["v", "now"]), (learning, ["w"]))
        for when in ("thresholds", "end")
    ]
    network = brian2.Network(source, group, learning, monitors)
    for _ in range(2):
        network.run(4 * ms)
    before, behind = monitors[:2]
    np.testing.assert_allclose(before.v[0], [0, 0, 1, 0, 0.1, 1.2, 1.3, 1.4], atol=1e-12)
    np.testing.assert_allclose(behind.v[0], [0, 1, 0, 0, 1.1, 1.2, 1.3, 1.4], atol=1e-12)
    assert list(before.t_) == list(behind.t_) == [k / 1000 for k in range(8)]
    np.testing.assert_allclose(behind.now[0] - behind.v[0], [0, 0, 0, 1, 1, 1, 1, 1])
    assert monitors[2].w[0].tolist() == [0, 0, 1, 2, 2, 3, 3, 3]
    assert monitors[3].w[0].tolist() == [0, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(("when", "seen"), [("before_start", [0, 1]), ("after_start", [1, 2]), ("end", [1, 2])])
def test_a_state_monitor_and_code_that_runs_regularly(when, seen):
    group = brian2.NeuronGroup(1, "v : 1")
    group.run_regularly("v += 1", dt=1 * ms)
    monitor = brian2.StateMonitor(group, "v", record=0, dt=1 * ms, when=when, order=-1)
    brian2.Network(group, monitor).run(2 * ms)
    assert monitor.v[0].tolist() == seen


def test_single_precision():
    """A limit of float64 is no number of float32, and what the code leaves as it is does not change."""
    brian2.prefs.core.default_float_dtype, kept = np.float32, brian2.prefs.core.default_float_dtype
    try:
        group = lif(2, "dv/dt = (1.5 - v) / (10*ms) : 1")
        group.run_regularly("v = v", dt=3 * ms)
    finally:
        brian2.prefs.core.default_float_dtype = kept
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(group, monitor)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(2):
            network.run(6 * ms)
    np.testing.assert_allclose(monitor.t_, TAU * math.log(3), rtol=1e-6)


def test_a_state_monitor_can_record_the_end_of_a_run():
    group = lif(3, equations="v : 1\ntwice = 2*v + i : 1\np : 1", threshold=None, reset=None)
    monitor = brian2.StateMonitor(group[1:], ["v", "twice"], record=[1], dt=1 * ms)
    source = inputs((0.0015, 0))
    network = brian2.Network(source, group, monitor, joined(source, group))
    network.run(2.5 * ms)
    monitor.record_single_timestep()
    assert monitor.t_[:].tolist() == [0, 0.001, 0.002, 0.0025]
    assert monitor.v.tolist() == [[0, 0, 1, 1]]
    assert monitor.twice.tolist() == [[2, 2, 4, 4]]
    network.run(1 * ms)
    assert len(monitor.t) == 5


def test_monitors_do_not_change_spikes():
    found = []
    for records in (False, True):
        group = lif(3)
        group.drive = [1.2, 1.5, 1.7]
        monitor = brian2.SpikeMonitor(group)
        slots = ("start", "end") if records else ()
        more = [brian2.StateMonitor(group, "v", record=True, dt=0.03 * ms, when=slot) for slot in slots]
        brian2.Network(group, monitor, more).run(100 * ms)
        found.append(times(monitor))
    assert found[0] == found[1]


def test_a_rate_monitor_counts_per_step():
    source = inputs((0.00005, 0), (0.00105, 0), (0.00109, 1), n=2)
    monitor = brian2.PopulationRateMonitor(source)
    brian2.Network(source, monitor).run(2 * ms)
    rate = np.zeros(20)
    rate[0], rate[10] = 1 / (2 * 1e-4), 2 / (2 * 1e-4)
    np.testing.assert_allclose(monitor.rate / Hz, rate)
    np.testing.assert_allclose(monitor.t_, 1e-4 * np.arange(20))


# ----- several runs


def network_of_two():
    """Two groups, inputs and delays; nothing about it is a multiple of anything."""
    random = np.random.default_rng(5)
    source = inputs(
        *(
            (float(t), int(i))
            for t, i in zip(np.sort(random.uniform(0, 0.1, 60)), random.integers(0, 4, 60), strict=True)
        ),
        n=4,
    )
    equations = "dv/dt = (g + drive - v) / (10*ms) : 1 (unless refractory)\ndg/dt = -g / (3*ms) : 1\ndrive : 1"
    one, two = (
        brian2.NeuronGroup(8, equations, threshold="v > 1", reset="v -= 1", refractory=1.3 * ms) for _ in range(2)
    )
    one.drive, two.drive = random.uniform(0.8, 1.3, 8), random.uniform(0.5, 0.9, 8)
    one.v = random.uniform(0, 1, 8)
    synapses = [joined(source, one, "g_post += w", random.uniform(0, 2, 32))]
    synapses += [
        joined(a, b, "g_post += w", random.normal(0.3, 0.5, 64), random.uniform(0, 0.01, 64))
        for a, b in ((one, two), (two, one))
    ]
    poisson = brian2.PoissonInput(two, "g", 10, 30 * Hz, 0.4)
    monitors = brian2.SpikeMonitor(one), brian2.SpikeMonitor(two)
    return brian2.Network(source, one, two, synapses, poisson, monitors), monitors, one, two, synapses


def test_several_runs_give_the_bits_of_one():
    found = []
    for cuts in ((0.1,), (0.03, 0.07), (0.01, 0.0123, 0.0004, 0.0773), (0.0, 0.05, 0.05)):
        brian2.seed(1)
        network, monitors, *_ = network_of_two()
        for cut in cuts:
            network.run(cut * second)
        assert float(network.t) == pytest.approx(0.1)
        found.append([times(m) for m in monitors])
    assert all(other == found[0] for other in found[1:])
    assert sum(map(len, found[0])) > 100


def test_parameters_changed_between_runs():
    group = lif(2)
    group.drive = [1.5, 0.5]
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(group, monitor)
    network.run(10 * ms)
    group.drive = [1.5, 2.0]
    network.run(10 * ms)
    v = 0.5 * (1 - math.exp(-1))
    close(times(monitor), [(0, TAU * math.log(3)), (1, 0.01 + TAU * math.log((2 - v) / 1))], 1e-14)


def test_states_changed_between_runs():
    group = lif()
    network = brian2.Network(group, monitor := brian2.SpikeMonitor(group))
    network.run(5 * ms)
    group.v = 1.25
    network.run(5 * ms)
    assert times(monitor) == [(0, 0.005)]


def test_weights_changed_while_spikes_are_in_delays():
    source, group = inputs((0.001, 0)), brian2.NeuronGroup(1, "v : 1")
    synapses = joined(source, group, delay=0.005)
    network = brian2.Network(source, group, synapses)
    network.run(3 * ms)
    synapses.w = 7
    network.run(5 * ms)
    assert group.v[:] == [7.0]


def test_objects_replaced_by_others_of_their_name():
    def cells(n, weight, delay):
        source, group = inputs((0.001, 0), name="source"), lif(n, equations="v : 1", threshold="v > 9", name="cells")
        poisson = brian2.PoissonGroup(n, 100 * Hz, name="noise")
        way = brian2.Synapses(source, group, "w : 1", on_pre="v_post += w", delay=delay, name="way")
        way.connect()
        way.w = weight
        return [source, group, poisson, way, brian2.SpikeMonitor(group, name="spikes")]

    old = cells(2, 3, 1 * ms)
    network = brian2.Network(old)
    network.run(3 * ms)
    assert list(old[1].v) == [3, 3]
    network.remove(old)
    old.clear()
    gc.collect()
    new = cells(3, 5, 1 * ms)
    network.add(new)
    network.run(3 * ms)
    assert list(new[1].v) == [0, 0, 0]
    new[0].set_spikes([0], [6.5] * ms)
    network.run(1 * ms)
    network.remove(new)
    new.clear()
    gc.collect()
    network.add(cells(3, 5, 1 * ms))
    with pytest.raises(ValueError, match="groups were changed while 1 spikes are in delays"):
        network.run(3 * ms)


def test_delays_changed_while_spikes_are_in_delays_are_refused():
    source, group = inputs((0.001, 0)), brian2.NeuronGroup(1, "v : 1")
    synapses = joined(source, group, delay=0.005)
    network = brian2.Network(source, group, synapses)
    network.run(3 * ms)
    synapses.delay = 6 * ms
    with pytest.raises(ValueError, match="delays or groups were changed while 1 spikes are in delays"):
        network.run(5 * ms)


@pytest.mark.parametrize("file", [False, True])
def test_store_and_restore(tmp_path, file):
    where = {"filename": str(tmp_path / "state")} if file else {}
    brian2.seed(2)
    network, monitors, *_ = network_of_two()
    network.run(40 * ms)
    network.store(**where)
    network.run(60 * ms)
    first = [times(m) for m in monitors]
    network.restore(**where, restore_random_state=True)
    assert float(network.t) == pytest.approx(0.04)
    network.run(60 * ms)
    assert [times(m) for m in monitors] == first
    network.restore(**where)
    network.run(60 * ms)
    other = [times(m) for m in monitors]
    assert other != first  # other Poisson spikes
    assert [s for s in other[0] if s[1] < 0.04] == [s for s in first[0] if s[1] < 0.04]


def test_restore_in_another_process(tmp_path):
    """New objects of the same names, while a spike of the old ones is in a delay and their neuron is refractory."""

    def build():
        source, group = inputs((0.001, 0), name="source"), lif(refractory=9 * ms, name="cells")
        group.drive = 1.1
        way = brian2.Synapses(source, group, on_pre="v_post += 1.2", delay=3 * ms, name="way")
        way.connect()
        more = brian2.Synapses(source, group, on_pre="v_post += 1.3", delay=6 * ms, name="more")
        more.connect()
        return brian2.Network(source, group, way, more, brian2.SpikeMonitor(group, name="spikes"))

    network = build()
    network.run(5 * ms)
    network.store(filename=str(tmp_path / "state"))
    network.run(20 * ms)
    expected = times(network["spikes"])
    assert len(expected) == 2
    del network
    gc.collect()
    network = build()
    network.restore(filename=str(tmp_path / "state"))
    network.run(20 * ms)
    assert times(network["spikes"]) == expected


def test_restored_synapses_need_no_connect(tmp_path):
    def build(**options):
        source, group = inputs((0.001, 0), name="source"), lif(3, equations="v : 1", name="cells")
        return source, group, brian2.Synapses(source, group, on_pre="v_post += 0.5", name="way", **options)

    for options, seconds in (({"delay": 1 * ms}, None), ({}, [0.001, 0.002])):
        parts = build(**options)
        parts[2].connect(i=0, j=[0, 2])
        if seconds:
            parts[2].delay = seconds * second
        brian2.Network(parts).store(filename=str(tmp_path / "state"))
        del parts
        gc.collect()
        parts = build(**options)
        network = brian2.Network(parts)
        network.restore(filename=str(tmp_path / "state"))
        if seconds and internals.memory(parts[2].pre.variables["delay"]).size == 0:  # Brian2 before 2.10
            with pytest.raises(ValueError, match="run way: delay: restore did not restore it; call connect, and set"):
                network.run(5 * ms)
        else:
            network.run(5 * ms)
            assert parts[1].v[:].tolist() == [0.5, 0, 0.5]
        del parts, network
        gc.collect()


def test_restore_while_spikes_are_in_delays_after_these_were_changed():
    """Brian2 restores delays from 2.10 on."""
    source, group = inputs((0.001, 0)), lif(3, equations="v : 1", threshold="v > 1e9")
    synapses = joined(source, group, weight=[1, 10, 100], delay=[0.003, 0.001, 0.002])
    network = brian2.Network(source, group, synapses)
    network.run(1.5 * ms)
    network.store()
    network.run(5 * ms)
    synapses.delay = [1, 2, 3] * ms
    network.run(1 * ms)
    network.restore()
    synapses.delay = [1, 2, 3] * ms
    with pytest.raises(ValueError, match="delays or groups were changed while 1 spikes are in delays"):
        network.run(2 * ms)
    synapses.delay = [3, 1, 2] * ms
    network.run(2 * ms)
    assert list(group.v) == [0, 10, 100]


def test_restore_to_before_the_first_run():
    network, monitors, *_ = network_of_two()
    network.store()
    network.run(20 * ms)
    first = times(monitors[0])
    network.restore()
    network.run(20 * ms)
    assert times(monitors[0])[:5] == first[:5]


def test_the_same_script_gives_the_same_bits_and_a_shift_shifts_all():
    found = []
    for shift in (0.0, 0.0, 0.125):
        source = inputs((0.001 + shift, 0), (0.0033 + shift, 0))
        group = lif(equations="dv/dt = (g - v) / (10*ms) : 1\ndg/dt = -g / (3*ms) : 1")
        synapses = joined(source, group, "g_post += w", 9.0)
        monitor = brian2.SpikeMonitor(group)
        brian2.Network(source, group, synapses, monitor).run(200 * ms)
        found.append(times(monitor))
    assert len(found[0]) > 1
    assert found[0] == found[1]
    close(found[2], [(i, t + 0.125) for i, t in found[0]], 1e-16)


def test_magic_runs_reports_and_stop(capsys):
    group = lif()
    group.drive = 1.5
    monitor = brian2.SpikeMonitor(group)
    brian2.run(20 * ms, report="text")
    text = capsys.readouterr().out
    assert text.count("Starting simulation") == 1
    assert "20. ms (100%) simulated" in text
    calls = []
    brian2.run(20 * ms, report=lambda *a: calls.append(a[1]), report_period=0 * second)
    assert calls[0] == 0.0
    assert calls[-1] == 1.0
    assert len(calls) > 50
    assert len(monitor.t) == 3
    assert brian2.defaultclock.t_ == pytest.approx(0.04)


def test_a_run_can_be_stopped():
    group = lif()
    group.drive = 1.5
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(group, monitor)
    network.run(1 * second, report=lambda *a: network.stop() if a[1] > 0.1 else None, report_period=0 * second)
    assert 0.1 < float(network.t) < 0.2
    stopped = times(monitor)
    network.run(1 * second - network.t)
    assert times(monitor)[: len(stopped)] == stopped
    assert len(monitor.t) == math.floor(1 / (TAU * math.log(3)))


def test_the_standard_device_is_as_before():
    brian2.set_device("runtime")
    group = lif(method="exact")
    group.drive = 1.5
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, monitor).run(12 * ms)
    assert times(monitor)[0][1] == pytest.approx(0.0109, abs=1e-9)  # a multiple of 0.1 ms


def test_explain_lists_what_runs_and_what_does_not():
    good, bad = lif(name="good"), brian2.NeuronGroup(1, "dv/dt = log(v) / (10*ms) : 1", name="bad")
    explained = mtt_brian.event_driven.explain(brian2.Network(good, bad))
    assert explained.runs == ("good",)
    (refusal,) = explained.refused
    assert refusal.name == "bad"
    assert "dv/dt contains log(v)" in str(explained)


def test_explain_lists_what_a_run_refuses():
    noise, bad = brian2.PoissonGroup(2, "10*Hz*exp(-t/second)", name="noise"), lif(threshold="v**2 > 1", name="bad")
    seen = brian2.SpikeMonitor(bad, name="seen")
    table = brian2.StateMonitor(noise, "rates", record=True, name="table")
    wrong = brian2.SpikeMonitor(noise, variables="rates", name="wrong")
    network = brian2.Network(noise, bad, seen, table, wrong)
    explained = mtt_brian.event_driven.explain(network)
    assert {reason.name for reason in explained.refused} == {"noise", "bad", "table", "wrong"}
    assert explained.runs == ("seen",)
    with pytest.raises(mtt_brian.event_driven.Refused) as caught:
        network.run(1 * ms)
    assert set(caught.value.reasons) == set(explained.refused)


def test_explain_finds_names_where_it_is_called():
    tau, good = 10 * ms, brian2.NeuronGroup(1, "dv/dt = -v / tau : 1", name="good")
    assert tau
    assert "good" in mtt_brian.event_driven.explain().runs
    assert mtt_brian.event_driven.explain(brian2.Network(good)).refused == ()


def test_restore_after_parameters_were_changed():
    group = lif()
    group.drive = 1.5
    network = brian2.Network(group, monitor := brian2.SpikeMonitor(group))
    network.run(5 * ms)
    network.store()
    found = []
    for _ in range(2):
        group.drive = 3
        network.run(5 * ms)
        network.restore()
        network.run(10 * ms)
        found.append(times(monitor))
        network.restore()
    assert found[0] == found[1]
    close(found[0], [(0, TAU * math.log(3))], 1e-14)


def test_sources_that_are_inactive_are_silent():
    generator = brian2.SpikeGeneratorGroup(1, [0, 0], [1, 6] * ms)
    poisson = brian2.PoissonGroup(20, 1e4 * Hz)
    cells = lif(n=20)
    drive = brian2.PoissonInput(cells, "v", 10, 1e4 * Hz, weight=2)
    monitors = [brian2.SpikeMonitor(part) for part in (generator, poisson, cells)]
    network = brian2.Network(generator, poisson, cells, drive, monitors)
    for part in (generator, poisson, drive):
        part.active = False
    network.run(5 * ms)
    assert [monitor.num_spikes for monitor in monitors] == [0, 0, 0]
    for part in (generator, poisson, drive):
        part.active = True
    network.run(5 * ms)
    assert monitors[0].t / ms == [6]
    for monitor in monitors[1:]:
        assert monitor.num_spikes > 0
        assert min(monitor.t) >= 5 * ms


def test_poisson_neurons_do_not_wait_for_one_another():
    """20 s at 10 kHz beside neurons that hardly ever fire: drawn in a moment, whatever the pieces of the run."""
    rates = np.array([1e4, 0.0, 0.1])
    whole = PoissonProcess(np.random.SeedSequence(1), 3, 0.0)
    t, i = whole.until(rates, 0.0, 20.0)
    assert abs(np.sum(i == 0) - 2e5) < 5 * np.sqrt(2e5)
    assert not np.any(i == 1)
    pieces = PoissonProcess(np.random.SeedSequence(1), 3, 0.0)
    found = [pieces.until(rates, *ends) for ends in itertools.pairwise((0, 1e-4, 0.3, 7, 20))]
    assert np.concatenate([part[0] for part in found]).tolist() == t.tolist()
    assert np.concatenate([part[1] for part in found]).tolist() == i.tolist()


def test_parameters_may_have_the_name_of_a_function_of_numpy():
    cells = brian2.NeuronGroup(
        2, "dv/dt = (less*int(i > 0) - v) / (10*ms) : 1\nless : 1", threshold="v > 1", reset="v = 0"
    )
    cells.less = 2
    monitor = brian2.SpikeMonitor(cells)
    brian2.Network(cells, monitor).run(7 * ms)
    assert monitor.i[:].tolist() == [1]
    assert float(monitor.t[0]) == pytest.approx(0.01 * np.log(2), abs=1e-12)


def test_a_run_that_fails_changes_nothing():
    """A spike of the first run is in a delay when the second one ends in an error; the third one goes on from there."""

    def spikes(fail):
        source, poisson = inputs((0.001, 0), (0.004, 0)), brian2.PoissonGroup(50, 200 * Hz)
        group, counter = (
            lif(equations="v : 1\nrest : 1", threshold="v > 0.5", reset="v = rest"),
            lif(50, "n : 1", "n < 0"),
        )
        ways = joined(source, group, delay=0.002), joined(poisson, counter, "n_post += 1", j="i")
        monitor, arrivals = brian2.SpikeMonitor(group), brian2.SpikeMonitor(poisson)
        rate = brian2.PopulationRateMonitor(group)
        network = brian2.Network(source, poisson, group, counter, ways, monitor, arrivals, rate)
        network.run(2 * ms)
        if fail == "reset":
            group.rest = 2
            with pytest.raises(ValueError, match="fires without end"):
                network.run(100 * ms)
            group.rest = 0
        elif fail == "report":
            with pytest.raises(KeyboardInterrupt):
                network.run(100 * ms, report=interrupt, report_period=0 * second)
        elif fail == "monitor":
            wrong = brian2.SpikeMonitor(poisson, variables="rates")
            network.add(wrong)
            with pytest.raises(ValueError, match="it is not a variable of the equations"):
                network.run(100 * ms)
            network.remove(wrong)
        assert float(network.t) == 0.002
        network.run(98 * ms)
        assert counter.n[:].tolist() == list(arrivals.count)
        assert abs(arrivals.num_spikes - 1000) < 5 * math.sqrt(1000)
        assert sum(rate.rate_) * 1e-4 == pytest.approx(2)
        return times(monitor)

    def interrupt(elapsed, completed, start, duration):
        if completed > 0.5:
            raise KeyboardInterrupt

    expected = spikes(None)
    assert [i for i, _ in expected] == [0, 0]
    assert spikes("reset") == spikes("report") == spikes("monitor") == expected


def test_poisson_spikes_go_on_after_a_stop():
    brian2.seed(2)
    group = brian2.PoissonGroup(100, 100 * Hz)
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(group, monitor)
    network.run(1 * second, report=lambda *a: network.stop() if a[1] > 0.1 else None, report_period=0 * second)
    assert 0.1 < float(network.t) < 0.2
    network.run(1 * second - network.t)
    assert np.all(np.abs(np.histogram(monitor.t_, np.linspace(0, 1, 11))[0] - 1000) < 5 * math.sqrt(1000))


def test_no_spike_is_missing_in_the_rates_of_runs_that_end_within_a_time_step():
    source = inputs((0.00022, 0), (0.00024, 0), (0.00027, 0), (0.00041, 0))
    monitor, second_one = (brian2.PopulationRateMonitor(source) for _ in range(2))
    network = brian2.Network(source, monitor, second_one)
    for duration in (0.23, 0.03, 0.32):
        network.run(duration * ms)
    np.testing.assert_allclose(monitor.rate_ * 1e-4, [0, 0, 3, 0, 1, 0])
    np.testing.assert_allclose(monitor.t_, 1e-4 * np.arange(6))
    assert list(second_one.rate_) == list(monitor.rate_)
    assert not np.signbit(monitor.t_[0])


def test_groups_in_which_nothing_changes():
    values = brian2.NeuronGroup(3, "x : 1\nk : integer\nsquare = x**2 : 1")
    values.x = [1, 2, 3]
    group = lif()
    group.drive = 1.5
    seen, monitor = brian2.StateMonitor(values, ["x", "square"], record=[1], dt=5 * ms), brian2.SpikeMonitor(group)
    network = brian2.Network(values, group, seen, monitor)
    network.run(10 * ms)
    values.x = 5
    network.run(5 * ms)
    close(times(monitor), [(0, TAU * math.log(3))])
    assert seen.x.tolist() == [[2, 2, 5]]
    assert seen.square.tolist() == [[4, 4, 25]]
    brian2.Network(brian2.NeuronGroup(2, "x : 1")).run(1 * ms)


def test_a_profile_is_empty():
    network = brian2.Network(lif())
    network.run(1 * ms, profile=True)
    assert "no code objects have been run" in str(brian2.profiling_summary(network))


def test_any_name_can_be_that_of_a_group():
    source, group = inputs((0.001, 0)), lif(equations="v : 1", name="sources")
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(source, group, joined(source, group, weight=2), monitor).run(2 * ms)
    assert times(monitor) == [(0, 0.001)]


def test_classes_of_a_script():
    class Cells(brian2.NeuronGroup):
        def __init__(self, drive):
            super().__init__(1, f"dv/dt = ({drive} - v) / (10*ms) : 1", threshold="v > 1", reset="v = 0")

    group = Cells(1.5)
    monitor = brian2.SpikeMonitor(group)
    brian2.run(12 * ms)
    close(times(monitor), [(0, TAU * math.log(3))])


@pytest.mark.skipif(not hasattr(brian2, "EventClock"), reason="needs Brian2 2.10")
def test_states_at_given_times():
    group = lif()
    group.drive = 1.5
    seen = brian2.StateMonitor(group, "v", record=True, clock=brian2.EventClock([1.23, 2, 7.7, 15] * ms))
    network = brian2.Network(group, seen)
    for _ in range(2):
        network.run(5 * ms)
    np.testing.assert_allclose(seen.t_, [0.00123, 0.002, 0.0077])
    np.testing.assert_allclose(seen.v[0], -1.5 * np.expm1(-seen.t_ / TAU), rtol=1e-12)


def test_values_that_differ_little_keep_their_digits():
    """Expanded, exp(-(i - 150)**2 / 8) is 0 times inf, and (x - 1)**6 only rounding errors."""
    group = lif(160, "dv/dt = (5*exp(-(i - mu)**2 / (2*sigma**2)) - v) / (10*ms) : 1\nmu : 1\nsigma : 1")
    group.mu, group.sigma = 150, 2
    monitor = brian2.SpikeMonitor(group)
    brian2.run(15 * ms)
    drive = 5 * np.exp(-((np.arange(160) - 150) ** 2) / 8)
    first = TAU * np.log(drive[drive > 1.3] / (drive[drive > 1.3] - 1))
    assert len(first) == 7
    np.testing.assert_allclose([t[0] / second for t in monitor.spike_trains().values() if len(t)], first, rtol=1e-13)

    group = brian2.NeuronGroup(20, "dv/dt = ((x - 1)**6 * k - v) / (10*ms) : 1\nx : 1\nk : 1\nu : 1")
    group.x, group.k = "1 + 0.001*(i + 1)", 1e18
    source = inputs((0, 0))
    near = joined(source, group, "u_post += (x_post - 1)**6")
    brian2.Network(source, group, near).run(1 * ms)
    power = (0.001 * np.arange(1, 21)) ** 6
    np.testing.assert_allclose(group.v, -1e18 * power * math.expm1(-0.1), rtol=1e-11)
    np.testing.assert_allclose(group.u, power, rtol=1e-11)


def test_numbers_in_a_text_have_all_their_digits():
    """Three times 1/3 is 1; of 15 digits, it is less."""
    source, group = inputs(*((0.001 * k, 0) for k in (1, 2, 3))), lif(equations="v : 1", threshold="v >= 1")
    monitor = brian2.SpikeMonitor(group)
    network = brian2.Network(source, group, joined(source, group, f"v_post += {1 / 3!r}"), monitor)
    network.run(5 * ms)
    assert times(monitor) == [(0, 0.003)]


# ----- what Brian2 permits in statements


def test_a_reset_may_have_comments_and_names_of_its_own():
    """w starts with the v of the crossing, 1.5 thresholds, which the reset has set to 0 before."""
    group = lif(
        equations="dv/dt = (3 - v) / (10*ms) : 1\ndw/dt = -w / (20*ms) : 1",
        threshold="v > 1.5",
        reset="old = 2*v  # a name of its own\nv = 0  # rest\nw += old / 2",
    )
    monitor = brian2.SpikeMonitor(group, variables=["w"])
    brian2.run(15 * ms)
    close(times(monitor), [(0, k * TAU * math.log(2)) for k in (1, 2)])
    np.testing.assert_allclose(monitor.w, [0, 1.5 * 0.5**0.5], rtol=1e-12)


def test_statements_of_synapses_may_have_comments_and_names_of_their_own():
    group = lif(2, equations="v : 1\nu : 1", threshold="v > 100")
    source = inputs((0.001, 0))
    synapses = joined(source, group, "double = 2*w # of one\nsum_ = double + 1\nv_post += sum_; u_post -= double", 3.0)
    brian2.Network(source, group, synapses).run(2 * ms)
    assert list(group.v) == [7, 7]
    assert list(group.u) == [-6, -6]


def test_synapses_may_read_their_delay():
    source, group = inputs((0.001, 0)), lif(3, equations="v : 1", threshold="v > 100")
    synapses = brian2.Synapses(source, group, on_pre={"one": "v_post += delay/ms", "two": "v_post += 10*delay/ms"})
    synapses.connect()
    synapses.one.delay, synapses.two.delay = "j*ms", 2 * ms
    brian2.Network(source, group, synapses).run(5 * ms)
    np.testing.assert_allclose(group.v, [20, 21, 22])


def test_the_weight_of_a_poisson_input_may_be_a_subexpression():
    group = lif(10, equations="v : 1\na : 1\nweight = 2*a : 1", threshold="v < 0")
    group.a = "i + 1"
    drive = brian2.PoissonInput(group, "v", 1000, 1000 * Hz, weight="weight")
    brian2.Network(group, drive).run(10 * ms)
    np.testing.assert_allclose(group.v / group.a, 20_000, rtol=0.05)


def test_a_reset_may_compare_what_it_has_set():
    group = lif(2, "dv/dt = (1.5 - v) / (10*ms) : 1\nn : 1", reset="v = 0.5*int(i > 0); n += int(v < 0.3)")
    monitor = brian2.SpikeMonitor(group)
    brian2.run(20 * ms)
    close(times(monitor), [(0, TAU * math.log(3)), (1, TAU * math.log(3)), (1, TAU * math.log(6))], 1e-14)
    assert group.n[:].tolist() == [1, 0]


def test_exprel_of_a_parameter_has_a_value():
    """exprel(x) = (exp(x) - 1) / x, and 1 at 0."""
    group = lif(2, "dv/dt = (2*exprel(x) - v) / (10*ms) : 1\nx : 1")
    group.x = [0, 1]
    monitor = brian2.SpikeMonitor(group)
    brian2.run(7 * ms)
    drive = 2 * (math.e - 1)
    first = TAU * math.log(drive / (drive - 1))
    assert 2 * first < 0.007 < 3 * first
    close(times(monitor), [(1, first), (1, 2 * first), (0, TAU * math.log(2))], 1e-14)
