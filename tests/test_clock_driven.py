"""The network on a clock in real time: against the exact engine, against torch's time steps, and by hand in volts."""

import itertools

import brian2
import nir
import numpy as np
import pytest
from brian2 import ms, mV, second, us, volt

import mtt_brian as mb
from mtt_brian import machine
from mtt_brian.errors import InputError
from mtt_brian.translate import VoltageScale, to_clock_driven
from tests import random_networks
from tests.engines import recording, simulator, trains


@pytest.fixture(autouse=True)
def _nothing_to_compile():
    before = brian2.prefs["codegen.target"]
    brian2.prefs["codegen.target"] = "numpy"
    yield
    brian2.prefs["codegen.target"] = before


def neuron(kind=nir.IF, size=1, metadata=None, **parameters):
    defaults = {"r": 1.0, "v_threshold": 1.0}
    if kind is not nir.IF:
        defaults |= {"v_leak": 0.0}
    values = {name: np.full(size, value) for name, value in (defaults | parameters).items()}
    return kind(**values, metadata={"reset": "subtract", "spikes": "many"} | (metadata or {}))


def chain(size, *nodes):
    """input (size,) -> n0 -> n1 -> ... -> output"""
    names = ["input", *(f"n{k}" for k in range(len(nodes))), "output"]
    ends = nir.Input(np.array([size])), nir.Output(np.array([1]))
    return nir.NIRGraph(
        nodes=dict(zip(names, [ends[0], *nodes, ends[1]], strict=True)),
        edges=list(itertools.pairwise(names)),
        type_check=False,
    )


def linear(*weights):
    return nir.Linear(np.array([weights], dtype=float))


def run(graph, recordings, dt=1 * us, change=lambda network: None, **options):
    network = to_clock_driven(graph, recordings, dt=dt, **options)
    change(network)
    network.run(network.duration, namespace={})
    return network


def fired(network, name, copy=0):
    """[(t in us, neuron, n), ...]"""
    t, i, n = network.trains(copy)[name]
    return list(zip(np.rint(t * 1e6).astype(int).tolist(), i.tolist(), n.tolist(), strict=True))


def exactly(graph, events, name, duration=None):
    (result,) = simulator(graph, "exact").run([events], duration)
    return [(round(t * 1e6), i, n) for t, i, n in trains(result)[name]]


# ----- against the exact engine


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("leaky", [False, True])
def test_steps_of_a_microsecond_give_the_spikes_of_the_exact_engine(seed, leaky):
    graph = random_networks.graph(seed, leaky)
    for node in graph.nodes.values():
        if hasattr(node, "v_threshold"):
            node.metadata["spikes"] = "many"
    shape = graph.nodes["input"].input_type["input"]
    played = [random_networks.recording(seed + k, shape) for k in range(2)]
    for events in played:
        events["t"] //= 200
    network = run(graph, played)
    results = list(simulator(graph, "exact").run(played))
    last = network.circuit.readout.name
    for copy, result in enumerate(results):
        for name, expected in trains(result).items():
            assert fired(network, name, copy) == [(round(t * 1e6), i, n) for t, i, n in expected], name
        if network.circuit.readout.rule.fires:
            np.testing.assert_array_equal(network.readouts()[copy], result.readout, err_msg=last)
        else:
            np.testing.assert_allclose(network.readouts()[copy], result.readout, atol=1e-9)
    assert sum(len(result.spikes["0"].t) for result in results) > 20


def test_delays_of_the_graph_are_delays_of_the_synapses():
    # The delays before and behind the matrix add up per synapse; two paths of equal delay are one synapse.
    graph = chain(
        2,
        nir.Delay(np.array([0.0, 30e-6])),
        nir.Linear(np.array([[1.0, 0.5], [2.0, 0.0]])),
        nir.Delay(np.array([20e-6, 5e-6])),
        linear(1.0, 1.0),
        neuron(),
    )
    events = recording([(0, 0), (10, 1), (40, 1)])
    network = run(graph, events, duration=100e-6)
    synapses = network["synapses_input_n4"]
    assert np.column_stack([synapses.i[:], np.rint(synapses.delay / us), np.rint(synapses.w / mV)]).tolist() == [
        [0, 5, 40], [0, 20, 20], [1, 50, 10],
    ]  # fmt: skip
    expected = [(5, 0, 2), (20, 0, 1), (90, 0, 1)]
    assert fired(network, "n4") == exactly(graph, events, "n4", 100e-6) == expected


