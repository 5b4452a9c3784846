"""Passes with room for time steps: the same results as passes without, from kernels that the numbers do not change."""

import copy
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtt_brian import mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt.loss import losses_of_each
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn import Residual, Spiking, Staged
from mtt_brian.snn.ops import choice, memory_format
from mtt_brian.snn.room import Pass, make_pass
from mtt_brian.snn.staged import RoomStage
from tests.triton_kernels import interpreted

# Triton's interpreter does it.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")

IFS: dict[str, Any] = {"rule": IF(spikes="many", lower_bound=-1.0)}
LIFS: dict[str, Any] = {"rule": LIF(tau=0.1, v_leak=0.2), "duration": 0.3}
Configurations = list[tuple[int, ...]]


@pytest.fixture(autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """On a CPU the interpreted ones. New memory holds NaN: nobody may read what no kernel wrote."""
    on_gpu = "device" in request.fixturenames and request.getfixturevalue("device") == "cuda"
    if on_gpu:
        from mtt_brian.snn.ops import gpu as module
    else:
        module = interpreted()
        monkeypatch.setattr(choice, "_triton_for", lambda x, surrogate: module if module.fits(x, surrogate) else None)
    frames_like = memory_format.frames_like
    for part in (module.frame_map, module.norm, module.population):
        monkeypatch.setattr(part, "frames_like", lambda *args: frames_like(*args).fill_(torch.nan))
    return module


def normed(neuron: dict[str, Any]) -> Staged:
    """Two populations in the first stage, one in the second, and layers behind it; a norm, a pool and a bias."""
    layers = {
        "a": nn.Conv2d(2, 4, 3, padding=1, bias=False),
        "a_norm": nn.BatchNorm2d(4),
        "a_spikes": Spiking(**neuron),
        "b": nn.Conv2d(4, 2, 3, padding=1),
        "pool": nn.AvgPool2d(2),
        "b_spikes": Spiking(**neuron),
        "c": nn.Conv2d(2, 4, 1, bias=False),
        "c_spikes": Spiking(**neuron),
        "flat": nn.Flatten(),
        "out": nn.Linear(16, 3),
    }
    return Staged(layers, (2, 4, 4), block_ends=["b_spikes", "c_spikes"])


def normed_sums(neuron: dict[str, Any]) -> Staged:
    """Norms in front of a sum and of a pool."""
    body = {"b": nn.Conv2d(2, 2, 1), "b_norm": nn.BatchNorm2d(2), "b_spikes": Spiking(**neuron)}
    body |= {"c": nn.Conv2d(2, 2, 1), "c_norm": nn.BatchNorm2d(2)}
    layers = {
        "a": nn.Conv2d(2, 2, 1),
        "a_norm": nn.BatchNorm2d(2),
        "a_pool": nn.AvgPool2d(2),
        "a_spikes": Spiking(**neuron),
        "sum": Residual(body, {"d": nn.Conv2d(2, 2, 1), "d_norm": nn.BatchNorm2d(2)}),
        "sum_spikes": Spiking(**neuron),
        "flat": nn.Flatten(),
    }
    return Staged(layers, (2, 4, 4), block_ends=["a_spikes", "sum_spikes"])


def residual(neuron: dict[str, Any]) -> Staged:
    """A population as the last layer, and residual connections over the identity and over a convolution."""
    body = {"b": nn.Conv2d(2, 2, 3, padding=1), "b_spikes": Spiking(**neuron), "c": nn.Conv2d(2, 2, 3, padding=1)}
    layers = {
        "a": nn.Conv2d(2, 2, 3, padding=1),
        "a_spikes": Spiking(**neuron),
        "one": Residual(body),
        "one_spikes": Spiking(**neuron),
        "two": Residual({"d": nn.Conv2d(2, 3, 4)}, {"e": nn.Conv2d(2, 3, 4)}),
        "two_spikes": Spiking(**neuron),
        "flat": nn.Flatten(),
    }
    return Staged(layers, (2, 4, 4))


def frames_of(steps: int, device: str) -> Tensor:
    counts = torch.poisson(torch.full((steps, 3, 2, 4, 4), 0.8), generator=torch.Generator().manual_seed(steps))
    return counts.to(device, torch.float64)


def run(
    model: Staged, frames: Tensor, configurations: Configurations, loss: Any, made: Pass | None
) -> list[tuple[str, Tensor]]:
    """Losses, means of the readouts, gradients and running statistics; ``made``: with room."""
    model = copy.deepcopy(model).to(frames.device)
    labels = torch.tensor([0, 1, 2], device=frames.device)
    if made is None:
        readouts = model.readouts_of_each(frames, configurations)
        losses = torch.stack([loss(each, labels) for each in readouts])
        means = torch.stack([each.mean(0) for each in readouts])
    else:
        numbers = torch.from_numpy(made.integers), torch.from_numpy(made.reals)
        stages, weights = made.on(*(each.to(frames.device) for each in numbers))
        joined = model.readouts_in_room(frames, stages)
        losses = losses_of_each(loss, joined, weights, labels)
        means = torch.tensordot(weights, joined, dims=1)
    losses.sum().backward()
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    return [("losses", losses.detach()), ("readouts", means.detach()), *named, *model.named_buffers()]


def assert_same(ours: list[tuple[str, Tensor]], theirs: list[tuple[str, Tensor]]) -> None:
    for (name, a), (other, b) in zip(ours, theirs, strict=True):
        assert name == other
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


#: Input frames and configurations.
PASSES: list[tuple[int, Configurations]] = [
    (3, [(3, 1, 2), (1, 3, 3)]),
    (3, [(1, 1, 1), (1, 1, 1)]),  # fewer time steps than frames in all: without room nothing is shared
    (1, [(3, 1, 2), (1, 2, 2)]),  # a still image
    (2, [(4, 2, 3)]),
    (3, [(3, 3, 3), (3, 3, 3)]),  # no unused frames
]
LOSSES = [mtt.cross_entropy, mtt.TET(), mtt.TET(0.1)]
#: The interpreter is slow, so that most cases are too. In float64 a GPU has other memory formats, with which the norm
#: is torch's: tests/test_cuda_graphs.py has it.
CASES = [
    *((normed, IFS, 0, LOSSES[0], "cpu"), (residual, LIFS, 0, LOSSES[2], "cpu"), (residual, IFS, 2, LOSSES[1], "cpu")),
    (normed_sums, IFS, 3, LOSSES[0], "cpu"),
    *(
        pytest.param(make, neuron, number, loss, device, marks=mark)
        for make, device, mark in (
            (normed, "cpu", pytest.mark.slow),
            (normed_sums, "cpu", pytest.mark.slow),
            (residual, "cpu", pytest.mark.slow),
            (residual, "cuda", pytest.mark.gpu),
        )
        for number in range(len(PASSES))
        for neuron, loss in ((IFS, LOSSES[0]), (LIFS, LOSSES[1]), (IFS, LOSSES[2]))[: 3 if make is residual else 1]
    ),
]


@pytest.mark.parametrize(("make", "neuron", "number", "loss", "device"), CASES)
def test_a_pass_with_room_is_one_without(
    make: Any, neuron: dict[str, Any], number: int, loss: Any, device: str
) -> None:
    torch.manual_seed(0)
    frames, configurations = PASSES[number]
    model = make(neuron).double()
    for parameter in model.parameters():
        parameter.data *= 2  # every population fires
    each = [of[: model.num_stages] for of in configurations]
    x = frames_of(frames, device)
    theirs = run(model, x, each, loss, None)
    assert_same(run(model, x, each, loss, make_pass(model, frames, each, most=3)), theirs)
    silent = [name for name, gradient in theirs if name.startswith("stages.0") and not gradient.any()]
    assert not silent, silent


def test_losses_of_all_configurations_on_paper() -> None:
    """With two classes: ln(1 + e^-d) for a difference d. Configuration 0 has step 0, configuration 1 steps 1 and 2."""
    readouts = torch.tensor([[[2.0, 0.0]], [[1.0, 0.0]], [[4.0, 1.0]], [[9.0, 9.0]]], dtype=torch.float64)
    weights = torch.tensor([[1, 0, 0, 0], [0, 0.5, 0.5, 0]], dtype=torch.float64)
    labels = torch.tensor([0])

    def of(d: float) -> float:
        return float(np.log1p(np.exp(-d)))

    found = losses_of_each(mtt.cross_entropy, readouts, weights, labels)
    np.testing.assert_allclose(found, [of(2), of((1 + 3) / 2)], rtol=1e-14)
    found = losses_of_each(mtt.TET(0.25), readouts, weights, labels)
    squares = [(1 + 1) / 2, ((0 + 1) / 2 + (9 + 0) / 2) / 2]
    np.testing.assert_allclose(
        found, [0.75 * of(2) + 0.25 * squares[0], 0.75 * (of(1) + of(3)) / 2 + 0.25 * squares[1]], rtol=1e-14
    )
    with pytest.raises(InputError, match="must be cross_entropy or TET"):
        losses_of_each(lambda readouts, labels: readouts.sum(), readouts, weights, labels)


def test_the_room_has_few_sizes_and_passes_of_one_size_the_same_kernels(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launches are compared with all that is no number in memory: grids, shapes and plain arguments."""
    torch.manual_seed(0)
    model = normed(IFS).double()
    rng = np.random.default_rng(0)
    keys: dict[Any, Any] = {}
    for _ in range(40):
        configurations = mtt.MTT(10).sample(rng, model.num_stages)
        made = make_pass(model, 10, configurations, most=10)
        sizes = len(made.integers), len(made.reals)
        assert keys.setdefault(made.key, sizes) == sizes
        _, frames, steps, _ = made.key
        assert max(sum(plan.fewer) for plan in model.plans(10, configurations)) <= frames <= 30
        assert max(sum(each) for each in zip(*configurations, strict=True)) <= steps <= 30
    assert len(keys) <= 10

    from triton.runtime.interpreter import InterpretedFunction

    launched: list[Any] = []
    real = InterpretedFunction.run

    def noted(self: Any, *args: Any, grid: Any, **kwargs: Any) -> None:
        plain = [each.shape if isinstance(each, Tensor) else each for each in args]
        launched.append((self.__name__, grid, plain, sorted((k, str(v)) for k, v in kwargs.items())))
        real(self, *args, grid=grid, **kwargs)

    monkeypatch.setattr(InterpretedFunction, "run", noted)
    x, found = frames_of(4, "cpu"), []
    for configurations in ([(4, 4), (2, 3)], [(2, 4), (4, 3)]):
        made = make_pass(model, 4, configurations, most=4)
        run(model, x, configurations, mtt.cross_entropy, made)
        found.append((made.key, list(launched)))
        launched.clear()
    assert len(found[0][1]) > 10
    assert found[0] == found[1]


def on_cpu(made: Pass) -> tuple[list[RoomStage], Tensor]:
    return made.on(torch.from_numpy(made.integers), torch.from_numpy(made.reals).float())


@pytest.mark.parametrize(
    ("layers", "transform", "message"),
    [
        ({"spikes": Spiking(IF())}, "soft", "need transform = 'hard', not 'soft'"),
        (
            {"one": Spiking(LIF(tau=0.1), duration=1.0), "two": Spiking(LIF(tau=0.2), duration=1.0)},
            "hard",
            "need the same leak in all populations of a stage",
        ),
        ({"drop": nn.Dropout(0.5), "spikes": Spiking(IF())}, "hard", r"cannot be recorded through Dropout\(p=0.5"),
        ({"norm": nn.BatchNorm1d(8, affine=False), "spikes": Spiking(IF())}, "hard", r"2\^k channels"),
    ],
)
def test_what_cannot_have_room_is_refused(layers: dict[str, nn.Module], transform: str, message: str) -> None:
    model = Staged({**layers, "out": nn.Linear(8, 2)}, (8,), transform=transform, blocks_per_stage=None)

    def passed() -> None:
        stages, _ = on_cpu(make_pass(model, 3, [(2,), (3,)], most=3))
        model.readouts_in_room(torch.ones(3, 2, 8), stages)

    with pytest.raises(InputError, match=message):
        passed()


def test_without_triton_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_triton_for", lambda x, surrogate: None)
    model = Staged({"in": nn.Linear(8, 4), "spikes": Spiking(IF()), "out": nn.Linear(4, 2)}, (8,))
    stages, _ = on_cpu(make_pass(model, 3, [(2,), (3,)], most=3))
    with pytest.raises(InputError, match="cannot be recorded without Triton kernels, which torch"):
        model.readouts_in_room(torch.ones(3, 2, 8), stages)
