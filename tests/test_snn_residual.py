"""Residual connections in staged networks."""

import pytest
import torch
from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF
from mtt_brian.snn import Residual, Spiking, Staged, spike_counts


def spiking() -> Spiking:
    return Spiking(IF(spikes="many"))


def linear(weight: float, inputs: int = 1, outputs: int = 1) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


def block(number: int, shortcut: dict[str, nn.Module] | None = None) -> dict[str, nn.Module]:
    """x -> 0.5 x -> neuron -> x 2, plus the shortcut, into a neuron."""
    body = {f"in{number}": linear(0.5), f"inner{number}": spiking(), f"out{number}": linear(2.0)}
    return {f"residual{number}": Residual(body, shortcut), f"outer{number}": spiking()}


def network(*blocks: dict[str, nn.Module], **options: object) -> Staged:
    layers: dict[str, nn.Module] = {"stem": spiking()}
    for layers_of_block in blocks:
        layers |= layers_of_block
    return Staged(layers | {"readout": linear(1.0)}, (1,), **options)


def frames(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


def test_by_hand() -> None:
    # stem: 1 1 0 3; inner neuron: 0 1 0 1 (a half stays); times 2 plus the identity: 1 3 0 5
    model = network(block(1))
    logits, counts = spike_counts(model, frames(1.0, 1, 0, 3), 4)
    assert logits.item() == 9 / 4
    assert {name: n.item() for name, n in counts.items()} == {"input": 5, "stem": 5, "inner1": 2, "outer1": 9}
    # A shortcut with its own weight and neuron: half of 1 1 0 3 fires 0 1 0 1; in all 0 3 0 3.
    other = network(block(1, {"weight": linear(0.5), "third": spiking()}))
    logits, counts = spike_counts(other, frames(1.0, 1, 0, 3), 4)
    assert logits.item() == 6 / 4
    assert list(counts) == ["input", "stem", "inner1", "third", "outer1"]
    assert counts["third"].item() == 2


def test_layers_and_shapes_name_what_is_inside() -> None:
    names = ["stem", "in1", "inner1", "out1", "weight", "outer1", "readout"]
    model = network(block(1, {"weight": linear(0.5)}))
    assert [name for name, _ in model.layers()] == list(model.shapes) == names
    assert list(model.populations()) == ["stem", "inner1", "outer1"]


def test_stages_are_cut_behind_residual_blocks_only() -> None:
    def stages(**options: object) -> list[list[str]]:
        model = network(block(1), block(2), block(3), **options)
        return [[name for name, _ in stage.named_children()] for stage in model.stages]

    first, second = ["stem", "residual1", "outer1"], ["residual2", "outer2"]
    assert stages() == [first, second, ["residual3", "outer3", "readout"]]
    assert stages(blocks_per_stage=2) == [first + second, ["residual3", "outer3", "readout"]]
    assert len(stages(blocks_per_stage=None)) == 1
    assert stages(block_ends=["stem", "outer2"])[0] == ["stem"]
    with pytest.raises(InputError, match="a block can end with stem, outer1, outer2, outer3, not with inner1"):
        stages(block_ends=["inner1"])


def test_both_branches_run_with_the_time_steps_of_their_stage() -> None:
    model, x = network(block(1), block(2)), frames(1.0, 1, 0, 3)
    # Stage 1 in one step: 5 spikes, inner 2, in all 9. The input of stage 2 is 9 in three steps: inner 4, 5, 4, so 17,
    # 19, 17.
    assert model(x, [1, 3]).item() == pytest.approx((17 + 19 + 17) / 3)


def test_gradients_come_through_both_branches() -> None:
    torch.manual_seed(0)
    model = network(block(1, {"weight": linear(0.5)}), block(2))
    model(frames(1.0, 1, 0, 3), [2, 4]).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_bad_residual_connections_are_refused() -> None:
    with pytest.raises(InputError, match="the body of a residual connection needs a layer"):
        Residual({}, {"a": linear(1.0)})
    with pytest.raises(InputError, match="cannot hold another one"):
        Residual({"a": Residual({"b": linear(1.0)})})
    with pytest.raises(InputError, match="'in1' names 2 layers"):
        network({"residual1": Residual({"in1": linear(1.0)}, {"in1": linear(1.0)}), "outer1": spiking()})
    with pytest.raises(InputError, match="'stem' names 2 layers"):
        network({"residual1": Residual({"stem": linear(1.0)}), "outer1": spiking()})
    with pytest.raises(InputError, match="'a/b' cannot name a layer"):
        network({"residual1": Residual({"a/b": linear(1.0)}), "outer1": spiking()})
    with pytest.raises(InputError, match="behind the residual connection 'residual1' there must be a spiking popul"):
        network({"residual1": Residual({"in1": linear(1.0)})})
    # Shapes that could be broadcast are no sum.
    with pytest.raises(InputError, match=r"'residual1' does not fit .*its branches give \(3,\) and \(1,\)"):
        network({"residual1": Residual({"in1": linear(1.0, outputs=3)}), "outer1": spiking()})
