"""Staged networks."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF
from mtt_brian.snn import Spiking, Staged, models, norm, spike_counts, temporal
from mtt_brian.snn.residual import Residual, run
from mtt_brian.snn.staged import evaluation_mode, observing


def one_neuron(populations: int = 1, weight: float = 2.0, **options: object) -> Staged:
    """Frames of one number -> IF neurons in a row (the first takes its input directly) -> times ``weight``."""
    layers: dict[str, nn.Module] = {}
    for i in range(populations):
        if i:
            layers[f"link{i}"] = linear(1.0)
        layers[f"spikes{i}"] = Spiking(IF(spikes="many"))
    layers["readout"] = linear(weight)
    return Staged(layers, (1,), **options)


def linear(weight: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


def frames(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


def poisson(size: tuple[int, ...], rate: float = 0.18, n: int = 4, seed: int = 0) -> torch.Tensor:
    """As sparse as N-MNIST at T = 10."""
    return torch.poisson(torch.full((10, n, *size), rate), generator=torch.Generator().manual_seed(seed))


# ----- staged networks


@pytest.mark.parametrize("name", ["nmnist_3c1fc", "resnet18_dvs"])
@pytest.mark.parametrize("training", [True, False])
def test_layers_without_time_process_repeated_frames_once(name: str, training: bool) -> None:
    """More time steps than the stage before: a convolution processes its frames only; the result is the same."""
    size = (2, 16, 16)
    torch.manual_seed(0)
    model = models.build(name, sensor_size=size, num_classes=3, width_multiplier=0.25).double().train(training)
    asked: dict[str, int] = {}
    for layer_name, layer in model.layers():
        layer.register_forward_hook(lambda m, x, y, n=layer_name: asked.update({n: len(x[0])}))
    steps = [2, 7] + [3] * (model.num_stages - 2)
    x = poisson(size).double()
    readouts = model.readouts(x, steps)
    of_second = next(n for n, layer in model.stages[1].named_modules() if isinstance(layer, nn.Conv2d)).split(".")[-1]
    assert asked[of_second] == 2 * 4

    expected = x
    for stage, t in zip(model.stages, steps, strict=True):
        expected = run(stage, temporal.transform(expected, t))
    torch.testing.assert_close(readouts, expected, rtol=1e-9, atol=1e-12)
    assert readouts.detach().abs().sum() > 0


@pytest.mark.parametrize("variant", temporal.VARIANTS)
@pytest.mark.parametrize(
    ("name", "bins"),
    [
        ("nmnist_3c1fc", 10),
        ("resnet18_dvs", 10),
        ("vgg14", 1),
        *(pytest.param(name, bins, marks=pytest.mark.slow) for name, bins in (("vggsnn", 10), ("resnet18", 1))),
    ],
)
def test_configurations_together_are_each_of_them_alone(name: str, bins: int, variant: str) -> None:
    """Readouts, gradients and, as these networks have norms in training mode, running statistics."""
    size = (2, 16, 16)
    torch.manual_seed(0)
    model = models.build(name, sensor_size=size, num_classes=3, width_multiplier=0.25, transform=variant).double()
    x = poisson(size, rate=1.0)[:bins].double()  # a still image is a single frame
    configurations = [tuple(torch.randint(1, 13, (model.num_stages,)).tolist()) for _ in range(4)]

    def found(readouts: Callable[[Staged], list[torch.Tensor]]) -> list[torch.Tensor]:
        network = copy.deepcopy(model)
        each = readouts(network)
        sum(r.square().mean() for r in each).backward()  # type: ignore[union-attr]
        return [*each, *(p.grad for p in network.parameters()), *network.buffers()]

    together = found(lambda network: network.readouts_of_each(x, configurations))
    alone = found(lambda network: [network.readouts(x, steps) for steps in configurations])
    assert [len(r) for r in together[:4]] == [steps[-1] for steps in configurations]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)
    assert all(p.any() for p in together[4 : 4 + len(list(model.parameters()))])


@pytest.mark.parametrize(("bias", "asked"), [(False, 10), (True, 6 + 10 + 2)])
def test_all_configurations_share_the_first_convolution(bias: bool, asked: int) -> None:
    """It processes the ten input frames once. With a bias it must process their sums for every configuration."""
    model = models.build("nmnist_3c1fc", sensor_size=(2, 16, 16), num_classes=3, norm=False, bias=bias)
    seen: list[int] = []
    next(layer for _, layer in model.layers() if isinstance(layer, nn.Conv2d)).register_forward_hook(
        lambda layer, arguments, y: seen.append(len(y))
    )
    model.readouts_of_each(poisson((2, 16, 16)), [(6, 3, 3), (12, 1, 3), (2, 9, 8)])
    assert seen == [4 * asked]


def test_logits_are_the_time_mean_of_the_readout() -> None:
    model = one_neuron()
    halves = frames(0.5, 0.5, 0.5, 0.5)
    # 0.5 each step: spikes 0 1 0 1. In two steps: 1 1. In eight: every frame twice, 0 1 0 1 0 1 0 1.
    assert model(halves, 4).item() == 2 * 2 / 4
    assert model(halves, 2).item() == 2 * 2 / 2
    assert model(halves, 8).item() == 2 * 4 / 8
    # In three: 0.5, 0.5 and (frames 3 and 4 summed, because 4 / 3 and 8 / 3 round to 1 and 3) 1, 0.5.
    assert model(halves, 3).item() == pytest.approx(2 * 2 / 3)


def test_spikes_are_transformed_between_stages() -> None:
    model = one_neuron(populations=2)
    # Stage 1 fires 2 0 0 1 in four steps; the input of stage 2 is 2 and 1 in two steps, or 2 2 0 0 0 0 1 1 in eight.
    x = frames(2.0, 0, 0, 1)
    assert model.num_stages == 2
    assert model(x, [4, 2]).item() == 2 * 3 / 2
    assert model(x, [4, 8]).item() == 2 * 6 / 8
    # The input of stage 1 is the sum of all frames.
    assert model(x, [1, 1]).item() == 2 * 3


def test_the_variant_of_the_transform_is_used_everywhere() -> None:
    x = frames(2.0, 0, 0, 1)
    assert one_neuron(populations=2, transform="trim")(x, [4, 2]).item() == 2 * 2 / 2
    assert one_neuron(populations=2, transform="trim")(x, [2, 2]).item() == 2 * 2 / 2
    # 4 -> 8 halves every frame: 1 1 0 0 0 0 0.5 0.5, which fires 1 1 ... 1.
    assert one_neuron(transform="soft")(x, 8).item() == pytest.approx(2 * 3 / 8)


def test_one_number_means_the_same_for_every_stage() -> None:
    torch.manual_seed(0)
    model, x = models.nmnist_3c1fc(), poisson((2, 34, 34))
    for t in (1, 4, 10, 13):
        assert torch.equal(model(x, t), model(x, [t, t, t]))
    assert not torch.equal(model(x, 4), model(x, [4, 4, 3]))


def test_calls_do_not_depend_on_each_other_nor_recordings_on_their_batch() -> None:
    torch.manual_seed(0)
    model, x = models.nmnist_3c1fc().double(), poisson((2, 34, 34)).double()
    a, b = model(x, 10), model(x, [3, 7, 2])
    assert torch.equal(model(x, [3, 7, 2]), b)
    assert torch.equal(model(x, 10), a)
    torch.testing.assert_close(model(x[:, 2:3], 10), a[2:3])


@pytest.mark.parametrize("t", [1, 2, 3, 4, 7, 20])
def test_nothing_of_the_input_is_cut_off(t: int) -> None:
    # A network that counts: its only neuron fires as often as it has inputs.
    model, x = one_neuron(weight=1.0), frames(1.0, 0, 0, 2)
    spikes = model(x, t).item() * t
    assert spikes == (3 if t <= 4 else temporal.transform(x, t).sum())
    # A static image is one frame, the input of every time step.
    assert model(frames(1.0), t).item() * t == pytest.approx(t)


def test_event_counts_may_be_integers() -> None:
    torch.manual_seed(0)
    model, x = models.nmnist_3c1fc(), poisson((2, 34, 34))
    assert torch.equal(model(x.to(torch.uint8), 7), model(x, 7))


@pytest.mark.parametrize(
    ("time_steps", "message"),
    [
        (0, "at least 1, not 0"),
        ([4, 0], "at least 1, not 0"),
        ([4], "2 stages; time_steps names 1"),
        ([4, 4, 4], "2 stages; time_steps names 3"),
        (2.5, "whole number"),
        ([2, 2.5], "whole number"),
        ("10", "whole number"),
    ],
)
def test_bad_time_steps_are_refused(time_steps: object, message: str) -> None:
    model = one_neuron(populations=2)
    with pytest.raises(InputError, match=message):
        model(frames(1.0), time_steps)
    with pytest.raises(InputError, match=message):
        spike_counts(model, frames(1.0), time_steps)


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 2), (0, 2, 1)])
def test_frames_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\[T, N, 1\]"):
        one_neuron()(torch.zeros(shape), 2)


def test_blocks_per_stage() -> None:
    def names(model: Staged) -> list[list[str]]:
        return [[name for name, _ in stage.named_children()] for stage in model.stages]

    assert names(one_neuron(3)) == [["spikes0"], ["link1", "spikes1"], ["link2", "spikes2", "readout"]]
    assert names(one_neuron(3, blocks_per_stage=2)) == [
        ["spikes0", "link1", "spikes1"],
        ["link2", "spikes2", "readout"],
    ]
    assert len(names(one_neuron(3, blocks_per_stage=None))) == 1
    assert len(names(one_neuron(3, blocks_per_stage=9))) == 1
    assert names(one_neuron(3, block_ends=["spikes1"])) == [
        ["spikes0", "link1", "spikes1", "link2", "spikes2", "readout"]
    ]
    assert names(one_neuron(3, block_ends=["spikes0", "spikes1"])) == [
        ["spikes0"],
        ["link1", "spikes1", "link2", "spikes2", "readout"],
    ]
    with pytest.raises(InputError, match="blocks_per_stage must be at least 1"):
        one_neuron(3, blocks_per_stage=0)
    for ends, named in ((["link1"], "link1"), ([], "nothing")):
        with pytest.raises(InputError, match=f"can end with spikes0, spikes1, not with {named}"):
            one_neuron(2, block_ends=ends)


def test_a_last_population_is_read_out_by_its_spikes() -> None:
    model = Staged({"spikes": Spiking(IF(spikes="many"))}, (2,))
    frames = torch.tensor([[[0.5, 3.0]], [[0.75, 0.5]]])
    assert model.readouts(frames, 2).tolist() == [[[0, 3]], [[1, 0]]]
    assert model(frames, 2).tolist() == [[0.5, 1.5]]
    # Several configurations: in one step 1.25 and 3.5 arrive at once.
    assert [each.tolist() for each in model.readouts_of_each(frames, [1, 2])] == [[[[1, 3]]], [[[0, 3]], [[1, 0]]]]


def test_bad_networks_are_refused() -> None:
    spiking = Spiking(IF())
    with pytest.raises(InputError, match="needs a spiking population"):
        Staged({"readout": linear(1)}, (1,))
    with pytest.raises(InputError, match=r"'a\.b' cannot name a layer"):
        Staged({"a.b": spiking, "readout": linear(1)}, (1,))
    with pytest.raises(InputError, match="'input' cannot name a layer"):
        Staged({"input": spiking, "readout": linear(1)}, (1,))
    with pytest.raises(InputError, match=r"layer 'readout' does not fit frames of shape \(3,\)"):
        Staged({"spikes": spiking, "readout": linear(1)}, (3,))
    with pytest.raises(InputError, match=r"transform must be one of .hard., .soft., .trim."):
        one_neuron(transform="cubic")


def test_spike_counts() -> None:
    model = one_neuron(populations=2)
    x = torch.cat([frames(2.0, 0, 0, 1), frames(0.5, 0, 0.5, 0)], dim=1)
    logits, counts = spike_counts(model, x, [4, 2])
    assert torch.equal(logits, model(x, [4, 2]))
    assert list(counts) == ["input", "spikes0", "spikes1"]
    assert {name: n.flatten().tolist() for name, n in counts.items()} == {
        "input": [3, 1],
        "spikes0": [3, 1],
        "spikes1": [3, 1],
    }
    # With more steps than frames the first stage processes every frame twice.
    assert spike_counts(model, x, 8)[1]["input"].flatten().tolist() == [6, 2]
    assert not logits.requires_grad
    assert not any(p._forward_hooks for p in model.populations().values())


@pytest.mark.parametrize("blocks_per_stage", [1, None])
def test_a_layer_of_several_names(blocks_per_stage: int | None) -> None:
    """torch leaves out a second name: the network had fewer layers, in silence if their shapes fitted."""

    def build(each: Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]) -> Staged:
        torch.manual_seed(0)
        one, pool, half = each(lambda: linear(1.5)), each(nn.Identity), each(lambda: Spiking(IF(spikes="many")))
        body = {"a": one(), "spikes0": half(), "b": one()}
        layers = {"residual": Residual(body, {"pool0": pool()}), "spikes1": half(), "pool1": pool(), "c": one()}
        layers |= {"spikes2": half(), "pool2": pool(), "readout": linear(2.0)}
        return Staged(layers, (1,), blocks_per_stage=blocks_per_stage)

    def shared(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        layer = make()
        return lambda: layer

    model, apart = build(shared), build(lambda make: make)
    x = frames(1.0, 0, 2.0)
    assert list(model.shapes) == list(apart.shapes) == [name for name, _ in model.layers()]
    assert model(x, 3).item() == apart(x, 3).item() > 0
    counts, expected = (spike_counts(each, x, 3)[1] for each in (model, apart))
    assert counts == expected
    assert len(set(counts.values())) > 2
    assert len(list(model.parameters())) == 2
    model(x, 3).sum().backward()
    apart(x, 3).sum().backward()
    each = [dict(apart.layers())[name].weight.grad.item() for name in "abc"]
    assert dict(model.layers())["c"].weight.grad.item() == pytest.approx(sum(each), rel=1e-6)


def test_layers_of_users_that_fail() -> None:
    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("x")

    for layer, cause in ((Strange(), "'x'"), (nn.LazyLinear(1), "LazyLinear has no weights yet; use the type with")):
        with pytest.raises(InputError, match=f"layer 'strange' does not fit frames of shape .*: {cause}"):
            Staged({"strange": layer, "spikes": Spiking(IF()), "readout": linear(1)}, (1,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Staged(None, (1,)), "layers must be of the class Mapping, not None"),
        (lambda: Staged({"a": 1}, (1,)), "layers: 'a' must be of the class Module, not 1"),
        (lambda: Residual({"a": 1}), "body: 'a' must be of the class Module, not 1"),
        (lambda: Residual({"a": nn.Identity()}, 3), "shortcut must be of the class Mapping, not 3"),
        (lambda: Staged({"a": Spiking(IF())}, 1), "input_shape must be a list, not 1"),
        (lambda: Staged({"a": Spiking(IF())}, (1.7,)), r"input_shape must be a whole number, not 1\.7"),
        (lambda: Staged({"a": Spiking(IF())}, (1,), block_ends=3), "block_ends must be a list, not 3"),
        (lambda: Spiking(IF(), decay_per_step="x"), "decay_per_step must be a number, not 'x'"),
        (lambda: spike_counts(nn.Identity(), frames(1.0), 1), "model must be a staged network"),
        (lambda: norm.fold(nn.Identity()), "model must be a staged network"),
        (lambda: norm.recalibrate(nn.Identity(), [], 1), "model must be a staged network"),
    ],
)
def test_arguments_of_another_kind(make: Callable[[], object], message: str) -> None:
    """An input shape of 1.7 was cut to 1."""
    with pytest.raises(InputError, match=message):
        make()


def test_another_device() -> None:
    """torch multiplies a tensor of a CPU by weights without values, and returns whatever is in the memory."""
    with pytest.raises(InputError, match=r"frames are on the device cpu, the network is on meta: call frames.to"):
        one_neuron().to("meta")(frames(1.0), 1)


def in_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_evaluation_lasts_until_the_last_of_overlapping_blocks() -> None:
    """The first of two threads to end put the network back into training while the other still predicted."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).train()
    model[1].eval()
    first, second = evaluation_mode(model), evaluation_mode(model)
    first.__enter__()
    in_a_thread(second.__enter__)
    first.__exit__(None, None, None)
    assert not any(module.training for module in model.modules())
    in_a_thread(lambda: second.__exit__(None, None, None))
    assert [module.training for module in model.modules()] == [True, True, False]


def test_spikes_of_another_thread_are_not_observed() -> None:
    model, seen = one_neuron(), []
    with observing(model, lambda name, spikes: seen.append(spikes.sum().item())):
        in_a_thread(lambda: model(frames(5.0), 1))
        model(frames(2.0), 1)
    assert seen == [2]
