"""Other exact simulators on input without ties (extra ``[peers]``); skipped where they are not installed.

NEURON tests the threshold after every single arrival and NEST delivers nothing faster than one resolution step, so the
comparison needs times that never coincide, delays, and for NEST a shift of all times by its delay.
"""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.neuron import LIF, CubaLIF

TAU, DEAD = 0.010, 0.002
RNG = np.random.default_rng(11)
#: 300 events in 0.2 s at 10 pixels, at times that no two sums of delays share.
TIMES, PIXELS = np.sort(RNG.uniform(0.001, 0.2, 300)), RNG.integers(0, 10, 300)
FIRST, SECOND = RNG.normal(0.4, 0.4, (8, 10)), RNG.normal(0.5, 0.5, (4, 8))
DELAYS = RNG.uniform(0.001, 0.005, 8)


def train(times=TIMES, pixels=PIXELS):
    return InputSpikes(times, pixels, np.ones(len(times), np.int64), np.arange(len(times)), 0.25)


def spikes(circuit, recording, name):
    (result,) = ExactEngine(circuit).run([recording])
    return result.spikes[name].t, result.spikes[name].i


def two_layers(rule):
    populations = (Population("a", (8,), rule), Population("b", (4,), rule))
    connections = (
        Connection("input", "a", (Dense(FIRST, (10,)),), (), 10),
        Connection("a", "b", (Delay(DELAYS), Dense(SECOND, (8,))), (), 8),
    )
    return Circuit("input", (10,), populations, connections, "b")


def one_layer(rule, weights):
    connection = Connection("input", "a", (Dense(weights, (10,)),), (), 10)
    return Circuit("input", (10,), (Population("a", (8,), rule),), (connection,), "a")


