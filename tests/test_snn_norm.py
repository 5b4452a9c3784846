"""Batch norms: measuring again, locking, removing biases, folding."""

import json

import pytest
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF
from mtt_brian.snn import Residual, Spiking, Staged, models, norm


def network(weight: float = 2.0, bias: float | None = 1.0) -> Staged:
    """Frames of one number -> times ``weight``, plus ``bias`` -> norm -> one neuron -> readout."""
    linear = nn.Linear(1, 1, bias=bias is not None)
    nn.init.constant_(linear.weight, weight)
    if bias is not None:
        nn.init.constant_(linear.bias, bias)
    layers = {"linear": linear, "norm": nn.BatchNorm1d(1, eps=1e-30), "spikes": Spiking(IF(spikes="many"))}
    return Staged(layers | {"readout": nn.Linear(1, 1, bias=False)}, (1,))


def layer(model: Staged, name: str) -> nn.Module:
    return dict(model.layers())[name]


def set_norm(module: nn.Module, mean: float, variance: float, scale: float, shift: float) -> None:
    for tensor, value in (
        (module.running_mean, mean),
        (module.running_var, variance),
        (module.weight, scale),
        (module.bias, shift),
    ):
        nn.init.constant_(tensor, value)


def randomized(model: Staged) -> Staged:
    """In double precision, where no spike hangs on rounding, with norms as training leaves them."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, mean=0.2, std=0.2)
    model.double()
    norm.recalibrate(model, [poisson(model)], 3)
    return model


def poisson(model: Staged, n: int = 2) -> torch.Tensor:
    return torch.poisson(torch.full((4, n, *model.input_shape), 0.4), generator=torch.Generator().manual_seed(0))


def test_has_norms() -> None:
    assert norm.has_norms(network())
    assert not norm.has_norms(norm.fold(network()))
    assert not norm.has_norms(models.nmnist_3c1fc())


# ----- folding


def test_folding_by_hand() -> None:
    model = network()
    set_norm(layer(model, "norm"), mean=3, variance=4, scale=1, shift=0.5)
    folded = norm.fold(model)
    # s = 1 / 2: w = 2 s = 1, b = (1 - 3) s + 0.5 = -0.5
    assert layer(folded, "linear").weight.item() == 1
    assert layer(folded, "linear").bias.item() == -0.5
    assert list(folded.shapes) == ["linear", "spikes", "readout"]
    # the model itself is as it was
    assert layer(model, "linear").weight.item() == 2
    assert layer(model, "linear").bias.item() == 1
    assert "norm" in model.shapes


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("g", [1, 3])
def test_folded_models_compute_the_same(name: str, g: int) -> None:
    torch.manual_seed(0)
    model = randomized(models.MODELS[name](norm=True, width_multiplier=1 / 16, blocks_per_stage=g)).eval()
    folded = norm.fold(model)
    assert not norm.has_norms(folded)
    x = poisson(model)
    for steps in (1, 3, [1 + i % 4 for i in range(model.num_stages)]):
        expected = model(x, steps)
        torch.testing.assert_close(folded(x, steps), expected, rtol=0, atol=1e-9)
        assert expected.abs().sum() > 0
    rebuilt = models.from_config(json.loads(json.dumps(folded.config))).double()
    rebuilt.load_state_dict(folded.state_dict())
    assert torch.equal(rebuilt(x, 3), folded(x, 3))
    assert rebuilt.config == folded.config != model.config


@pytest.mark.parametrize("name", ["dvsgesture_net", "resnet18_dvs"])
def test_without_biases_folding_leaves_none(name: str) -> None:
    torch.manual_seed(0)
    model = randomized(models.MODELS[name](width_multiplier=1 / 16)).eval()
    norm.remove_biases(model)
    folded = norm.fold(model)
    assert not [n for n, _ in folded.named_parameters() if n.endswith("bias")]
    x = poisson(model)
    torch.testing.assert_close(folded(x, 3), model(x, 3), rtol=0, atol=1e-9)
    models.from_config(folded.config).load_state_dict(folded.state_dict())


def test_folding_a_new_network_does_not_change_its_weights() -> None:
    # Means 0, variances 1: nothing but eps is left.
    model = models.vgg9(width_multiplier=1 / 32)
    folded = norm.fold(model)
    torch.testing.assert_close(layer(folded, "conv3").weight, layer(model, "conv3").weight, rtol=1e-5, atol=0)
    assert folded.config == {**model.config, "norm": False}


@pytest.mark.parametrize(
    "layers",
    [
        {"odd": nn.BatchNorm2d(2)},
        {"conv": nn.Conv2d(2, 2, 1), "pool": nn.AvgPool2d(2), "odd": nn.BatchNorm2d(2)},
        {"conv": nn.Conv2d(2, 2, 1), "s": Spiking(IF()), "odd": nn.BatchNorm2d(2)},
        {"r": Residual({"conv": nn.Conv2d(2, 2, 1)}, {"odd": nn.BatchNorm2d(2)})},
    ],
)
def test_norms_with_nothing_to_fold_into_are_refused(layers: dict[str, nn.Module]) -> None:
    behind = {"spikes": Spiking(IF()), "flatten": nn.Flatten(), "readout": nn.LazyLinear(2, bias=False)}
    behind["readout"](torch.zeros(1, 2 * (4 if "pool" in layers else 16)))
    with pytest.raises(InputError, match="the norm 'odd' cannot be folded: no convolution or linear layer precedes it"):
        norm.fold(Staged(layers | behind, (2, 4, 4)))


def test_norms_without_statistics_are_refused() -> None:
    layers = {"linear": nn.Linear(1, 1), "odd": nn.BatchNorm1d(1, track_running_stats=False), "s": Spiking(IF())}
    with pytest.raises(InputError, match="the norm 'odd' cannot be folded: it keeps no running statistics"):
        norm.fold(Staged(layers | {"readout": nn.Linear(1, 1)}, (1,)))


# ----- recalibration


def test_folding_layers_that_share_their_weights() -> None:
    """Both norms were multiplied into the one tensor."""
    torch.manual_seed(0)
    layers = {
        "first": nn.Linear(4, 4, bias=False),
        "norm1": nn.BatchNorm1d(4),
        "spikes1": Spiking(IF(spikes="many")),
        "second": nn.Linear(4, 4, bias=False),
        "norm2": nn.BatchNorm1d(4),
        "spikes2": Spiking(IF(spikes="many")),
        "readout": nn.Linear(4, 2, bias=False),
    }
    layers["second"].weight = layers["first"].weight
    for norm_layer, variance in (("norm1", 0.25), ("norm2", 0.0625)):
        nn.init.constant_(layers[norm_layer].running_var, variance)
    model = Staged(layers, (4,)).eval()
    folded = norm.fold(model)
    for name, factor in (("first", 2.0), ("second", 4.0)):
        torch.testing.assert_close(layer(folded, name).weight, factor * layers["first"].weight, rtol=1e-4, atol=0)
    x = torch.poisson(torch.full((5, 6, 4), 1.0))
    torch.testing.assert_close(folded(x, 5), model(x, 5))


def test_recalibration_by_hand() -> None:
    model = network(weight=1.0, bias=None)
    module = layer(model, "norm")
    set_norm(module, mean=100, variance=100, scale=2, shift=3)
    frames = [torch.tensor(values)[:, None, None] for values in ([0.0, 2, 4, 6], [5.0, 5, 5, 9])]
    for training in (True, False):
        model.train(training)
        norm.recalibrate(model, iter(frames), 4)
        # means 3 and 6; variances (9 + 1 + 1 + 9) / 3 and (3 + 9) / 3
        assert module.running_mean.item() == pytest.approx(4.5)
        assert module.running_var.item() == pytest.approx((20 / 3 + 12 / 3) / 2)
        assert (module.weight.item(), module.bias.item(), module.momentum) == (2, 3, 0.1)
        assert [m.training for m in model.modules()] == [training] * len(list(model.modules()))
    # At two time steps the frames are summed two by two: 2, 10 and 10, 14.
    norm.recalibrate(model, frames, 2)
    assert module.running_mean.item() == pytest.approx((6 + 12) / 2)
    assert all(p.grad is None for p in model.parameters())


def test_recalibration_measures_the_statistics_of_later_use() -> None:
    torch.manual_seed(0)
    model = models.resnet18_dvs((2, 12, 12), width_multiplier=1 / 16)
    x = poisson(model, n=8)
    norm.recalibrate(model, [x], 3)
    model.train()
    in_training = model(x, 3)
    norm.recalibrate(model, [x], 3)
    # One batch, so that the running statistics are the batch's (up to the variance's n - 1).
    first = layer(model.eval(), "norm1")
    seen = []
    first.register_forward_hook(lambda module, arguments, output: seen.append(output))
    model(x, 3)
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[0].var((0, 2, 3)), torch.ones(4), rtol=1e-3, atol=0)
    assert in_training.shape == (8, 10)


def test_recalibration_needs_batches_and_unlocked_norms() -> None:
    model = network()
    set_norm(layer(model, "norm"), mean=3, variance=4, scale=1, shift=0.5)
    with pytest.raises(InputError, match="at least one batch"):
        norm.recalibrate(model, [], 4)
    norm.lock(model)
    with pytest.raises(InputError, match="the norms are locked"):
        norm.recalibrate(model, [torch.ones(4, 1, 1)], 4)
    assert layer(model, "norm").running_mean.item() == 3
    plain = models.nmnist_3c1fc()
    norm.recalibrate(plain, [], 4)  # nothing to do


# ----- locking, biases


def test_locked_norms_keep_their_statistics_and_train_on() -> None:
    torch.manual_seed(0)
    model = models.resnet18_dvs((2, 8, 8), width_multiplier=1 / 16)
    model.train()
    norm.lock(model)
    model.train()
    assert model.training
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == 20
    assert not any(module.training for module in norms.values())
    assert model.stages.training
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    scale = norms["stages.0.norm1"].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(poisson(model), 3).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    assert not torch.equal(norms["stages.0.norm1"].weight, scale)
    model.eval().train()
    assert not any(module.training for module in norms.values())


def test_locking_leaves_evaluation_mode_alone() -> None:
    model = network().eval()
    norm.lock(model)
    assert not any(module.training for module in model.modules())


def test_biases_are_removed_for_good() -> None:
    model = network()
    set_norm(layer(model, "norm"), mean=3, variance=4, scale=2, shift=0.5)
    norm.remove_biases(model)
    norm.lock(model)
    model.train()
    # 2 x / 2 * 2 without any offset
    x = torch.full((4, 1, 1), 3.0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(x, 4).sum().backward()
    optimizer.step()
    module = layer(model, "norm")
    assert (layer(model, "linear").bias.item(), module.bias.item(), module.running_mean.item()) == (0, 0, 0)
    assert module.running_var.item() == 4
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "stages.0.linear.bias",
        "stages.0.norm.bias",
    }
    assert layer(norm.fold(model), "linear").bias is None
