"""Clock-driven Brian2 comes to the spike times of the device event_driven linearly in dt."""

import brian2
import numpy as np
import pytest
from brian2 import ms

import mtt_brian.event_driven  # noqa: F401 - registers the device

STEPS = (1.0, 0.1, 0.01)
DURATION = 50.0


def step_current():
    group = brian2.NeuronGroup(
        10, "dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1", threshold="v > 1", reset="v = 0", method="exact"
    )
    group.drive = np.linspace(1.05, 2, 10)
    return group, ()


def two_synapses():
    equations = """
    dv/dt = (ge + gi + 0.5 - v) / (20*ms) : 1
    dge/dt = -ge / (5*ms) : 1
    dgi/dt = -gi / (10*ms) : 1
    """
    group = brian2.NeuronGroup(10, equations, threshold="v > 1", reset="v = 0", method="exact")
    source = brian2.SpikeGeneratorGroup(20, np.arange(20), np.arange(20) * 2 * ms)
    random = np.random.default_rng(1)
    ways = []
    for code, at in (("ge_post += w", range(14)), ("gi_post -= w", range(14, 20))):
        made = brian2.Synapses(source, group, "w : 1", on_pre=code)
        i, j = np.meshgrid(at, range(10))
        made.connect(i=i.ravel(), j=j.ravel())
        made.w = random.uniform(0.2, 1.2, i.size)
        ways.append(made)
    return group, (source, *ways)


def adapting_threshold():
    equations = "dv/dt = (drive - v) / (10*ms) : 1\ndvt/dt = (1 - vt) / (30*ms) : 1\ndrive : 1"
    group = brian2.NeuronGroup(10, equations, threshold="v > vt", reset="v = 0; vt += 0.2", method="exact")
    group.drive, group.vt = np.linspace(1.5, 3, 10), 1
    return group, ()


def refractory_period():
    group = brian2.NeuronGroup(
        10,
        "dv/dt = (drive - v) / (10*ms) : 1 (unless refractory)\ndrive : 1",
        threshold="v > 1",
        reset="v = 0",
        refractory=3 * ms,
        method="exact",
    )
    group.drive = np.linspace(1.3, 3, 10)
    return group, ()


def delays():
    """A ring: every neuron excites the next one."""
    equations = "dv/dt = (1.3 + g - v) / (10*ms) : 1\ndg/dt = -g / (5*ms) : 1"
    group = brian2.NeuronGroup(6, equations, threshold="v > 1", reset="v = 0", method="exact")
    group.v = np.linspace(0, 0.8, 6)
    ring = brian2.Synapses(group, group, on_pre="g_post += 0.3")
    ring.connect(j="(i + 1) % 6")
    ring.delay = [3, 4, 5, 6, 7, 8] * ms
    return group, (ring,)


def subgroups():
    equations = "dv/dt = (drive + g - v) / (10*ms) : 1\ndg/dt = -g / (5*ms) : 1\ndrive : 1"
    group = brian2.NeuronGroup(9, equations, threshold="v > 1", reset="v = 0", method="exact")
    group.drive = [1.4, 1.6, 1.8, *[0.8] * 6]
    first = brian2.Synapses(group[:3], group[3:6], on_pre="g_post += 0.4")
    second_ = brian2.Synapses(group[3:6], group[6:], on_pre="g_post += 0.9")
    for made in (first, second_):
        made.connect()
        made.delay = 2 * ms
    return group, (first, second_)


def loop_without_delay():
    """Spikes that cause others in the same instant, and inhibition; arrivals at refractory neurons."""
    group = brian2.NeuronGroup(
        9,
        "dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1",
        threshold="v > 1",
        reset="v = 0",
        refractory=1 * ms,
        method="exact",
    )
    group.drive, group.v = np.linspace(1.2, 1.9, 9), np.linspace(0.8, 0, 9)
    wires = brian2.Synapses(group, group, "w : 1", on_pre="v_post += w")
    wires.connect(condition="i != j")
    wires.w = "0.35 * int(j == i + 1) - 0.07 * int(j != i + 1)"
    return group, (wires,)


