"""Torch network -> NIR -> file -> NIR -> torch network."""

import copy
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import mtt_brian as mb
from mtt_brian import export, snn, translate
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn import Residual, Spiking, Staged, models, norm
from mtt_brian.snn.staged import spike_counts
from mtt_brian.snn.surrogate import Exponential
from tests import random_networks
from tests.engines import simulator


def poisson(size: tuple[int, ...], n: int = 4) -> torch.Tensor:
    return torch.poisson(torch.full((10, n, *size), 0.3), generator=torch.Generator().manual_seed(0))


def network(rule: IF | None = None, **options: float) -> Staged:
    """Every supported layer, with kernels, strides and paddings that differ in height and width."""
    torch.manual_seed(0)

    def spiking() -> Spiking:
        return Spiking(IF(spikes="many", lower_bound=-1.0) if rule is None else rule, **options)

    layers = {
        "average": nn.AvgPool2d((1, 2), padding=(0, 1)),
        "conv": nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
        "a": spiking(),
        "sum": nn.AvgPool2d(2, stride=1, divisor_override=1),
        "same": nn.Conv2d(4, 3, (1, 3), padding="same", bias=False),
        "b": spiking(),
        "flatten": nn.Flatten(),
        "hidden": nn.Linear(3 * 5 * 3, 7, bias=False),
        "c": spiking(),
        "readout": nn.Linear(7, 5, bias=False),
    }
    model = Staged(layers, (2, 11, 11))
    for p in model.parameters():
        nn.init.normal_(p, std=3 / p[0].numel() ** 0.5)
    return model


RULES = {
    "IF, many": (IF(spikes="many", lower_bound=-1.0), {}),
    "IF, one": (IF(threshold=0.7, spikes="one"), {}),
    "IF, zero": (IF(reset="zero", v_reset=-0.25, lower_bound=-0.5), {}),
    "LIF": (LIF(tau=0.05, v_leak=0.1, spikes="many", lower_bound=-1.0), {"duration": 0.3}),
    "LIF, zero": (LIF(tau=0.013, threshold=1.5, reset="zero"), {"duration": 0.3}),
    "decay per step": (IF(reset="zero", lower_bound=-2.0), {"decay_per_step": 0.9}),
}


@pytest.mark.parametrize(("rule", "options"), RULES.values(), ids=RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_file_gives_the_same_logits_bit_for_bit(
    rule: IF, options: dict[str, float], dtype: torch.dtype, tmp_path: Path
) -> None:
    model = network(rule, **options).to(dtype)
    path = tmp_path / "model.nir"
    export.write(path, export.to_nir(model, time_steps=10, duration=0.3))
    twin = export.from_nir(path)
    x = poisson(model.input_shape)
    for steps in (10, 3, [2, 5, 9]):
        assert torch.equal(model(x, steps), twin(x, steps))
    assert model(x, 10).abs().sum() > 1
    assert twin.shapes == model.shapes
    assert list(tmp_path.iterdir()) == [path]
    assert [(n, p.dtype) for n, p in twin.named_parameters()] == [(n, dtype) for n, _ in model.named_parameters()]


def network_along_one_axis(bias: bool) -> Staged:
    torch.manual_seed(0)
    layers = {
        "conv": nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2, bias=bias),
        "norm": nn.BatchNorm1d(4),
        "a": Spiking(IF(spikes="many", lower_bound=-1.0)),
        "same": nn.Conv1d(4, 3, 2, padding="same", bias=False),
        "b": Spiking(IF(spikes="many")),
        "flatten": nn.Flatten(),
        "readout": nn.Linear(3 * 10, 5, bias=False),
    }
    model = Staged(layers, (2, 20))
    for name, p in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(p, std=1.5 / p[0].numel() ** 0.5)
    model.train()(poisson(model.input_shape), 10)
    return model.eval()


