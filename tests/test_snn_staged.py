"""Staged networks and the model zoo."""

import json

import pytest
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.snn import Spiking, Staged, models, spike_counts
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Triangular


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
    # Stage 1 fires 2 0 0 1 in four steps; stage 2 sees 2 and 1 in two steps, or 2 2 0 0 0 0 1 1 in eight.
    x = frames(2.0, 0, 0, 1)
    assert model.num_stages == 2
    assert model(x, [4, 2]).item() == 2 * 3 / 2
    assert model(x, [4, 8]).item() == 2 * 6 / 8
    # Stage 1 sees everything at once.
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
    with pytest.raises(InputError, match="blocks_per_stage must be at least 1"):
        one_neuron(3, blocks_per_stage=0)


def test_bad_networks_are_refused() -> None:
    spiking = Spiking(IF())
    with pytest.raises(InputError, match="needs a spiking population"):
        Staged({"readout": linear(1)}, (1,))
    with pytest.raises(InputError, match="behind the last one"):
        Staged({"spikes": spiking}, (1,))
    with pytest.raises(InputError, match=r"'a\.b' cannot name a layer"):
        Staged({"a.b": spiking, "readout": linear(1)}, (1,))
    with pytest.raises(InputError, match="'input' cannot name a layer"):
        Staged({"input": spiking, "readout": linear(1)}, (1,))
    with pytest.raises(InputError, match=r"layer 'readout' does not fit frames of shape \(3,\)"):
        Staged({"spikes": spiking, "readout": linear(1)}, (3,))
    with pytest.raises(InputError, match="transform must be one of hard, soft, trim"):
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
    # With more steps than frames the first stage sees every frame twice.
    assert spike_counts(model, x, 8)[1]["input"].flatten().tolist() == [6, 2]
    assert not logits.requires_grad
    assert not any(p._forward_hooks for p in model.populations().values())


# ----- the zoo

SENSORS = [(1, 1), (8, 8), (5, 40), (20, 28), (33, 33), (34, 34), (35, 35), (48, 48), (68, 68), (128, 128), (180, 240)]


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_nmnist_3c1fc_has_the_papers_number_of_parameters() -> None:
    model = models.nmnist_3c1fc()
    assert n_parameters(model) == 144 + 1152 + 2304 + 2560 == 6160
    assert [model.shapes[f"spikes{i}"] for i in (1, 2, 3)] == [(8, 17, 17), (16, 9, 9), (16, 4, 4)]
    assert "pool" not in model.shapes
    assert model.num_stages == 3
    assert all(not name.endswith("bias") for name, _ in model.named_parameters())


@pytest.mark.parametrize("size", SENSORS, ids=str)
def test_nmnist_3c1fc_fits_any_sensor(size: tuple[int, int]) -> None:
    model = models.nmnist_3c1fc((2, *size))
    assert n_parameters(model) <= 6160
    assert model(poisson((2, *size), n=1), 3).shape == (1, 10)
    if "pool" in model.shapes:
        # No pixel is left out of the pool: an event anywhere reaches it.
        pool = next(model.stages[0].children())
        corners = torch.zeros(1, 1, *size)
        corners[..., -1, -1] = 1
        assert max(model.shapes["pool"][1:]) <= 34
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


CONFIGS = [
    {},
    {"surrogate": Exponential(2.0), "blocks_per_stage": None},
    {"neuron": LIF(tau=0.05, lower_bound=-1.0), "duration": 0.3, "surrogate": Triangular()},
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


def test_a_model_called_directly_has_the_same_config() -> None:
    built = models.build("nmnist_3c1fc", sensor_size=(2, 34, 34), num_classes=10)
    assert models.nmnist_3c1fc().config == built.config


def test_unknown_models_options_and_configs_are_refused() -> None:
    sizes = {"sensor_size": (2, 34, 34), "num_classes": 10}
    with pytest.raises(InputError, match="unknown model 'resnet'; there are: nmnist_3c1fc"):
        models.build("resnet", **sizes)
    with pytest.raises(InputError, match="no option 'width'"):
        models.build("nmnist_3c1fc", **sizes, width=2)
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
