"""Iterations as CUDA graphs: recorded and replayed on a GPU where there is one, and emulated on a CPU."""

import copy
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtt_brian import mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt import TrainConfig, cuda_graphs, loop
from mtt_brian.mtt.checkpoint import Checkpoint
from mtt_brian.mtt.cuda_graphs import MOST, WARM_UP, Graphs
from mtt_brian.mtt.iteration import Iteration
from mtt_brian.mtt.optimizer import make_optimizer
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn import Spiking, Staged, models
from mtt_brian.snn.ops import choice
from mtt_brian.snn.room import make_pass
from tests import emulated_graphs
from tests.test_mtt_fit import small, train
from tests.triton_kernels import interpreted

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def emulated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: emulated graphs, and operations of torch instead of compiled loops, which are not recorded.

    On a GPU: convolutions whose sums have a fixed order.
    """
    if request.getfixturevalue("device") == "cpu":
        emulated_graphs.install(monkeypatch)
        monkeypatch.setattr(choice, "LOOPS", choice.PLAIN)
    else:
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def recorded(graphs: Graphs) -> list[Any]:
    return [shape.recorded for shape in graphs._shapes.values() if shape.recorded is not None]


def trained(
    device: str, graphs: Graphs | None, iterations: int = 12, loss: Any = mtt.cross_entropy
) -> tuple[list[Any], list[Tensor]]:
    """Losses and weights of a training by SDT with two sizes of batches."""
    torch.manual_seed(0)
    network = models.vggsnn((2, 12, 12), 3, width_multiplier=0.25 if device == "cuda" else 0.05).to(device)
    optimizer = make_optimizer(network, TrainConfig(lr=1e-3))
    frames = torch.poisson(torch.full((4, 24, 2, 12, 12), 0.3), generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(24) % 3).to(device)
    options = mtt.StepOptions(amp=device == "cuda", clip=1.0, graphs=graphs, loss=loss)
    found = []
    for i in range(iterations):
        some = slice(0, 8) if i % 3 == 2 else slice(8, 20)
        done = mtt.train_iteration(network, optimizer, frames[:, some], labels[some], [(4,) * 4], options)
        found.append((done.loss, done.accuracy))
    return found, [tensor.detach().double() for tensor in network.state_dict().values()]


def assert_same(device: str, ours: tuple[list[Any], list[Tensor]], theirs: tuple[list[Any], list[Tensor]]) -> None:
    """To the last bit on a CPU; on a GPU sums are in no fixed order."""
    near = 2e-2 if device == "cuda" else 0.0
    np.testing.assert_allclose(ours[0], theirs[0], rtol=near, atol=near / 10)
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert (a - b).norm() <= near * b.norm()


@pytest.mark.parametrize("device", DEVICES)
def test_recorded_iterations_train_as_launched_ones(device: str) -> None:
    graphs = Graphs()
    ours, theirs = trained(device, graphs), trained(device, None)
    assert len(recorded(graphs)) == 2
    if device == "cpu":  # 12 iterations, 8 with one size and 4 with the other, the first three of each without a graph
        assert [each.graph.replays for each in recorded(graphs)] == [8 - WARM_UP, 4 - WARM_UP]
    assert len({loss for loss, _ in ours[0]}) == 12
    assert_same(device, ours, theirs)


@pytest.mark.parametrize("device", ["cpu"])
def test_no_operation_overtakes_another_on_a_second_stream(device: str) -> None:
    """Batches, gradients and results pass between the stream of the caller and that of the records."""
    with emulated_graphs.Ordered():
        trained(device, Graphs())


@pytest.mark.parametrize("device", DEVICES)
def test_all_iterations_of_a_shape_are_made_on_the_stream_that_records_it(device: str) -> None:
    """A node of autograd has the stream on which it was made. One of the default stream would end a recording, and a
    loss that is kept keeps all nodes."""
    graphs, streams, kept = Graphs(), [], []

    def keeping(readouts: Tensor, labels: Tensor) -> Tensor:
        streams.append(torch.cuda.current_stream())
        kept.append(mtt.cross_entropy(readouts, labels))
        return kept[-1]

    outside = torch.cuda.current_stream()
    ours, theirs = trained(device, graphs, loss=keeping), trained(device, None)
    assert len(recorded(graphs)) == 2
    assert len(streams) == 2 * (WARM_UP + 1)
    assert {stream == outside for stream in streams} == {False}
    assert all(stream == streams[0] for stream in streams)
    assert torch.cuda.current_stream() == outside
    assert_same(device, ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("transform", ["soft", "trim"])
def test_recorded_iterations_of_every_transform(transform: str, device: str) -> None:
    """A transform of 4 frames to 4 steps changes nothing; here there are 6."""
    frames = torch.poisson(torch.full((4, 8, 2, 12, 12), 0.3), generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(8) % 3).to(device)
    found = []
    for graphs in (Graphs(), None):
        torch.manual_seed(0)
        network = models.nmnist_3c1fc((2, 12, 12), 3, transform=transform).to(device)
        optimizer = make_optimizer(network, TrainConfig(lr=1e-3))
        options = mtt.StepOptions(graphs=graphs)
        losses = [mtt.train_iteration(network, optimizer, frames, labels, [(6, 6, 6)], options) for _ in range(6)]
        found.append((losses, [tensor.detach().double() for tensor in network.state_dict().values()]))
        assert graphs is None or len(recorded(graphs)) == 1
    assert_same(device, found[0], found[1])


def run_of(device: str, graphs: Graphs | None, epochs: int, resume: Checkpoint | None = None) -> Checkpoint:
    """A training with all that comes between iterations: two sizes of batches, norms, validation, a falling rate."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.poisson(torch.full((18, 3, 2, 12, 12), 0.3), generator=generator).to(torch.uint8)
    data = mtt.FrameSet(frames, torch.arange(18) % 3).to(device)
    held_back = mtt.FrameSet(frames[:7], torch.arange(7) % 3).to(device)
    torch.manual_seed(0)
    network = models.vggsnn((2, 12, 12), 3, width_multiplier=0.25 if device == "cuda" else 0.05).to(device)
    config = TrainConfig(
        method="sdt", time_steps=3, epochs=3, batch_size=4, lr=1e-3, clip=1.0, roll=2, flip=True, validation=0.1
    )
    trainer = mtt.Trainer(network, config, data, held_back, resume)
    trainer.options = replace(trainer.options, graphs=graphs)
    with trainer.running():
        for _ in range(epochs):
            trainer.run_epoch()
    return trainer.last


