"""`TimedArray` on the device event_driven: steps on paper, and references that share no code with the device."""

import math

import brian2
import numpy as np
import pytest
from brian2 import Hz, ms, mV, second
from scipy.optimize import brentq

import mtt_brian.event_driven
from mtt_brian.translate.timed_arrays import TimedArray, call_of, without_calls

TAU = 0.010
LIF = "dv/dt = (stim(t) - v) / (10*ms) : 1"


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def lif(stim, n=1, equations=LIF, threshold="v > 1", reset="v = 0", **options):
    return brian2.NeuronGroup(n, equations, threshold=threshold, reset=reset, namespace={"stim": stim}, **options)


def run(duration, *objects):
    network = brian2.Network(*objects)
    network.run(duration * second)
    return network


def spikes_of(group, duration, *objects):
    """Spikes of a group as (neuron, seconds)."""
    monitor = brian2.SpikeMonitor(group)
    run(duration, group, monitor, *objects)
    return [(int(i), float(t)) for i, t in zip(monitor.i, monitor.t_, strict=True)]


def close(found, expected, tolerance=1e-14):
    assert [i for i, _ in found] == [i for i, _ in expected]
    np.testing.assert_allclose([t for _, t in found], [t for _, t in expected], rtol=0, atol=tolerance)


# ----- steps of a current


def test_a_step_of_a_current_on_paper():
    """2 for 5 ms, 0 for 5 ms, then 1.5: no spike before 10 ms, then the first one from what is left."""
    v = 2 * (1 - math.exp(-0.5)) * math.exp(-0.5)
    first = 0.010 + TAU * math.log((1.5 - v) / 0.5)
    expected = [(0, first), (0, first + TAU * math.log(3)), (0, first + 2 * TAU * math.log(3))]
    close(spikes_of(lif(brian2.TimedArray([2, 0, 1.5], dt=5 * ms)), 0.040), expected)


@pytest.mark.parametrize(
    "equations",
    [
        "dv/dt = (drive - v) / (10*ms) : 1\ndrive = stim(t) : 1",
        "dv/dt = (drive - v) / (10*ms) : 1\ndrive = 2 * half : 1\nhalf = stim(t) / 2 : 1",
        "dv/dt = (stim(t) - v) / (5*ms) / 2 : 1",
        "dv/dt = (3*stim(t) - 2*stim(t) - v) / (10*ms) + 0*stim(t)*v/ms : 1",
    ],
)
def test_subexpressions_and_products_are_the_same_current(equations):
    stim = brian2.TimedArray([0, 1.5], dt=10 * ms)
    close(spikes_of(lif(stim, equations=equations), 0.025), [(0, 0.010 + TAU * math.log(3))])


def test_units_and_columns_by_parameters():
    """Neuron 0 gets column 2 of volts, and neuron 1 column 0."""
    table = brian2.TimedArray([[0, 9, 40], [40, 9, 0]] * mV, dt=20 * ms)
    group = brian2.NeuronGroup(
        2,
        "dv/dt = (push + table(t, which) - v) / (20*ms) : volt\npush : volt\nwhich : integer (constant)",
        threshold="v > 20*mV",
        reset="v = 0*mV",
        namespace={"table": table},
    )
    group.which = [2, 0]
    close(spikes_of(group, 0.038), [(0, 0.020 * math.log(2)), (1, 0.020 + 0.020 * math.log(2))])


def test_columns_by_the_number_of_the_neuron():
    stim = brian2.TimedArray([[0, 1.5], [1.5, 0]], dt=15 * ms)
    group = lif(stim, 4, "dv/dt = (stim(t, i % 2) - v) / (10*ms) : 1")
    late = 0.015 + TAU * math.log(3)
    close(spikes_of(group, 0.030), [(1, TAU * math.log(3)), (3, TAU * math.log(3)), (0, late), (2, late)])


