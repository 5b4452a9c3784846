"""The model zoo."""

import json
import random

import pytest
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.snn import Residual, models, norm, spike_counts
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Triangular

every_model = pytest.mark.parametrize("name", models.MODELS)


def poisson(size: tuple[int, ...], rate: float = 0.18, n: int = 4, seed: int = 0) -> torch.Tensor:
    """As sparse as N-MNIST at T = 10."""
    return torch.poisson(torch.full((10, n, *size), rate), generator=torch.Generator().manual_seed(seed))


def count(model: nn.Module, what: str) -> int:
    """Parameters of norms ("norm"), or all others ("weight")."""
    return sum(p.numel() for name, p in model.named_parameters() if ("norm" in name) == (what == "norm"))


# ----- all of them

#: Weights by hand, and norms: two parameters for every channel.
PARAMETERS = {
    "nmnist_3c1fc": (144 + 1152 + 2304 + 2560, 2 * (8 + 16 + 16)),
    "dvsgesture_net": (144 + 1152 + 4608 + 9216 + 512 * 64 + 64 * 10, 2 * (8 + 16 + 32 + 32)),
    "vgg9": (
        9 * (2 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512) + 2 * 2 * 512 * 10,
        2 * (64 + 128 + 2 * 256 + 4 * 512),
    ),
    "vggsnn": (
        9 * (2 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512) + 3 * 3 * 512 * 10,
        2 * (64 + 128 + 2 * 256 + 4 * 512),
    ),
    # The usual ResNet-18 for CIFAR10 has 11,173,962 parameters, 10 of them biases of its readout.
    "resnet18": (11_173_952 - 9600, 9600),
    "resnet18_dvs": (11_173_952 - 9600 - 9 * 64, 2 * (5 * 64 + 5 * 128 + 5 * 256 + 5 * 512)),
    "resnet19": (
        9 * (3 * 128 + 6 * 128**2 + (128 * 256 + 5 * 256**2) + (256 * 512 + 3 * 512**2))  # 3x3
        + (128 * 256 + 256 * 512)  # shortcuts
        + (512 * 256 + 256 * 10),
        2 * (7 * 128 + 7 * 256 + 5 * 512),
    ),
    # VGG-16's thirteen convolutions have 14,710,464 weights.
    "vgg14": (14_710_464 + 512 * 10, 2 * (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512)),
}


@every_model
def test_parameters(name: str) -> None:
    assert PARAMETERS.keys() == models.MODELS.keys()
    weights, norms = PARAMETERS[name]
    model = models.MODELS[name](norm=True)
    assert (count(model, "weight"), count(model, "norm")) == (weights, norms)
    assert not [n for n, _ in model.named_parameters() if n.endswith("bias") and "norm" not in n]
    assert count(models.MODELS[name](norm=False), "norm") == 0
    assert norm.has_norms(models.MODELS[name](width_multiplier=1 / 16)) == (name != "nmnist_3c1fc")


RESNET_STAGES = ["conv1", *(f"residual{i}" for i in (5, 7, 9, 11, 13, 15, 17))]
#: The layer with which every stage begins at g = 1.
STAGES = {
    "nmnist_3c1fc": ["conv1", "conv2", "conv3"],
    "dvsgesture_net": ["pool1", "pool3", "flatten"],
    "vgg9": ["pool1", "pool2", "pool3", "pool4"],
    "vggsnn": ["conv1", "pool1", "pool2", "pool3"],
    "vgg14": [
        *("conv1", "conv2", "pool1", "conv4", "pool2", "conv6", "conv7"),
        *("pool3", "conv9", "conv10", "pool4", "conv12", "conv13"),
    ],
    "resnet18": RESNET_STAGES,
    "resnet18_dvs": RESNET_STAGES,
    "resnet19": RESNET_STAGES,
}


@every_model
def test_stages(name: str) -> None:
    def starts(blocks_per_stage: int | None) -> list[str]:
        model = models.MODELS[name](width_multiplier=1 / 32, blocks_per_stage=blocks_per_stage)
        return [next(iter(stage.named_children()))[0] for stage in model.stages]

    for g in (1, 2, 3, 8, 100):
        assert starts(g) == STAGES[name][::g]
    assert starts(None) == STAGES[name][:1]


@every_model
def test_shapes_forward_and_backward_with_mixed_time_steps(name: str) -> None:
    torch.manual_seed(0)
    model = models.MODELS[name](num_classes=7, norm=True, width_multiplier=1 / 8)
    x = poisson(model.input_shape, n=3)
    model.train()
    steps = random.Random(0)
    for _ in range(2):
        model.zero_grad()
        logits = model(x, [steps.randint(1, 4) for _ in range(model.num_stages)])
        assert logits.shape == (3, 7)
        nn.functional.cross_entropy(logits, torch.arange(3)).backward()
        for parameter_name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.abs().sum() > 0, parameter_name