@pytest.mark.parametrize("bias", [False, True])
def test_convolutions_along_one_axis_come_back(bias: bool, tmp_path: Path) -> None:
    model = network_along_one_axis(bias)
    folded = norm.fold(model)
    x = poisson(model.input_shape)
    torch.testing.assert_close(folded(x, 10), model(x, 10))
    assert folded(x, 10).abs().sum() > 1
    path = tmp_path / "model.nir"
    export.write(path, graph := export.to_nir(model, time_steps=10, duration=0.3))
    assert torch.equal(export.from_nir(path)(x, 10), folded(x, 10))
    conv, same = (graph.nodes[name] for name in ("conv", "same"))
    assert (conv.input_shape, conv.stride, conv.padding, conv.dilation, conv.groups) == (20, 2, 2, 2, 2)
    assert (same.input_shape, same.stride, same.padding) == (10, 1, "same")
    assert np.any(conv.bias)
    trained = export.from_nir(path)
    with torch.no_grad():
        dict(trained.layers())["conv"].weight.mul_(2)
    doubled = export.with_weights(graph, trained).nodes["conv"].weight
    assert np.array_equal(doubled, 2 * conv.weight)
    with pytest.raises(InputError, match="node 'conv' is a Conv1d, which snnTorch does not read; it reads IF, LIF"):
        export.to_nir(model, time_steps=10, duration=0.3, for_tool="snntorch", allow=("reset", "spikes", "lower_bound"))


def test_events_give_the_counts_of_fine_time_steps_along_one_axis(tmp_path: Path) -> None:
    """Without biases and leaks, a step per event is the event-driven run."""
    model = network_along_one_axis(bias=False)
    norm.remove_biases(model)
    rng = np.random.default_rng(0)
    recording = np.zeros(60, dtype=[("t", int), ("y", int), ("x", int)])
    recording["t"], recording["y"], recording["x"] = np.arange(60), rng.integers(0, 2, 60), rng.integers(0, 20, 60)
    frames = torch.zeros(60, 1, 2, 20)
    frames[recording["t"], 0, recording["y"], recording["x"]] = 1
    result = mb.simulate(export.to_nir(model), recording)
    _, counts = spike_counts(norm.fold(model), frames, 60)
    for name in ("a", "b"):
        assert result.counts[name].tolist() == counts[name][0].tolist()
        assert result.counts[name].sum() > 10


