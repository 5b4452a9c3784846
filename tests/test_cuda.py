"""The GPU engine as far as a machine goes: writing the project needs brian2cuda, compiling nvcc, running a GPU."""

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.brian2 import cuda_patch
from mtt_brian.engines.brian2.cuda import Cuda, CudaEngine
from mtt_brian.engines.brian2.schedule import InputSchedule
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF

NOTHING = Cuda(path=None, version=0.0, include=None, libraries=None, capability=None, free_bytes=0)


SUM = IF(threshold=None)


def chain(seed=0, readout=SUM):
    """Bounded IF, LIF and a readout; weights on a dyadic grid, so that every order of summation is exact."""
    rng = np.random.default_rng(seed)
    rules = {
        "a": IF(spikes="many", lower_bound=-1.0),
        "b": LIF(tau=0.01, r=0.01, spikes="one"),
        "c": IF(spikes="one", lower_bound=-0.5),
        "out": readout,
    }
    populations, connections, source, size = [], [], "input", 6
    for name, rule in rules.items():
        weight = rng.integers(-8, 16, (5, size)) / 16
        populations.append(Population(name, (5,), rule))
        connections.append(Connection(source, name, (Dense(weight, (size,)),), (), size))
        source, size = name, 5
    return Circuit("input", (6,), tuple(populations), tuple(connections), "out")