def test_wrong_units_are_an_error_of_brian2():
    group = lif(brian2.TimedArray([1, 2] * mV, dt=1 * ms))
    with pytest.raises(brian2.BrianObjectException):
        run(0.001, group)


def test_the_last_value_holds_and_equal_values_are_no_events():
    array = TimedArray(np.array([1.0, 1, 2, 2, 2, 1]), 0.001)
    assert array.steps(0, 1).tolist() == [0.002, 0.005]
    assert array.at(np.array([-1, 0, 0.0019, 0.002, 0.0049, 0.005, 9])).tolist() == [1, 1, 1, 2, 2, 1, 1]
    close(spikes_of(lif(brian2.TimedArray([0, 1.5], dt=1 * ms)), 0.015), [(0, 0.001 + TAU * math.log(3))])


def test_times_of_changes_are_whole_microseconds_where_they_are_these():
    """3 * 0.0001 is 0.00030000000000000003 in float64."""
    changing = np.arange(100.0)
    assert TimedArray(changing, 0.0001).steps(0, 1).tolist() == (np.arange(1, 100) / 10000).tolist()
    assert TimedArray(changing, 0.0001 / 3).steps(0, 1).tolist()[:2] == [0.0001 / 3, 0.0002 / 3]


# ----- what else an array can change


def test_a_threshold_of_steps_is_a_level():
    """The potential is 1.5 (1 - exp(-t / tau)); the threshold falls below it at 8 ms, and the neuron fires there."""
    stim = brian2.TimedArray([2, 2, 0.5, 1], dt=4 * ms)
    group = lif(stim, equations="dv/dt = (1.5 - v) / (10*ms) : 1", threshold="v > stim(t)")
    second_one = 0.008 + TAU * math.log(1.5 / 1.0)
    assert 0.012 < second_one < 0.0121  # just after the threshold has become 1
    third = 0.008 + TAU * math.log(3)
    close(spikes_of(group, 0.020), [(0, 0.008), (0, third)])


def test_a_conductance_of_steps():
    """dv/dt = g (2 - v) with g = 0, then 100 per second."""
    stim = brian2.TimedArray([0, 100] * Hz, dt=10 * ms)
    group = lif(stim, equations="dv/dt = stim(t) * (2 - v) : 1")
    close(spikes_of(group, 0.022), [(0, 0.010 + math.log(2) / 100)])


def test_a_reset_and_a_refractory_period_of_steps():
    """An integrator of slope 100: to 1 in 10 ms; then a reset to 0.5 and 3 ms of rest, later to 0 and 1 ms."""
    rest, back = brian2.TimedArray([3, 1] * ms, dt=12 * ms), brian2.TimedArray([0.5, 0], dt=12 * ms)
    group = brian2.NeuronGroup(
        1,
        "dv/dt = 100*Hz : 1 (unless refractory)",
        threshold="v >= 1",
        reset="v = back(t)",
        refractory="rest(t)",
        namespace={"rest": rest, "back": back},
    )
    close(spikes_of(group, 0.040), [(0, 0.010), (0, 0.018), (0, 0.029)])


def test_the_current_of_an_oscillator():
    """x'' = -(2 pi 50)**2 (x - stim): 0 and then a step to 1 at 10 ms; x reaches 1.5 a third of a period later."""
    stim = brian2.TimedArray([0, 1], dt=10 * ms)
    equations = "dx/dt = y*w : 1\ndy/dt = (stim(t) - x)*w : 1\nw : Hz"
    group = lif(stim, equations=equations, threshold="x > 1.5", reset="x = -9")
    group.w = 2 * math.pi * 50 * Hz
    close(spikes_of(group, 0.020), [(0, 0.010 + 0.020 / 3)], 1e-12)


# ----- the instant of a change