@pytest.mark.parametrize("size", [(34, 34), (8, 8), (128, 128), (180, 240)])
def test_the_zoo_passes_nirs_checks(size: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.nmnist_3c1fc((2, *size))
    nir.write(tmp_path / "model.nir", export.to_nir(model))
    graph = nir.read(tmp_path / "model.nir")  # with its type check: all kernels are square
    assert set(graph.nodes) == {"input", *model.shapes, "output"}
    x = poisson(model.input_shape, n=2)
    assert torch.equal(export.from_nir(graph)(x, 10), model(x, 10))


def test_nodes_have_the_values_of_the_layers() -> None:
    model = network()
    graph = export.to_nir(model)
    assert list(graph.nodes) == ["input", *model.shapes, "output"]
    assert graph.edges == list(zip(graph.nodes, [*model.shapes, "output"], strict=False))
    node = graph.nodes["a"]
    assert isinstance(node, nir.IF)
    assert node.metadata == {"reset": "subtract", "spikes": "many", "lower_bound": -1.0}
    for parameter, value in [(node.r, 1), (node.v_threshold, 1), (node.v_reset, 0)]:
        assert parameter.shape == model.shapes["a"] == (4, 6, 4)
        assert np.all(parameter == value)
    assert type(graph.nodes["sum"]) is nir.SumPool2d
    assert type(graph.nodes["average"]) is nir.AvgPool2d
    conv = graph.nodes["conv"]
    assert (tuple(conv.input_shape), conv.stride, conv.padding, conv.dilation) == ((11, 6), (2, 1), (1, 0), (1, 2))
    assert conv.groups == 2
    assert conv.weight.dtype == np.float32
    assert not conv.bias.any()
    assert isinstance(graph.nodes["readout"], nir.Linear)
    assert tuple(graph.nodes["input"].input_type["input"]) == (2, 11, 11)
    assert tuple(graph.nodes["output"].output_type["output"]) == (5,)


def test_no_lower_bound_leaves_no_metadata() -> None:
    assert "lower_bound" not in export.to_nir(network(IF())).nodes["a"].metadata


def test_a_lif_membrane_jumps_by_the_weight() -> None:
    node = export.to_nir(network(LIF(tau=0.05, v_leak=0.25), duration=0.3)).nodes["b"]
    assert isinstance(node, nir.LIF)
    assert np.all(node.tau == 0.05)
    assert np.all(node.r == node.tau)
    assert np.all(node.v_leak == 0.25)


def test_a_decay_per_step_becomes_a_time_constant() -> None:
    model = network(IF(), decay_per_step=0.5)
    node = export.to_nir(model, time_steps=10, duration=0.3).nodes["a"]
    assert isinstance(node, nir.LIF)
    # One step is 30 ms: exp(-0.03 / tau) = 1/2.
    assert node.tau == pytest.approx(0.03 / np.log(2))
    assert np.all(node.r == node.tau)
    for incomplete in ({}, {"time_steps": 10}, {"duration": 0.3}):
        with pytest.raises(InputError, match=r"layer 'a' \(Spiking\): a decay per step"):
            export.to_nir(model, **incomplete)


def test_exported_weights_are_copies() -> None:
    model = network()
    graph = export.to_nir(model)
    before = graph.nodes["conv"].weight.copy()
    with torch.no_grad():
        model.stages[0].conv.weight.add_(1)
    assert np.array_equal(graph.nodes["conv"].weight, before)


def test_a_rebuilt_network_can_be_trained_on() -> None:
    surrogate = Exponential(3.0)
    twin = export.from_nir(export.to_nir(network()), surrogate=surrogate, blocks_per_stage=2)
    assert twin.num_stages == 2
    assert all(p.surrogate == surrogate for p in twin.populations().values())
    twin(poisson(twin.input_shape), [4, 2]).sum().backward()
    assert all(p.grad is not None for p in twin.parameters())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(2, 4, 3), r"layer 'odd' \(Conv2d\): a bias, which acts once per time step"),
        (nn.Conv2d(2, 4, 3, bias=False, padding=1, padding_mode="circular"), "only zeros can be padded"),
        (nn.MaxPool2d(2), "layer 'odd' is a MaxPool2d, which cannot be exported; accepted are AvgPool2d"),
        (nn.BatchNorm2d(2), "the norm 'odd' cannot be folded"),
        (nn.AvgPool2d(2, ceil_mode=True), "ceil_mode=False"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), "count_include_pad=True"),
        (nn.AvgPool2d(2, divisor_override=3), "not divides by 3"),
    ],
)
def test_layers_without_an_exact_counterpart_are_refused(layer: nn.Module, message: str) -> None:
    torch.manual_seed(0)
    layers = {"odd": layer, "spikes": Spiking(IF()), "flatten": nn.Flatten(), "readout": nn.LazyLinear(2, bias=False)}
    layers["readout"](nn.Flatten()(layer(torch.zeros(1, 2, 8, 8))))
    with pytest.raises(InputError, match=message):
        export.to_nir(Staged(layers, (2, 8, 8)))


@pytest.mark.parametrize(
    "compute",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        nn.utils.weight_norm,
        nn.utils.parametrizations.weight_norm,
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_weights_of_the_last_pass_are_not_exported(compute: Callable[[nn.Module], object]) -> None:
    """After a step of the optimizer they are not the weights of the next pass."""
    layer = nn.Linear(2, 2, bias=False)
    compute(layer)
    layers = {"hidden": layer, "spikes": Spiking(IF()), "readout": nn.Linear(2, 1, bias=False)}
    for function in (export.to_nir, norm.fold):
        with pytest.raises(InputError, match="layer 'hidden': its weight is no parameter, but computed in every pass"):
            function(Staged(layers, (2,)))


def test_weights_in_a_buffer_are_exported() -> None:
    layer = nn.Linear(2, 2, bias=False)
    del layer.weight
    layer.register_buffer("weight", torch.eye(2))
    model = Staged({"hidden": layer, "spikes": Spiking(IF()), "readout": nn.Linear(2, 1, bias=False)}, (2,))
    assert export.to_nir(model).nodes["hidden"].weight.tolist() == [[1, 0], [0, 1]]


def test_a_zero_bias_is_none() -> None:
    layers = {"spikes": Spiking(IF()), "readout": nn.Linear(2, 2)}
    nn.init.zeros_(layers["readout"].bias)
    assert isinstance(export.to_nir(Staged(layers, (2,))).nodes["readout"], nir.Linear)


# ----- residual connections


def residual_network(rule: IF | None = None, **options: float) -> Staged:
    """A stem and two residual blocks, one with an identity, one with a shortcut that contains neurons."""
    torch.manual_seed(0)

    def spiking() -> Spiking:
        return Spiking(IF(spikes="many", lower_bound=-1.0) if rule is None else rule, **options)

    def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)

    layers = {
        "conv1": conv(2, 4),
        "a": spiking(),
        "r1": Residual({"conv2": conv(4, 4), "b": spiking(), "conv3": conv(4, 4)}),
        "c": spiking(),
        "r2": Residual(
            {"conv4": conv(4, 6, 2), "d": spiking(), "conv5": conv(6, 6)},
            {"conv6": conv(4, 6, 2, kernel=1), "e": spiking(), "pool": nn.AvgPool2d(1)},
        ),
        "f": spiking(),
        "flatten": nn.Flatten(),
        "readout": nn.Linear(6 * 3 * 4, 5, bias=False),
    }
    model = Staged(layers, (2, 6, 7))
    with torch.no_grad():
        for p in model.parameters():
            # Multiples of 1/64, so that sums are exact in any order.
            p.copy_(torch.round(torch.randn_like(p) / p[0].numel() ** 0.5 * 256) / 64)
    return model


