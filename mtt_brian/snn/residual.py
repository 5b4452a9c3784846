"""Residual connections: two branches over the same time steps, whose outputs are added."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtt_brian.errors import InputError, check_kind
from mtt_brian.snn.frame_norm import normed
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.ops.choice import norm_kernels
from mtt_brian.snn.ops.time_plan import RoomPlan, TimePlan
from mtt_brian.snn.pooling import pool
from mtt_brian.snn.temporal import apply_map
from mtt_brian.text import shown

#: Batch normalisation over time steps and recordings; see `mtt_brian.snn.norm`.
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
#: Layers with weights.
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)
#: Layers that draw random numbers in training mode.
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class Residual(nn.Module):
    """``body(x) + shortcut(x)``, for each time step; stateless.

    The sum is the input of the population behind it: a spiking residual block is a `Residual` and that population
    (MTT paper's ResNets; He et al. 2016 with populations for rectifiers).

    Args:
        body: layers by name, in order, `Spiking` populations among them; at least one.
        shortcut: likewise; empty for the identity.

    Shape:
        x: [T, N, *] -> [T, N, *].

    Raises:
        InputError: for an empty body, or a residual connection within a branch.
    """

    def __init__(self, body: Mapping[str, nn.Module], shortcut: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        shortcut = {} if shortcut is None else shortcut
        for name, layers in (("body", body), ("shortcut", shortcut)):
            check_layers(name, layers)
        if not body:
            raise InputError("the body of a residual connection needs a layer; only the shortcut may be the identity")
        if any(isinstance(layer, Residual) for layer in (*body.values(), *shortcut.values())):
            raise InputError("a branch of a residual connection cannot hold another one")
        seen: set[nn.Module] = set()
        self.body = nn.Sequential(OrderedDict(each_its_own(body, seen)))
        self.shortcut = nn.Sequential(OrderedDict(each_its_own(shortcut, seen)))

    def forward(self, x: Tensor, plan: TimePlan | RoomPlan | None = None) -> Tensor:
        return run(self.body, x, plan) + run(self.shortcut, x, plan)


def check_layers(name: str, layers: Any) -> None:
    """Refuses all but layers of torch by name.

    Raises:
        InputError: naming the argument, or the layer.
    """
    check_kind(name, layers, Mapping)
    for key, layer in layers.items():
        check_kind(f"{name}: {shown(key)}", layer, nn.Module)


def each_its_own(layers: Mapping[str, nn.Module], seen: set[nn.Module]) -> dict[str, nn.Module]:
    """The layers, where one that was seen before is replaced by a copy with the same parameters.

    torch leaves out the second name of a layer when it lists a sequence, and a hook cannot distinguish two names.

    Args:
        layers: by name.
        seen: layers that have another name already; these layers are added.
    """

    def own(layer: nn.Module) -> nn.Module:
        if layer in seen:
            return copy.deepcopy(layer, {id(tensor): tensor for tensor in (*layer.parameters(), *layer.buffers())})
        seen.add(layer)
        return layer

    return {name: own(layer) for name, layer in layers.items()}


def run(layers: Iterable[nn.Module], x: Tensor, plan: TimePlan | RoomPlan | None = None) -> Tensor:
    """Layers one after the other on [T, N, *]; those without time process the folded [T * N, *].

    Args:
        layers: from input to output.
        x: frames.
        plan: the time steps; None: one segment of len(x) steps. ``plan.repeat`` is applied behind the first layers that
            process each frame by itself, a convolution above all, so that none processes the same frame twice.
            ``plan.sums`` is applied by the last layer, which must be a population.

    A population's kernels may contain the batch norm in front of it (`Spiking.contains`); hooks of that norm are then
    not called.
    """
    layers = list(layers)
    plan = plan or TimePlan((len(x),))
    inner = plan._replace(sums=None)
    norm: nn.Module | None = None
    for layer, follower in zip_longest(layers, layers[1:]):
        if isinstance(layer, NORMS) and isinstance(follower, Spiking) and follower.contains(x, layer):
            norm = layer
            continue
        if isinstance(layer, Residual):
            x, inner = layer(x, inner), inner._replace(repeat=None)
            continue
        if isinstance(layer, Spiking):
            own = plan._replace(repeat=None) if inner.repeat is None else plan
            x, norm = layer(x, own if layer is layers[-1] else inner, norm), None
            inner = inner._replace(repeat=None)
            continue
        if isinstance(inner, RoomPlan) and not _frame_by_frame(layer):
            x, inner = _normed_in_room(layer, x, inner), inner._replace(repeat=None)
            continue
        if inner.repeat is not None and not _frame_by_frame(layer):
            x, inner = apply_map(x, inner.repeat), inner._replace(repeat=None)
        folded = x.flatten(0, 1)
        if len(plan.lengths) == 1 or _frame_by_frame(layer):
            folded = _on_frames(layer, folded)
        else:  # a norm has the statistics of one segment
            folded = torch.cat([layer(segment) for segment in folded.split([t * x.shape[1] for t in plan.lengths])])
        x = folded.unflatten(0, x.shape[:2])
    return x if inner.repeat is None else apply_map(x, inner.repeat)


def _normed_in_room(layer: nn.Module, x: Tensor, plan: RoomPlan) -> Tensor:
    """The output of a norm, in all time steps."""
    kernels = norm_kernels(x, layer) if isinstance(layer, NORMS) else None
    if kernels is None:
        raise InputError(
            f"mixed time steps cannot be recorded through {layer}: a norm needs scales, 2^k channels and mixed "
            "precision (amp), and no layer may draw random numbers"
        )
    return normed(layer, x if plan.repeat is None else apply_map(x, plan.repeat), plan, kernels)


def _on_frames(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` for frames [N, *].

    A strided convolution with a kernel of one pixel is applied to the picked pixels, without a stride: oneDNN's
    gradient of it with channels innermost writes beyond its memory (uxlfoundation/oneDNN#6035, in torch 2.13).
    """
    if (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.padding in ((0, 0), "valid")
        and max(layer.stride) > 1
    ):
        # Equals x[..., ::rows, ::columns], whose gradient would have another memory format.
        picked = functional.avg_pool2d(x, 1, layer.stride)
        return functional.conv2d(picked, layer.weight, layer.bias, groups=layer.groups)
    return pool(layer, x) if isinstance(layer, nn.AvgPool2d) else layer(x)


def _frame_by_frame(layer: nn.Module) -> bool:
    """Whether the output for a frame depends on that frame only: not on other frames, and on no random numbers."""
    return not (layer.training and isinstance(layer, (*NORMS, *DROPOUTS)))


def additive(layer: nn.Module) -> bool:
    """Whether the output for a sum of frames is the sum of the outputs."""
    if isinstance(layer, WEIGHTED):
        return layer.bias is None
    return isinstance(layer, nn.AvgPool2d | nn.Flatten | nn.Identity)


def leaves(named: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    """The layers by name, with those of both branches, body first, in the place of a residual connection."""
    for name, layer in named:
        if isinstance(layer, Residual):
            yield from layer.body.named_children()
            yield from layer.shortcut.named_children()
        else:
            yield name, layer