def conductances():
    """Neurons that excite and inhibit each other."""
    equations = """
    dv/dt = (ge * (4 - v) + gi * (-1 - v) + drive - v) / (20*ms) : 1 (unless refractory)
    dge/dt = -ge / (5*ms) : 1
    dgi/dt = -gi / (10*ms) : 1
    drive : 1
    """
    group = brian2.NeuronGroup(8, equations, threshold="v > 1", reset="v = 0", refractory=2 * ms, method="rk4")
    group.drive, group.v = np.linspace(1.4, 2.6, 8), np.linspace(0.7, 0, 8)
    excite, inhibit = (
        brian2.Synapses(group, group, on_pre="ge += 0.03"),
        brian2.Synapses(group, group, on_pre="gi += 0.1"),
    )
    excite.connect(j="(i + 1) % 8")
    inhibit.connect(j="(i + 3) % 8")
    excite.delay, inhibit.delay = 2 * ms, 3 * ms
    return group, (excite, inhibit)


def quadratic():
    """Izhikevich's neuron."""
    equations = """
    dv/dt = (0.04 * v**2 + 5 * v + 140 - u + current) / ms : 1
    du/dt = 0.02 * (0.2 * v - u) / ms : 1
    current : 1
    """
    group = brian2.NeuronGroup(8, equations, threshold="v > 30", reset="v = -65; u += 8", method="rk4")
    group.v, group.u, group.current = -65, -13, np.linspace(10, 25, 8)
    return group, ()


def adaptive_exponential():
    """Neurons of Brette and Gerstner 2005 whose spikes end where clocks can follow, 10 mV above the threshold."""
    equations = """
    dv/dt = (30 * (-70.6 - v) + 60 * exp((v + 50.4) / 2) + current - w) / (281 * ms) : 1
    dw/dt = (4 * (v + 70.6) - w) / (144 * ms) : 1
    current : 1
    """
    group = brian2.NeuronGroup(8, equations, threshold="v > -40", reset="v = -60; w += 60", method="rk4")
    group.v, group.current = -70.6, np.linspace(1300, 2500, 8)
    return group, ()


def nmda():
    """A conductance that the membrane blocks, in a ring."""
    equations = """
    dv/dt = (-65 + drive - v - g * v / (1 + exp(-0.062 * v) / 3.57)) / (20 * ms) : 1
    dg/dt = -g / (20 * ms) : 1
    drive : 1
    """
    group = brian2.NeuronGroup(6, equations, threshold="v > -50", reset="v = -60", refractory=2 * ms, method="rk4")
    group.v, group.drive = np.linspace(-65, -52, 6), np.linspace(20, 35, 6)
    ring = brian2.Synapses(group, group, on_pre="g_post += 0.8")
    ring.connect(j="(i + 1) % 6")
    ring.delay = [3, 4, 5, 6, 7, 8] * ms
    return group, (ring,)


SCRIPTS = (
    step_current,
    two_synapses,
    adapting_threshold,
    refractory_period,
    delays,
    subgroups,
    loop_without_delay,
    conductances,
    quadratic,
    adaptive_exponential,
    nmda,
)


def trains(script, device, step=0.1):
    """Spike times in ms by neuron."""
    brian2.set_device(device)
    brian2.defaultclock.dt = step * ms
    group, others = script()
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, others, monitor).run(DURATION * ms)
    return [np.sort(t / ms) for t in monitor.spike_trains().values()]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_spike_times_converge_linearly(script, event_driven):
    exact = trains(script, "event_driven")
    early = [t[t < 45] for t in exact]  # a spike at the end may fall out of the run
    assert sum(map(len, early)) > 15
    errors = []
    for step in STEPS:
        clocked = trains(script, "runtime", step)
        if step < 1:
            assert all(len(c) >= len(e) for c, e in zip(clocked, early, strict=True))
        pairs = [(c[: len(e)], e[: len(c)]) for c, e in zip(clocked, early, strict=True)]
        errors.append(np.mean(np.abs(np.concatenate([c - e for c, e in pairs]))))
    assert errors[2] < 0.05
    assert 4 < errors[1] / errors[2] < 25
    assert errors[0] > 3 * errors[1]


def test_the_first_spike_of_a_clock_is_within_one_step(event_driven):
    exact, clocked = trains(step_current, "event_driven"), trains(step_current, "runtime", 1.0)
    for e, c in zip(exact, clocked, strict=True):
        # Brian2 gives the begin of the step in which the threshold is reached.
        assert -1e-9 <= e[0] - c[0] <= 1.0