@pytest.fixture(scope="module")
def neuron_h(tmp_path_factory):
    """NEURON's interpreter with the subtractive mechanism, where a compiler is at hand."""
    neuron = pytest.importorskip("neuron", reason="NEURON is not installed")
    if not (tool := shutil.which("nrnivmodl")):
        pytest.skip("nrnivmodl is not on the path")
    folder = tmp_path_factory.mktemp("mechanisms")
    shutil.copy(Path(__file__).with_name("peers") / "intfire_subtract.mod", folder)
    subprocess.run([tool], cwd=folder, check=True, capture_output=True)
    neuron.load_mechanisms(str(folder))
    assert (folder / platform.machine()).exists()
    return neuron.h


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_neuron(neuron_h, reset):
    h = neuron_h
    h.load_file("stdrun.hoc")
    h.CVode().active(1)

    def cell():
        made = h.IntFire1() if reset == "zero" else h.IntFireSubtract()
        made.tau = 1e3 * TAU
        if reset == "zero":
            made.refrac = 1e3 * DEAD
        return made

    first, second = [cell() for _ in range(8)], [cell() for _ in range(4)]
    inputs, keep = {}, []
    for j, target in enumerate(first):
        for k in range(10):
            inputs[j, k] = h.NetCon(None, target)
            inputs[j, k].weight[0] = FIRST[j, k]
        for i, later in enumerate(second):
            keep.append(h.NetCon(target, later))
            keep[-1].delay, keep[-1].weight[0] = 1e3 * DELAYS[j], SECOND[i, j]

    def play():
        for t, k in zip(TIMES, PIXELS, strict=True):
            for j in range(8):
                inputs[j, k].event(1e3 * t)

    keep.append(h.FInitializeHandler(play))
    t, i = h.Vector(), h.Vector()
    for j, target in enumerate(second):
        keep.append(h.NetCon(target, None))
        keep[-1].record(t, i, j)
    h.finitialize()
    h.continuerun(250)

    rule = LIF(tau=TAU, r=TAU, reset=reset, refractory=DEAD if reset == "zero" else 0.0)
    ours_t, ours_i = spikes(two_layers(rule), train(), "b")
    assert len(ours_t) > 50
    assert np.array(i).astype(int).tolist() == ours_i.tolist()
    np.testing.assert_allclose(np.array(t) / 1e3, ours_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", ["iaf_psc_delta_ps", "iaf_psc_exp_ps"])
def test_nest(model):
    nest = pytest.importorskip("nest", reason="NEST is not installed")
    nest.ResetKernel()
    common = {"E_L": 0.0, "V_th": 1.0, "V_reset": 0.0, "V_m": 0.0, "C_m": 1.0, "tau_m": 1e3 * TAU, "t_ref": 1e3 * DEAD}
    delay, count = 1.0, 8
    if model == "iaf_psc_delta_ps":
        rule, weights = LIF(tau=TAU, r=TAU, reset="zero", refractory=DEAD), FIRST
        parameters = common
        scale = 1.0
    else:
        # tau v' = -v + r I, and v' = -v / tau + I / C: I is 1 / tau times ours, in ms. Strong enough not to graze.
        rule = CubaLIF(tau=TAU, tau_syn=0.004, w_in=0.004, reset="zero", refractory=DEAD)
        weights, scale = 4 * FIRST, 1e-3 / TAU
        parameters = common | {"tau_syn_ex": 4.0, "tau_syn_in": 4.0}
    neurons = nest.Create(model, count, params=parameters)
    recorder = nest.Create("spike_recorder")
    for k in range(10):
        times = (1e3 * TIMES[np.equal(PIXELS, k)]).tolist()
        generator = nest.Create("spike_generator", params={"spike_times": times, "precise_times": True})
        for j in range(count):
            nest.Connect(generator, neurons[j], syn_spec={"weight": scale * weights[j, k], "delay": delay})
    nest.Connect(neurons, recorder)
    nest.Simulate(250.0)
    events = recorder.get("events")
    order = np.lexsort((events["senders"], events["times"]))
    nest_t, nest_i = events["times"][order] / 1e3, events["senders"][order] - neurons[0].global_id

    ours_t, ours_i = spikes(one_layer(rule, weights), train(), "a")
    within = ours_t < 0.249
    nest_within = nest_t < 0.25
    assert within.sum() > 50
    assert nest_i[nest_within].tolist() == ours_i[within].tolist()
    np.testing.assert_allclose(nest_t[nest_within] - 1e-3 * delay, ours_t[within], rtol=0, atol=1e-9)


def test_jaxsnn():
    """Crossings in closed form, where the membrane is twice as slow as the synapse."""
    pytest.importorskip("jaxsnn", reason="jaxsnn is not installed")
    import jax
    import jax.numpy as jnp
    from jaxsnn.event.modules import LIF as JaxLIF
    from jaxsnn.event.modules import Linear, Source
    from jaxsnn.event.modules.lif import LIFParameters
    from jaxsnn.event.topology import Topology
    from jaxsnn.event.types import Spike

    with jax.enable_x64(True):
        count, weights = len(TIMES), 2 * FIRST
        parameters = LIFParameters(tau_syn=TAU / 2, tau_mem=TAU, v_th=1.0)
        topology = Topology(t_max=0.25)
        topology.add({"in": Source(10), "w": Linear(pre_weights=weights.T), "a": JaxLIF(8, 1500, parameters)})
        topology.connect([("in", "w"), ("w", "a")])
        init, apply = topology.done()
        source = np.zeros((1, count), dtype=np.int64)
        played = Spike(TIMES[None], PIXELS[None], 0.0 * source, source, source == 0)
        found = apply({"in": jax.tree.map(jnp.asarray, played)}, init(jax.random.PRNGKey(0)))["a"]
        own = np.asarray(found.internal[0])
        theirs_t, theirs_i = np.asarray(found.time[0])[own], np.asarray(found.idx[0])[own]
    # The current jumps by w; here by w_in * w / tau_syn.
    rule = CubaLIF(tau=TAU, tau_syn=TAU / 2, w_in=TAU / 2, reset="zero")
    ours_t, ours_i = spikes(one_layer(rule, weights), train(), "a")
    assert len(ours_t) > 50
    assert theirs_i.tolist() == ours_i.tolist()
    np.testing.assert_allclose(theirs_t, ours_t, rtol=0, atol=1e-14)


def test_arbor():
    """`lif_cell`, which goes from event to event; connections have a delay, spikes a dead time, weights 32 bits.

    A cell without outgoing connections has no spikes to record, so there is one more, which listens to all of them.
    """
    arbor = pytest.importorskip("arbor", reason="Arbor is not installed")
    delay, count = 1.0, 8
    units, weights = arbor.units, FIRST.astype(np.float32).astype(np.float64)

    class Recipe(arbor.recipe):
        def num_cells(self):
            return count + 1 + 10

        def cell_kind(self, gid):
            return arbor.cell_kind.lif if gid <= count else arbor.cell_kind.spike_source

        def cell_description(self, gid):
            if gid > count:
                times = 1e3 * TIMES[gid - count - 1 == PIXELS]
                return arbor.spike_source_cell("out", arbor.explicit_schedule([t * units.ms for t in times]))
            cell = arbor.lif_cell("out", "in")
            cell.E_L = cell.E_R = cell.V_m = 0 * units.mV
            cell.V_th, cell.tau_m, cell.C_m = 1 * units.mV, 1e3 * TAU * units.ms, 1 * units.pF
            cell.t_ref = 1e3 * DEAD * units.ms
            return cell

        def connections_on(self, gid):
            if gid > count:
                return []
            sources = [(k, 0.0) for k in range(count)]
            if gid < count:
                sources = [(count + 1 + k, weights[gid, k]) for k in range(10)]
            return [arbor.connection((source, "out"), "in", w, delay * units.ms) for source, w in sources]

        def global_properties(self, kind):
            return None

    simulation = arbor.simulation(Recipe())
    simulation.record(arbor.spike_recording.all)
    simulation.run(250 * units.ms, 0.1 * units.ms)
    found = sorted((t, source[0]) for source, t in simulation.spikes().tolist() if source[0] < count)
    theirs_t, theirs_i = np.array([t for t, _ in found]) / 1e3, [i for _, i in found]
    rule = LIF(tau=TAU, r=TAU, reset="zero", refractory=DEAD)
    ours_t, ours_i = spikes(one_layer(rule, weights), train(), "a")
    assert len(ours_t) > 50
    assert theirs_i == ours_i.tolist()
    np.testing.assert_allclose(theirs_t - 1e-3 * delay, ours_t, rtol=0, atol=1e-12)
