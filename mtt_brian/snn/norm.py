"""Batch norm in networks that are trained with mixed time steps and run without time steps.

Statistics over mixed numbers of time steps are wrong for each single number. They are measured again after training
(`recalibrate`), or frozen during further training (`lock`). An event-driven chip has no clock that could add a bias
once per time step: use `remove_biases` before the last epochs and `fold` at the end (MTT paper, batch norm; order of
the authors' code: train, `remove_biases`, `lock`, continue training, `fold`).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.snn.residual import NORMS, WEIGHTED
from mtt_brian.snn.staged import Staged, check_staged, check_weights, evaluation_mode


def has_norms(model: nn.Module) -> bool:
    """Whether the network contains a batch norm."""
    return any(isinstance(module, NORMS) for module in model.modules())


@torch.no_grad()
def recalibrate(model: Staged, batches: Iterable[Tensor], time_steps: int | Sequence[int]) -> None:
    """Measures the running statistics of all norms again, as the mean over ``batches``.

    Meanwhile all modules except the norms are in evaluation mode; afterwards the network's modes are restored. A
    network without norms is not changed.

    Args:
        model: changed in place.
        batches: frames [T, N, *input_shape] on the model's device; 10 training batches suffice (MTT paper).
        time_steps: of the later use of the network, T_max in the paper.

    Raises:
        InputError: if the norms are locked, or there is no batch.
    """
    check_staged(model)
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    if not norms:
        return
    if model.norms_locked:
        raise InputError("the norms are locked, their statistics frozen; recalibrate before norm.lock(), or not at all")
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise InputError("recalibration needs at least one batch of frames")
    momenta = [norm.momentum for norm in norms]
    with evaluation_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative mean
            norm.train()
        try:
            for frames in itertools.chain([first], batches):
                model(frames, time_steps)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                norm.eval()


def lock(model: Staged) -> None:
    """Keeps all norms in evaluation mode, also after ``model.train()``; their scales and shifts remain trainable.

    A state dict does not contain this: lock a rebuilt network again.
    """
    model.norms_locked = True
    model.train(model.training)


@torch.no_grad()
def remove_biases(model: nn.Module) -> None:
    """Sets running means, shifts and all other biases to zero and stops their training; `fold` then gives no bias.

    Norms in training mode collect means again: `lock` them before further training. A state dict contains the zeros,
    but not that they are fixed: remove the biases of a rebuilt network again.
    """
    for module in model.modules():
        if isinstance(module, NORMS) and module.running_mean is not None:
            module.running_mean.zero_()
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            bias.zero_()
            bias.requires_grad_(False)


@torch.no_grad()
def fold(model: Staged) -> Staged:
    """A copy without norms: each is merged into the convolution or linear layer directly before it.

    ``w' = w * s`` and ``b' = (b - mean) * s + shift`` with ``s = scale / sqrt(variance + eps)``: the result of the
    network in evaluation mode, up to rounding (in float32 rounding rarely adds or removes a spike of a membrane very
    close to its threshold). If no norm gives a bias, no layer gets one; otherwise all folded layers do. The config of a
    zoo model is that of the copy.

    Raises:
        InputError: naming a norm that follows no such layer or keeps no running statistics, and as `check_weights`.
    """
    check_staged(model)
    check_weights(model)
    folded = copy.deepcopy(model)
    pairs = []
    for chain in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        previous: nn.Module | None = None
        for name, layer in list(chain.named_children()):
            if isinstance(layer, NORMS):
                if not isinstance(previous, WEIGHTED):
                    raise InputError(f"the norm {name!r} cannot be folded: no convolution or linear layer precedes it")
                if layer.running_mean is None:
                    raise InputError(f"the norm {name!r} cannot be folded: it keeps no running statistics")
                pairs.append((previous, *_scale_and_shift(layer, previous)))
                delattr(chain, name)
            previous = layer
    biased = any(bool(shift.any()) for _, _, shift in pairs)
    for layer, scale, shift in pairs:
        weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        layer.weight = nn.Parameter(weight.to(layer.weight.dtype))  # a new one: layers may share theirs
        layer.bias = nn.Parameter(shift.to(layer.weight.dtype)) if biased else None
    remaining = dict(folded.layers())
    folded.shapes = {name: shape for name, shape in folded.shapes.items() if name in remaining}
    if folded.config and pairs:
        folded.config |= {"norm": False, "bias": biased}
    return folded


def _scale_and_shift(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, layer: nn.Conv1d | nn.Conv2d | nn.Linear
) -> tuple[Tensor, Tensor]:
    """Factor of the layer's weights and its new bias, float64 [channels] each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = 0.0 if layer.bias is None else layer.bias.double()
    shift = (bias - norm.running_mean.double()) * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()