def test_branches_are_paths_that_meet_in_a_population() -> None:
    graph = export.to_nir(residual_network())
    assert set(graph.edges) == {
        *[("input", "conv1"), ("conv1", "a")],
        *[("a", "conv2"), ("conv2", "b"), ("b", "conv3"), ("conv3", "c"), ("a", "c")],
        *[("c", "conv4"), ("conv4", "d"), ("d", "conv5"), ("conv5", "f")],
        *[("c", "conv6"), ("conv6", "e"), ("e", "pool"), ("pool", "f")],
        *[("f", "flatten"), ("flatten", "readout"), ("readout", "output")],
    }


@pytest.mark.parametrize(("rule", "options"), RULES.values(), ids=RULES)
def test_residual_networks_come_back_bit_for_bit(rule: IF, options: dict[str, float], tmp_path: Path) -> None:
    model = residual_network(rule, **options)
    path = tmp_path / "model.nir"
    export.write(path, export.to_nir(model, time_steps=10, duration=0.3))
    twin = export.from_nir(path)
    x = poisson(model.input_shape)
    assert twin.num_stages == model.num_stages == 2
    for steps in (10, 3, [2, 5]):
        assert torch.equal(model(x, steps), twin(x, steps))
    assert model(x, 10).abs().sum() > 1
    assert twin.shapes == model.shapes


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_is_rebuilt_with_folded_norms(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.MODELS[name](norm=True, width_multiplier=1 / 16)
    x = poisson(model.input_shape, n=2)[:3]
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name:
            nn.init.uniform_(parameter, 0.2, 1.5)
    norm.recalibrate(model.eval(), [x], 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / "model.nir"
    export.write(path, export.to_nir(model, time_steps=3, duration=0.3))
    twin, folded = export.from_nir(path), norm.fold(model)
    assert twin.shapes == folded.shapes
    assert twin(x, 3).abs().sum() > 0
    assert torch.equal(twin(x, 3), folded(x, 3))
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match="layer 'conv1'"):
        export.to_nir(model)
    norm.remove_biases(model)
    assert all("bias_per_step" not in node.metadata for node in export.to_nir(model).nodes.values())


@pytest.mark.parametrize("engine", ["exact", "brian2"])
@pytest.mark.parametrize("build", [residual_network, "resnet18_dvs"])
def test_event_driven_residual_networks(engine: str, build: Callable[[], Staged] | str) -> None:
    """Where no time step holds more than one instant, the time-stepped and the event-driven run are the same."""
    if isinstance(build, str):
        torch.manual_seed(0)
        model = models.MODELS[build]((2, 6, 7), num_classes=5, norm=False, width_multiplier=1 / 16)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.round(p * 80) / 64)
    else:
        model = build()
    steps, step = 40, 1000
    played = [random_networks.recording(seed, model.input_shape, events=200) for seed in range(3)]
    for seed, events in enumerate(played):
        drawn = np.random.default_rng(seed).integers(0, steps, len(events))
        events["t"] = np.sort(drawn) * step + step - 1
    frames = torch.from_numpy(mb.events.frames_batch(played, steps, model.input_shape, steps * step))
    logits, counts = snn.spike_counts(model, frames, steps)
    for k, result in enumerate(simulator(export.to_nir(model), engine).run(played)):
        for name, expected in counts.items():
            assert result.counts[name].tolist() == expected[k].to(torch.int64).tolist(), name
            assert expected[k].sum() > 0, name
        np.testing.assert_allclose(result.readout, logits[k].double() * steps, rtol=1e-6, atol=1e-5)