@pytest.mark.parametrize("threshold", ["v >= 1", "v > 1"])
@pytest.mark.parametrize("after", [-9.0, 9.0])
def test_a_neuron_that_reaches_its_threshold_at_a_change_fires(after, threshold):
    """Slope 1 / dt reaches 1 after dt, where it changes, whatever rounding makes of the two times."""
    for step in np.arange(1, 60) * 0.37 * ms:
        stim = brian2.TimedArray([1 / float(step), after] * Hz, dt=step)
        found = spikes_of(lif(stim, equations="dv/dt = stim(t) : 1", threshold=threshold), 1.05 * float(step))
        close(found, [(0, float(step))], 1e-15)


@pytest.mark.parametrize(("level", "expected"), [(2.0, []), (0.5, [(0, 0.010)])])
def test_the_new_threshold_holds_at_the_instant_of_a_change(level, expected):
    """The potential reaches the old threshold at 10 ms, at which the new one holds already."""
    stim = brian2.TimedArray([1, level], dt=10 * ms)
    group = lif(stim, equations="dv/dt = 100*Hz : 1", threshold="v >= stim(t)")
    assert spikes_of(group, 0.012) == expected


def test_a_change_comes_before_an_arrival_of_its_instant():
    """At 10 ms the threshold rises to 2 and a spike adds 1.5: nothing; half a millisecond earlier it fires."""
    for arrival, expected in ((0.010, []), (0.0095, [(0, 0.0095)])):
        group = lif(brian2.TimedArray([1, 2], dt=10 * ms), equations="v : 1", threshold="v > stim(t)")
        source = brian2.SpikeGeneratorGroup(1, [0], [arrival] * second)
        way = brian2.Synapses(source, group, on_pre="v_post += 1.5")
        way.connect()
        assert spikes_of(group, 0.020, source, way) == expected


def test_a_monitor_at_a_change_shows_the_new_value_and_the_state_before_it():
    stim = brian2.TimedArray([1, 0, 3], dt=0.3 * ms)
    group = lif(stim, equations="dv/dt = (drive - v) / (10*ms) : 1\ndrive = stim(t) : 1", threshold="v > 9")
    states = brian2.StateMonitor(group, ["v", "drive"], record=True, dt=0.1 * ms)
    run(0.001, group, states)
    assert states.drive[0].tolist() == [1, 1, 1, 0, 0, 0, 3, 3, 3, 3]
    a, b = math.exp(-0.03), math.exp(-0.01)
    np.testing.assert_allclose(states.v[0][[3, 6, 7]], [1 - a, (1 - a) * a, 3 + ((1 - a) * a - 3) * b], rtol=1e-14)


def test_spike_monitors_show_the_value_at_the_spike():
    stim = brian2.TimedArray([100, 300, 100] * Hz, dt=12 * ms)
    group = lif(stim, equations="dv/dt = speed : 1\nspeed = stim(t) : Hz", threshold="v >= 1")
    monitor = brian2.SpikeMonitor(group, variables=["speed", "v"])
    run(0.020, group, monitor)
    np.testing.assert_allclose(monitor.t_, [0.010, 0.012 + 0.8 / 300, 0.012 + 1.8 / 300], atol=1e-15)
    assert monitor.speed_[:].tolist() == [100, 300, 300]


# ----- references


def reference(drives, theta, tau, arrivals, refractory, end):
    """Spikes of a leaky neuron, by one closed form from one breakpoint to the next.

    Args:
        drives: (values, dt) whose sum is the drive.
        theta, tau, refractory, end: numbers.
        arrivals: (seconds, jump), which a refractory neuron, whose potential stays 0, ignores.
    """
    points = {k * dt for values, dt in drives for k in range(1, len(values))} | {t for t, _ in arrivals} | {end}
    waiting, jumps = sorted(p for p in points if p <= end), dict(arrivals)
    t, v, free, out = 0.0, 0.0, 0.0, []
    while waiting:
        to = min(waiting[0], free) if free > t else waiting[0]
        drive = sum(values[min(int((t + to) / 2 / dt), len(values) - 1)] for values, dt in drives)
        if free <= t and drive > theta > v:
            crossing = t + tau * math.log((drive - v) / (drive - theta))
            if crossing < to:
                out.append(crossing)
                t, v, free = crossing, 0.0, crossing + refractory
                continue
        if free <= t:
            v = drive + (v - drive) * math.exp(-(to - t) / tau)
        t = to
        if t == waiting[0]:
            waiting.pop(0)
            if free <= t:
                v += jumps.get(t, 0.0)
                if v > theta:
                    out.append(t)
                    v, free = 0.0, t + refractory
    return [s for s in out if s < end]


