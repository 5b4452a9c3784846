"""The GPU engine run without a GPU: its CUDA project compiled for the CPU (tests/emulated_cuda) and really executed.

The project, the makefile and the package's own code are what they are on a machine with a GPU; only nvcc and nvidia-smi
are stand-ins. Set EMULATED_CUDA_CACHE to a folder to keep compiled objects from one run of the tests to the next.
"""

import functools
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Dense
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.brian2.cuda import Cuda, CudaEngine
from mtt_brian.engines.brian2.schedule import InputSchedule
from mtt_brian.neuron import IF
from tests import engines, test_engines_by_hand, test_engines_random
from tests.test_cuda import SUM, chain, recordings

HOME = Path(__file__).parent / "emulated_cuda"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NVCC = HOME / "bin" / "nvcc"

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile with")
needs_brian2cuda = pytest.mark.skipif(
    importlib.util.find_spec("brian2cuda") is None, reason="brian2cuda is not installed"
)


@pytest.fixture(scope="module", autouse=True)
def machine(tmp_path_factory):
    """A machine with an emulated GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_PATH", str(HOME))
        patch.setenv("PATH", f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}")
        if "EMULATED_CUDA_CACHE" not in os.environ:
            patch.setenv("EMULATED_CUDA_CACHE", str(tmp_path_factory.mktemp("objects")))
        patch.setitem(engines.FAST_TO_START, "brian2-cuda", {})
        yield


# ----- the emulation itself


@pytest.fixture(scope="module")
def nvcc():
    loader = importlib.machinery.SourceFileLoader("nvcc", str(NVCC))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("nvcc", loader))
    sys.modules["nvcc"] = module
    loader.exec_module(module)
    yield module
    del sys.modules["nvcc"]


@pytest.mark.parametrize(
    ("cuda", "kernel", "shape"),
    [
        ("f<<<1, 2>>>();", "f", "1, 2"),
        ("a::f<int> <<<g(1, 2), n >> 1, s>>>(x)", "a::f<int>", "g(1, 2), n >> 1, s"),
        ("f<<<1,\n2 /* >>> ( */>>>(\nx);", "f", "1,\n2 /* >>> ( */"),
    ],
)
def test_launches_become_calls_line_for_line(nvcc, cuda, kernel, shape):
    arguments = cuda[cuda.index(">>>(") + 3 :]
    made = nvcc.to_cpp(cuda).replace(f"{kernel} ,", f"{kernel},")
    assert made == f'::emulated::launch("{kernel}", {kernel}, ::emulated::Shape({shape})){arguments}'


def test_other_text_is_not_changed(nvcc):
    text = 'puts("f<<<1, 2>>>()"); // f<<<1'
    assert nvcc.to_cpp(text) == text
    assert nvcc.to_cpp("extern __shared__ char held[];") == "char* held = (char*)::emulated::shared_memory();"


@pytest.mark.parametrize("arguments", [["-use_fast_math"], ["-arch=sm_90", "-dc", "x.cu"]])
def test_nvcc_refuses_what_it_would_not_do(arguments):
    done = subprocess.run([NVCC, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "unsupported" in done.stderr


@pytest.mark.slow
def test_errors_of_the_compiler_point_to_the_cuda_file(tmp_path):
    (tmp_path / "wrong.cu").write_text("\n\n__global__ void f() { nonsense; }\n")
    done = subprocess.run(
        [NVCC, "--fmad=false", "-dc", "wrong.cu", "-o", "wrong.o"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode
    assert "wrong.cu:3:" in done.stderr


def compiled_example(folder):
    subprocess.run([NVCC, "--fmad=false", "-dc", HOME / "example.cu", "-o", folder / "example.o"], check=True)
    subprocess.run([NVCC, folder / "example.o", "-o", folder / "example"], check=True)
    return folder / "example"


@pytest.fixture(scope="module")
def example(machine, tmp_path_factory):
    return compiled_example(tmp_path_factory.mktemp("example"))


def output_of(program, what, **environment):
    done = subprocess.run([program, what], capture_output=True, text=True, check=True, env=os.environ | environment)
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("seed", "0123")
def test_barriers_shared_memory_and_atomics(example, seed):
    turned, counted = output_of(example, "turn around", EMULATED_CUDA_SEED=seed)
    assert turned == [103, 102, 101, 100, 107, 106, 105, 104, 111, 110, 109, 108]
    assert counted == [12]


@pytest.mark.slow
def test_threads_that_have_ended_do_not_hold_a_barrier_up(example):
    assert output_of(example, "early exits")[0][:4] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_seed_shuffles_blocks_and_threads(example):
    orders = [output_of(example, "order", EMULATED_CUDA_SEED=seed)[0] for seed in "0123"]
    assert orders[0] == list(range(12))
    assert len({tuple(order) for order in orders}) == 4
    for order in orders:
        assert sorted(order) == list(range(12))
        # a block has ended before the next one begins
        assert [sorted(order[k : k + 4])[-1] - sorted(order[k : k + 4])[0] for k in (0, 4, 8)] == [3, 3, 3]


@pytest.mark.slow
def test_fresh_device_memory_is_not_zero(example):
    done = subprocess.run([example, "fresh memory"], capture_output=True, text=True, check=True)
    assert done.stdout == "7f7f7f7f\n"


@pytest.mark.slow
def test_a_launch_of_nothing_is_an_error_as_it_is_in_cuda(example):
    done = subprocess.run([example, "no blocks"], capture_output=True, text=True, check=True)
    assert done.stdout == "invalid configuration argument\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("two barriers", "two_barriers: threads of one block wait at"),
        ("the host reads", "the host touched device memory at"),
        ("a kernel is given host memory", "in_order: argument 1 points to host memory"),
        ("the wrong way", "main: copy of 4 bytes device to host"),
        ("too far", "main: copy of 52 bytes host to device"),
        ("too many threads", "nobody asked about an error"),
        ("random numbers", "curandGenerateUniform: random numbers are not emulated"),
    ],
)
def test_mistakes_are_loud(example, what, complaint):
    done = subprocess.run([example, what], capture_output=True, text=True, check=False)
    assert complaint in done.stderr


@pytest.mark.slow
def test_with_sanitizers_a_kernel_that_writes_too_far_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("EMULATED_CUDA_SANITIZE", "1")
    example = compiled_example(tmp_path)
    assert output_of(example, "turn around")[1] == [12]
    done = subprocess.run([example, "a kernel writes too far"], capture_output=True, text=True, check=False)
    assert "use-after-poison" in done.stderr
    assert "in void fill<int>" in done.stderr


# ----- the engine on it


BATCH = 3


def assert_same(ours, theirs):
    """Spikes, readouts and counts of all recordings, to the last bit; returns the number of spikes."""
    number = 0
    for a, b in zip(ours, theirs, strict=True):
        assert list(a.spikes) == list(b.spikes)
        for name, spikes in b.spikes.items():
            for mine, yours in zip(a.spikes[name], spikes, strict=True):
                np.testing.assert_array_equal(mine, yours)
        for name, counts in b.counts.items():
            np.testing.assert_array_equal(a.counts[name], counts)
            number += counts.sum() if name in a.circuit.population else 0
        np.testing.assert_array_equal(a.readout, b.readout)
        assert a.synops == b.synops
    return number


def unequal(number):
    """Recordings of `tests.test_cuda` of which some end early, and one is empty."""
    cut = []
    for k, train in enumerate(recordings(number)):
        keep = len(train.t) // (k % 3 + 1) if k != 2 else 0
        cut.append(InputSpikes(train.t[:keep], train.i[:keep], train.n[:keep], np.arange(keep), train.duration))
    return cut


def play(engine, circuit, trains):
    exact = mb.Simulator(circuit, engine="exact", record=engine.record)
    return assert_same(engine.run(trains), exact.engine.run(trains))


@needs_brian2cuda
def test_the_emulated_cuda_is_found_and_complete():
    assert Cuda.find() == Cuda(HOME, 13.0, HOME / "include", None, 9.0, 2**33)
    assert Cuda.find().missing() == []


@pytest.fixture(scope="module")
def engine(machine):
    return CudaEngine(chain(), batch_size=BATCH)


@needs_brian2cuda
@pytest.mark.slow
class TestChain:
    """Bounded, leaky and silent populations; the weights make all sums exact, so every order gives the same bits."""

    def test_more_recordings_than_copies_and_unequal_ones(self, engine):
        assert play(engine, chain(), unequal(8)) > 500

    @pytest.mark.parametrize("seed", "123")
    def test_the_order_of_threads_and_blocks_does_not_matter(self, engine, monkeypatch, seed):
        monkeypatch.setenv("EMULATED_CUDA_SEED", seed)
        play(engine, chain(), unequal(8))

    def test_the_compiled_project_serves_other_recordings(self, engine):
        play(engine, chain(), unequal(4))
        project = engine._project
        play(engine, chain(), recordings(5)[3:])
        assert engine._project is project

    def test_one_copy(self):
        play(CudaEngine(chain(1), batch_size=1), chain(1), unequal(4))

    def test_spikes_that_are_not_recorded_are_counted_by_recording(self, monkeypatch):
        monkeypatch.setenv("EMULATED_CUDA_SEED", "1")
        engine = CudaEngine(chain(), batch_size=BATCH, record="counts")
        assert play(engine, chain(), unequal(8)) > 500
        project = engine._project
        assert not project.network.monitors
        # as many as there is room for, in copies of which one runs more than the others
        assert project.network.room.recordings == 16
        assert play(engine, chain(), [*unequal(14), *recordings(2)]) > 500
        assert engine._project is project

    @pytest.mark.parametrize(
        "circuit",
        [
            chain(readout=IF(threshold=None, lower_bound=-0.5)),
            Circuit(
                "input",
                (6,),
                (Population("out", (5,), SUM),),
                (Connection("input", "out", (Dense(np.arange(30).reshape(5, 6) / 16, (6,)),), (), 6),),
                "out",
            ),
        ],
        ids=["no sum", "nothing else"],
    )
    def test_readouts_that_are_simulated(self, circuit):
        engine = CudaEngine(circuit, batch_size=BATCH, record="counts")
        play(engine, circuit, unequal(8))
        assert list(engine._project.network.totals) == [p.name for p in circuit.populations]

    def test_no_access_out_of_bounds(self, monkeypatch):
        monkeypatch.setenv("EMULATED_CUDA_SANITIZE", "1")
        play(CudaEngine(chain(), batch_size=BATCH, record="output"), chain(), unequal(8))


@needs_brian2cuda
@pytest.mark.slow
@pytest.mark.parametrize(("seed", "leaky"), [(1, False), (2, True), (3, True)])
def test_random_networks_equal_the_reference(monkeypatch, seed, leaky):
    monkeypatch.setenv("EMULATED_CUDA_SEED", "1")
    assert test_engines_random.check(seed, "brian2-cuda", leaky, batch_size=2) > 0


@pytest.fixture(scope="module")
def by_hand(machine):
    return engines.simulator(test_engines_by_hand.GRAPH, "brian2-cuda", batch_size=2)


@needs_brian2cuda
@pytest.mark.slow
class TestByHand:
    """The networks of test_engines_by_hand.py."""

    @pytest.fixture
    def make(self, machine):
        return functools.partial(engines.simulator, engine="brian2-cuda", batch_size=2)

    @pytest.fixture
    def run(self, by_hand):
        return engines.run_of(lambda: by_hand)


for _name, _test in vars(test_engines_by_hand).items():
    if _name.startswith("test_"):
        setattr(TestByHand, _name, staticmethod(_test))


@needs_brian2cuda
@pytest.mark.slow
def test_what_a_step_of_the_n_mnist_network_costs(monkeypatch, tmp_path, capsys):
    """Launches and waits per step, from two runs of different length; printed."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from workloads import on_grid, random_train, workload

    circuit, batch_size = on_grid(workload("W1").circuit), 4
    rng = np.random.default_rng(0)
    trains = [random_train(circuit.input_shape, 500, 0.0375, rng) for _ in range(2 * batch_size)]
    engine = CudaEngine(circuit, batch_size=batch_size, record="counts")
    assert play(engine, circuit, trains) > 500

    reports, steps = [], []
    for number in (2 * batch_size, batch_size):
        monkeypatch.setenv("EMULATED_CUDA_REPORT", str(tmp_path / "report.json"))
        list(engine.run(trains[:number]))
        reports.append(json.loads((tmp_path / "report.json").read_text()))
        steps.append(InputSchedule.arrange(trains[:number], batch_size, circuit.input_size).steps)

    def per_step(counts, baseline):
        each = {name: (count - baseline.get(name, 0)) / (steps[0] - steps[1]) for name, count in counts.items()}
        return {name: value for name, value in each.items() if value}

    long, short = reports
    tables = {"launches": per_step(long["launches"], short["launches"])}
    for kind, counts in long["waits"].items():
        tables[f"waits, {kind}"] = per_step(counts, short["waits"].get(kind, {}))
    with capsys.disabled():
        for title, table in tables.items():
            print(f"\n{title}: {sum(table.values()):.2f} per step")
            for name, value in sorted(table.items(), key=lambda row: -row[1]):
                print(f"  {value:6.3f}  {name}")
    assert sum(tables["launches"].values()) < 17
    # one for each pathway: how many neurons fired
    waits = {kind: sum(table.values()) for kind, table in tables.items() if kind != "launches"}
    assert waits.pop("waits, device to host") == 3
    assert not any(waits.values())
    # Copies at the start: per array and pathway, not per neuron.
    assert sum(short["waits"]["host to device"].values()) < 200
