"""Brian2 scripts on the device event_driven against other exact simulators of the same model (extra ``[peers]``).

Skipped where NEST or NEURON is not installed. No two times of the inputs, and no two sums of delays, are equal.
"""

import brian2
import numpy as np
import pytest
from brian2 import ms, mV, pA, pF, second

from tests.test_event_driven_functions import PATTERNS, adex

N, INPUTS, END = 20, 10, 0.2
RNG = np.random.default_rng(7)
#: 300 input spikes at 10 sources.
TIMES, SOURCES = np.sort(RNG.uniform(0.001, END, 300)), RNG.integers(0, INPUTS, 300)
#: Weights of the inputs and of a recurrent network, of both signs; about a third of the recurrent synapses exist.
FROM_INPUTS = RNG.normal(0.5, 1, (N, INPUTS))
RECURRENT = RNG.normal(0, 0.6, (N, N)) * (RNG.random((N, N)) < 0.35)
#: In steps of NEST's resolution of 0.1 ms, of which its delays are multiples.
STEPS = RNG.integers(5, 50, (N, N))


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def synapses(source, group, weights, variable, unit, seconds=0.0):
    """One synapse for every weight [target, source] that is not 0."""
    made = brian2.Synapses(source, group, f"w : {unit}", on_pre=f"{variable}_post += w")
    j, i = np.nonzero(weights)
    made.connect(i=i, j=j)
    made.w_ = weights[j, i]
    made.delay_ = np.broadcast_to(seconds, weights.shape)[j, i]
    return made


def spikes(group, *others):
    """Times in seconds and neurons of a run."""
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, *others, monitor).run(END * second)
    return in_order(monitor.t_, monitor.i)


def in_order(t, i):
    """Sorted by time, and those of one instant by neuron."""
    order = np.lexsort((i, t))
    return np.array(t)[order], np.array(i)[order]


def generator():
    return brian2.SpikeGeneratorGroup(INPUTS, SOURCES, TIMES * second)


def assert_equal_spikes(ours, theirs, tolerance):
    """The same neurons in the same order, at times equal up to a tolerance in seconds."""
    (t, i), (their_t, their_i) = ours, theirs
    assert len(t) > 100
    assert their_i.tolist() == i.tolist()
    np.testing.assert_allclose(their_t, t, rtol=0, atol=tolerance)


# ----- NEST: a membrane with synaptic currents, a refractory period and delays

#: Equations of the synaptic currents, what a spike changes, and by how much.
NEST_MODELS = {
    "iaf_psc_exp_ps": ("dex/dt = -ex/(5*ms) : amp\ndinh/dt = -inh/(10*ms) : amp", ("ex", "inh"), "amp", 1.0),
    # w is the maximum of an alpha function, which has the slope e w / tau at its beginning.
    "iaf_psc_alpha_ps": (
        "dex/dt = slope - ex/(5*ms) : amp\ndslope/dt = -slope/(5*ms) : amp/second",
        ("slope", "slope"),
        "amp/second",
        np.e / 0.005,
    ),
}
PICO = 1e-12


@pytest.mark.parametrize("model", NEST_MODELS)
def test_nest(model):
    nest = pytest.importorskip("nest", reason="NEST is not installed")
    currents, (positive, negative), unit, scale = NEST_MODELS[model]
    from_inputs, recurrent = 600 * FROM_INPUTS, 300 * RECURRENT  # in pA

    nest.ResetKernel()
    inhibitory = 10.0 if "inh" in currents else 5.0
    parameters = {
        "E_L": -70.0, "V_th": -55.0, "V_reset": -65.0, "V_m": -70.0, "C_m": 250.0, "tau_m": 20.0, "t_ref": 2.0,
        "tau_syn_ex": 5.0, "tau_syn_in": inhibitory, "I_e": 200.0,
    }  # fmt: skip
    neurons = nest.Create(model, N, params=parameters)
    recorder = nest.Create("spike_recorder")
    for k in range(INPUTS):
        times = (1e3 * TIMES[np.equal(SOURCES, k)]).tolist()
        made = nest.Create("spike_generator", params={"spike_times": times, "precise_times": True})
        for j in range(N):
            nest.Connect(made, neurons[j], syn_spec={"weight": from_inputs[j, k], "delay": 1.0})
    for j, i in zip(*np.nonzero(recurrent), strict=True):
        nest.Connect(neurons[i], neurons[j], syn_spec={"weight": recurrent[j, i], "delay": 0.1 * STEPS[j, i]})
    nest.Connect(neurons, recorder)
    nest.Simulate(1e3 * END)
    events = recorder.get("events")
    theirs = in_order(events["times"] / 1e3, events["senders"] - neurons[0].global_id)

    group = brian2.NeuronGroup(
        N,
        f"dv/dt = (-70*mV - v)/(20*ms) + ({'ex + inh' if 'inh' in currents else 'ex'} + 200*pA)/(250*pF) : volt "
        f"(unless refractory)\n{currents}",
        threshold="v >= -55*mV",
        reset="v = -65*mV",
        refractory=2 * ms,
        namespace={"mV": mV, "ms": ms, "pA": pA, "pF": pF},
    )
    group.v = -70 * mV
    source = generator()
    ways = [
        synapses(start, group, np.where(sign * weights > 0, PICO * scale * weights, 0), variable, unit, seconds)
        for start, weights, seconds in ((source, from_inputs, 1e-3), (group, recurrent, 1e-4 * STEPS))
        for sign, variable in ((1, positive), (-1, negative))
    ]
    assert_equal_spikes(spikes(group, source, *ways), theirs, 1e-12)


# ----- NEURON: its artificial cells, with delays that are no multiples of anything