@pytest.mark.parametrize("seed", range(12))
def test_random_neurons_fire_as_in_closed_form(seed):
    """Two arrays of steps that have no common multiple, arrivals, and refractory periods, for several neurons."""
    rng = np.random.default_rng(seed)
    n, end = 5, 0.060
    one, steps = rng.uniform(-1, 4, 40), (rng.uniform(0.3, 2.0), rng.uniform(0.3, 2.0))
    two = rng.uniform(-1, 2, (25, n))
    tau, rest = rng.uniform(3, 30, n), rng.choice([0.0, rng.uniform(0.5, 5)])
    slow, fast = brian2.TimedArray(one, dt=steps[0] * ms), brian2.TimedArray(two, dt=steps[1] * ms)
    group = brian2.NeuronGroup(
        n,
        "dv/dt = (slow(t) + fast(t, i) - v) / tau : 1 (unless refractory)\ntau : second (constant)",
        threshold="v > 1",
        reset="v = 0",
        refractory=rest * ms,
        namespace={"slow": slow, "fast": fast},
    )
    group.tau = tau * ms
    arrivals = np.sort(rng.uniform(0, end, 20))
    source = brian2.SpikeGeneratorGroup(1, np.zeros(20, int), arrivals * second)
    way = brian2.Synapses(source, group, on_pre="v_post += 0.4")
    way.connect()
    found = spikes_of(group, end, source, way)
    count = 0
    for i in range(n):
        drives = (one, steps[0] * 1e-3), (two[:, i], steps[1] * 1e-3)
        expected = reference(drives, 1.0, tau[i] * 1e-3, [(t, 0.4) for t in arrivals], rest * 1e-3, end)
        close([(k, t) for k, t in found if k == i], [(i, t) for t in expected], 1e-13)
        count += len(expected)
    assert count > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_current_behind_a_synapse_against_a_search_on_a_fine_grid(seed):
    """Two states: dw/dt = (stim - w) / b, dv/dt = (w - v) / a, up to the first spike after each reset of v."""
    rng = np.random.default_rng(100 + seed)
    values, dt, a, b, end = rng.uniform(-2, 6, 30), 0.00137, 0.010, 0.004, 0.040
    stim = brian2.TimedArray(values, dt=dt * second)
    group = lif(stim, equations="dv/dt = (w - v) / (10*ms) : 1\ndw/dt = (stim(t) - w) / (4*ms) : 1")
    found = spikes_of(group, end)
    t, v, w, expected = 0.0, 0.0, 0.0, []
    for k in range(30):
        s = values[k]

        def at(h, v=None, w=None, s=s):
            """v and w after h seconds: w - s decays with b, v - s is a sum of two exponentials."""
            part = (w - s) * b / (b - a)
            return s + part * math.exp(-h / b) + (v - s - part) * math.exp(-h / a), s + (w - s) * math.exp(-h / b)

        to = min((k + 1) * dt, end)
        while t < to:
            grid = np.linspace(0, to - t, 400)
            above = [h for h in grid[1:] if at(h, v, w)[0] > 1]
            if not above:
                v, w = at(to - t, v, w)
                break
            h = brentq(lambda h, v=v, w=w, at=at: at(h, v, w)[0] - 1, above[0] - grid[1], above[0], xtol=1e-17)
            t += h
            expected.append((0, t))
            v, w = 0.0, at(h, v, w)[1]
        t = to
    assert expected
    close(found, expected, 1e-13)