# ----- biases


def biased(rule: IF, readout: float = 0.0, **options: float) -> Staged:
    """One neuron: input times 1/4, plus 1/4 in every time step; its spikes, plus ``readout``, are the logit."""
    layers = {"linear": nn.Linear(1, 1), "spikes": Spiking(rule, **options), "readout": nn.Linear(1, 1)}
    for name, weight, bias in (("linear", 0.25, 0.25), ("readout", 1.0, readout)):
        nn.init.constant_(layers[name].weight, weight)
        nn.init.constant_(layers[name].bias, bias)
    return Staged(layers, (1,))


def events_at(*times: int) -> np.ndarray:
    array = np.zeros(len(times), dtype=[("t", np.int64), ("x", np.int64)])
    array["t"] = times
    return array


def test_a_bias_becomes_a_current() -> None:
    graph = export.to_nir(biased(IF()), time_steps=10, duration=0.5)
    assert isinstance(graph.nodes["linear"], nir.Affine)
    assert isinstance(graph.nodes["readout"], nir.Linear)  # its bias is zero
    # 1/4 in each of 10 steps in half a second
    assert graph.nodes["linear"].bias.tolist() == [5.0]
    assert graph.nodes["linear"].metadata["bias_per_step"].tolist() == [0.25]


def test_event_driven_if_neuron_with_a_bias() -> None:
    graph = export.to_nir(biased(IF(spikes="many")), time_steps=10, duration=1.0)
    # 2.5 a second: 1 every 0.4 s. An event at 0.2 s lifts 0.5 to 0.75; 1 after another 0.1 s.
    for events, expected in ((events_at(), [0.4, 0.8]), (events_at(200_000), [0.3, 0.7])):
        result = mb.simulate(graph, events, engine="exact", duration=1.0)
        assert result.spikes["spikes"].t == pytest.approx(expected)


@pytest.mark.parametrize(
    "rule", [(LIF(tau=0.5, spikes="many"), {"duration": 1.0}), (IF(spikes="many"), {"decay_per_step": np.exp(-0.2)})]
)
def test_event_driven_lif_neuron_with_a_bias(rule: tuple[IF, dict[str, float]]) -> None:
    graph = export.to_nir(biased(rule[0], **rule[1]), time_steps=10, duration=1.0)
    # r = tau = 0.5 s, so v tends to 0.5 * 2.5 = 1.25 and passes 1 at 0.5 ln(1.25 / 0.25).
    result = mb.simulate(graph, events_at(), engine="exact", duration=1.0)
    assert result.spikes["spikes"].t == pytest.approx([0.5 * np.log(5)])
    # At 0.2 s v = 1.25 (1 - exp(-0.4)), and an event adds its weight.
    result = mb.simulate(graph, events_at(200_000), engine="exact", duration=1.0)
    v = 1.25 * (1 - np.exp(-0.4)) + 0.25
    assert result.spikes["spikes"].t == pytest.approx([0.2 + 0.5 * np.log((1.25 - v) / 0.25)])


@pytest.mark.parametrize("steps", [10, 1000])
def test_fine_steps_and_a_current_do_the_same_to_a_lif_neuron(steps: int) -> None:
    model = biased(LIF(tau=0.1), duration=1.0)
    layer = dict(model.layers())["linear"]
    nn.init.constant_(layer.bias, 30 / steps)  # 30 a second: towards 3
    graph = export.to_nir(model.double(), time_steps=steps, duration=1.0)
    exact = len(mb.simulate(graph, events_at(), engine="exact", duration=1.0).spikes["spikes"].t)
    stepped = model(torch.zeros(steps, 1, 1), steps).item() * steps
    # Coarse steps add the whole bias at the step's end, before any of it leaks.
    assert exact == 24
    assert (stepped == exact) == (steps == 1000)


