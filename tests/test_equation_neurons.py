"""Circuits of `EquationNeuron`, and single synapses with a delay each, without Brian2."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense, Synapses
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine, equation_neurons
from mtt_brian.engines.exact.equation_run import EquationRun
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, EquationNeuron
from mtt_brian.neuron.equation_neuron import Changes, Systems


def neurons(matrix, offset, row, level=1.0, reset=None, refractory=0.0, held=None, size=1):
    """``size`` equal neurons."""
    n = len(offset)
    reset = np.zeros((n, n + 1)) if reset is None else np.asarray(reset, float)
    systems = Systems(
        *(np.array([part], float) for part in (matrix, offset, row)),
        np.array([level]),
        reset[None],
        np.array([refractory]),
        np.zeros((1, n, 0)),
        np.zeros((1, 0, n + 1)),
        np.zeros((1, n)),
        np.zeros(1),
    )
    states = tuple("abcd"[:n])
    held = held or (False,) * n
    return EquationNeuron(systems=systems, system=np.zeros(size, np.int64), states=states, held=held)


def synapses(source, target, weight, seconds, n_in, n_out):
    seconds = np.broadcast_to(np.asarray(seconds, float), np.shape(source))
    return Synapses(np.array(source), np.array(target), np.array(weight, float), seconds, (n_in,), (n_out,))


def two_exponentials():
    """A membrane of 20 ms behind synapses of 5 and 10 ms, driven to above the threshold."""
    matrix = [[-50.0, 50.0, 50.0], [0.0, -200.0, 0.0], [0.0, 0.0, -100.0]]
    return neurons(matrix, [60.0, 0.0, 0.0], [1.0, 0.0, 0.0], reset=np.diag([0.0, 1.0, 1.0]) @ np.eye(3, 4), size=20)


def spikes_of(rule, seed=1):
    rng = np.random.default_rng(seed)
    wires = [Connection("in", "cells", (synapses(*edges(rng, 10, 20), 10, 20),), (), 10, port) for port in (1, 2)] + [
        Connection("cells", "cells", (synapses(*edges(rng, 20, 20), 20, 20),), (), 20, 1)
    ]
    run = EquationRun(Circuit("in", (10,), (Population("cells", (20,), rule),), tuple(wires), "cells"))
    run.start("cells", np.arange(20), rng.uniform(0, 0.9, (20, 3)), np.full(20, -1.0), 0.0)
    run.predict_crossings()
    t = np.sort(rng.uniform(0, 0.2, 200))
    run.advance(t, rng.integers(0, 10, 200), np.ones(200, np.int64), 0.2)
    return run.fetch()["cells"]


def edges(rng, n_in, n_out):
    i, j = np.nonzero(rng.random((n_in, n_out)) < 0.3)
    return i, j, rng.normal(0.05, 0.3, len(i)), rng.uniform(0, 0.005, len(i))


def test_modes_and_the_general_rule_give_the_same_spikes(monkeypatch):
    by_modes = spikes_of(two_exponentials())
    monkeypatch.setattr(equation_neurons, "_APART", 1.5)  # no time constants lie so far apart
    by_general_rule = spikes_of(two_exponentials())
    assert len(by_modes.t) > 100
    assert np.array_equal(by_modes.i, by_general_rule.i)
    np.testing.assert_allclose(by_modes.t, by_general_rule.t, rtol=1e-12)
    np.testing.assert_allclose(by_modes.x, by_general_rule.x, atol=1e-11)
    np.testing.assert_allclose(by_modes.x[by_modes.x[:, 0] < 1 + 1e-9, 0], 1.0, atol=1e-13)


def test_a_hump_that_stays_below_the_threshold_or_reaches_it():
    # v = 2 g (exp(-100 t) - exp(-200 t)) has its top g / 2 at ln 2 / 100.
    for g, reaches in ((2.0 - 1e-9, False), (2.0 + 1e-9, True)):
        rule = neurons([[-100.0, 200.0], [0.0, -200.0]], [0.0, 0.0], [1.0, 0.0])
        run = EquationRun(Circuit("in", (1,), (Population("cell", (1,), rule),), (), "cell"))
        run.start("cell", np.zeros(1, int), np.array([[0.0, g]]), np.full(1, -1.0), 0.0)
        run.predict_crossings()
        run.advance(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), 1.0)
        t = run.fetch()["cell"].t
        assert len(t) == reaches
        if reaches:
            assert 0 < math.log(2) / 100 - t[0] < 1e-6


def test_kept_runs_go_on_with_the_same_bits():
    rule = two_exponentials()
    delayed = synapses(np.arange(20), (np.arange(20) + 1) % 20, np.full(20, 2.0), np.linspace(0.001, 0.02, 20), 20, 20)
    circuit = Circuit(
        "in", (1,), (Population("cells", (20,), rule),), (Connection("cells", "cells", (delayed,), (), 20, 1),), "cells"
    )
    nothing = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    one, other = EquationRun(circuit), EquationRun(circuit)
    one.start("cells", np.arange(20), np.linspace(0, 0.9, 60).reshape(20, 3), np.full(20, -1.0), 0.0)
    one.predict_crossings()
    one.advance(*nothing, 0.05)
    one.fetch()
    assert one.delayed_spikes
    other.restore(one.keep())
    for run in (one, other):
        run.advance(*nothing, 0.1)
    first, second = one.fetch()["cells"], other.fetch()["cells"]
    assert len(first.t) > 20
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_single_synapses_enter_other_neurons_as_a_matrix_with_a_delay_does():
    rng = np.random.default_rng(3)
    weight = rng.integers(-4, 8, (5, 4)) / 8
    target, source = np.nonzero(weight)
    wait = 0.0015
    single = synapses(source, target, weight[target, source], wait, 4, 5)
    results = []
    for operators in ((single,), (Dense(weight, (4,)), Delay(np.full(5, wait)))):
        populations = Population("a", (5,), IF()), Population("out", (5,), IF(threshold=None))
        connections = Connection("in", "a", operators, (), 4), Connection("a", "out", (), (), 5)
        engine = ExactEngine(Circuit("in", (4,), populations, connections, "out"), threads=1)
        t, i = np.arange(1, 200) * 1e-3, np.random.default_rng(4).integers(0, 4, 199)
        train = InputSpikes(t, i, np.ones(199, np.int64), np.arange(199), 0.3)
        (result,) = engine.run([train])
        results.append(result)
    assert len(results[0].spikes["a"].t) > 20
    assert all(np.array_equal(a, b) for a, b in zip(results[0].spikes["a"], results[1].spikes["a"], strict=True))


def test_delays_per_synapse_enter_other_neurons():
    single = synapses([0, 0], [0, 1], [1.0, 1.0], [0.001, 0.0025], 1, 2)
    populations = Population("a", (2,), IF()), Population("out", (2,), IF(threshold=None))
    connections = Connection("in", "a", (single,), (), 1), Connection("a", "out", (), (), 2)
    engine = ExactEngine(Circuit("in", (1,), populations, connections, "out"), threads=1)
    (result,) = engine.run([InputSpikes(np.array([0.001]), np.zeros(1, int), np.ones(1, int), np.zeros(1, int), 0.01)])
    assert result.spikes["a"].t.tolist() == [0.002, 0.0035]
    assert result.spikes["a"].i.tolist() == [0, 1]


def circuit_of(rule, *operators, target="cell"):
    population = Population("cell", (1,), rule)
    return Circuit("in", (1,), (population,), (Connection("cell", target, operators, (), 1),), "cell")


def test_refusals():
    leak = neurons([[-100.0]], [0.0], [1.0])
    one = synapses([0], [0], [1.0], 0.0, 1, 1)
    with pytest.raises(InputError, match="must be one Synapses operator"):
        EquationRun(circuit_of(leak, Dense(np.ones((1, 1)), (1,))))
    with pytest.raises(InputError, match="'cell' is a IF; only EquationNeuron runs here"):
        EquationRun(circuit_of(IF(), one))
    with pytest.raises(InputError, match="population 'cell': neurons given by equations run on the Brian2 device"):
        ExactEngine(circuit_of(leak, synapses([0], [0], [1.0], 0.1, 1, 1)))
    with pytest.raises(InputError, match="Synapses cannot be combined with other operators"):
        ExactEngine(circuit_of(IF(), one, Delay(np.ones(1))))
    with pytest.raises(InputError, match="population 'cell': a linear neuron must not grow"):
        EquationRun(circuit_of(neurons([[10.0]], [0.0], [1.0]), synapses([0], [0], [1.0], 0.1, 1, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": np.array([-1.0])}, "delays must be finite and >= 0 seconds"),
        ({"weight": np.array([np.nan])}, "weights must be finite"),
        ({"target": np.array([0, 0])}, "as many sources, targets, weights and delays"),
    ],
)
def test_synapses_that_are_none(change, message):
    one = synapses([0], [0], [1.0], 0.0, 1, 1)
    fields = {name: getattr(one, name) for name in ("source", "target", "weight", "seconds")} | change
    with pytest.raises(InputError, match=message):
        Synapses(**fields, input_shape=(1,), output_shape=(1,))


def changing(time, system, kind):
    """Two integrators; set 0 has the slope 1 per second, set 1 the slope 4."""
    slow, fast = (neurons([[0.0]], [slope], [1.0]).systems for slope in (1.0, 4.0))
    systems = Systems(*(np.concatenate(pair) for pair in zip(slow, fast, strict=True)))
    changes = Changes(np.array(time), np.array(system), np.array(kind))
    return EquationNeuron(systems=systems, system=np.zeros(2, np.int64), changes=changes, states=("v",), held=(False,))


def test_neurons_that_change_between_sets():
    """Neuron 0 gets the steep slope from 0.5 to 0.55 s, neuron 1 never."""
    rule = changing([0.5, 0.55], [[0, 1], [0, 0]], [1, 0])
    run = EquationRun(Circuit("in", (1,), (Population("cell", (2,), rule),), (), "cell"))
    run.start("cell", np.arange(2), np.zeros((2, 1)), np.full(2, -1.0), 0.0)
    run.predict_crossings()
    none = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    run.advance(*none, 0.52)
    assert run.systems("cell").tolist() == [1, 0]
    kept = run.keep()
    for _ in range(2):
        run.advance(*none, 1.1)
        found = run.fetch()["cell"]
        np.testing.assert_allclose(found.t, [0.85, 1.0], rtol=1e-15)
        assert found.i.tolist() == [0, 1]
        assert run.systems("cell").tolist() == [0, 0]
        run.restore(kept)


def test_changes_that_are_none():
    for time, system, kind, message in (
        ([0.5, 0.5], [[1], [0]], [0, 0], "rising times, and one row of parameter sets for each"),
        ([0.5], [[1], [0]], [0, 0], "rising times, and one row"),
        ([0.5], [[1]], [0], r"Changes\.kind must be 0\.\.0 for each of 2 neurons"),
        ([0.5], [[1]], [0, 1], r"Changes\.kind must be"),
        ([0.5], [[2]], [0, 0], r"EquationNeuron\.system must be 0\.\.1"),
    ):
        with pytest.raises(InputError, match=message):
            changing(time, system, kind)


def test_equations_that_are_none():
    systems = neurons([[-1.0]], [0.0], [1.0]).systems
    with pytest.raises(InputError, match="1 to 8 state variables, not 9"):
        EquationNeuron(systems=systems, system=np.zeros(1, int), states=tuple("abcdefghi"), held=(False,) * 9)
    with pytest.raises(InputError, match=r"Systems\.matrix must be finite"):
        neurons([[np.nan]], [0.0], [1.0])
    with pytest.raises(InputError, match=r"Systems\.refractory must be >= 0 seconds, not -1"):
        neurons([[-1.0]], [0.0], [1.0], refractory=-1.0)


@pytest.mark.slow
def test_the_first_run_announces_the_compilation_and_compiles_no_unused_rule(tmp_path):
    """The general rule is most of the code; a network whose equations all have modes runs without it."""
    code = (
        "import logging; logging.basicConfig(level='INFO', format='%(message)s');"
        "from tests import test_equation_neurons as t; print(len(t.spikes_of(t.two_exponentials()).t))"
    )
    environment = os.environ | {"MTT_BRIAN_CACHE": str(tmp_path)}
    notices = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True
        )
        assert int(done.stdout) > 100, done.stderr
        notices.append(done.stderr.count("compiling the kernels for neurons given by equations, once"))
    assert notices == [1, 0]
    compiled = {path.name.split("-")[0] for path in tmp_path.rglob("*.nbc")}
    assert "equation_loop.run" in compiled
    assert not any(name.startswith(("crossing_search.", "taylor.")) for name in compiled)
