"""Brian2 networks that find their instants themselves: biases, leaks, synaptic currents, refractory periods.

The exact engine is the reference: it has tests of its own against rational arithmetic and 40 digits.
"""

import math
import signal
from dataclasses import replace

import brian2
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.brian2 import functions
from mtt_brian.engines.brian2.network import EventNetwork
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from tests.engines import every_engine, recording, simulator
from tests.self_timed import KINDS, compare


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_spikes_as_the_exact_engine(kind):
    fired = [compare(seed, kind, batch_size=1 + seed % 3) for seed in range(4 if kind in KINDS[:2] else 3)]
    assert sum(fired) > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "engine", "options"),
    [
        # Cython compiles an extension for each piece of code, half a minute for each kind.
        ("CubaLIF", "brian2", {"target": "cython"}),
        ("IF", "brian2-cpp", {}),
        ("CubaLIF", "brian2-cpp", {}),
        ("delays", "brian2-cpp", {}),
    ],
)
def test_the_same_spikes_when_compiled(kind, engine, options, unoptimised):
    assert compare(7, kind, engine, batch_size=2, **options) > 20


@pytest.mark.parametrize("kind", ["IF", "CubaLI", "delays"])
def test_counts_and_final_states_in_tables(kind):
    """As on a GPU, where monitors make every step wait."""
    assert compare(11, kind, record="counts", every_step=True, batch_size=2) > 20


# ----- on paper

#: What the compiled networks of `test_the_same_spikes_when_compiled` have too, compared with the exact engine: leaks,
#: currents, refractory periods that end at an arrival, delays, late arrivals at the time of an event, and a loop.
not_compiled = pytest.mark.parametrize("engine", ["exact", "brian2"])


def single(rule, weight=1.0):
    """Input -> one neuron."""
    connection = Connection("input", "a", (Dense(np.array([[weight]]), (1,)),), (), 1)
    return Circuit("input", (1,), (Population("a", (1,), rule),), (connection,), "a")


def times(circuit, engine, events, duration):
    (result,) = simulator(circuit, engine).run([recording(events)], duration)
    return result.spikes["a"].t.tolist(), result.spikes["a"].n.tolist()


@every_engine
def test_a_bias_fires_every_ten_milliseconds_and_an_arrival_brings_the_next_spike_forward(engine):
    # 100 per second up to 1: 10 ms. At 14 ms the potential is 0.4 and jumps by 0.5: the next crossing is at 15 ms.
    assert times(single(IF(bias=100.0), 0.5), engine, [(14_000, 0)], 0.03) == ([0.01, 0.015, 0.025], [1, 1, 1])


@every_engine
def test_a_crossing_at_the_time_of_an_arrival_is_one_instant(engine):
    # At 10 ms the potential is 1 and jumps by 1.5: two spikes, half a threshold is left, the next crossing is at 15 ms.
    rule = IF(bias=100.0, reset="subtract", spikes="many")
    assert times(single(rule, 1.5), engine, [(10_000, 0)], 0.016) == ([0.01, 0.015], [2, 1])


@every_engine
def test_a_crossing_at_the_end_of_the_run_belongs_to_it(engine):
    assert times(single(IF(bias=100.0)), engine, [], 0.02) == ([0.01, 0.02], [1, 1])


@not_compiled
def test_a_leaky_neuron_with_a_bias_fires_with_its_known_period(engine):
    # From 0 towards 2 with tau = 10 ms: tau log 2 to the threshold 1, from there again from 0.
    found, n = times(single(LIF(tau=0.01, bias=2.0, reset="zero")), engine, [], 0.022)
    np.testing.assert_allclose(found, 0.01 * math.log(2) * np.arange(1, 4), rtol=1e-14)
    assert n == [1, 1, 1]


@not_compiled
def test_a_synaptic_current_carries_a_neuron_over_its_threshold_after_the_arrival(engine):
    # tau = tau_syn: v = drive a t exp(-a t); a drive of 2 e reaches 1 where x exp(-x) = 1 / (2 e).
    tau = 0.01
    rule = CubaLIF(tau=tau, tau_syn=tau, w_in=tau, reset="zero")
    (t, *_), _ = times(single(rule, 2 * math.e), engine, [(1000, 0)], 0.05)
    x = (t - 0.001) / tau
    assert x * math.exp(-x) == pytest.approx(1 / (2 * math.e), rel=1e-12)
    assert x < 1