def test_a_readouts_bias_is_integrated_to_as_much_as_all_steps_add() -> None:
    model = biased(IF(spikes="many"), readout=0.5)
    nn.init.zeros_(dict(model.layers())["linear"].bias)
    graph = export.to_nir(model, time_steps=10, duration=1.0)
    # The last microsecond of six steps: 6/4 in all, one spike.
    times = [100_000 * k - 1 for k in (2, 3, 4, 6, 7, 9)]
    result = mb.simulate(graph, events_at(*times), engine="exact", duration=1.0)
    frames = torch.zeros(10, 1, 1)
    frames[[1, 2, 3, 5, 6, 8]] = 1
    assert result.readout == pytest.approx([1 + 0.5 * 10])
    assert model(frames, 10).item() * 10 == pytest.approx(6)
    # Half of the recording, half of the bias.
    assert mb.simulate(graph, events_at(), engine="exact", duration=0.5).readout == pytest.approx([2.5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_biased_networks_come_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.nmnist_3c1fc((2, 8, 8), bias=True).to(dtype)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "model.nir"
    export.write(path, export.to_nir(model, time_steps=7, duration=0.3))
    twin = export.from_nir(path)
    x = poisson(model.input_shape)
    for steps in (7, [3, 1, 9]):
        assert torch.equal(model(x, steps), twin(x, steps))
    assert {n: (p.dtype, p.shape) for n, p in twin.named_parameters()} == {
        n: (p.dtype, p.shape) for n, p in model.named_parameters()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"layer 'linear' \(Linear\): a bias, .* only with time_steps= and duration="),
        ({"time_steps": 10}, "only with time_steps= and duration="),
        ({"duration": 1.0}, "only with time_steps= and duration="),
        ({"time_steps": 0, "duration": 1.0}, "time_steps must be at least 1, not 0"),
        *(
            ({"time_steps": 10, "duration": duration}, f"duration must be > 0 seconds and finite, not {duration}")
            for duration in (0.0, -1.0, float("nan"), float("inf"))
        ),
    ],
)
def test_a_bias_needs_the_length_of_a_step(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export.to_nir(biased(IF()), **options)


# ----- graphs of others


def chain(*nodes: nir.NIRNode, shape: tuple[int, ...] | None = (2,), out: int = 3) -> nir.NIRGraph:
    """Input -> the nodes, numbered from zero -> a readout -> Output."""
    every = {
        "input": nir.Input({"input": None if shape is None else np.array(shape)}),
        **{str(i): node for i, node in enumerate(nodes)},
        "readout": nir.Linear(np.ones((3, 2), np.float32)),
        "output": nir.Output({"output": np.array([out])}),
    }
    names = list(every)
    return nir.NIRGraph(every, list(itertools.pairwise(names)), metadata={}, type_check=False)


def neuron(kind: type = nir.IF, metadata: dict[str, object] | None = None, **parameters: object) -> nir.NIRNode:
    ones = np.ones(2)
    values = {"r": ones, "v_threshold": ones, **({} if kind is nir.IF else {"tau": ones, "v_leak": 0 * ones})}
    return kind(**{**values, **parameters}, metadata={"reset": "subtract"} if metadata is None else metadata)


def test_a_threshold_may_have_axes_of_1() -> None:
    one = {"r": np.ones(1), "v_threshold": np.ones(1)}
    for shape in ((), (1,), (1, 2)):
        changes = {key: np.broadcast_to(value, shape) if shape else np.float64(1) for key, value in one.items()}
        assert list(export.from_nir(chain(neuron(**changes))).populations()) == ["0"]


def test_a_foreign_graph() -> None:
    model = export.from_nir(chain(nir.Affine(weight=2 * np.eye(2), bias=np.zeros(2)), neuron()))
    x = torch.tensor([[0.5, 0.25]]).expand(4, 1, 2)
    # Jumps of 1 and 0.5 a step: 4 and 2 spikes in 4 steps.
    assert model(x, 4).tolist() == [[1.5, 1.5, 1.5]]


def test_a_foreign_lif_needs_the_duration_of_a_recording() -> None:
    graph = chain(neuron(nir.LIF))
    model = export.from_nir(graph, duration=0.3)
    assert model.populations()["0"].decay(3) == pytest.approx(np.exp(-0.1))
    with pytest.raises(InputError, match=r"node '0' \(LIF\): .*duration"):
        export.from_nir(graph)


CUBA = nir.CubaLIF(*(np.ones(2) for _ in range(5)))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (chain(CUBA), "node '0' is a CubaLIF, which cannot become a torch layer; accepted are Affine, AvgPool2d"),
        (chain(nir.Delay(np.ones(2)), neuron()), "node '0' is a Delay"),
        (chain(neuron(metadata={})), "node '0' .*no 'reset'"),
        (chain(neuron(metadata={"reset": "none"})), "node '0' .*reset must be one of"),
        (chain(neuron(r=2 * np.ones(2))), "IF.r must be 1"),
        (chain(neuron(v_threshold=np.array([1.0, 2.0]))), "IF.threshold must be one number"),
        (chain(neuron(v_threshold=np.full(2, np.nan))), "node '0'"),
        (chain(neuron(nir.LIF)), "duration"),
        (chain(neuron(nir.LIF, tau=0.1 * np.ones(2))), "r must equal tau"),
        (chain(nir.Affine(np.eye(2), np.ones(2)), neuron()), "node '0' .*a bias is a constant .* 'bias_per_step'"),
        (
            chain(nir.Affine(np.eye(2), np.ones(2), metadata={"bias_per_step": np.ones(3)}), neuron()),
            "node '0' .*bias_per_step has 3 entries for 2 outputs",
        ),
        (chain(nir.Linear(np.ones((2, 3))), neuron()), "'0' does not fit"),
        (chain(nir.Linear(np.ones((2, 3, 1))), neuron()), "node '0' .*2 dimensions"),
        (chain(nir.Linear(np.full((2, 2), np.inf)), neuron()), "node '0' .*NaN or infinite"),
        (chain(neuron(), shape=(3,)), "'readout' does not fit"),
        (chain(neuron(), shape=(5, 2)), r"node '0' is declared with the shape \(2,\), but .* \(5, 2\)"),
        (chain(neuron(), out=4), r"node 'output' is declared with the shape \(4,\), but .* \(3,\)"),
        (chain(), "spiking population"),
        (chain(neuron(), shape=None), "must declare their shapes"),
    ],
)
def test_graphs_that_cannot_be_trained_are_refused(graph: nir.NIRGraph, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export.from_nir(graph)


def test_a_foreign_residual_graph() -> None:
    graph = chain(neuron(), nir.Linear(np.eye(2)), neuron(metadata={"reset": "subtract", "spikes": "many"}))
    graph.edges.append(("0", "2"))
    # Twice the spikes of the first neurons, by way of the identity and of the edge.
    x = torch.tensor([[1.0, 0.5]]).expand(4, 1, 2)
    assert export.from_nir(graph)(x, 4).tolist() == [[3.0, 3.0, 3.0]]
    # Nodes may have any names.
    assert "residual_1" in dict(export.from_nir(graph).stages[0].named_children())
    graph.nodes["residual_1"] = graph.nodes.pop("readout")
    graph.edges = [tuple("residual_1" if n == "readout" else n for n in edge) for edge in graph.edges]
    assert export.from_nir(graph)(x, 4).tolist() == [[3.0, 3.0, 3.0]]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("0", "readout")], "behind '0'"),  # meets elsewhere than in a population
        ([("input", "2"), ("0", "2")], "behind 'input'"),  # three meet
        ([("0", "2"), ("0", "readout")], "behind '0'"),  # three part
        ([("2", "0")], "behind 'input'"),  # a cycle
    ],
)
def test_graphs_with_other_branches_are_refused(extra: list[tuple[str, str]], message: str) -> None:
    graph = chain(neuron(), nir.Linear(np.eye(2)), neuron())
    graph.edges += extra
    with pytest.raises(InputError, match=f"branches or joins {message}"):
        export.from_nir(graph)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("input", "0"), ("input", "readout"), ("0", "readout"), ("readout", "output")], "branches or joins"),
        ([("input", "0"), ("0", "0"), ("0", "readout"), ("readout", "output")], "branches or joins"),
        ([("input", "readout"), ("readout", "output")], "one sequence"),
        ([("input", "0"), ("0", "readout")], "one sequence"),
        (
            [("input", "0"), ("0", "nowhere"), ("readout", "output")],
            "'0' -> 'nowhere' leads from or to a node that does",
        ),
        ([("input", "0"), ("0", "readout"), ("readout", "output"), ("readout", "input")], "without sources"),
        ([], "one sequence"),
    ],
)
def test_graphs_that_are_not_sequential_are_refused(edges: list[tuple[str, str]], message: str) -> None:
    graph = chain(neuron())
    graph.edges = edges
    with pytest.raises(InputError, match=message):
        export.from_nir(graph)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such NIR file: .*absent\.nir"):
        export.from_nir(tmp_path / "absent.nir")
    path = tmp_path / "model.nir"
    path.write_text("not HDF5")
    with pytest.raises(InputError, match=r"model\.nir is not a readable NIR file"):
        export.from_nir(path)
    export.write(path, export.to_nir(models.nmnist_3c1fc()))
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(InputError, match=r"model\.nir is not a readable NIR file"):
            export.from_nir(path)


