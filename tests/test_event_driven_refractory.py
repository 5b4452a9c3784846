"""Refractory periods that a condition ends, on the device event_driven: numbers on paper, and other integrators."""

import math
from decimal import Decimal

import brian2
import numpy as np
import pytest
from brian2 import ms, second
from scipy.integrate import solve_ivp

from mtt_brian.errors import InputError
from tests.lazy_series import hodgkin_huxley, spikes

#: v = sin(t), w = cos(t).
CIRCLE = "dv/dt = w/ms : 1\ndw/dt = -v/ms : 1"


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def group(model, threshold, refractory, reset=None, size=1, **start):
    cells = brian2.NeuronGroup(size, model, threshold=threshold, refractory=refractory, reset=reset, method="rk4")
    for name, x in start.items():
        setattr(cells, name, x)
    return cells


def trains(cells, duration, *others):
    """Spike times of every neuron in ms."""
    monitor = brian2.SpikeMonitor(cells)
    brian2.Network(cells, monitor, *others).run(duration * ms)
    return [np.array(t / second) * 1000 for t in monitor.spike_trains().values()]


def times(*arguments, duration, others=(), **start):
    """Spike times of one neuron in ms."""
    return trains(group(*arguments, **start), duration, *others)[0]


UPSTROKES = math.asin(0.5) + 2 * math.pi * np.arange(5)


@pytest.mark.parametrize(
    ("threshold", "refractory"),
    [
        ("v > 0.5", "v > 0.5"),
        ("v >= 0.5", "v >= 0.5"),
        ("v > 0.5", "v >= 0.5"),
        ("v >= 0.5", "v > 0.5"),
        ("2*v > 1", "-v < -0.5"),
        ("v > 0.5", "not (v <= 0.5)"),
        ("v > 0.5", "high"),
        ("v > 0.5", "v > -0.9"),
    ],
)
def test_one_spike_per_upstroke(threshold, refractory):
    """Without a reset. In continuous time both conditions are at equality when the period begins and when it ends."""
    model = f"{CIRCLE}\nhigh = v > 0.5 : boolean"
    found = times(model, threshold, refractory, duration=31, w=1)
    np.testing.assert_allclose(found, UPSTROKES, rtol=1e-14)


def test_of_a_curved_equation():
    """v = tan(t) is reset to 0 at arctan(10); w, the time since the spike, ends the period before v is 10 again."""
    model = "dv/dt = (1 + v**2)/ms : 1\ndw/dt = 1/ms : 1"
    found = times(model, "v > 10", "w < 0.5", "v = 0; w = 0", duration=6)
    np.testing.assert_allclose(found, math.atan(10) * np.arange(1, 5), rtol=1e-14)


@pytest.mark.parametrize("held", ["", " (unless refractory)"])
def test_the_length_is_that_of_another_variable(held):
    """w decays from 1, or from what is left plus 1, to 0.1; v goes to 1.5 from 0 in the meantime, or is held."""
    model = f"dv/dt = (1.5 - v)/(10*ms) : 1{held}\ndw/dt = -w/(2*ms) : 1"
    found = times(model, "v > 1", "w > 0.1", "v = 0; w += 1", duration=60)
    expected, t, w = [], 0.0, 0.0
    while True:
        step = 10 * math.log(3) + (2 * math.log(w / 0.1) if held and w else 0.0)
        t, w = t + step, w * math.exp(-step / 2) + 1
        if t >= 60:
            break
        expected.append(t)
    assert len(expected) > 3
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("more", ["", " + 0*v**2", " + (exp(0*v) - 1)"])
def test_a_neuron_above_its_threshold_fires_when_the_period_ends(more):
    """As on a clock, and as after a time. w falls from 1 to 0.1 in ln 10 ms."""
    found = times(f"dv/dt = (1{more})/ms : 1\ndw/dt = -w/ms : 1", "v > 1", "w > 0.1", "w = 1", duration=9)
    np.testing.assert_allclose(found, 1 + math.log(10) * np.arange(4), rtol=1e-14)


def test_a_condition_that_does_not_hold_after_the_reset_is_none():
    model = "dv/dt = (1.5 - v)/(10*ms) : 1 (unless refractory)"
    for condition in ("v > 0.5", "v > 0", "v > 1 and i < 0"):
        found = times(model, "v > 1", condition, "v = 0", duration=40)
        np.testing.assert_allclose(found, 10 * math.log(3) * np.arange(1, 4), rtol=1e-14)
    with pytest.raises(InputError, match="fires without end"):
        times("dv/dt = 1/ms : 1", "v > 1", "v > 1.5", duration=4)