def test_the_clock_driven_spikes_converge_to_these():
    """With a step of 10 microseconds, Brian2's spikes are late by less than one step each since the last one."""

    def spikes(device):
        brian2.set_device(device)
        rng = np.random.default_rng(3)
        stim = brian2.TimedArray(rng.uniform(0, 3, (50, 3)), dt=1 * ms)
        group = lif(stim, 3, "dv/dt = (stim(t, i) - v) / (10*ms) : 1", method="exact", dt=0.01 * ms)
        monitor = brian2.SpikeMonitor(group)
        run(0.050, group, monitor)
        return [np.array(train) for train in monitor.spike_trains().values()]

    exact = spikes("event_driven")
    clocked = spikes("runtime")
    brian2.set_device("event_driven")
    for mine, late in zip(exact, clocked, strict=True):
        assert len(mine) == len(late) > 2
        assert np.all(np.abs(mine - late) <= 1e-5 * np.arange(1, len(mine) + 1))


# ----- runs


@pytest.mark.parametrize("cuts", [(0.02,), (0.0035, 0.0035, 0.007, 0.01), (0.001, 0.0020001, 0.03, 0.0333)])
def test_several_runs_give_the_spikes_of_one_bit_for_bit(cuts):
    """Cuts at changes, between them, and twice at one time; Poisson groups with rates of the same array."""

    def spikes(stops):
        brian2.seed(4)
        rng = np.random.default_rng(8)
        stim = brian2.TimedArray(rng.uniform(-1, 3, (40, 6)), dt=1 * ms)
        group = lif(stim, 6, "dv/dt = (stim(t, i) - v) / (10*ms) : 1 (unless refractory)", refractory=1.5 * ms)
        source = brian2.PoissonGroup(6, "400*Hz*(stim(t, i) + 1)", namespace={"stim": stim})
        way = brian2.Synapses(source, group, on_pre="v_post += 0.3")
        way.connect(p=0.5)
        way.delay = "1.7*ms + 1*ms*i/6"
        monitors = brian2.SpikeMonitor(group), brian2.SpikeMonitor(source)
        network = brian2.Network(group, source, way, *monitors)
        for start, stop in zip((0, *stops), (*stops, 0.045), strict=True):
            network.run((stop - start) * second)
        return [(m.i[:].tolist(), m.t_[:].tolist()) for m in monitors]

    whole = spikes(())
    assert min(len(t) for _, t in whole) > 20
    # The times of the cuts are sums of durations, which round differently: only the states at a cut carry this.
    for (i, t), (j, s) in zip(spikes(cuts), whole, strict=True):
        assert i == j
        assert t == s


def test_store_restore_and_a_run_that_is_refused():
    stim = brian2.TimedArray([0, 1.5, 0, 1.5], dt=15 * ms)
    group = lif(stim)
    monitor = brian2.SpikeMonitor(group)
    network = run(0.020, group, monitor)
    network.store()
    network.run(0.040 * second)
    expected = monitor.t_[:].tolist()
    assert len(expected) == 2
    network.restore()
    group.namespace["stim"] = brian2.TimedArray([0, math.nan], dt=15 * ms)
    with pytest.raises(mtt_brian.event_driven.Refused, match="value 1 is nan"):
        network.run(0.040 * second)
    group.namespace["stim"] = stim
    network.run(0.040 * second)
    assert monitor.t_[:].tolist() == expected


def test_an_array_that_is_replaced_between_two_runs():
    group = lif(brian2.TimedArray([0, 0.5], dt=5 * ms))
    monitor = brian2.SpikeMonitor(group)
    network = run(0.005, group, monitor)
    group.namespace["stim"] = brian2.TimedArray([9, 0, 1.5], dt=5 * ms)
    network.run(0.020 * second)
    np.testing.assert_allclose(monitor.t_, [0.010 + TAU * math.log(3)], rtol=1e-14)