SHAPES = {
    "dvsgesture_net": {"spikes1": (8, 32, 32), "spikes2": (16, 16, 16), "pool4": (32, 4, 4), "flatten": (512,)},
    "vgg9": {"pool1": (2, 32, 32), "spikes2": (128, 32, 32), "spikes8": (512, 4, 4), "flatten": (2048,)},
    "vggsnn": {"spikes1": (64, 48, 48), "pool4": (512, 3, 3)},
    "vgg14": {"spikes2": (64, 32, 32), "spikes13": (512, 2, 2), "pool5": (512, 1, 1)},
    "resnet18": {"conv5": (64, 32, 32), "conv7_shortcut": (128, 16, 16), "spikes17": (512, 4, 4), "flatten": (512,)},
    "resnet18_dvs": {"spikes17": (512, 6, 6), "pool1": (512, 1, 1)},
    "resnet19": {
        "spikes7": (128, 32, 32),
        "conv9_shortcut": (256, 16, 16),
        "spikes17": (512, 8, 8),
        "linear18": (256,),
    },
}


@pytest.mark.parametrize("name", SHAPES)
def test_layer_shapes(name: str) -> None:
    assert SHAPES[name].items() <= models.MODELS[name]().shapes.items()


@pytest.mark.parametrize("name", ["resnet18", "resnet19", "vgg14"])
def test_static_networks_accept_mnist(name: str) -> None:
    torch.manual_seed(0)
    model = models.MODELS[name]((1, 28, 28), width_multiplier=1 / 16)
    image = torch.rand(1, 2, 1, 28, 28)  # one frame
    steps = [*range(1, model.num_stages + 1)]
    assert model(image, steps).shape == (2, 10)
    # Seen in every time step, as by hand.
    torch.testing.assert_close(model(image, 3), model(image.repeat(3, 1, 1, 1, 1), 3))


@pytest.mark.parametrize("name", ["nmnist_3c1fc", "dvsgesture_net", "vgg9", "vggsnn", "resnet18_dvs"])
@pytest.mark.parametrize("size", [(34, 34), (1, 9), (50, 21)], ids=str)
def test_event_networks_fit_any_sensor(name: str, size: tuple[int, int]) -> None:
    model = models.MODELS[name]((2, *size), width_multiplier=1 / 32)
    assert model(poisson((2, *size), n=2), 1).shape == (2, 10)
    with pytest.raises(InputError, match=rf"{name} needs a sensor of size \(2, height, width\)"):
        models.MODELS[name]((3, *size))


@pytest.mark.parametrize("name", ["vgg9", "resnet18", "resnet19", "dvsgesture_net"])
def test_residual_blocks_have_a_population_inside_and_one_behind(name: str) -> None:
    model = models.MODELS[name](width_multiplier=1 / 32)
    residuals = [layer for stage in model.stages for layer in stage if isinstance(layer, Residual)]
    assert len(residuals) == (8 if name.startswith("resnet") else 0)
    assert len(model.populations()) == {"vgg9": 8, "resnet18": 17, "resnet19": 18, "dvsgesture_net": 5}[name]


