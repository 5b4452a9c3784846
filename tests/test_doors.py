"""Additions from a file outside the package: an engine, a data set, a neuron rule with its own node."""

import argparse
import importlib
import sys
import textwrap
from dataclasses import dataclass

import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import cli, engines, events, translate
from mtt_brian.circuit.operators import Delay
from mtt_brian.cli import recording_files as console_recording
from mtt_brian.engines import ENGINES, EngineInfo, engine_info, register_engine
from mtt_brian.errors import InputError
from tests.test_gap_attribution import STUDIES

ENGINE = """
    '''Runs everything on the exact engine and counts the recordings.'''
    from mtt_brian.engines import EngineInfo, register_engine
    from mtt_brian.engines.exact import ExactEngine

    class Counting:
        name = "counting"

        def __init__(self, circuit, *, order, record, start=0):
            self.count, self._exact = start, ExactEngine(circuit, order=order, record=record, threads=1)

        def run(self, trains):
            for result in self._exact.run(trains):
                self.count += 1
                yield result

    register_engine(EngineInfo(name="counting", about="counts", options=("start",), batches=True), Counting)
"""
DATASET = """
    '''Two recordings: one event at the number of the recording.'''
    from mtt_brian import events

    def generate(split, progress):
        read = lambda name: events.make_recording([5 + (name == "b")], [1], [2], [0])  # noqa: E731
        return events.RecordingIndex(["a", "b"], [0, 1], read)

    DOTS = events.EventDataset(
        name="dots", title="Dots", sensor_size=(1, 4, 4), classes=("no", "yes"), duration_us=10, generate=generate
    )
    NUMBER = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of a user and imports it; what it registered is removed in the end."""
    written = []

    def write(text, name, **entry_points):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        if entry_points:
            info = tmp_path / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            groups = (f"[mtt_brian.{group}]\n{entry}\n" for group, entry in entry_points.items())
            (info / "entry_points.txt").write_text("".join(groups))
        written.append(name)
        importlib.invalidate_caches()
        return tmp_path

    monkeypatch.syspath_prepend(str(tmp_path))
    # Entry points are read once for a registry.
    registries = (engines.engine_table._REGISTRY, events.datasets._REGISTRY)
    for registry in registries:
        monkeypatch.setattr(registry, "_found", None)
        monkeypatch.setattr(registry, "_added", {})
    yield write
    for name in written:
        sys.modules.pop(name, None)


def one_neuron():
    return nir.NIRGraph(
        nodes={
            "input": nir.Input(np.array([1])),
            "n": nir.IF(r=np.ones(1), v_threshold=np.array([2.0]), metadata={"reset": "subtract"}),
            "output": nir.Output(np.array([1])),
        },
        edges=[("input", "n"), ("n", "output")],
        type_check=False,
    )


EVENTS = mb.events.make_recording([10, 20, 30, 40], [0, 0, 0, 0])

# ----- an engine


