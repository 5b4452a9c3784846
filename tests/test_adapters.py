"""Names of other packages that are not part of their documented interface: each in one adapter file, with a test here.

A test that fails names what an upgrade has removed or changed.
"""

import importlib.util
import inspect
import os
import subprocess
from pathlib import Path

import brian2
import numpy as np
import pytest

import mtt_brian
from mtt_brian.engines.brian2 import internals

# ----- Brian2


@pytest.fixture
def one_neuron(monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    clock = brian2.Clock(dt=1 * brian2.second)
    group = brian2.NeuronGroup(
        3, "v : 1", threshold="v > 0", reset="v = 0", clock=clock, events={"other": "v > 5"}, name="adapted"
    )
    monitor = brian2.SpikeMonitor(group, "v")
    return clock, group, monitor, brian2.Network(group, monitor)


def test_the_active_device_has_a_name():
    assert internals.device_name() == "runtime"
    assert internals.active_device() is brian2.get_device()


def test_the_standalone_device_has_a_name_and_can_be_left(tmp_path):
    brian2.set_device("cpp_standalone", build_on_run=False, directory=str(tmp_path))
    try:
        assert internals.device_name() == "cpp_standalone"
        internals.forget_project(internals.active_device())
    finally:
        internals.previous_device()
    assert internals.device_name() == "runtime"


def test_the_automatic_target_is_one_of_two():
    assert internals.automatic_target() in ("cython", "numpy")


def test_messages_are_caught_with_their_texts(capfd):
    with internals.caught_messages() as messages:
        brian2.utils.logger.get_logger("brian2.adapters").warn("a message", name_suffix="test")
    assert [(level, text) for level, _, text in messages] == [("WARNING", "a message")]
    assert not capfd.readouterr().err


@pytest.mark.parametrize("text", [internals.ORDER_MATTERS, internals.NEVER_RUN, internals.NO_CYTHON])
def test_texts_of_messages_are_still_those(text):
    def plain(source):
        return " ".join(source.replace('"', " ").replace("'", " ").split())

    sources = Path(brian2.__file__).parent.rglob("*.py")
    assert any(text in plain(path.read_text(encoding="utf-8")) for path in sources), text


def test_spikes_can_be_set_and_the_step_read(one_neuron):
    clock, group, monitor, network = one_neuron
    internals.switch_off(group.thresholder["spike"])
    space = internals.spike_space(group)
    assert (len(space), space.dtype) == (4, np.int32)

    @brian2.network_operation(clock=clock, when="thresholds")
    def feed():
        internals.set_spikes(space, np.array([[1], [0, 2], []][internals.step_of(clock)], dtype=np.int32))

    network.add(feed)
    network.run(3 * brian2.second)
    assert (monitor.i[:].tolist(), np.asarray(monitor.t).tolist()) == ([1, 0, 2], [0, 1, 1])


def test_memory_of_a_variable_can_be_written(one_neuron):
    group = one_neuron[1]
    internals.values_of(group, "v")[:] = [1, 2, 3]
    assert group.v[:].tolist() == [1, 2, 3]


def test_objects_can_be_moved_within_a_step(one_neuron):
    _, group, _, network = one_neuron
    seen = []
    first = brian2.NetworkOperation(lambda: seen.append("first"), clock=group.clock)
    second = brian2.NetworkOperation(lambda: seen.append("second"), clock=group.clock)
    internals.schedule(first, "thresholds", 5)
    internals.schedule(second, "thresholds", 4)
    internals.schedule(group.thresholder["other"], "end", 3)
    internals.schedule(group.resetter["spike"], "end", 3)
    network.add(first, second)
    network.run(1 * brian2.second)
    assert seen == ["second", "first"]


def test_a_monitor_can_be_emptied_and_a_network_rewound(one_neuron):
    _, group, monitor, network = one_neuron
    for _ in range(2):
        group.v = [0, 1, 0]
        network.run(2 * brian2.second)
        assert (monitor.i[:].tolist(), np.asarray(monitor.t).tolist()) == ([1], [0])
        internals.empty(monitor)
        internals.rewind(network)
        assert len(monitor.i) == 0
        assert network.t == 0 * brian2.second


def test_a_table_can_be_filled_again(one_neuron):
    clock, _, _, _ = one_neuron
    table = brian2.TimedArray(np.zeros(3), dt=1 * brian2.second)
    group = brian2.NeuronGroup(1, "v : 1", clock=clock, namespace={"table": table})
    group.run_regularly("v = table(t)")
    network = brian2.Network(group)
    assert internals.room_of(table) == 3
    for values in ([1, 2, 3], [4, 5, 6]):
        internals.fill(table, np.array(values))
        network.run(3 * brian2.second)
        assert group.v[0] == values[-1]
        internals.rewind(network)


@pytest.mark.slow
def test_a_project_reads_its_command_line_and_writes_files_of_known_names(tmp_path):
    project = tmp_path / "project"
    brian2.set_device("cpp_standalone", build_on_run=False, directory=str(project))
    device = internals.active_device()
    try:
        group = brian2.NeuronGroup(2, "v : 1\nw : 1 (shared)", name="adapted")
        group.run_regularly("v += 1")
        table = brian2.TimedArray(np.zeros(2), dt=1 * brian2.second, name="adapted_table")
        group.namespace["adapted_table"] = table
        group.run_regularly("w = adapted_table(0*second)", order=1)
        internals.start_with_arguments(device)
        name = internals.array_name(device, brian2.defaultclock.variables["dt"])
        internals.run_before_network(device, f"{name}[0] = 0.25;")
        brian2.Network(group).run(1 * brian2.second)
        device.build(directory=str(project), compile=False, run=False, with_output=False)
        files = [internals.result_file(device, group.variables[v]) for v in ("v", "w")]
    finally:
        internals.forget_project(device)
        internals.previous_device()
    np.array([10.0, 20.0]).tofile(project / "v.bin")
    np.array([7.0, 0.0]).tofile(project / "table.bin")
    (project / "out").mkdir()
    subprocess.run(["make", f"-j{os.cpu_count()}"], cwd=project, check=True, capture_output=True)
    values = {"adapted.v": "v.bin", "adapted_table.values": "table.bin"}
    subprocess.run(internals.project_command("out" + os.sep, values), cwd=project, check=True)
    assert [np.fromfile(project / "out" / file).tolist() for file in files] == [[14.0, 24.0], [7.0]]


def test_the_loader_of_extensions_can_be_replaced(monkeypatch):
    manager = internals.cython_extension_manager
    assert next(iter(inspect.signature(manager._load_module).parameters)) == "module_path"
    monkeypatch.setattr(type(manager), "_load_module", lambda self, path, **options: (path, options))
    with internals.extension_loader(lambda load, path, **options: (load(path, **options), "seen")):
        assert manager._load_module("a", sources=1) == (("a", {"sources": 1}), "seen")
    assert manager._load_module("a") == ("a", {})


def test_preferences_exist():
    assert brian2.prefs[internals.COMPILER_FLAGS]
    assert isinstance(brian2.prefs[internals.LINKER_FLAGS], list)


@pytest.mark.skipif(importlib.util.find_spec("brian2cuda") is None, reason="brian2cuda is not installed")
def test_brian2cuda_has_its_preferences_and_can_forget_its_installation():
    import brian2cuda  # noqa: F401 - registers them

    internals.forget_cuda_installation()
    wanted = internals.cuda_preferences(flags=["-w"], capability=9.0, toolkit="/cuda", version=13.0)
    for name, value in wanted.items():
        brian2.prefs[name] = brian2.prefs[name]  # an unknown one raises
        assert name.startswith(internals.CUDA_PREFERENCES)
        assert value is not None


# ----- Brian2, device event_driven


def test_a_device_can_be_registered():
    class Device(internals.RuntimeDevice):
        pass

    device = Device()
    internals.register_device("adapted", device)
    try:
        brian2.set_device("adapted")
        assert internals.device_name() == "adapted"
        group = brian2.NeuronGroup(1, "v : 1")
        assert internals.memory_is_on(group, device)
    finally:
        internals.previous_device()
        del internals.all_devices["adapted"]
    assert not internals.memory_is_on(group, internals.active_device())


def test_an_object_can_refuse_a_run_on_another_device():
    here, elsewhere = (brian2.NeuronGroup(1, "v : 1") for _ in range(2))
    internals.check_before_run(here.variables["v"].owner, internals.active_device(), "first")
    internals.check_before_run(here.variables["v"].owner, internals.RuntimeDevice(), "second")  # has a check
    here.before_run({})
    internals.check_before_run(elsewhere.variables["v"].owner, internals.RuntimeDevice(), "elsewhere")
    with pytest.raises(RuntimeError, match="was created on the device 'elsewhere' and cannot run on 'runtime'"):
        elsewhere.before_run({})


def test_the_run_of_a_network_can_be_overridden(monkeypatch):
    for name in ("run", "store", "restore"):
        seen = []
        monkeypatch.setattr(internals.active_device(), f"network_{name}", lambda *a, s=seen: s.append(a), raising=False)
        network = brian2.Network()
        getattr(network, name)(1 * brian2.second)
        assert seen == [(network, 1 * brian2.second)]


def test_parts_of_a_group_and_of_synapses(one_neuron):
    _, group, *_ = one_neuron
    assert all(map(internals.is_part_of_group, group.contained_objects))
    assert not internals.is_part_of_group(group.run_regularly("v = 0"))
    synapses = brian2.Synapses(group, group[1:], on_pre={"a": "v += 1", "b": "v += 2"})
    assert not internals.was_connected(synapses)
    synapses.connect(i=[0, 2], j=[0, 1])
    assert internals.was_connected(synapses)
    assert [p.objname for p in internals.pathways_of(synapses)] == ["a", "b"]
    source, target = internals.endpoints(synapses)
    assert (source.tolist(), target.tolist()) == ([0, 2], [1, 2])
    assert internals.refractory_of(group) is False
    assert internals.target_of(brian2.PoissonInput(group[1:], "v", 1, 1 * brian2.Hz, 1)).start == 1
    assert internals.memory(group.variables["N"]) == 3
    internals.memory(group.variables["v"])[1] = 7
    assert list(group.v) == [0, 7, 0]


def test_the_record_of_a_single_step_can_be_replaced(one_neuron):
    monitor, calls = brian2.StateMonitor(one_neuron[1], "v", record=True), []
    internals.record_single_timestep_by(monitor, lambda: calls.append(1))
    monitor.record_single_timestep()
    assert calls == [1]


def test_new_spikes_of_a_generator_are_known():
    source = brian2.SpikeGeneratorGroup(1, [0], [1] * brian2.ms)
    assert internals.take_new_spikes(source)
    assert not internals.take_new_spikes(source)
    source.set_spikes([0], [2] * brian2.ms)
    assert internals.take_new_spikes(source)


def test_names_in_statements(one_neuron):
    code = "new = v + w # comment\nv = new * exp(x)"
    assert internals.names_in(code, one_neuron[1].variables) == ({"new"}, {"v", "w", "exp", "x"})


def test_functions_may_have_a_state():
    assert internals.is_stateless(brian2.DEFAULT_FUNCTIONS["exp"])
    assert not internals.is_stateless(brian2.DEFAULT_FUNCTIONS["rand"])


def test_monitors_can_be_filled(one_neuron):
    _, group, spikes, _ = one_neuron
    states, rates = brian2.StateMonitor(group, "v", [2, 0]), brian2.PopulationRateMonitor(group)
    for k in range(2):
        columns = {"t": np.array([k + 0.5, k + 0.75]), "i": np.array([0, 2]), "v": np.array([3.0, 4.0])}
        internals.record_spikes(spikes, columns, np.array([1, 0, 1]))
        internals.record_states(states, np.array([k + 0.25]), {"v": np.array([[1.0, 2.0]])})
        internals.record_rates(rates, np.array([float(k)]), np.array([5.0 + k]), 0.5)
    assert spikes.t_[:].tolist() == [0.5, 0.75, 1.5, 1.75]
    assert (spikes.i[:].tolist(), spikes.v[:].tolist(), spikes.count[:].tolist()) == ([0, 2] * 2, [3, 4] * 2, [2, 0, 2])
    assert spikes.num_spikes == 4
    assert (states.t_[:].tolist(), states.v.tolist()) == ([0.25, 1.25], [[1, 1], [2, 2]])
    assert (rates.t_[:].tolist(), rates.rate_[:].tolist()) == ([0, 1], [5.5, 6])


def test_the_time_of_a_network_can_be_set_and_its_state_be_kept(one_neuron, tmp_path):
    clock, group, _, network = one_neuron
    other = brian2.Network(group)
    internals.begin_run(network)
    with pytest.raises(RuntimeError, match="another network"):
        internals.begin_run(other)
    assert not internals.stop_requested(network)
    network.stop()
    assert internals.stop_requested(network)
    internals.begin_run(network)
    assert not internals.stop_requested(network)
    for file in (None, str(tmp_path / "state")):
        internals.set_time(network, [clock], 5.0)
        internals.store_state(network, "name", file)
        internals.set_time(network, [clock], 7.0)
        assert (network.t_, clock.t_, internals.step_of(clock)) == (7.0, 7.0, 7)
        state = internals.restore_state(network, "name", file, False)
        assert (network.t_, clock.t_, internals.step_of(clock)) == (5.0, 5.0, 5)
        assert "numpy_state" in state


PRIVATE = (
    "brian2.devices", "brian2.utils.logger", "brian2.codegen", "_spikespace", "get_value(", "catch_logs", "reinit(",
    "apply_run_args", "insert_code", "get_array_name", "get_array_filename", ".t_ =", ".resize(", "gputools",
    "cuda_backend",
)  # fmt: skip


def test_other_files_use_no_private_names_of_brian2():
    folder = Path(mtt_brian.__file__).parent
    found = [
        (str(path.relative_to(folder)), name)
        for path in sorted(folder.rglob("*.py"))
        if path.name != "internals.py"
        for name in PRIVATE
        if name in path.read_text(encoding="utf-8")
    ]
    assert found == []


# ----- torch


class TestTorch:
    """mtt_brian/snn/ops/internals.py"""

    @pytest.mark.slow  # imports torch's compiler
    def test_dynamo_cache_size_limit(self) -> None:
        """The number of variants of a compiled function is raised during its calls only."""
        torch = pytest.importorskip("torch")
        from mtt_brian.snn.ops import internals

        def limit(x: object) -> int:
            return int(torch._dynamo.config.cache_size_limit)

        before = limit(None)
        assert before < internals.MOST_VARIANTS
        call = internals.compiled.__wrapped__(torch.compiler.disable(limit))
        assert call(None) == internals.MOST_VARIANTS
        assert limit(None) == before


def test_slots_and_methods_of_a_group(one_neuron):
    group = brian2.NeuronGroup(1, "v : 1", threshold="v > 1", reset="v = 0", events={"other": "v > 2"}, method="no")
    events = brian2.EventMonitor(group, "other")
    parts = (*group.contained_objects, brian2.SpikeMonitor(group), brian2.PoissonInput(group, "v", 1, brian2.Hz, 1))
    for part in parts:
        usual = None if getattr(part, "event", "spike") == "other" else part.when
        assert internals.slot_of(part) == usual
    assert internals.slot_of(events) is None
    assert internals.unknown_methods(group) == ["no"]
    assert not internals.unknown_methods(one_neuron[1])