def test_a_loop_with_a_delay():
    nodes = {
        "input": nir.Input(np.array([1])), "a": neuron(), "b": neuron(), "w": linear(1.0),
        "d": nir.Delay(np.array([7e-6])), "output": nir.Output(np.array([1])),
    }  # fmt: skip
    edges = [("input", "a"), ("a", "b"), ("b", "w"), ("w", "d"), ("d", "a"), ("b", "output")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    events = recording([(3, 0)])
    network = run(graph, events, duration=20e-6)
    assert fired(network, "b") == exactly(graph, events, "b", 20e-6) == [(3, 0, 1), (10, 0, 1), (17, 0, 1)]
    with pytest.raises(InputError, match=r"'b' -> 'a' closes a loop in less than a step of 8\. us"):
        to_clock_driven(graph, events, dt=8 * us)


def test_a_refractory_neuron_loses_what_arrives():
    graph = chain(1, linear(1.0), neuron(metadata={"refractory": 10e-6}))
    events = recording([(t, 0) for t in (0, 5, 9, 10, 12, 21)])
    assert fired(run(graph, events), "n1") == exactly(graph, events, "n1") == [(0, 0, 1), (10, 0, 1), (21, 0, 1)]


def test_a_synaptic_current_continues_during_the_refractory_period():
    graph = chain(
        1,
        linear(1.0),
        neuron(nir.CubaLIF, tau_syn=5e-3, tau_mem=10e-3, w_in=0.03, metadata={"refractory": 2e-3}),
    )
    events = recording([(1000, 0), (9000, 0)])
    expected = exactly(graph, events, "n1", 0.03)
    assert len(expected) >= 2
    found = fired(run(graph, events, dt=2 * us, duration=0.03), "n1")
    assert [t for t, _, _ in found] == pytest.approx([t for t, _, _ in expected], rel=2e-3)


@pytest.mark.parametrize(
    "node",
    [
        neuron(nir.IF),
        neuron(nir.LIF, tau=20e-3),
        neuron(nir.LIF, tau=20e-3, v_leak=0.5, metadata={"reset": "zero"}, v_reset=-0.25),
        neuron(nir.CubaLIF, tau_syn=10e-3, tau_mem=10e-3, w_in=1.0, v_leak=0.25),
    ],
    ids=lambda node: type(node).__name__,
)
def test_a_drift_crosses_within_a_step_of_the_exact_instant(node):
    graph = chain(1, nir.Affine(np.array([[0.0]]), np.array([1.5 if not isinstance(node, nir.IF) else 150.0])), node)
    events = recording([(0, 0)])
    expected = exactly(graph, events, "n1", 0.05)
    assert len(expected) >= 2
    found = fired(run(graph, events, dt=5 * us, duration=0.05), "n1")
    # Every reset takes place at the end of its step, so each spike may be up to a step later than the one before.
    late = np.array([t for t, _, _ in found[: len(expected)]]) - [t for t, _, _ in expected]
    assert np.all(late >= -5.01), late
    assert np.all(late <= 5 * np.arange(len(late)) + 0.01), late


# ----- against time steps


@pytest.mark.parametrize(
    "rule", [{"spikes": "many", "lower_bound": -1.0}, {"spikes": "one"}, {"reset": "zero"}], ids=str
)
def test_steps_of_a_frame_give_the_spikes_of_torch(rule):
    torch = pytest.importorskip("torch")
    from mtt_brian.snn.observe import over_time

    torch.manual_seed(0)
    model = mb.models.nmnist_3c1fc(sensor_size=(2, 12, 14), num_classes=4, neuron=mb.neuron.IF(**rule))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 128) / 64)
    events = random_networks.recording(0, (2, 12, 14), events=400)
    network = run(mb.export.to_nir(model), events, dt=5 * ms)
    frames = mb.events.to_frames(events, 10, (2, 12, 14), 50_000)
    stepped = over_time(model, torch.from_numpy(frames)[:, None], 10)
    assert network.steps == 10
    for name in ("spikes1", "spikes2", "spikes3"):
        t, i, n = network.trains()[name]
        counts = np.zeros((10, network.circuit.population[name].size))
        counts[np.rint(t / 5e-3).astype(int), i] = n
        assert counts.any()
        assert counts.tolist() == stepped[name].reshape(10, -1).tolist(), name
    np.testing.assert_allclose(network.readouts()[0], stepped["output"].sum(0)[0].numpy(), atol=1e-5)