FULL = """
import resource, sys
import nir
import numpy as np
from mtt_brian import export, files

weight = np.random.default_rng(0).normal(size=(300, 2))
nodes = {"input": nir.Input(np.array([2])), "w": nir.Linear(weight), "output": nir.Output(np.array([300]))}
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    export.write(sys.argv[1], nir.NIRGraph(nodes, [("input", "w"), ("w", "output")], type_check=False))
except OSError as error:
    print(files.reason(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_does_not_end_the_process(tmp_path: Path) -> None:
    """HDF5 did that when it closed a file which it could not write."""
    path = tmp_path / "model.nir"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{path}: File too large\n"
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.nir"
    export.write(path, export.to_nir(models.nmnist_3c1fc()))
    before = path.read_bytes()
    broken = chain(neuron(metadata={"reset": object()}))
    with pytest.raises(InputError, match=r"model.nir: 'nodes/.*/metadata/reset' is not numeric"):
        export.write(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("layer", [nn.Linear(8, 8).double(), nn.Conv2d(2, 2, 1).double()])
def test_weights_that_no_file_may_hold_are_refused(layer: nn.Module, parameter: str, value: float) -> None:
    layer, shape = copy.deepcopy(layer), (8,) if isinstance(layer, nn.Linear) else (2, 2, 2)
    flatten = {} if len(shape) == 1 else {"flatten": nn.Flatten()}
    layers = {"first": layer, "spikes": Spiking(IF()), **flatten, "out": nn.Linear(8, 1, bias=False)}
    getattr(layer, parameter).data.ravel()[0] = value
    model = Staged(layers, shape, blocks_per_stage=None)
    if (value, parameter) == (1e300, "weight"):
        assert export.to_nir(model, time_steps=10, duration=0.1).nodes["first"].weight.max() == value
        return
    with pytest.raises(InputError, match=r"layer 'first' .*holds NaN or infinite values"):
        export.to_nir(model, time_steps=10, duration=1e-300 if value == 1e300 else 0.1)


def test_a_reset_potential_without_a_meaning_is_not_written() -> None:
    rules = {reset: IF(reset=reset, v_reset=0.25, spikes="many") for reset in ("subtract", "zero")}
    layers = {name: Spiking(rule) for name, rule in rules.items()} | {"out": nn.Linear(2, 1, bias=False)}
    graph = export.to_nir(Staged(layers, (2,), blocks_per_stage=None))
    assert graph.nodes["subtract"].v_reset.tolist() == [0, 0]
    assert graph.nodes["zero"].v_reset.tolist() == [0.25, 0.25]
    assert translate.read_nir(graph).assumptions == ()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (nir.Conv2d(None, np.ones((1, 1, 1, 1)), np.inf, 0, 1, 1, np.zeros(1)), "stride holds NaN or infinite"),
        (nir.Conv2d(None, np.ones((1, 1, 1, 1)), 1.5, 0, 1, 1, np.zeros(1)), "stride must consist of whole numbers"),
        (nir.Conv2d(None, np.ones((1, 1, 1, 1)), 1, 0, 1, np.inf, np.zeros(1)), "groups holds NaN or infinite"),
        (nir.Linear(np.ones((2, 2)) * 1j), "the weight holds complex numbers"),
        (nir.Flatten(None, 0.5), "start_dim must consist of whole numbers"),
        (neuron(metadata={"reset": np.ones(2)}), "'reset' must be text"),
        (neuron(metadata={"reset": "subtract", "lower_bound": np.ones(2)}), "lower_bound must be one number"),
        (neuron(metadata={"reset": "subtract", "refractory": 0.1}), "a refractory period cannot become a torch layer"),
        (neuron(metadata={"reset": "subtract"}, v_reset=np.ones(2) / 2), "a v_reset other than 0"),
    ],
)
def test_values_that_no_torch_layer_has_are_refused(node: nir.NIRNode, message: str) -> None:
    with pytest.raises(InputError, match=rf"node '0' .*{message}"):
        export.from_nir(chain(node))
