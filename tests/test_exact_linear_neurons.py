"""Linear systems as neurons of whole networks, against the closed forms of IF, LIF and CubaLIF and fine time steps."""

from dataclasses import replace

import numpy as np
import pytest

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, LinearNeuron, LinearSystem
from tests.test_exact_runs import assert_close, play


def as_linear(rule, size):
    """The same neurons as linear systems, one for each."""
    full = {k: np.broadcast_to(v, (size,)) for k, v in vars(rule).items() if isinstance(v, float | np.ndarray)}
    single = [replace(rule, **{k: float(v[i]) for k, v in full.items()}) for i in range(size)]
    kept = {k: getattr(rule, k) for k in ("threshold", "reset", "spikes", "lower_bound", "v_reset", "refractory")}
    return LinearNeuron(systems=tuple(rule.linear_system() for rule in single), system=np.arange(size), **kept)


RULES = {
    "IF": IF(bias=20.0, lower_bound=-0.5, refractory=0.002),
    "LIF": LIF(tau=0.01, r=0.01, v_leak=1.2, spikes="many"),
    "CubaLIF": CubaLIF(tau=0.01, tau_syn=0.004, w_in=0.02, bias=10.0, lower_bound=-1.0, refractory=0.003),
    "CubaLIF, zero": CubaLIF(tau=np.linspace(0.005, 0.02, 6), tau_syn=0.01, w_in=0.03, reset="zero", v_reset=-0.1),
}


@pytest.mark.parametrize("name", RULES)
def test_a_linear_neuron_fires_as_its_closed_form(name):
    rng = np.random.default_rng(1)
    shape = (2, 3)
    first, loop = rng.normal(0.3, 0.6, (6, 10)), rng.normal(-0.1, 0.3, (6, 6))
    results = []
    for rule in (RULES[name], as_linear(RULES[name], 6)):
        rule = replace(rule, system=rule.system.reshape(shape)) if isinstance(rule, LinearNeuron) else rule
        rule = replace(rule, tau=rule.tau.reshape(shape)) if np.ndim(getattr(rule, "tau", 0)) else rule
        connections = (
            Connection("input", "a", (Dense(first, (10,)),), (), 10),
            Connection("a", "a", (Dense(loop, (6,)), Delay(np.full(6, 0.0015))), (), 6),
            Connection("a", "out", (), (), 6),
        )
        populations = (Population("a", shape, rule), Population("out", shape, IF(threshold=None)))
        circuit = Circuit("input", (10,), populations, connections, "out")
        (result,) = ExactEngine(circuit, threads=1).run([play(np.random.default_rng(2), events=80, shape=(10,))])
        results.append(result)
    assert len(results[0].spikes["a"].t) > 30
    assert_close(*results, tolerance=1e-12)


def test_linear_neurons_numbered_channels_last_keep_their_systems():
    # Behind a convolution the engine numbers neurons by pixel; every neuron has its own time constant.
    conv = Conv2d(np.full((2, 1, 1, 1), 0.6), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, (1, 1, 3))
    tau = np.linspace(0.002, 0.02, 6).reshape(2, 1, 3)
    rule = LIF(tau=tau, r=tau)
    linear = as_linear(LIF(tau=tau.ravel(), r=tau.ravel()), 6)
    results = []
    for each in (rule, replace(linear, system=linear.system.reshape(2, 1, 3))):
        circuit = Circuit(
            "input",
            (1, 1, 3),
            (Population("a", (2, 1, 3), each),),
            (Connection("input", "a", (conv,), (), 3),),
            "a",
        )
        (result,) = ExactEngine(circuit).run([play(np.random.default_rng(3), events=60, shape=(1, 1, 3))])
        results.append(result)
    assert len(results[0].spikes["a"].t) > 10
    assert_close(*results, tolerance=1e-12)


def stepped(system, rule, arrivals, end, dt=1e-6):
    """Euler steps of 1 us: spike times."""
    x, spikes, free = np.zeros(len(system.offset)), [], 0.0
    arrivals = {round(t / dt): w for t, w in arrivals}
    for step in range(round(end / dt)):
        move = dt * (system.matrix @ x + system.offset) / system.tau
        if step * dt < free:
            move[-1] = 0
        x = x + move + system.jump * arrivals.get(step, 0.0)
        if x[-1] >= rule.threshold and step * dt >= free:
            spikes.append(step * dt)
            x[-1] = x[-1] - rule.threshold if rule.reset == "subtract" else rule.v_reset
            free = step * dt + rule.refractory
    return spikes, x


SYNAPSE = LIF(threshold=None, tau=0.005)


@pytest.mark.parametrize(
    "behind", [IF(), IF(bias=15.0), LIF(tau=0.01), CubaLIF(tau=0.01, tau_syn=0.003), CubaLIF(tau=0.01, tau_syn=0.005)]
)
@pytest.mark.parametrize("options", [{}, {"reset": "zero", "refractory": 0.002}])
def test_a_synapse_in_front_of_a_neuron(behind, options):
    system = SYNAPSE.linear_system().feeding(behind.linear_system())
    rule = LinearNeuron(systems=(system,), **options)
    weight = 8.0 if type(behind) is IF else 0.09
    circuit = Circuit(
        "input",
        (1,),
        (Population("a", (1,), rule),),
        (Connection("input", "a", (Dense(np.array([[weight * 5]]), (1,)),), (), 1),),
        "a",
    )
    t = np.arange(1, 21) * 0.002
    train = InputSpikes(t, np.zeros(20, np.int64), np.ones(20, np.int64), np.arange(20), 0.06)
    (result,) = ExactEngine(circuit).run([train])
    expected, _ = stepped(system, rule, [(k, weight * 5) for k in t], 0.06)
    assert len(expected) > 3
    np.testing.assert_allclose(result.spikes["a"].t, expected, atol=3e-5)


def test_a_silent_linear_readout_ends_at_the_solution_of_its_equation():
    # I -> IF: v = w tau_s (1 - exp(-t / tau_s)) for IF behind an exponential synapse, jump w / tau_s in the synapse.
    system = SYNAPSE.linear_system().feeding(IF(threshold=None, bias=2.0).linear_system())
    rule = LinearNeuron(systems=(system,), threshold=None)
    circuit = Circuit(
        "input",
        (1,),
        (Population("a", (3,), rule),),
        (Connection("input", "a", (Dense(np.array([[1.0], [2.0], [-1.0]]), (1,)),), (), 1),),
        "a",
    )
    train = InputSpikes(np.array([0.01]), np.zeros(1, np.int64), np.ones(1, np.int64), np.arange(1), 0.03)
    (result,) = ExactEngine(circuit).run([train])
    expected = 2.0 * 0.03 + np.array([1.0, 2.0, -1.0]) * (1 - np.exp(-0.02 / 0.005))
    np.testing.assert_allclose(result.readout, expected, rtol=1e-14)
    with pytest.raises(InputError, match="readout_at"):
        result.readout_at(0.02)


def test_what_a_linear_neuron_cannot_be_is_refused():
    system = CubaLIF(tau=0.01, tau_syn=0.005).linear_system()
    with pytest.raises(InputError, match=r"system must be 0\.\.0"):
        LinearNeuron(systems=(system,), system=1)
    with pytest.raises(InputError, match="1 to 4 states"):
        LinearSystem(matrix=np.eye(5), offset=np.zeros(5), drive=np.zeros(5), row=np.zeros(5), tau=np.ones(5))