# ----- by hand, in volts


def test_potentials_and_weights_are_volts():
    graph = chain(2, linear(0.5, -2.0), neuron(metadata={"lower_bound": -1.0}))
    network = to_clock_driven(graph, recording([(0, 0), (1000, 0), (2000, 1), (2500, 0)]), dt=0.5 * ms)
    states = brian2.StateMonitor(network["population_n1"], "v", record=True, when="end")
    network.add(states)
    network.run(network.duration, namespace={})
    # +10 mV twice reaches the threshold exactly, although -0.07 + 0.01 + 0.01 < -0.05; -40 mV stops at the lower bound.
    np.testing.assert_allclose(states.v[0] / mV, [-60, -60, -70, -70, -90, -80])
    assert (np.asarray(states.t / ms)).tolist() == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    assert fired(network, "n1") == [(1000, 0, 1)]
    assert (network["synapses_input_n1"].w[:] / mV).tolist() == pytest.approx([10, -40])
    assert network["spikes_n1"].n[:].tolist() == [1]


def test_another_scale_changes_the_volts_and_not_the_spikes():
    graph = chain(1, linear(0.3), neuron())
    events = recording([(1000 * k, 0) for k in range(20)])
    scales = VoltageScale(), VoltageScale(rest=0 * mV, threshold=1 * volt)
    networks = [run(graph, events, dt=1 * ms, scale=scale) for scale in scales]
    assert fired(networks[0], "n1") == fired(networks[1], "n1")
    for network in networks:
        assert network.readouts().tolist() == [[6.0]]
        assert float(network.scale.from_potential(network["population_n1"].v[0])) == pytest.approx(0.0, abs=1e-9)


def test_events_of_one_pixel_in_one_step_are_counted():
    graph = chain(1, linear(0.5), neuron())
    network = run(graph, recording([(10, 0), (20, 0), (90, 0), (100, 0), (130, 0), (199, 0)]), dt=0.1 * ms)
    assert fired(network, "n1") == [(0, 0, 1), (100, 0, 2)]


def test_a_time_on_the_border_of_two_steps_belongs_to_the_later_one():
    graph = chain(1, linear(1.0), neuron())
    times = [300, 599, 600, 700, 1200]  # 300 us / 0.1 ms is 2.9999999999999996 in floating point
    assert [t for t, _, _ in fired(run(graph, recording([(t, 0) for t in times]), dt=0.1 * ms), "n1")] == [
        300, 500, 600, 700, 1200,
    ]  # fmt: skip


def test_copies_are_independent_and_may_end_at_different_times():
    graph = chain(2, linear(0.5, 1.0), neuron(), linear(2.0))
    played = [recording([(0, 0), (700, 0)]), recording([(100, 1)]), recording([])]
    network = run(graph, played, dt=0.1 * ms)
    assert (network.batch_size, network.steps) == (3, 8)
    assert [fired(network, "n1", copy) for copy in range(3)] == [[(700, 0, 1)], [(100, 0, 1)], []]
    np.testing.assert_allclose(network.readouts(), [[2], [2], [0]])


# ----- plain Brian2 on top