def test_a_run_that_is_stopped_goes_on_with_the_values_of_its_time():
    stim = brian2.TimedArray([0, 1.5, 0, 1.5], dt=10 * ms)
    group = lif(stim)
    states, monitor = brian2.StateMonitor(group, "v", record=True, dt=1 * ms), brian2.SpikeMonitor(group)
    network = brian2.Network(group, states, monitor)
    network.run(0.050 * second, report=lambda elapsed, done, *_: done >= 0.3 and network.stop(), report_period=0 * ms)
    assert 0.014 < float(network.t_) < 0.017
    network.run(0.050 * second - network.t)
    whole = spikes_of(lif(stim), 0.050)
    close([(0, t) for t in monitor.t_], whole, 0)


# ----- Poisson groups


def test_rates_of_steps_are_the_same_process_in_other_units_of_time():
    """The arrivals of rate 1000, stretched: between 20 and 40 ms half as fast, and none from 40 to 60 ms."""
    stim = brian2.TimedArray([1000, 500, 0, 2000] * Hz, dt=20 * ms)

    def arrivals(rates, duration):
        brian2.seed(11)
        group = brian2.PoissonGroup(3, rates, namespace={"stim": stim})
        monitor = brian2.SpikeMonitor(group)
        run(duration, group, monitor)
        return np.array(monitor.i), np.array(monitor.t_)

    i, t = arrivals("stim(t)", 0.080)
    j, s = arrivals(1000 * Hz, 0.070)
    stretched = np.interp(s, [0, 0.020, 0.030, 0.070], [0, 0.020, 0.040, 0.080])
    stretched[s >= 0.030] = 0.060 + (s[s >= 0.030] - 0.030) / 2
    assert len(t) > 150
    assert i.tolist() == j.tolist()
    np.testing.assert_allclose(t, stretched, rtol=0, atol=1e-14)
    assert not np.any((t > 0.040) & (t < 0.060))


def test_numbers_of_arrivals_are_those_of_the_integral_of_the_rate():
    """Columns of 2 rates, 400 neurons each: the counts of 5 ms are Poisson variables."""
    brian2.seed(5)
    table = np.array([[100, 0], [0, 300], [700, 50]])
    stim = brian2.TimedArray(table * Hz, dt=5 * ms)
    group = brian2.PoissonGroup(800, "stim(t, i % 2)", namespace={"stim": stim})
    monitor = brian2.SpikeMonitor(group)
    run(0.020, group, monitor)
    counts = np.histogram2d(monitor.t_, monitor.i % 2, [[0, 0.005, 0.010, 0.015, 0.020], [0, 1, 2]])[0]
    expected = 400 * 0.005 * table[[0, 1, 2, 2]]
    assert np.all(counts[expected == 0] == 0)
    assert np.all(np.abs(counts - expected) <= 4 * np.sqrt(expected))


def test_one_array_drives_neurons_and_sources():
    """And what one neuron gets does not depend on another user of the array."""
    brian2.seed(2)
    stim = brian2.TimedArray([0, 1.5], dt=10 * ms)
    groups = lif(stim), lif(stim, 2), lif(stim, equations="dv/dt = 100*Hz*stim(t) : 1", threshold="v >= 1")
    source = brian2.PoissonGroup(2, "stim(t)*1000*Hz", namespace={"stim": stim})
    monitors = [brian2.SpikeMonitor(group) for group in (*groups, source)]
    run(0.025, *groups, source, *monitors)
    late = 0.010 + TAU * math.log(3)
    np.testing.assert_allclose(monitors[0].t_, [late], rtol=1e-14)
    np.testing.assert_allclose(monitors[1].t_, [late, late], rtol=1e-14)
    np.testing.assert_allclose(monitors[2].t_, [0.010 + 1 / 150, 0.010 + 2 / 150], rtol=1e-14)
    assert min(monitors[3].t_) > 0.010