def test_at_equality_after_the_reset():
    """v = 0 after the reset, and then rises: `>` does not hold, `>=` holds for ever, as v is held."""
    model = "dv/dt = (1.5 - v)/(10*ms) : 1 (unless refractory)"
    assert len(times(model, "v > 1", "v >= 0", "v = 0", duration=40)) == 1
    assert len(times(model, "v > 1", "v > 0", "v = 0", duration=40)) == 3
    # With a drift downwards it ends at once.
    np.testing.assert_allclose(
        times("dv/dt = w/ms : 1\ndw/dt = 2/ms : 1", "v > 1", "v >= 0", "v = 0; w = -1", duration=6, w=1),
        (math.sqrt(5) - 1) / 2 + (1 + math.sqrt(5)) / 2 * np.arange(4),
        rtol=1e-14,
    )


def test_arrivals_end_it_and_can_begin_nothing():
    """v rises by 1 per ms; it is refractory above 1. At 3 ms -2.5 arrives: 0.5, so the next spike comes at 3.5 ms."""
    cells = group("dv/dt = 1/ms : 1", "v > 1", "v > 1")
    source = brian2.SpikeGeneratorGroup(1, [0, 0, 0], [2, 3, 5] * ms)
    wires = brian2.Synapses(source, cells, "w : 1", on_pre="v_post += w")
    wires.connect()
    wires.w = -0.5
    assert np.allclose(trains(cells, 8, source, wires)[0], [1], rtol=1e-15)
    brian2.start_scope()
    for equation, more in (("1", ""), ("1 + 0*v*u", "du/dt = -u/ms : 1")):
        cells = group(f"dv/dt = ({equation})/ms : 1\n{more}", "v > 1", "v > 1")
        source = brian2.SpikeGeneratorGroup(1, [0, 0], [3, 5] * ms)
        wires = brian2.Synapses(source, cells, on_pre="v_post -= 2.5")
        wires.connect()
        np.testing.assert_allclose(trains(cells, 10, source, wires)[0], [1, 3.5, 6], rtol=1e-14)


@pytest.mark.parametrize("change", [0.0, -0.25])
def test_an_arrival_at_the_end_of_the_period(change):
    """A spike arrives when v = sin(t) falls to the level of both conditions; it leaves v there, or below."""
    at = math.pi - math.asin(0.5)
    cells = group(CIRCLE, "v > 0.5", "v > 0.5", w=1)
    source = brian2.SpikeGeneratorGroup(1, [0], [at] * ms)
    wires = brian2.Synapses(source, cells, on_pre=f"v_post += {change}")
    wires.connect()
    (found,) = trains(cells, 9, source, wires)
    assert len(found) == 2
    assert found[0] == pytest.approx(math.asin(0.5), rel=1e-14)


def test_levels_that_are_parameters_and_timed_arrays():
    """v rises by 1 per ms. At 6 ms the level rises from 0.5 to 20, which ends the periods of neurons 0 and 1."""
    level = brian2.TimedArray([0.5, 20.0], dt=6 * ms)  # noqa: F841
    cells = group("dv/dt = 1/ms : 1\nVt : 1", "v > Vt", "v > level(t)", "v -= 0.25", size=3, Vt=[1, 3, 7])
    monitor = brian2.SpikeMonitor(cells)
    brian2.Network(cells, monitor).run(6.45 * ms)
    found = [np.array(t / second) * 1000 for t in monitor.spike_trains().values()]
    # At 6 ms v is 5.75 and falls by 0.25 with each spike, to 0.25 below the threshold.
    for train, expected in zip(found, ([1, *[6] * 20, 6.25], [3, *[6] * 12, 6.25], []), strict=True):
        np.testing.assert_allclose(train, expected, rtol=1e-14)


def test_operations_that_end_it():
    cells = group("dv/dt = 1/ms : 1", "v > 1", "v > 1")
    cells.run_regularly("v = 0.25", dt=3 * ms)
    # 0.25 at 0, 3, 6 and 9 ms.
    np.testing.assert_allclose(trains(cells, 10)[0], [0.75, 3.75, 6.75, 9.75], rtol=1e-14)


HODGKIN_HUXLEY = """dv/dt = (I - 0.1*(v + 2) - 100*m**3*h*(v - 113) - 30*n**4*(v + 27))/ms : 1
    dm/dt = (0.32*4/exprel((13 - v)/4)*(1 - m) - 0.28*5/exprel((v - 40)/5)*m)/ms : 1
    dn/dt = (0.032*5/exprel((15 - v)/5)*(1 - n) - 0.5*exp((10 - v)/40)*n)/ms : 1
    dh/dt = (0.128*exp((17 - v)/18)*(1 - h) - 4/(1 + exp((40 - v)/5))*h)/ms : 1
    I : 1"""