def test_delays_thresholds_and_refractory_periods_are_brian2_variables():
    graph = chain(2, linear(0.5, 1.0), neuron())
    events = recording([(0, 0), (0, 1), (1000, 1), (1500, 1), (4000, 1)])

    def change(network):
        network["synapses_input_n1"].delay = "i*0.4*ms"
        network["population_n1"].v_threshold = -60 * mV
        network["population_n1"].tau_ref = 1.2 * ms

    # 0.5 at 0 reaches the lower threshold at once; pixel 1 arrives 0.4 ms later: while the neuron does not listen at
    # 0.4 ms; at 1.4 ms twice the threshold; at 1.9 ms it does not listen.
    network = run(graph, events, dt=0.1 * ms, change=change, duration=5e-3)
    assert fired(network, "n1") == [(0, 0, 1), (1400, 0, 2), (4400, 0, 2)]


def test_noise_added_to_the_membrane_has_the_given_spread():
    graph = chain(1, linear(0.0), neuron(nir.LIF, tau=10e-3))
    brian2.seed(1)
    network = to_clock_driven(graph, [recording([])] * 4000, dt=0.5 * ms, duration=60e-3)
    group = network["population_n1"]
    group.v_threshold = 0 * volt  # never reached
    group.run_regularly("v += 2*mV*sqrt(2*dt/tau)*randn()")
    network.run(network.duration)
    spread = np.std(group.v / mV)
    # The stationary deviation of v <- exp(-dt/tau) (v + noise) is a little below 2 mV; 4000 samples are good to 1.1 %.
    decay = np.exp(-0.05)
    assert spread == pytest.approx(2 * np.sqrt(0.1) * decay / np.sqrt(1 - decay**2), rel=0.05)
    assert np.mean(group.v / mV) == pytest.approx(-70, abs=0.15)


def test_a_user_can_add_synapses():
    graph = chain(1, linear(1.0), neuron())
    network = to_clock_driven(graph, recording([(0, 0)]), dt=0.1 * ms, duration=2e-3)
    group = network["population_n1"]
    echo = brian2.Synapses(group, group, on_pre="v_post += 20*mV", delay=0.5 * ms, clock=network.clock)
    echo.connect()
    network.add(echo)
    network.run(network.duration)
    # It delivers behind the threshold test, so that every round takes its delay and a step.
    assert fired(network, "n1") == [(0, 0, 1), (600, 0, 1), (1200, 0, 1), (1800, 0, 1)]


def test_a_network_can_be_run_again_and_beyond_its_recording():
    graph = chain(1, linear(1.0), neuron())
    network = to_clock_driven(graph, recording([(200, 0)]), dt=0.1 * ms)
    network.store()
    network.run(network.duration)
    network.run(1 * ms)
    assert fired(network, "n1") == [(200, 0, 1)]
    network.restore()
    network.run(network.duration)
    assert fired(network, "n1") == [(200, 0, 1)]


# ----- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0.1 * mV}, r"dt must be a time > 0, such as 0\.1\*ms, not 100\. \* uvolt"),
        ({"dt": 0.1}, r"dt must be a time > 0"),
        ({"dt": 0 * second}, r"dt must be a time > 0"),
        ({"dt": [1, 2] * ms}, r"dt must be a time > 0"),
    ],
)
def test_bad_steps_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        to_clock_driven(chain(1, neuron()), recording([(0, 0)]), **options)


def test_bad_recordings_are_named():
    with pytest.raises(InputError, match="recording 1: event 0 has x = 3"):
        to_clock_driven(chain(1, neuron()), [recording([(0, 0)]), recording([(0, 3)])])
    with pytest.raises(InputError, match="at least one recording"):
        to_clock_driven(chain(1, neuron()), [])


def test_other_devices_are_refused():
    brian2.set_device("cpp_standalone", build_on_run=False)
    try:
        with pytest.raises(InputError, match=r"needs Brian2's runtime device"):
            to_clock_driven(chain(1, neuron()), recording([(0, 0)]))
    finally:
        brian2.device.reinit()
        brian2.set_device("runtime")


def test_a_network_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match="batch size 10"):
        to_clock_driven(chain(1, neuron()), [recording([(0, 0)])] * 10)