# ----- refusals and texts


@pytest.mark.parametrize(
    ("values", "equations", "message"),
    [
        ([1, math.inf], LIF, "cells: stim: value 1 is inf; give finite values"),
        ([[1, 2], [math.nan, 3]], "dv/dt = (stim(t, i) - v) / ms : 1", "cells: stim: value 1, 0 is nan; give finite"),
        ([1, 2], "dv/dt = (stim(t - 1*ms) - v) / ms : 1", "stim(t - 1 * ms) is not a call with the time of the run"),
        ([1, 2], "dv/dt = (stim(2*t) - v) / ms : 1", "write stim(t)"),
        ([1, 2], "dv/dt = (stim(t)*v - log(v)) / ms : 1", "dv/dt contains log(v)"),
        (
            [1, 2],
            "dv/dt = (stim(t)*sin(t/ms) - v) / ms : 1",
            "it depends on time (t); give what depends on it as a",
        ),
        ([0, 2], "dv/dt = (1/stim(t) - v) / ms : 1", "in neuron 0 (stim(t) = 0)"),
        ([-1, 2], "dv/dt = (stim(t)*v) / ms : 1", "v grows without bound (rate 2000 per second in neuron 0)"),
        ([[1, 2], [3, 4]], "dv/dt = (stim(t, i) - v) / ms : 1", "there is no column 2; give whole numbers from 0 to 1"),
        ([[1, 2], [3, 4]], "dv/dt = (stim(t, v) - v) / ms : 1", "v is not a constant"),
        ([], LIF, "cells: stim: it has no values; give one or more"),
    ],
)
def test_refusals_name_the_call(values, equations, message):
    group = lif(brian2.TimedArray(np.array(values, float), dt=1 * ms), 3, equations, name="cells", method="euler")
    with pytest.raises(mtt_brian.event_driven.Refused) as error:
        run(0.010, group)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_more_values_than_memory_holds_are_refused_with_the_number_of_runs(monkeypatch):
    monkeypatch.setattr("mtt_brian.translate.from_brian2.MOST_VALUES", 100)
    stim = brian2.TimedArray(np.arange(120).reshape(60, 2), dt=1 * ms)
    group = lif(stim, 2, "dv/dt = (stim(t, i) - v) / (10*ms) : 1", name="cells")
    with pytest.raises(mtt_brian.event_driven.Refused, match="120 sets of parameters, more than 100; split it into 2"):
        run(0.060, group)
    equal = lif(stim, 500, "dv/dt = (stim(t, 0) - v) / (10*ms) : 1")
    assert spikes_of(equal, 0.060)


def test_rates_that_are_not_rates_are_refused():
    stim = brian2.TimedArray([1, 2, -3] * Hz, dt=1 * ms)
    group = brian2.PoissonGroup(2, "stim(t)", namespace={"stim": stim}, name="source")
    network = run(0.002, group)
    with pytest.raises(mtt_brian.event_driven.Refused, match="rates: the rate of neuron 0 is -3 Hz; give finite rates"):
        network.run(0.003 * second)


def test_texts_of_calls():
    assert call_of("stim(t)") == ("stim", "")
    assert call_of("stim(t, i % 2)") == ("stim", "i % 2")
    for other in ("stim(t - 1)", "stim()", "stim(t, i, j)", "stim(i, t)", "stim(t=t)", "stim"):
        assert call_of(other) is None
    assert without_calls("a*stim(t) + f(stim(t), x)", ["stim"]) == (
        "a * _call_0 + f(_call_1, x)",
        {"_call_0": "stim(t)", "_call_1": "stim(t)"},
    )
    assert without_calls("a*t", ["stim"]) == ("a*t", {})