def test_width_multiplier() -> None:
    model = models.dvsgesture_net(width_multiplier=0.3)
    # 8, 16, 32, 32 and 64, times 0.3
    assert [model.shapes[f"spikes{i}"][0] for i in range(1, 6)] == [2, 5, 10, 10, 19]
    assert models.nmnist_3c1fc(width_multiplier=1e-9).shapes["spikes3"][0] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "false"}, "norm must be True or False, not 'false'"),
        ({"bias": 1}, "bias must be True or False, not 1"),
        ({"width_multiplier": 0}, "width_multiplier must be > 0, not 0"),
        ({"width_multiplier": float("nan")}, "width_multiplier must be > 0"),
        ({"blocks_per_stage": 0}, "blocks_per_stage"),
        ({"transform": "cubic"}, "transform"),
        ({"num_classes": 0}, "num_classes"),
        ({"sensor_size": (3, 32)}, r"vgg14 needs a sensor of size \(channels, height, width\)"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.vgg14(**options)


# ----- the paper's N-MNIST network

SENSORS = [(1, 1), (8, 8), (5, 40), (20, 28), (33, 33), (34, 34), (35, 35), (48, 48), (68, 68), (128, 128), (180, 240)]


def test_nmnist_3c1fc_has_the_papers_number_of_parameters() -> None:
    model = models.nmnist_3c1fc()
    assert count(model, "weight") == 6160
    assert [model.shapes[f"spikes{i}"] for i in (1, 2, 3)] == [(8, 17, 17), (16, 9, 9), (16, 4, 4)]
    assert "pool1" not in model.shapes
    assert model.num_stages == 3
    assert all(not name.endswith("bias") for name, _ in model.named_parameters())


@pytest.mark.parametrize("size", SENSORS, ids=str)
def test_nmnist_3c1fc_fits_any_sensor(size: tuple[int, int]) -> None:
    model = models.nmnist_3c1fc((2, *size))
    assert count(model, "weight") <= 6160
    assert model(poisson((2, *size), n=1), 3).shape == (1, 10)
    if "pool1" in model.shapes:
        # No pixel is left out of the pool: an event anywhere reaches it.
        pool = next(model.stages[0].children())
        corners = torch.zeros(1, 1, *size)
        corners[..., -1, -1] = 1
        assert max(model.shapes["pool1"][1:]) <= 34
        assert pool(corners)[..., -1, -1] > 0


@pytest.mark.parametrize("size", [(1, 1, 700), (1, 28, 28), (3, 32, 32), (2, 34), (2, 0, 34)])
def test_nmnist_3c1fc_needs_two_polarities(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"sensor of size \(2, height, width\)"):
        models.nmnist_3c1fc(size)


@pytest.mark.parametrize("seed", range(5))
def test_a_fresh_network_is_neither_silent_nor_saturated(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.zeros(10, 16, 2, 34, 34)
    x[..., 8:25, 8:25] = poisson((2, 17, 17), rate=4 * 0.18, n=16)  # a digit is where the events are
    _, counts = spike_counts(models.nmnist_3c1fc(), x, 10)
    for name in ("spikes1", "spikes2", "spikes3"):
        assert 0.1 < counts[name].mean() < 10


def test_gradients_reach_every_weight_at_every_number_of_steps() -> None:
    torch.manual_seed(0)
    model = models.nmnist_3c1fc()
    for steps in (1, [3, 1, 10], 10):
        model.zero_grad()
        nn.functional.cross_entropy(model(poisson((2, 34, 34)), steps), torch.arange(4)).backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())


# ----- configs

CONFIGS = [
    {},
    {"surrogate": Exponential(2.0), "blocks_per_stage": None},
    {"neuron": LIF(tau=0.05, lower_bound=-1.0), "duration": 0.3, "surrogate": Triangular()},
    {"norm": True, "bias": True, "width_multiplier": 0.5},
    {"neuron": IF(reset="zero"), "decay_per_step": 0.5, "transform": "soft", "surrogate": PeriodicExponential(0.3)},
]


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_a_config_rebuilds_the_network(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = models.build("nmnist_3c1fc", sensor_size=(2, 16, 20), num_classes=4, **options)
    twin = models.from_config(json.loads(json.dumps(model.config)))
    twin.load_state_dict(model.state_dict())
    assert twin.config == model.config
    x = poisson((2, 16, 20))
    grads = []
    for net in (model, twin):
        logits = net(x, 5)
        assert logits.shape == (4, 4)
        logits.square().sum().backward()
        grads.append((logits, next(net.parameters()).grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])


@every_model
def test_every_config_is_plain_and_rebuilds_the_network(name: str) -> None:
    model = models.MODELS[name](width_multiplier=1 / 32)
    config = json.loads(json.dumps(model.config))
    twin = models.from_config(config)
    twin.load_state_dict(model.state_dict())
    assert twin.config == model.config == config
    assert twin.shapes == model.shapes


def test_configs_of_older_checkpoints_have_fewer_keys() -> None:
    config = models.nmnist_3c1fc().config
    for key in ("norm", "bias", "width_multiplier"):
        del config[key]
    assert models.from_config(config).config == models.nmnist_3c1fc().config


def test_a_model_called_directly_has_the_same_config() -> None:
    built = models.build("nmnist_3c1fc", sensor_size=(2, 34, 34), num_classes=10)
    assert models.nmnist_3c1fc().config == built.config


def test_unknown_models_options_and_configs_are_refused() -> None:
    sizes = {"sensor_size": (2, 34, 34), "num_classes": 10}
    with pytest.raises(InputError, match="unknown model 'resnet'; there are: dvsgesture_net, nmnist_3c1fc"):
        models.build("resnet", **sizes)
    with pytest.raises(InputError, match="no option 'depth'"):
        models.build("nmnist_3c1fc", **sizes, depth=2)
    with pytest.raises(InputError, match="CubaLIF neurons cannot be trained"):
        models.build("nmnist_3c1fc", **sizes, neuron=CubaLIF(tau=0.1, tau_syn=0.1))
    with pytest.raises(InputError, match="num_classes"):
        models.nmnist_3c1fc(num_classes=0)
    config = models.nmnist_3c1fc().config
    with pytest.raises(InputError, match=r"unknown type 'os\.system'"):
        models.from_config({**config, "neuron": {"type": "os.system"}})
    with pytest.raises(InputError, match="not the config of a model"):
        models.from_config({"name": "nmnist_3c1fc"})
    with pytest.raises(InputError, match="not the config of a model"):
        models.from_config({**config, "neuron": {"type": "IF", "colour": 1}})
    with pytest.raises(InputError, match="no option 'colour'"):
        models.from_config({**config, "colour": 1})