def recordings(number, events=60):
    rng = np.random.default_rng(1)
    made = []
    for _ in range(number):
        rows = np.unique(rng.integers(0, 40, events) * 6 + rng.integers(0, 6, events))
        ones = np.ones(len(rows), np.int64)
        made.append(InputSpikes(rows // 6 * 1e-3, rows % 6, ones, np.arange(len(rows)), 0.04))
    return made


def written(project, name):
    """The code object of that name; Brian2 numbers it where an earlier project in this process had the same."""
    (file,) = (project.path / "code_objects").glob(f"{name}*.cu")
    return file.read_text()


def test_without_brian2cuda_the_error_states_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "brian2cuda", None)
    with pytest.raises(InputError, match=r"needs brian2cuda.*mtt_brian\[cuda\]"):
        CudaEngine(chain())


def test_what_is_missing_is_named_with_its_remedy(monkeypatch, tmp_path):
    missing = " ".join(NOTHING.missing())
    assert "install the CUDA toolkit" in missing
    assert "nvidia-smi finds none" in missing
    monkeypatch.setattr("mtt_brian.engines.brian2.cuda.util.find_spec", lambda name: object())
    complete = Cuda(path=tmp_path, version=13.0, include=tmp_path, libraries=None, capability=9.0, free_bytes=1)
    assert complete.missing() == []


def test_preferences_follow_what_is_found(tmp_path):
    found = Cuda(tmp_path, 13.0, tmp_path / "include", tmp_path / "lib", 8.0, 2**34)
    preferences = found.preferences()
    backend = "devices.cuda_standalone.cuda_backend."
    assert preferences[backend + "compute_capability"] == 8.0
    assert preferences[backend + "cuda_runtime_version"] == 13.0
    flags = preferences[backend + "extra_compile_args_nvcc"]
    assert {"-std=c++17", "--fmad=false", f"-I{tmp_path}/include"} <= set(flags)
    assert not any("fast_math" in flag for flag in flags)
    assert f"-L{tmp_path}/lib" in preferences["codegen.cpp.extra_link_args"]


class TestWithBrian2Cuda:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("brian2cuda", reason="brian2cuda is not installed")

    def test_a_machine_without_gpu_is_refused_with_what_it_lacks(self, monkeypatch):
        engine = CudaEngine(chain())
        monkeypatch.setattr(engine, "cuda", NOTHING)
        with pytest.raises(InputError, match=r"cannot run here; it lacks .*nvidia-smi finds none"):
            list(engine.run(recordings(1)))

    def test_a_batch_that_does_not_fit_the_gpu_are_refused_with_numbers(self, monkeypatch, tmp_path):
        engine = CudaEngine(chain())
        monkeypatch.setattr(engine, "cuda", Cuda(tmp_path, 13.0, tmp_path, None, 9.0, free_bytes=2**20))
        inputs = InputSchedule.arrange(recordings(1), 1000, 6)
        # a copy has 6 * 5 + 2 * 5 * 5 weights without the readout's, one of which is 0: 79 synapses of 40 bytes
        with pytest.raises(InputError, match=r"79,000 synapses \(batch_size=1000\) need 3 MiB on the GPU, where 1 MiB"):
            engine.write(inputs, 1000)

    def test_a_batch_as_large_as_the_gpu_holds(self, monkeypatch, tmp_path):
        engine = CudaEngine(chain())
        # 79 synapses of 40 bytes in half the memory
        monkeypatch.setattr(engine, "cuda", Cuda(tmp_path, 13.0, tmp_path, None, 9.0, free_bytes=2 * 79 * 40 * 7))
        assert engine._default_batch_size(recordings(100)) == 7

    def test_a_readout_behind_a_delay_is_no_sum_of_the_counts(self):
        circuit = chain()
        *others, last = circuit.connections
        late = replace(last, operators=(*last.operators, Delay(np.full(5, 0.001))))
        assert "out" not in CudaEngine(circuit)._simulated.population
        assert "out" in CudaEngine(replace(circuit, connections=(*others, late)))._simulated.population

    def test_the_project_is_written_without_a_gpu(self):
        engine = CudaEngine(chain(), record="output")
        trains = recordings(4)
        project = engine.write(InputSchedule.arrange(trains, 2, 6), 2)
        run = (project.path / "main.cu").read_text()
        assert "_array_defaultclock_dt[0] = 1.0/_array_input_steps[0];" in run
        makefile = (project.path / "makefile").read_text()
        assert "--fmad=false" in makefile
        assert "fast_math" not in makefile
        code = {path.stem for path in (project.path / "code_objects").glob("*.cu")}
        for name in ("population_a_spike_thresholder", "synapses_a_b_deliver", "update_a", "end_of_step_a", "spikes_c"):
            assert any(stem.startswith(name) for stem in code), (name, code)
        # Every monitor slows each step: only the sources of the readout are monitored.
        assert not any(stem.startswith(("spikes_a", "spikes_b")) for stem in code), code
        # The readout is a sum that the host can do.
        assert not any("out" in stem for stem in code), code
        # No pathway fell back to one thread: that is how Brian2CUDA would keep the order of the synapses.
        assert "atomicAdd" in written(project, "synapses_a_b_deliver_codeobject")
        # All synapses of a pathway are copied at once, without a search for pairs of neurons connected twice.
        start = written(project, "before_run_synapses_a_b_deliver_push_spikes")
        assert "cudaMemcpy(d_ptr_synapse_ids, h_synapse_ids.data()," in start
        assert "cudaMemcpy(h_ptr_d_ptr_synapse_ids_by_pre[i]," not in start
        assert "for (int _i=0; false; _i++)" in written(project, "synapses_a_b_synapses_create_array_codeobject")

    def test_unexpected_code_of_brian2cuda_is_unchanged_with_one_warning(self, tmp_path):
        folder = tmp_path / "code_objects"
        folder.mkdir()
        cuda_patch._warn.cache_clear()
        with pytest.warns(UserWarning, match=r"0 files code_objects/before_run_\*_push_spikes\*.cu for 1"):
            cuda_patch.shorten(tmp_path, 1)
        file = folder / "before_run_x_push_spikes.cu"
        file.write_text("int main() {}\n")
        with pytest.warns(UserWarning, match="writes other code .*a passage is 0 times in a file .*CUDA_SAFE_CALL"):
            cuda_patch.shorten(tmp_path, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cuda_patch.shorten(tmp_path, 1)
        assert file.read_text() == "int main() {}\n"

    @pytest.mark.slow
    def test_the_project_compiles(self):
        """With a monitor, and with what is counted and what is shown without one."""
        engine = CudaEngine(chain(readout=IF(threshold=None, lower_bound=-0.5)), record="output")
        lacking = [text for text in engine.cuda.missing() if "GPU" not in text]
        if lacking:
            pytest.skip("; ".join(lacking))
        project = engine.write(InputSchedule.arrange(recordings(2), 2, 6), 2)
        project.compile()
        assert shutil.which("main", path=str(project.path))

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_the_same_spikes_as_the_exact_engine(self, seed):
        engine = CudaEngine(chain(seed))
        if lacking := engine.cuda.missing():
            pytest.skip("; ".join(lacking))
        trains = recordings(20)
        expected = mb.Simulator(chain(seed), engine="exact").engine.run(trains)
        for ours, theirs in zip(engine.run(trains), expected, strict=True):
            for name, spikes in theirs.spikes.items():
                for a, b in zip(ours.spikes[name], spikes, strict=True):
                    np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(ours.readout, theirs.readout)