def test_hodgkin_and_huxley_in_40_digits():
    cells = group(HODGKIN_HUXLEY, "v > 23", "v > 13", I=4, v=-2, h=0.9)
    (found,) = trains(cells, 30)

    # 3 ms later the membrane is below 13.
    expected = spikes(
        hodgkin_huxley, (-2, 0, 0, Decimal("0.9")), 23, lambda *x: x, 30, held=hodgkin_huxley, refractory=3
    )
    assert len(expected) > 2
    np.testing.assert_allclose(found / 1000, np.array(expected) / 1000, rtol=0, atol=1e-14)


DRIVES = [0.5, 0.55, 0.6, 0.7]


def relaxation(drives=DRIVES):
    """FitzHugh-Nagumo neurons, refractory while the membrane is high; z, which inhibits them, is held then."""
    cells = group(
        """dv/dt = (v - v**3/3 - w - z + I)/ms : 1
        dw/dt = 0.08*(v + 0.7 - 0.8*w)/ms : 1
        dz/dt = -z/(20*ms) : 1 (unless refractory)
        I : 1""",
        "v > 0.9",
        "v > -0.3",
        "z += 0.1",
        size=len(drives),
        v=-1,
    )
    cells.I = drives
    return cells


def test_periods_of_a_curved_membrane_by_another_integrator():
    """DOP853 with events."""
    found = trains(relaxation(), 150)
    for drive, train in zip(DRIVES, found, strict=True):
        t, x, refractory, expected = 0.0, [-1.0, 0.0, 0.0], False, []
        while t < 150:

            def slopes(_, x, drive=drive, refractory=refractory):
                v, w, z = x
                return v - v**3 / 3 - w - z + drive, 0.08 * (v + 0.7 - 0.8 * w), 0.0 if refractory else -z / 20

            def event(_, x, refractory=refractory):
                return x[0] - (-0.3 if refractory else 0.9)

            event.terminal, event.direction = True, -1 if refractory else 1
            part = solve_ivp(slopes, (t, 150), x, "DOP853", events=event, rtol=1e-13, atol=1e-14)
            t, x = part.t[-1], list(part.y[:, -1])
            if part.status == 1:
                refractory = not refractory
                if refractory:
                    expected.append(t)
                    x[2] += 0.1
        assert len(expected) >= 3
        np.testing.assert_allclose(train, expected, rtol=1e-11)


def test_alone_or_among_others_and_in_several_runs():
    together = trains(relaxation(), 60)
    for k in range(4):
        assert np.array_equal(trains(relaxation(DRIVES[k : k + 1]), 60)[0], together[k])
    cells = relaxation()
    monitor = brian2.SpikeMonitor(cells)
    network = brian2.Network(cells, monitor)
    refractory = []
    for k in range(60):
        network.run(1 * ms)
        refractory.append(~cells.not_refractory[:])
        if k == 20:
            network.store()
    parts = [np.array(t / second) * 1000 for t in monitor.spike_trains().values()]
    assert all(map(np.array_equal, parts, together))
    assert 0 < np.mean(refractory) < 1
    network.restore()
    network.run(39 * ms)
    again = [np.array(t / second) * 1000 for t in monitor.spike_trains().values()]
    assert all(map(np.array_equal, again, together))


def test_the_period_goes_on_after_a_change_of_states():
    """The neuron is refractory between two runs; what is set between them counts at once."""
    cells = group("dv/dt = 1/ms : 1", "v > 1", "v > 0.5")
    monitor = brian2.SpikeMonitor(cells)
    network = brian2.Network(cells, monitor)
    network.run(2 * ms)
    assert not cells.not_refractory[0]
    cells.v = 0.75
    network.run(2 * ms)
    assert monitor.num_spikes == 1
    cells.v = 0.25
    network.run(1 * ms)
    np.testing.assert_allclose(monitor.t / ms, [1, 4.75], rtol=1e-14)


def test_a_clock_converges_linearly():
    """A spike of a clock is late by up to a step, and so are begin and end of every period."""
    exact, errors = trains(relaxation(), 100), []
    for step in (0.04, 0.02, 0.01):
        brian2.set_device("runtime")
        brian2.defaultclock.dt = step * ms
        found = trains(relaxation(), 100)
        assert [len(x) for x in found] == [len(x) for x in exact]
        differences = np.abs(np.concatenate(found) - np.concatenate(exact))
        assert differences.max() < 4 * step
        errors.append(differences.mean())
    brian2.defaultclock.dt = 0.1 * ms
    assert len(np.concatenate(exact)) >= 8
    assert 2.5 < errors[0] / errors[2] < 6