@not_compiled
def test_arrivals_in_the_refractory_period_are_lost(engine):
    rule = IF(refractory=0.002)
    assert times(single(rule), engine, [(t, 0) for t in (1000, 2000, 2999, 3000, 4000)], 0.01)[0] == [0.001, 0.003]


def delayed(rule, *seconds, weight=1.0):
    """Input -> one neuron for each delay, each behind its own."""
    operators = (Dense(np.full((len(seconds), 1), weight), (1,)), Delay(np.array(seconds)))
    connection = Connection("input", "a", operators, (), 1)
    return Circuit("input", (1,), (Population("a", (len(seconds),), rule),), (connection,), "a")


@not_compiled
def test_a_spike_arrives_after_its_delay(engine):
    circuit = delayed(IF(), 0.0, 0.002, 0.0005)
    (result,) = simulator(circuit, engine).run([recording([(1000, 0), (2000, 0)])], 0.0035)
    found = result.spikes["a"]
    assert list(zip(found.t.tolist(), found.i.tolist(), strict=True)) == [
        (0.001, 0), (0.0015, 2), (0.002, 0), (0.0025, 2), (0.003, 1),
    ]  # fmt: skip


@not_compiled
def test_a_late_arrival_at_the_time_of_an_event_is_one_instant(engine):
    # 0.6 now and 0.6 from 2 ms ago: 1.2 at once, which neither alone would reach.
    rule = LIF(tau=2.0**-9, r=2.0**-9)
    at_once = single(rule, 0.6)
    late = Connection("input", "a", (Dense(np.array([[0.6]]), (1,)), Delay(np.array([0.002]))), (), 1)
    circuit = replace(at_once, connections=(*at_once.connections, late))
    assert times(circuit, engine, [(1000, 0), (3000, 0)], 0.01)[0] == [0.003]


@not_compiled
def test_a_loop_fires_until_the_end(engine):
    circuit = single(IF())
    loop = Connection("a", "a", (Dense(np.ones((1, 1)), (1,)), Delay(np.array([0.003]))), (), 1)
    circuit = replace(circuit, connections=(*circuit.connections, loop))
    assert times(circuit, engine, [(1000, 0)], 0.01)[0] == [0.001, 0.004, 0.007, 0.01]


def test_more_spikes_under_way_than_there_is_room_for_are_one_line():
    events = [(k, 0) for k in range(functions.MOST_UNDER_WAY + 1)]
    circuit = delayed(IF(), 0.001)
    assert len(times(circuit, "brian2", events[:-1], 0.002)[0]) == functions.MOST_UNDER_WAY
    with pytest.raises(InputError, match=r"the connection 'input' -> 'a', at 6.4e-05 s: more than 64 .*engine='exact'"):
        times(circuit, "brian2", events, 0.002)


@pytest.mark.slow
def test_a_project_is_run_again_with_more_steps_until_they_suffice():
    found, n = times(single(IF(bias=2.0**17)), "brian2-cpp", [], 0.03125)
    np.testing.assert_allclose(found, np.arange(1, 4097) / 2.0**17, rtol=1e-14)
    assert set(n) == {1}


@every_engine
def test_a_bias_above_the_largest_rate_is_one_line(engine):
    with pytest.raises(InputError, match=r"population 'a', neuron 0 \(C order\), at .* s: fires without end: .*1e\+06"):
        times(single(IF(bias=1e20)), engine, [], 0.01)


# ----- the plain network