DELAYS = 1e-3 * RNG.uniform(0.5, 5, (N, N))


def neuron_spikes(h, cells, from_inputs, recurrent):
    """Spikes of cells with inputs without a delay, at the exact times of NetCon events."""
    h.load_file("stdrun.hoc")
    h.CVode().active(1)
    keep, inputs = [], {}
    for j, k in zip(*np.nonzero(from_inputs), strict=True):
        inputs[j, k] = h.NetCon(None, cells[j])
        inputs[j, k].weight[0] = from_inputs[j, k]
    for j, i in zip(*np.nonzero(recurrent), strict=True):
        keep.append(h.NetCon(cells[i], cells[j]))
        keep[-1].delay, keep[-1].weight[0] = 1e3 * DELAYS[j, i], recurrent[j, i]

    def play():
        for t, k in zip(TIMES, SOURCES, strict=True):
            for j in range(N):
                inputs[j, k].event(1e3 * t)

    keep.append(h.FInitializeHandler(play))
    t, i = h.Vector(), h.Vector()
    for j, cell in enumerate(cells):
        keep.append(h.NetCon(cell, None))
        keep[-1].record(t, i, j)
    h.finitialize()
    h.continuerun(1e3 * END)
    return in_order(np.array(t) / 1e3, np.array(i).astype(int))


def intfire4(e, m):
    """The rate of the membrane per current, with which a weight of 1 alone has a maximum of 1."""
    t = e * m / (m - e) * np.log(m / e)
    return (m - e) / (e * m) / (np.exp(-t / m) - np.exp(-t / e))


#: Parameters in ms, equations, the state that spikes change, the scales of the weights from inputs and of the loop.
NEURON_CELLS = {
    "IntFire1": ({"tau": 10.0, "refrac": 0.0}, "dv/dt = -v/(10*ms) : 1", "v", (0.35, 0.35)),
    "IntFire2": (
        {"taum": 5.0, "taus": 20.0, "ib": 0.2},
        "dv/dt = (g - v)/(5*ms) : 1\ndg/dt = (0.2 - g)/(20*ms) : 1",
        "g",
        (0.1, 0.03),
    ),
    "IntFire4": (
        {"taue": 5.0, "taum": 30.0},
        f"dv/dt = {float(1e3 * intfire4(5.0, 30.0))}*Hz*g - v/(30*ms) : 1\ndg/dt = -g/(5*ms) : 1",
        "g",
        (0.1, 0.02),
    ),
}


@pytest.mark.parametrize("name", NEURON_CELLS)
def test_neuron(name):
    h = pytest.importorskip("neuron", reason="NEURON is not installed").h
    parameters, equations, variable, scales = NEURON_CELLS[name]
    from_inputs, recurrent = scales[0] * FROM_INPUTS, scales[1] * RECURRENT
    if name == "IntFire4":  # a negative weight goes through two more states there
        from_inputs, recurrent = np.abs(from_inputs), np.abs(recurrent)
        h.eps_IntFire4 = 1e-12  # ms, instead of 1e-6
    cells = [getattr(h, name)() for _ in range(N)]
    for cell in cells:
        for key, value in parameters.items():
            setattr(cell, key, value)
    theirs = neuron_spikes(h, cells, from_inputs, recurrent)

    group = brian2.NeuronGroup(N, equations, threshold="v >= 1", reset="v = 0")
    if name == "IntFire2":
        group.g = 0.2
    source = generator()
    ways = synapses(source, group, from_inputs, variable, "1"), synapses(group, group, recurrent, variable, "1", DELAYS)
    assert_equal_spikes(spikes(group, source, *ways), theirs, 1e-12)


# ----- NEST: adaptive exponential neurons, integrated by GSL, whose spikes are those of the end of a time step

#: In ms; input spikes and synaptic delays are multiples of it.
RESOLUTION = 1e-3


@pytest.mark.parametrize("name", ["regular", "bursts", "first burst"])
def test_nest_adaptive_exponential_neurons(name):
    nest = pytest.importorskip("nest", reason="NEST is not installed")
    tau, a, b, reset = PATTERNS[name]
    arrivals, duration = [10.25, 25.5, 40.0, 41.0], 100
    nest.ResetKernel()
    nest.resolution = RESOLUTION
    parameters = {
        "C_m": 281.0, "g_L": 30.0, "E_L": -70.6, "V_th": -50.4, "Delta_T": 2.0, "V_peak": 20.0, "V_reset": reset,
        "a": a, "b": 1e3 * b, "tau_w": tau, "I_e": 1000.0, "E_ex": 0.0, "tau_syn_ex": 5.0, "t_ref": 0.0, "V_m": -70.6,
        "w": 0.0, "gsl_error_tol": 1e-12,
    }  # fmt: skip
    neuron, recorder = nest.Create("aeif_cond_exp", params=parameters), nest.Create("spike_recorder")
    made = nest.Create("spike_generator", params={"spike_times": [t - RESOLUTION for t in arrivals]})
    nest.Connect(made, neuron, syn_spec={"weight": 5.0, "delay": RESOLUTION})
    nest.Connect(neuron, recorder)
    nest.Simulate(duration)
    theirs = np.array(recorder.get("events")["times"])

    group = adex([PATTERNS[name]])
    source = brian2.SpikeGeneratorGroup(1, [0] * len(arrivals), arrivals * ms)
    wires = brian2.Synapses(source, group, on_pre="ge += 5*nS", namespace={"nS": brian2.nS})
    wires.connect()
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, source, wires, monitor).run(duration * ms)
    late = theirs - monitor.t / ms
    assert len(late) > 3
    assert np.all((late > -1e-6) & (late < RESOLUTION + 1e-6))
