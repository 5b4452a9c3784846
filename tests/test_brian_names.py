"""Brian2 names parts of an object after the object, and files after both: no name of a node may equal one of them."""

import itertools

import brian2
import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.circuit.spikes import input_spikes
from mtt_brian.engines.brian2.clock_driven import to_clock_driven
from mtt_brian.engines.brian2.execution import NUMPY
from mtt_brian.engines.brian2.names import brian_names
from mtt_brian.engines.brian2.network import EventNetwork, Room
from mtt_brian.engines.brian2.schedule import InputSchedule
from mtt_brian.engines.brian2.standalone import CppEngine
from tests.engines import recording, simulator, trains

ORDINARY = ("conv1", "conv1_bn", "layer1.0.spikes", "0", "1", "pre", "post", "features.stages.3.blocks.11.spikes")
EVIL = {
    "parts": ["a", "a_spike_thresholder", "a_spike_resetter", "a_stateupdater", "a_subexpression_update"],
    "more parts": ["a", "a_run_regularly", "a_run_regularly_1", "a_end_thresholder", "a_codeobject", "a_post"],
    "parts come first": ["a_stateupdater", "a_spike_thresholder", "a"],
    "parts of synapses": ["a", "b", "a_b", "pre", "b_pre", "b_deliver", "b_push_spikes", "b_summed_variable_v_post"],
    "characters": [
        "a b",
        "a_b",
        "a-b",
        "a.b",
        "A_B",
        "",
        "_",
        "__",
        "é",
        "層",
        "層層",
        "\n",
        "../x",
        "1",
        "second",
        "$",
    ],
    "our own": ["input ", "feed", "readout", "reset_x", "update_x", "population_a", "x", "event_step", "instants"],
    "long": ["n" * 300, "n" * 299 + "m", "N" * 300, "n" * 40, "n" * 300 + "_spike_thresholder"],
    "many alike": [chr(0x4E00 + k) for k in range(20)],
    "case": ["Spikes", "spikes", "SPIKES", "Spikes_"],
}
EVENTS = recording([(10, 0), (20, 0), (30, 0)])
EVIL_SETS = pytest.mark.parametrize("names", EVIL.values(), ids=EVIL)


def network_of(names):
    """input -> every name, and each of them to the next and to the readout; the k-th has the threshold k + 1."""
    neurons = {
        name: nir.IF(np.ones(1), np.full(1, k + 1.0), metadata={"reset": "subtract", "spikes": "many"})
        for k, name in enumerate(names)
    }
    ends = {"input": nir.Input(np.array([1])), "readout of all": nir.I(np.ones(1)), "output": nir.Output(np.array([1]))}
    edges = [("input", name) for name in names] + [(name, "readout of all") for name in names]
    edges += [(one, other) for one, other in itertools.pairwise(names)]
    return nir.NIRGraph(ends | neurons, [*edges, ("readout of all", "output")], type_check=False)


def names_in(network):
    """Of all objects, and of the parts that Brian2 has given to them."""
    found, waiting = [], list(network.objects)
    while waiting:
        thing = waiting.pop()
        found.append(thing.name)
        waiting.extend(thing.contained_objects)
    return found


def are_apart(names):
    return len({name.lower() for name in names}) == len(names)


def test_ordinary_names_stay_as_they_are():
    names = brian_names(mb.translate.read_nir(network_of(ORDINARY)))
    assert {name: names[name] for name in ORDINARY} == {name: name.replace(".", "_") for name in ORDINARY}


@EVIL_SETS
def test_names_are_apart_and_short(names):
    given = brian_names(mb.translate.read_nir(network_of(names)))
    assert set(names) < set(given)
    assert are_apart(list(given.values()))
    assert max(map(len, given.values())) < 50


@EVIL_SETS
def test_no_part_of_an_object_has_the_name_of_another(names, monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    circuit = mb.translate.read_nir(network_of(names))
    room = Room(events=4, steps=8, recordings=1)
    stepped = EventNetwork(circuit, NUMPY, batch_size=1, room=room)
    in_real_time = to_clock_driven(circuit, EVENTS, dt=0.01 * brian2.ms)
    for network in (stepped, in_real_time):
        assert are_apart(names_in(network))


def test_any_names_give_the_same_spikes(monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    graph = network_of([*EVIL["parts"], "a b", "a_b", "", "_", "層", "feed", "n" * 300, "A"])
    exact, stepped = (next(simulator(graph, engine).run([EVENTS])) for engine in ("exact", "brian2"))
    assert trains(exact)["a"] == [(1e-5, 0, 1), (2e-5, 0, 1), (3e-5, 0, 1)]
    assert trains(stepped) == trains(exact)
    assert stepped.readout == exact.readout
    network = to_clock_driven(graph, EVENTS, dt=0.01 * brian2.ms)
    network.run(network.duration, namespace={})
    in_real_time = {name: int(found.n.sum()) for name, found in network.trains().items()}
    assert in_real_time == {name: exact.counts[name].item() for name in exact.spikes}


def test_files_of_a_project_are_apart_and_have_short_names():
    names = [*EVIL["long"], *EVIL["parts"], *EVIL["case"]]
    circuit = mb.translate.read_nir(network_of(names))
    inputs = InputSchedule.arrange([input_spikes(EVENTS, circuit.input_shape, None)], 1, circuit.input_size)
    project = CppEngine(circuit).write(inputs, 1)
    files = [str(path.relative_to(project.path)) for path in project.path.rglob("*") if path.is_file()]
    assert sum("thresholder" in file for file in files) > len(names)
    assert are_apart(files)
    assert max(len(path.name) for path in project.path.rglob("*")) < 143  # the least that a file system allows


@pytest.mark.slow
def test_a_compiled_project_runs_with_any_names():
    names = ["a", "a_spike_thresholder", "n" * 300]
    results = [next(simulator(network_of(names), e).run([EVENTS])) for e in ("exact", "brian2-cpp")]
    assert trains(results[0]) == trains(results[1])
