"""The warning of Brian2 that the order of execution may matter: harmless for `to_brian2`, and shown for all others."""

import logging

import brian2
import nir
import numpy as np
import pytest
from brian2 import second

import mtt_brian as mb
from mtt_brian.engines.brian2 import internals
from tests.engines import FLAGS
from tests.test_cli import in_a_row

pytestmark = pytest.mark.slow

#: Many events of one microsecond, so that many synapses reach one neuron in one step.
EVENTS = np.random.default_rng(3)
RECORDING = mb.events.make_recording(
    np.sort(EVENTS.integers(0, 40, 300)),
    EVENTS.integers(0, 6, 300),
    EVENTS.integers(0, 6, 300),
    EVENTS.integers(0, 2, 300),
)


def graph(neuron):
    """All pixels reach all neurons through weights whose sums are exact in any order."""
    weight = np.random.default_rng(0).integers(-8, 11, (4, 72)) / 8
    neurons = {
        "bound": nir.IF(np.ones(4), np.ones(4), metadata={"reset": "subtract", "spikes": "many", "lower_bound": -1.0}),
        "leak": nir.LIF(
            np.full(4, 2.0**-14),
            np.full(4, 2.0**-14),
            np.zeros(4),
            np.ones(4),
            metadata={"reset": "zero", "spikes": "one"},
        ),
    }
    return in_a_row(
        {
            "input": nir.Input(np.array([2, 6, 6])),
            "flatten": nir.Flatten({"input": np.array([2, 6, 6])}, 0, -1),
            "weights": nir.Linear(weight),
            "neurons": neurons[neuron],
            "output": nir.Output(np.array([4])),
        }
    )


@pytest.fixture
def cython(monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "cython")
    monkeypatch.setitem(brian2.prefs, internals.COMPILER_FLAGS, FLAGS)


@pytest.fixture
def warnings_of_brian2():
    """Texts of the warnings that pass the filters of their logger."""
    texts = []

    class Kept(logging.Handler):
        def emit(self, record):
            if record.levelno >= logging.WARNING:
                texts.append(record.getMessage())

    handler = Kept()
    logging.getLogger("brian2").addHandler(handler)
    yield texts
    logging.getLogger("brian2").removeHandler(handler)


def in_another_order(synapses, rng):
    """Permutes the synapses: every array with a value for each of them."""
    order = rng.permutation(len(synapses))
    arrays = {id(variable): variable for variable in synapses.variables.values()}  # some have two names
    for variable in arrays.values():
        values = variable.get_value() if isinstance(variable, brian2.core.variables.ArrayVariable) else None
        if isinstance(values, np.ndarray) and values.shape == order.shape:
            values[:] = values[order]


@pytest.mark.parametrize("neuron", ["bound", "leak"])
def test_the_order_of_synapses_does_not_matter_and_nothing_warns(neuron, cython, warnings_of_brian2):
    expected = mb.simulate(graph(neuron), RECORDING, engine="exact")
    train = expected.spikes["neurons"]
    assert len(train.t) > 5
    rng = np.random.default_rng(1)
    for permuted in (False, True, True):
        network = mb.translate.to_brian2(graph(neuron), RECORDING)
        if permuted:
            moved = [synapses for synapses in network.objects if isinstance(synapses, brian2.Synapses)]
            assert moved
            before = [np.array(synapses.i) for synapses in moved]
            for synapses in moved:
                in_another_order(synapses, rng)
            assert any(not np.array_equal(a, synapses.i) for a, synapses in zip(before, moved, strict=True))
        monitor = brian2.StateMonitor(network["population_neurons"], "v", record=True)
        network.add(monitor)
        network.run(network.duration)
        if not permuted:
            potentials = np.array(monitor.v)
        assert np.array_equal(monitor.v, potentials)
        assert not [text for text in warnings_of_brian2 if internals.ORDER_MATTERS in text]
    assert np.any(potentials != 0)


def test_other_code_still_warns(cython, warnings_of_brian2):
    mb.translate.to_brian2(graph("bound"), RECORDING)
    group = brian2.NeuronGroup(2, "v : 1")
    source = brian2.SpikeGeneratorGroup(2, [0, 1], [0, 0] * second)
    synapses = brian2.Synapses(source, group, "w : 1", on_pre="v_post = w")
    synapses.connect()
    brian2.Network(group, source, synapses).run(0.2 * brian2.ms)
    assert [text for text in warnings_of_brian2 if internals.ORDER_MATTERS in text]