@pytest.mark.parametrize("installed", [False, True])
def test_an_engine_from_a_file(module, installed, capsys, tmp_path):
    module(ENGINE, "my_engine", **({"engines": "counting = my_engine"} if installed else {}))
    if not installed:
        assert "counting" not in ENGINES
        importlib.import_module("my_engine")
    assert list(ENGINES) == ["exact", "brian2", "brian2-cpp", "brian2-cuda", "exact-cuda", "counting"]
    assert ("my_engine" in sys.modules) is not installed
    simulator = mb.Simulator(one_neuron(), "counting", start=3)
    assert [r.spikes["n"].t.tolist() for r in simulator.run([EVENTS, EVENTS[:2]])] == [[2e-5, 4e-5], [2e-5]]
    assert simulator.engine.count == 5
    assert engine_info("counting").batches
    nir.write(tmp_path / "net.nir", one_neuron())
    cli.entry_point(["info", str(tmp_path / "net.nir")])
    assert "counting    sum       runs it\n" in capsys.readouterr().out
    np.save(tmp_path / "events.npy", EVENTS)
    out = tmp_path / "results"
    files = [str(tmp_path / "net.nir"), str(tmp_path / "events.npy")]
    assert cli.entry_point(["simulate", *files, "--engine", "counting", "--out", str(out)]) in (0, None)
    assert np.load(out / "spikes.npz")["n_i"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mb.Simulator(one_neuron(), "counted"), "engine must be one of 'exact', 'brian2', .*'counting', not"),
        (lambda: engine_info("counted"), "unknown engine 'counted'; known: exact, brian2, brian2-cpp, .*, counting"),
        (
            lambda: mb.Simulator(one_neuron(), "counting", order="fifo"),
            "order='fifo' needs engine='exact' or engine='exact-cuda'; engine='co",
        ),
        (lambda: mb.Simulator(one_neuron(), "counting", lanes=2), "engine='counting' takes no option 'lanes'; its op"),
        (lambda: mb.Simulator(one_neuron(), "exact", lanes=2), "takes no option 'lanes'; its options: threads, max_r"),
        (lambda: register_engine(EngineInfo(name="exact", about=""), print), "already an engine named 'exact': choose"),
        (lambda: register_engine(EngineInfo(name="counting", about=""), print), "choose another name, or pass replace"),
        (lambda: register_engine(EngineInfo(name="a b", about=""), print), "must be a text without spaces, commas, co"),
        (lambda: register_engine("mine", print), "register_engine takes an EngineInfo and a factory, not 'mine'"),
        (
            lambda: register_engine(EngineInfo(name="mine", about=""), 3),
            "factory of the engine 'mine' must be callable",
        ),
    ],
)
def test_what_is_no_engine_is_refused_in_one_line(module, call, message):
    module(ENGINE, "my_engine")
    importlib.import_module("my_engine")
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_old_name_of_batch_size_still_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="lanes= is now called batch_size="):
        simulator = mb.Simulator(one_neuron(), "brian2", lanes=3)
    assert simulator.engine._wanted_size == 3
    with pytest.raises(InputError, match="lanes is the old name of batch_size; pass batch_size only"):
        mb.Simulator(one_neuron(), "brian2", lanes=3, batch_size=3)


def test_an_engine_may_replace_an_earlier_one(module):
    module(ENGINE, "my_engine")
    importlib.import_module("my_engine")
    register_engine(EngineInfo(name="counting", about="another"), print, replace=True)
    assert ENGINES["counting"].about == "another"
    engines.unregister_engine("counting")
    assert "counting" not in ENGINES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("x = 1", "registers no engine of this name"),
    ],
)
def test_an_installed_engine_that_is_broken_does_not_stop_the_others(module, capsys, tmp_path, text, message):
    module(text, "broken_engine", engines="broken = broken_engine")
    with pytest.raises(InputError, match=r"'broken' of the installed package 'broken_engine' cannot be used") as caught:
        mb.Simulator(one_neuron(), "broken")
    assert message in str(caught.value)
    assert mb.Simulator(one_neuron(), "exact").engine.name == "exact"
    nir.write(tmp_path / "net.nir", one_neuron())
    cli.entry_point(["info", str(tmp_path / "net.nir")])
    assert "broken      sum       refuses: an engine 'broken'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "operators", "message"),
    [
        (mb.neuron.IF(bias=1.0), (), "population 'n' can come up to its threshold between arrivals"),
        (mb.neuron.CubaLIF(tau=1.0, tau_syn=1.0), (), "population 'n' can come up to its threshold between arrivals"),
        (mb.neuron.IF(), (Delay(np.ones(1)),), "the connection 'input' -> 'n' has a delay, which engine='counting'"),
    ],
)
def test_an_engine_is_not_given_what_it_does_not_follow(module, rule, operators, message):
    module(ENGINE, "my_engine")
    counting = importlib.import_module("my_engine").Counting
    way = translate.Connection("input", "n", operators, ("d",), 1)
    circuit = translate.Circuit("input", (1,), (translate.Population("n", (1,), rule),), (way,), "n")
    with pytest.raises(InputError, match=message):
        mb.Simulator(circuit, "counting")
    register_engine(EngineInfo(name="all", about="", crossings=True, delays=True), counting)
    assert mb.Simulator(circuit, "all").engine.count == 0


# ----- a data set


