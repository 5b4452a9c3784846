"""Residual connections: two branches over the same time steps, whose outputs are added."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mtt_brian.errors import InputError
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.temporal import Moves


class Residual(nn.Module):
    """``body(x) + shortcut(x)``, time step by time step; no state outlives a call.

    The sum is what a population behind it receives: a spiking residual block is a `Residual` and that population
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
        if not body:
            raise InputError("the body of a residual connection needs a layer; only the shortcut may be the identity")
        if any(isinstance(layer, Residual) for layer in (*body.values(), *shortcut.values())):
            raise InputError("a branch of a residual connection cannot hold another one")
        self.body = nn.Sequential(OrderedDict(body))
        self.shortcut = nn.Sequential(OrderedDict(shortcut))

    def forward(self, x: Tensor, lengths: Sequence[int] | None = None, repeat: Moves | None = None) -> Tensor:
        return run(self.body, x, lengths, repeat) + run(self.shortcut, x, lengths, repeat)


def run(
    layers: Iterable[nn.Module],
    x: Tensor,
    lengths: Sequence[int] | None = None,
    repeat: Moves | None = None,
    sums: Moves | None = None,
) -> Tensor:
    """Layers one after the other on [T, N, *]; those without time see the folded [T * N, *].

    Args:
        layers: from input to output.
        x: frames.
        lengths: numbers of time steps of several courses that lie one behind the other and have nothing to do with
            each other; they add up to T. None: a single one.
        repeat: shows frames several times over, [fewer, N, *] -> [T, N, *]. That is done behind the layers that treat
            every frame alike and by itself, a convolution above all: they need not be asked for the same frame twice.
        sums: adds up what the last layer gives, a population, [T, N, *] -> [fewer, N, *].
    """
    layers = list(layers)
    for layer in layers:
        if isinstance(layer, Residual):
            x, repeat = layer(x, lengths, repeat), None
            continue
        if isinstance(layer, Spiking):
            x, repeat = layer(x, lengths, repeat, sums if layer is layers[-1] else None), None
            continue
        if repeat is not None and not _frame_by_frame(layer):
            x, repeat = repeat(x), None
        folded = x.flatten(0, 1)
        if lengths is None or _frame_by_frame(layer):
            folded = _on_frames(layer, folded)
        else:  # the statistics of a norm are those of a single course
            folded = torch.cat([layer(course) for course in folded.split([t * x.shape[1] for t in lengths])])
        x = folded.unflatten(0, x.shape[:2])
    return x if repeat is None else repeat(x)


def _on_frames(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` for frames [N, *].

    A strided convolution with a kernel of one pixel needs no more than every second pixel, say. oneDNN's gradient of
    one with channels innermost writes beyond its memory (uxlfoundation/oneDNN#6035, in torch 2.13): it gets no stride.
    """
    if (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.padding in ((0, 0), "valid")
        and max(layer.stride) > 1
    ):
        # As x[..., ::rows, ::columns], the gradient of which would lie in memory in another order.
        picked = functional.avg_pool2d(x, 1, layer.stride)
        return functional.conv2d(picked, layer.weight, layer.bias, groups=layer.groups)
    return layer(x)


def _frame_by_frame(layer: nn.Module) -> bool:
    """Whether what a layer without time makes of a frame depends on nothing else: no other frames, nor chance."""
    return not (layer.training and isinstance(layer, _BatchNorm | _DropoutNd))


def additive(layer: nn.Module) -> bool:
    """Whether a layer makes of a sum of frames the sum of what it makes of each."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
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