def numbers_of(run: Checkpoint) -> tuple[list[Any], list[Tensor]]:
    """Losses and rates, weights and moments. An accuracy of few items would jump with the rounding of a GPU."""
    rows = [(row["loss"], row["lr"]) for row in run.history]
    assert all("validation_accuracy" in row for row in run.history)
    moments = [tensor for state in run.optimizer["state"].values() for tensor in state.values()]
    return rows, [tensor.detach().double().clone() for tensor in [*run.weights.values(), *moments]]


@pytest.mark.parametrize("device", DEVICES)
def test_epochs_of_recorded_iterations_are_those_of_launched_ones(device: str) -> None:
    """Norms that are measured again, a rate of its own in every epoch, and a run that is resumed."""
    graphs = Graphs()
    ours, theirs = numbers_of(run_of(device, graphs, 3)), numbers_of(run_of(device, None, 3))
    assert len(recorded(graphs)) == 2
    assert len({lr for _, lr in ours[0]}) == 3
    assert_same(device, ours, theirs)
    half = run_of(device, Graphs(), 1)
    half = replace(half, optimizer=copy.deepcopy(half.optimizer))
    assert_same(device, numbers_of(run_of(device, Graphs(), 2, half)), theirs)


def mixed(device: str, graphs: Graphs | None, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Tensor]]:
    """Losses, weights and statistics of a training by MTT; on a CPU with interpreted kernels."""
    if device == "cpu":
        monkeypatch.setattr(choice, "_triton_for", lambda x, surrogate: interpreted())
        emulated_graphs.install_kernels(monkeypatch)
    torch.manual_seed(0)
    layers = {
        "a": nn.Conv2d(2, 4, 3, padding=1, bias=False),
        "a_norm": nn.BatchNorm2d(4),
        "a_spikes": Spiking(IF(spikes="many", lower_bound=-1.0)),
        "b": nn.Conv2d(4, 2, 3),
        "b_spikes": Spiking(LIF(tau=0.3), duration=0.3),
        "flat": nn.Flatten(),
        "out": nn.Linear(8, 3),
    }
    if device == "cpu":  # the interpreter needs long for the sums of a norm; tests/test_snn_room.py has it
        del layers["a_norm"]
    network = Staged(layers, (2, 4, 4)).to(device)
    optimizer = make_optimizer(network, TrainConfig(lr=1e-3))
    generator = torch.Generator().manual_seed(0)
    frames = torch.poisson(torch.full((4, 5, 2, 4, 4), 0.6), generator=generator).to(device)
    labels = (torch.arange(5) % 3).to(device)
    rng, losses = np.random.default_rng(1), []
    options = mtt.StepOptions(amp=device == "cuda", clip=1.0, graphs=graphs)
    most, iterations = (4, 30) if device == "cuda" else (2, 9)
    for i in range(iterations):
        some = slice(0, 3) if device == "cuda" and i % 3 == 2 else slice(0, 5)
        configurations = mtt.MTT(most, samples=2).sample(rng, network.num_stages)
        losses.append(mtt.train_iteration(network, optimizer, frames[:, some], labels[some], configurations, options))
    return losses, [tensor.detach().double() for tensor in network.state_dict().values()]