@pytest.mark.parametrize("way", ["registered", "installed", "module:NAME"])
def test_a_data_set_from_a_file(module, way, monkeypatch):
    folder = module(DATASET, "my_data", **({"datasets": "dots = my_data:DOTS"} if way == "installed" else {}))
    name = "my_data:DOTS" if way == "module:NAME" else "dots"
    if way == "registered":
        events.register(importlib.import_module("my_data").DOTS)
    assert ("dots" in events.DATASETS) is (way != "module:NAME")
    if way == "module:NAME":  # found in the working folder, too
        monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(folder)])
        monkeypatch.chdir(folder)
    recordings = events.load(name, split="test")
    assert (recordings.name, recordings.title, len(recordings)) == (name, "Dots", 2)
    assert [r["t"].tolist() for r in recordings] == [[5], [6]]
    found = console_recording.open_recording(f"{name}:test:1", None, {})
    assert (found.events["t"].tolist(), found.label) == ([6], 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: events.load("no_such_module:DOTS"), "no_such_module:DOTS: the module 'no_such_module' cannot be im"),
        (lambda d: events.load("my_data:DASHES"), "my_data:DASHES: the module 'my_data' has no 'DASHES'"),
        (lambda d: events.load("my_data:NUMBER"), "my_data:NUMBER: 3 is not a data set: accepted are EventDataset and"),
        (lambda d: events.load("my data:DOTS"), "'my data:DOTS' must have the form package.module:NAME"),
        (lambda d: events.load("my_data:"), "'my_data:' must have the form package.module:NAME"),
        (lambda d: events.load("dashes"), "unknown data set 'dashes'; known: digits, nmnist, .*, dots"),
        (lambda d: events.load("my_data:DOTS", split="validation"), "unknown split 'validation'"),
        (lambda d: events.register(d), "there is already a data set named 'dots': choose another name, or pass replac"),
        (lambda d: events.register("dots"), "'dots' is not a data set: accepted are EventDataset and ImageDataset"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(module, call, message):
    module(DATASET, "my_data")
    dots = importlib.import_module("my_data").DOTS
    events.register(dots)
    with pytest.raises(InputError, match=message) as caught:
        call(dots)
    assert "\n" not in str(caught.value)


def test_a_module_that_a_run_names_is_not_imported(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from mtt_brian.cli import gap, repair, train
    from mtt_brian.experiments import run_folder

    run = run_folder.Run("a", tmp_path, {"dataset": "evil:DATA"})
    refusal = "trained on the data set evil:DATA; to import that module, give --dataset evil:DATA"
    with pytest.raises(InputError, match=refusal):
        run_folder.recordings_for([run])
    ones = np.ones((1, 1, 2))
    nodes = {"i": nir.Input({"input": np.array([1, 1, 2])}), "a": nir.IF(ones, ones, metadata={"reset": "subtract"})}
    nodes["o"] = nir.Output({"output": np.array([1, 1, 2])})
    nir.write(tmp_path / "model.nir", nir.NIRGraph(nodes, [("i", "a"), ("a", "o")], type_check=False))
    (tmp_path / "config.json").write_text('{"dataset": "evil:DATA", "time_steps": 2}')
    for command in (gap, repair):
        with pytest.raises(InputError, match=refusal):
            command.main([str(tmp_path)])
        with pytest.raises(InputError, match="evil:DATA: the module 'evil' cannot be imported"):
            command.main([str(tmp_path), "--dataset", "evil:DATA"])
    monkeypatch.syspath_prepend(STUDIES)
    named = argparse.Namespace(dataset="digits", data_root=None, validation=0.1)
    for name, call in (
        ("lower_bounds", lambda study: study.train(run, None, None, named, tmp_path)),
        ("bound_remedies", lambda study: study.case_of(run, named)),
    ):
        with pytest.raises(InputError, match=refusal):
            call(importlib.import_module(name))
    checkpoint = type("Checkpoint", (), {"config": {"dataset": "evil:DATA"}})
    options = train.make_parser().parse_args(["--resume", "run"])
    with pytest.raises(InputError, match="to import that module, give --dataset evil:DATA"):
        train.resolve_config(options, checkpoint, 1)


# ----- a neuron rule with its own node

RULE = """
    from dataclasses import dataclass

    import nir
    import numpy as np

    from mtt_brian import neuron, translate

    @dataclass(frozen=True, kw_only=True, eq=False)
    class AdaptiveLIF(neuron.LIF):
        tau_a: neuron.Parameter
        b: neuron.Parameter

        def linear_system(self):
            return neuron.LinearSystem(
                matrix=-np.eye(2), offset=[self.v_leak + self.r * self.bias, 0], drive=[self.r, 0], row=[1, -1],
                tau=[self.tau, self.tau_a], threshold=self.threshold, reset_add=[-self.threshold, self.b],
            )

    @dataclass(eq=False)
    class ALIF(nir.NIRNode):
        tau: np.ndarray
        tau_a: np.ndarray
        b: np.ndarray
        r: np.ndarray
        v_threshold: np.ndarray

        def __post_init__(self):
            self.input_type = {"input": np.array(self.tau.shape)}
            self.output_type = {"output": np.array(self.tau.shape)}

    translate.register_node(
        "ALIF", AdaptiveLIF,
        {"tau": "tau", "tau_a": "tau_a", "b": "b", "r": "r", "threshold": "v_threshold"}, own_reset=True,
    )
"""


def test_a_rule_and_a_node_from_a_file(module):
    module(RULE, "my_rule")
    mine = importlib.import_module("my_rule")
    try:
        # v halves every millisecond, a every two; see test_own_rules.py
        tau = np.full(1, 1e-3 / np.log(2))
        graph = nir.NIRGraph(
            nodes={
                "input": nir.Input(np.array([3])),
                "w": nir.Linear(weight=np.array([[1.2, 1.19, 0.82]])),
                "n": mine.ALIF(tau=tau, tau_a=2 * tau, b=np.full(1, 0.5), r=tau, v_threshold=np.ones(1)),
                "output": nir.Output(np.array([1])),
            },
            edges=[("input", "w"), ("w", "n"), ("n", "output")],
            type_check=False,
        )
        recording = mb.events.make_recording([1000, 3000, 5000], [0, 1, 2])
        assert mb.simulate(graph, recording).spikes["n"].t.tolist() == [0.001, 0.005]
        half = mb.simulate(graph, recording, spike_integral=0.5)
        assert half.spikes["n"].t.tolist() == []
        assert half.circuit.population["n"].rule.b == 0.5
        with pytest.raises(InputError, match="nodes of the type 'ALIF' are read already"):
            translate.register_node("ALIF", mine.AdaptiveLIF, {})
    finally:
        translate.unregister_node("ALIF")
    with pytest.raises(InputError, match="node 'n' is a ALIF"):
        mb.simulate(graph, recording)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("LIF", mb.neuron.LIF, {}), "nodes of the type 'LIF' are read already"),
        (("Conv2d", mb.neuron.LIF, {}), "nodes of the type 'Conv2d' are read already"),
        (("Mine", dict, {}), "the rule for nodes of the type 'Mine' must derive from neuron.IF"),
        (("Mine", mb.neuron.LIF, {"tau_a": "tau"}), "LIF has no field 'tau_a'; accepted are threshold, reset, spikes"),
    ],
)
def test_what_is_no_node_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        translate.register_node(*arguments)


def test_spike_integral_is_refused_where_jumps_do_not_follow_r(module):
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Fixed(mb.neuron.LIF):
        def linear_system(self):
            system = super().linear_system()
            return mb.neuron.LinearSystem(
                matrix=system.matrix, offset=system.offset, drive=[1 + self.r], row=[1], tau=system.tau
            )

    translate.register_node("LI2", Fixed, {"tau": "tau"}, fires=False)
    try:
        node = type("LI2", (nir.LI,), {})(tau=np.ones(1), r=np.ones(1), v_leak=np.zeros(1))
        graph = one_neuron()
        graph.nodes["n"] = node
        with pytest.raises(InputError, match=r"spike_integral=0.5 cannot be applied to a Fixed"):
            translate.read_nir(graph, spike_integral=0.5)
    finally:
        translate.unregister_node("LI2")