@pytest.fixture
def numpy_target(monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")


@pytest.mark.usefixtures("numpy_target")
def test_to_brian2_returns_a_network_that_ends_automatically():
    circuit = single(CubaLIF(tau=2.0**-7, tau_syn=2.0**-7, w_in=2.0**-7, bias=0.5), 4.0)
    events = recording([(1000, 0), (4000, 0)])
    net = mb.translate.to_brian2(circuit, events, 0.03)
    states = brian2.StateMonitor(net["population_a"], ["v", "I"], record=True, when="end")
    net.add(states)
    net.run(net.duration, namespace={})
    expected = mb.simulate(circuit, events, duration=0.03).spikes["a"]
    found = net.trains()["a"]
    np.testing.assert_allclose(found.t, expected.t, rtol=1e-12)
    assert found.n.tolist() == expected.n.tolist()
    assert len(found.t) > 1
    assert net["scheduler"].idle[:].tolist() == [1]
    # Input events, crossings, the end of the recording, and the step in which nothing is left.
    assert len(states.t) == 2 + len(found.t) + 2
    assert states.I[0, 0] == pytest.approx(0.5 * (1 - math.exp(-(2.0**7) / 1000)) * 2.0**-7 + 4, rel=1e-12)


def test_a_rule_without_equations_is_refused_by_name():
    class Mine(IF):
        pass

    with pytest.raises(InputError, match=r"population 'a' has the rule Mine.*use engine='exact'"):
        mb.Simulator(single(Mine()), "brian2")


def test_a_loop_without_a_delay_is_refused_by_name():
    circuit = single(IF())
    loop = Connection("a", "a", (Dense(np.ones((1, 1)), (1,)), Delay(np.zeros(1))), (), 1)
    circuit = replace(circuit, connections=(*circuit.connections, loop))
    with pytest.raises(InputError, match="the connection 'a' -> 'a' closes a loop without a delay"):
        mb.Simulator(circuit, "brian2")


def test_networks_that_follow_their_input_do_not_pay():
    """Without crossings and delays there is no scheduler."""
    engine = simulator(single(LIF(tau=0.01)), "brian2").engine
    list(engine.run(trains_of_one()))
    assert isinstance(engine._built, EventNetwork)
    assert not engine._built.self_timed


def test_ctrl_c_ends_a_run_and_leaves_nothing_of_it():
    """By default Brian2 ends a run at the first Ctrl-C as if it were complete."""
    runner = mb.Simulator(single(IF()), "brian2", target="numpy")
    events = [recording([(k, 0) for k in range(1, 10)])]
    (whole,) = runner.run(events)
    steps = iter(range(100))
    interrupt = brian2.NetworkOperation(
        lambda: signal.raise_signal(signal.SIGINT) if next(steps) == 5 else None, clock=runner.engine._built.clock
    )
    runner.engine._built.add(interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(runner.run(events))
    (again,) = runner.run(events)
    assert again.spikes["a"].t.tolist() == whole.spikes["a"].t.tolist()
    assert len(whole.spikes["a"].t) == 9


def trains_of_one():
    return [InputSpikes(np.array([0.001]), np.array([0]), np.array([1]), np.array([0]), 0.01)]


# ----- the functions


def reference_crossing(v, drive, theta, rest, tau, tau_syn):
    from mtt_brian.engines.exact.dynamics import time_to_threshold
    from mtt_brian.engines.lowered.arrays import CURRENT

    return time_to_threshold(CURRENT, v, drive, theta, rest, tau, tau_syn, np.inf)


def test_crossings_of_currents_are_those_of_the_exact_engine():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(500):
        v, drive, rest = rng.normal(0, 1), rng.normal(0, 3), rng.choice([0.0, 0.5, 1.5])
        tau, tau_syn = rng.choice([0.01, 0.02]), rng.choice([0.01, 0.004, 0.03])
        ours = float(functions.current_crossing(1, v, drive, 1.0, rest, tau, tau_syn))
        theirs = reference_crossing(v, drive, 1.0, rest, tau, tau_syn)
        if theirs == np.inf:
            assert ours == functions.NEVER
        else:
            assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-16)
            found += 1
    assert found > 100


def test_a_crossing_is_computed_only_if_requested():
    assert functions.current_crossing(np.array([0, 1]), 0, 5, 1, 0, 0.01, 0.01).tolist()[0] == functions.NEVER


def test_the_earliest_crossing_is_removed_when_it_is_read():
    memory = np.full(2, functions.NEVER)
    earliest = functions.earliest_crossing(memory)
    assert earliest(np.array([0, 0, 1]), np.array([0.3, 0.2, 0.5])).tolist() == [0.3, 0.2, 0.5]
    assert earliest(np.array([0, 1]), -1).tolist() == [0.2, 0.5]
    assert earliest(np.array([0, 1]), -1).tolist() == [functions.NEVER] * 2