def test_a_notice_of_arrays_that_take_long(monkeypatch, caplog):
    monkeypatch.setattr("mtt_brian.engines.brian2.device.MANY_CHANGES", 3000)
    stim = brian2.TimedArray(np.arange(20) % 3, dt=0.1 * ms)
    caplog.set_level("INFO", logger="mtt_brian")
    run(0.0005, lif(stim, 5))
    assert "takes long" not in caplog.text
    run(0.002, lif(stim, 5))
    assert "a TimedArray changes 19 times in this run, for 5 neurons, which takes long" in caplog.text


def test_more_rates_than_memory_holds(monkeypatch):
    monkeypatch.setattr("mtt_brian.engines.brian2.script.MOST_RATES", 100)
    stim = brian2.TimedArray(np.arange(60) * Hz, dt=1 * ms)
    group = brian2.PoissonGroup(3, "stim(t)", namespace={"stim": stim}, name="source")
    with pytest.raises(mtt_brian.event_driven.Refused, match=r"source: stim: 60 values .* 180 rates, .* into 2 runs"):
        run(0.060, group)


def test_columns_of_rates_are_checked():
    stim = brian2.TimedArray(np.ones((3, 2)) * Hz, dt=1 * ms)
    group = brian2.PoissonGroup(3, "stim(t, i)", namespace={"stim": stim}, name="source")
    with pytest.raises(mtt_brian.event_driven.Refused, match="there is no column 2; give whole numbers from 0 to 1"):
        run(0.060, group)


def test_a_notice_of_many_sets_for_the_general_rule(monkeypatch, caplog):
    """Two states that act on each other and share a conductance: a set each; a current needs one for all."""
    monkeypatch.setattr("mtt_brian.engines.exact.equation_neurons.MANY_GENERAL", 9)
    caplog.set_level("INFO", logger="mtt_brian")
    stim = brian2.TimedArray(np.arange(1, 11), dt=1 * ms)
    run(0.010, lif(stim, equations="dv/dt = (stim(t) - v - w)/ms : 1\ndw/dt = (v - w)/ms : 1", threshold="v > 99"))
    assert "general rule" not in caplog.text
    run(0.010, lif(stim, equations="dv/dt = (1 - v - w)*stim(t)/ms : 1\ndw/dt = (v - w)/ms : 1", threshold="v > 99"))
    assert "preparing 10 parameter sets of coupled states for the general rule" in caplog.text


def test_conditions_of_arrays_parameters_and_neurons():
    """Neurons 1 and 2 are driven from 10 ms on, neuron 0 never."""
    stim = brian2.TimedArray([0, 2], dt=10 * ms)
    text = "dv/dt = (drive - v) / (10*ms) : 1\ndrive = 1.5*int(stim(t) > 1 and i > 0 and on > 0) : 1\non : 1 (shared)"
    group = lif(stim, 3, text)
    group.on = 1
    late = 0.010 + TAU * math.log(3)
    close(spikes_of(group, 0.025), [(1, late), (2, late)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stim(t - 1*ms, 0)", "stim(t - 1 * ms, 0) is not a call with the time of the run; write stim(t, i)"),
        ("stim(t, i)", "there is no column 2; give whole numbers from 0 to 1"),
        ("own(v)", "own is not a function of Brian2"),
    ],
)
def test_what_a_monitor_cannot_compute_is_refused_before_the_run(text, message):
    """The equations do not use it."""
    own = brian2.Function(lambda x: x, arg_units=[1], return_unit=1)
    names = {"stim": brian2.TimedArray(np.ones((2, 2)), dt=1 * ms), "own": own}
    group = brian2.NeuronGroup(3, f"v : 1\nextra = {text} : 1", namespace=names)
    states = brian2.StateMonitor(group, "extra", record=True, name="states")
    network = brian2.Network(group, states)
    with pytest.raises(mtt_brian.event_driven.Refused) as error:
        network.run(0.002 * second)
    assert str(error.value).startswith("event_driven cannot run states: ")
    assert message in str(error.value)
    assert network.t == 0 * second
