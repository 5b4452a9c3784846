"""Residual connections: two branches over the same time steps, whose outputs are added."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.snn.neurons import Spiking


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

    def forward(self, x: Tensor) -> Tensor:
        return run(self.body, x) + run(self.shortcut, x)


def run(chain: nn.Module, x: Tensor) -> Tensor:
    """Layers one after the other on [T, N, *]; those without time see the folded [T * N, *]."""
    t_n = x.shape[:2]
    for layer in chain.children():
        x = layer(x) if isinstance(layer, Spiking | Residual) else layer(x.flatten(0, 1)).unflatten(0, t_n)
    return x


def leaves(named: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    """The layers by name, with those of both branches, body first, in the place of a residual connection."""
    for name, layer in named:
        if isinstance(layer, Residual):
            yield from layer.body.named_children()
            yield from layer.shortcut.named_children()
        else:
            yield name, layer
