"""``run_regularly`` on the device event_driven: on paper, and against Brian2's own clock."""

import math

import brian2
import numpy as np
import pytest
from brian2 import ms

import mtt_brian.event_driven  # noqa: F401 - registers the device
from mtt_brian.errors import InputError
from tests.plain_brian2 import Synapse
from tests.test_event_driven_plasticity import connected, generator, integrators
from tests.test_event_driven_random import compare


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def test_a_state_is_set_at_the_steps_of_a_clock():
    """From 0, 1 and 2 ms on v decays from 0.5 times the number of the step."""
    cells = brian2.NeuronGroup(1, "dv/dt = -v / (5*ms) : 1\nk : 1")
    cells.run_regularly("k += 1\nv = 0.5*k", dt=1 * ms)
    brian2.Network(cells).run(2.5 * ms)
    assert cells.k[0] == 3
    assert cells.v[0] == pytest.approx(1.5 * math.exp(-0.1), rel=1e-15)


def test_it_comes_first_at_its_instant():
    """v is 1 after 4 ms. There it is halved, then the arrival adds 0.4, which is no spike; 0.1 ms later 0.2 is one."""
    source, cells = generator(4, 4.1), brian2.NeuronGroup(1, "dv/dt = 0.25/ms : 1", threshold="v >= 1", reset="v = 0")
    way = connected(source, cells, "w : 1", "v_post += 0.4", None)
    cells.run_regularly("v = v/2", dt=4 * ms)
    fired = brian2.SpikeMonitor(cells)
    brian2.Network(source, cells, way, fired).run(5 * ms)
    np.testing.assert_allclose(fired.t_, [0.0041], rtol=0, atol=1e-15)


def test_a_neuron_that_it_puts_above_the_threshold_fires_at_once():
    cells = integrators(2, 1)
    cells.run_regularly("v += 0.4*(i + 1)", dt=1 * ms)
    fired = brian2.SpikeMonitor(cells)
    brian2.Network(cells, fired).run(3.5 * ms)
    assert [(int(i), float(t)) for i, t in zip(fired.i, fired.t_, strict=True)] == [(1, 0.001), (0, 0.002), (1, 0.003)]


def test_held_states_of_refractory_neurons_stay():
    """It fires at once, for 2.5 ms; meanwhile v is held, and u is not."""
    cells = brian2.NeuronGroup(
        1, "dv/dt = 0/ms : 1 (unless refractory)\nu : 1", threshold="v > 1", reset="v = 0", refractory=2.5 * ms
    )
    cells.v = 2
    cells.run_regularly("v += 0.25; u += 1", dt=1 * ms)
    brian2.Network(cells).run(4.5 * ms)
    assert (cells.v[0], cells.u[0]) == (0.5, 5)


def test_subgroups_and_the_order_of_operations_and_monitors():
    cells = brian2.NeuronGroup(3, "v : 1")
    cells.v = 1
    cells[1:].run_regularly("v *= 2", dt=1 * ms, order=1, name="a")
    cells.run_regularly("v += 1", dt=1 * ms, order=0, name="b")
    monitors = [brian2.StateMonitor(cells, "v", record=True, dt=1 * ms, order=k) for k in (-1, 2)]
    brian2.Network(cells, monitors).run(1.5 * ms)
    np.testing.assert_array_equal(monitors[0].v, [[1, 2], [1, 4], [1, 4]])
    np.testing.assert_array_equal(monitors[1].v, [[2, 3], [4, 10], [4, 10]])


def test_random_numbers_are_those_of_brian2():
    found = []
    for device in ("event_driven", "runtime"):
        brian2.set_device(device)
        brian2.seed(3)
        cells = brian2.NeuronGroup(4, "v : 1")
        cells.run_regularly("v = rand()", dt=1 * ms)
        brian2.Network(cells).run(3 * ms)
        found.append(np.array(cells.v))
    np.testing.assert_array_equal(*found)


def test_the_time_in_its_code_is_that_of_its_step():
    cells = brian2.NeuronGroup(1, "v : 1\nu : second")
    table = brian2.TimedArray([1, 10, 100], dt=1 * ms)
    cells.run_regularly("v += table(t); u += t", dt=0.5 * ms)
    brian2.Network(cells).run(2.5 * ms, namespace={"table": table})
    assert cells.v[0] == 2 * 1 + 2 * 10 + 100
    assert cells.u_[0] == pytest.approx(0.005, rel=1e-15)


def mixed(parts, device="event_driven"):
    brian2.set_device(device)
    source = generator(*np.arange(1, 40, 1.7).round(1))
    cells = brian2.NeuronGroup(3, "v : 1\nu : 1", threshold="v > 1", reset="v -= 1; u += 0.5", refractory=1.3 * ms)
    cells.v = [0.1, 0.5, 0.9]
    way = connected(source, cells, "w : 1", "u_post += w\nw *= 0.95", "w += 0.03", w=[1.3, 1.4, 1.5])
    way.delay = [0, 0.4, 1.1] * ms
    back = connected(cells, cells, "", "u_post += 0.125*(1 + i)", None, connect={"condition": "i != j"}, delay=0.6 * ms)
    cells.run_regularly("v += 0.25*u; u *= 0.5", dt=0.7 * ms)
    fired, states = brian2.SpikeMonitor(cells), brian2.StateMonitor(cells, "v", record=True, order=1)
    network = brian2.Network(source, cells, way, back, fired, states)
    for part in parts:
        network.run(part * ms)
    return [np.array(a) for a in (fired.t_, fired.i, states.v, cells.u, way.w)]


def test_on_a_grid_it_is_what_the_clock_gives():
    """Only the operation changes v, at multiples of the step; refractory periods end there too."""
    found, expected = mixed([40]), mixed([40], "runtime")
    assert len(expected[0]) > 20
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_several_runs_are_one_run_bit_for_bit():
    for a, b in zip(mixed([40]), mixed([7, 0.35, 13.65, 19]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_that_fails_leaves_the_states_as_they_were():
    cells = integrators(2, name="cells")
    cells.v = [1, 2]
    cells.run_regularly("v /= int(t < 2*ms)", dt=1 * ms, name="operation")
    network = brian2.Network(cells)
    with pytest.raises(InputError, match=r"operation: it sets v of neuron 0 to inf at 0\.002 s; its code must give"):
        network.run(5 * ms)
    assert list(cells.v) == [1, 2]
    assert network.t_ == 0
    network.run(1.5 * ms)
    assert list(cells.v) == [1, 2]


@pytest.mark.parametrize("seed", [4, 11, 15])
def test_random_scripts(seed):
    """What an operation adds is, for the plain simulator, an input."""

    def operate(groups, wires, events, first):
        for group, at in zip(groups, first, strict=True):
            group.run_regularly("x0 += 0.15", dt=2.3 * ms)
            wires += [Synapse(-100, at + i, 0, 0.15, 0.0) for i in range(len(group))]
        events += [(k * 0.0023, -100) for k in range(14)]

    assert compare(seed, also=operate) > 3