@pytest.mark.parametrize("device", DEVICES)
def test_recorded_iterations_of_mixed_time_steps(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a graph are those of the same kernels without it, to the last bit on a CPU."""
    graphs = Graphs(mixed=4)
    ours = mixed(device, graphs, monkeypatch)
    replayed = sum(shape.seen - WARM_UP for shape in graphs._shapes.values() if shape.recorded is not None)
    assert replayed >= (6 if device == "cuda" else 3)
    assert len(set(ours[0])) == len(ours[0])
    if device == "cuda":  # on a CPU tests/test_snn_room.py compares the passes
        assert_same(device, mixed(device, None, monkeypatch), ours)
    monkeypatch.setattr(cuda_graphs, "MOST", 0)
    assert_same(device, mixed(device, Graphs(mixed=4), monkeypatch), ours)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations of all passes that are made."""
    made: list[Any] = []

    def counted(model: Staged, frames: int, configurations: Any, most: int) -> Any:
        made.append(configurations)
        return make_pass(model, frames, configurations, most)

    monkeypatch.setattr(cuda_graphs, "make_pass", counted)
    return made


@pytest.mark.parametrize("device", DEVICES)
def test_a_pass_that_was_made_ahead_is_used_once_and_for_its_configurations_only(device: str, made: list[Any]) -> None:
    network = models.vggsnn((2, 12, 12), 3, width_multiplier=0.05).to(device)
    mtt_of_3 = mtt.MTT(3, samples=2)
    first, second = (mtt_of_3.sample(np.random.default_rng(seed), network.num_stages) for seed in (0, 1))
    graphs = Graphs(mixed=3)
    graphs.prepare(network, 3, first)
    assert np.array_equal(graphs.take(network, 3, first).room.integers, make_pass(network, 3, first, 3).integers)
    assert made == [first]
    graphs.take(network, 3, first)
    graphs.prepare(network, 3, first)
    assert np.array_equal(graphs.take(network, 3, second).room.integers, make_pass(network, 3, second, 3).integers)
    assert made == [first, first, first, second]


@pytest.mark.parametrize("device", DEVICES)
def test_an_epoch_makes_the_pass_of_each_iteration_once_and_none_beyond_its_end(device: str, made: list[Any]) -> None:
    """On a GPU while it computes the iteration before; a pass beyond the end would use up random numbers."""
    frames = torch.poisson(torch.full((9, 3, 2, 12, 12), 0.3), generator=torch.Generator().manual_seed(0))
    data = mtt.FrameSet(frames.to(torch.uint8), torch.arange(9) % 3).to(device)
    network = models.vggsnn((2, 12, 12), 3, width_multiplier=0.05).to(device)
    trainer = mtt.Trainer(network, TrainConfig(method="mtt", time_steps=3, batch_size=3, samples=2), data)
    if device == "cuda":
        trainer.options = replace(trainer.options, graphs=Graphs(mixed=3))
    else:  # without kernels a pass cannot be computed: only made
        graphs = Graphs(mixed=3)
        trainer.options = replace(trainer.options, graphs=graphs)

        def iterate(model: Any, optimizer: Any, frames: Tensor, labels: Tensor, configurations: Any, *_: Any) -> Any:
            graphs.take(model, len(frames), configurations)
            optimizer.step()
            return Iteration(0.0, 0.0)

    with pytest.MonkeyPatch.context() as patch, trainer.running():
        if device == "cpu":
            patch.setattr(loop, "train_iteration", iterate)
        trainer.run_epoch()
    sampled = np.random.default_rng(loop._seed(trainer.config.seed, loop._TIME_STEPS))
    assert made == [trainer.sampler.sample(sampled, network.num_stages) for _ in range(3)]
    assert trainer.rng["time_steps"].bit_generator.state == sampled.bit_generator.state


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize(("method", "where"), [("sdt", "device"), ("sdt", "host"), ("mtt", "device"), ("nmt", "host")])
def test_a_run_with_the_option_is_one_without(method: str, where: str, device: str, tmp_path: Path) -> None:
    """In mixed precision, with frames on either side."""
    settings: dict[str, Any] = {"method": method, "device": device, "amp": True, "frames_on": where, "batch_size": 4}
    losses = []
    for graph in (True, False):
        done = train(small(**settings, cuda_graph=graph), tmp_path / str(graph))
        losses.append([row["loss"] for row in done.history])
    np.testing.assert_allclose(*losses, rtol=5e-2, atol=2e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_two_networks_do_not_replay_each_other(device: str) -> None:
    """With equal shapes and the same graphs."""
    frames, labels = torch.ones(2, 2, 2, 12, 12, device=device), torch.tensor([0, 1], device=device)
    found = []
    for graphs in (Graphs(), None):
        torch.manual_seed(0)
        networks = [models.nmnist_3c1fc((2, 12, 12), 3).to(device) for _ in range(2)]
        options, losses = mtt.StepOptions(graphs=graphs), []
        for network in networks:
            optimizer = make_optimizer(network, TrainConfig(lr=1e-3))
            for _ in range(WARM_UP + 2):
                losses.append(mtt.train_iteration(network, optimizer, frames, labels, [(2, 2, 2)], options).loss)
        found.append((losses, [p.detach().double() for network in networks for p in network.parameters()]))
        assert graphs is None or len(recorded(graphs)) == 2
    assert_same(device, found[0], found[1])


@pytest.mark.parametrize("device", DEVICES)
def test_every_replay_draws_its_own_random_numbers(device: str) -> None:
    torch.manual_seed(0)
    layers = {"linear": nn.Linear(8, 32), "drop": nn.Dropout(0.5), "spikes": Spiking(IF()), "out": nn.Linear(32, 3)}
    network = Staged(layers, (8,)).to(device)
    optimizer = make_optimizer(network, TrainConfig(lr=0.0))
    frames, labels = torch.ones(3, 6, 8, device=device), torch.arange(6, device=device) % 3
    options = mtt.StepOptions(graphs=(graphs := Graphs()))
    losses = [mtt.train_iteration(network, optimizer, frames, labels, [(3,)], options).loss for _ in range(WARM_UP + 4)]
    assert len(recorded(graphs)) == 1
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("device", DEVICES)
def test_all_iterations_of_a_shape_read_the_same_memory(device: str) -> None:
    """Triton compiles a kernel again for another alignment, which a recording would not survive."""
    graphs, places = Graphs(), []

    def compute(frames: Tensor, labels: Tensor) -> Tensor:
        places.append((frames.data_ptr(), frames.stride(), labels.data_ptr()))
        return frames + labels

    for i in range(WARM_UP + 3):
        x = torch.arange(1.0, 17.0, device=device)[i : i + 8 : 2]
        assert torch.equal(graphs(compute, [], x, x, "key"), 2 * x)
    assert len(places) == WARM_UP + 1
    assert len(set(places)) == 1


#: On a GPU in a process of its own: PyTorch does not recover from it.
IN_VAIN = "from tests.test_cuda_graphs import waiting; waiting('cuda')"


def waiting(device: str) -> None:
    """An iteration that waits for its result is refused when it is recorded; the stream is the caller's again."""
    graphs, x, outside = Graphs(), torch.ones(3, device=device), torch.cuda.current_stream()

    def compute(frames: Tensor, labels: Tensor) -> Tensor:
        return frames if (frames + labels).sum().item() > 0 else labels

    for _ in range(WARM_UP):
        assert torch.equal(graphs(compute, [], x, x, "key"), x)
    with pytest.raises(InputError) as refused:
        graphs(compute, [], x, x, "key")
    message = str(refused.value)
    assert message.startswith("cuda_graph: an iteration cannot be recorded (")
    assert "operation not permitted when stream is capturing" in message
    assert message.endswith("; train without it")
    assert torch.cuda.current_stream() == outside


@pytest.mark.parametrize("device", DEVICES)
def test_an_iteration_that_cannot_be_recorded_is_refused(device: str) -> None:
    if device == "cpu":
        waiting(device)
    else:
        subprocess.run([sys.executable, "-c", IN_VAIN], check=True, timeout=3600)


@pytest.mark.parametrize("device", ["cpu"])
def test_a_network_without_room_is_refused_before_anything_is_recorded(device: str) -> None:
    network = models.nmnist_3c1fc((2, 12, 12), 3, norm=True, width_multiplier=0.25)
    frames, labels = torch.ones(2, 2, 2, 12, 12), torch.tensor([0, 1])
    options = mtt.StepOptions(graphs=Graphs(mixed=4))
    step = partial(mtt.train_iteration, network, make_optimizer(network, TrainConfig()), frames, labels)
    with pytest.raises(InputError, match=r"cuda_graph: mixed time steps cannot be recorded .*; train without it"):
        step([(2, 1, 2), (1, 1, 2)], options)


@pytest.mark.parametrize("device", DEVICES)
def test_a_recorded_step_that_is_not_finite_is_not_taken(device: str) -> None:
    network = models.nmnist_3c1fc((2, 12, 12), 3, width_multiplier=0.25).to(device)
    optimizer = make_optimizer(network, TrainConfig())
    graphs, labels, frames = Graphs(), torch.tensor([0, 1], device=device), torch.ones(2, 2, 2, 12, 12, device=device)
    options = mtt.StepOptions(graphs=graphs)
    for _ in range(WARM_UP + 2):
        mtt.train_iteration(network, optimizer, frames, labels, [(2, 2, 2)], options)
    assert len(recorded(graphs)) == 1
    before = [p.detach().clone() for p in network.parameters()]
    with pytest.raises(mtt.Diverged, match="the loss is nan with time steps"):
        mtt.train_iteration(network, optimizer, frames * torch.nan, labels, [(2, 2, 2)], options)
    for a, b in zip(before, network.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("device", DEVICES)
def test_more_shapes_than_the_limit_are_launched(device: str) -> None:
    graphs = Graphs()
    for size in range(1, MOST + 3):
        x = torch.arange(float(size), device=device)
        for i in range(WARM_UP + 2):
            found = graphs(lambda frames, labels: (2 * frames + labels).sum(), [], x, x + i, "key")
            assert found.item() == sum(3 * k + i for k in range(size))
    assert len(recorded(graphs)) == MOST


@pytest.mark.parametrize("device", ["cpu"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sdt", "device": "cpu"}, "cuda_graph needs a GPU"),
        ({"method": "sdt", "device": "cuda", "processes": 2}, "and one process"),
        ({"method": "mtt", "device": "cuda", "transform": "trim"}, "'mtt' needs transform = 'hard'"),
        ({"method": "nmt", "device": "cuda", "together": 1}, "'nmt' needs transform = 'hard' and together = none"),
    ],
)
def test_a_setting_that_would_have_no_effect_is_refused(options: dict[str, Any], message: str, device: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(cuda_graph=True, **options)
