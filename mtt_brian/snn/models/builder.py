"""Builder of networks, layer by layer: names, kernels for any sensor, norms, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import nn

from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.residual import Residual

_Size: TypeAlias = tuple[int, int, int]


class Layout:
    """The layers of one network, added from input to output; every method adds layers and updates ``size``.

    Populations are numbered from 1 on, and the layers in front of a population have its number: conv1, norm1, spikes1.
    Linear layers have no bias.

    Args:
        sensor_size: (C, H, W) of a frame.
        population: makes a population.
        norm: whether a batch norm follows every convolution.
        bias: whether convolutions have a bias.
        width_multiplier: factor of the model's numbers of channels and hidden units.

    Attributes:
        layers: by name, for `Staged`.
        block_ends: for `Staged`; None unless `end_block` was called.
        size: (C, H, W) of the output of the last layer.
    """

    def __init__(
        self,
        sensor_size: Sequence[int],
        population: Callable[[], Spiking],
        *,
        norm: bool,
        bias: bool,
        width_multiplier: float,
    ) -> None:
        self.layers: dict[str, nn.Module] = {}
        self.block_ends: list[str] | None = None
        channels, height, width = sensor_size
        self.size: _Size = (channels, height, width)
        self._population = population
        self._norm = norm
        self._bias = bias
        self._width_multiplier = width_multiplier
        self._populations = 0
        self._pools = 0

    def pool(self, kernel: int) -> None:
        """Average over windows of ``kernel`` x ``kernel``; no pixel is ignored, and small maps have small windows."""
        channels, *sides = self.size
        kernels = [min(kernel, side) for side in sides]
        if max(kernels) == 1:
            return
        # Zeros around the map if the kernel does not divide it.
        padding = [math.ceil(-side % k / 2) for side, k in zip(sides, kernels, strict=True)]
        self._pools += 1
        self.layers[f"pool{self._pools}"] = nn.AvgPool2d(_pair(kernels), padding=_pair(padding))
        height, width = map(_windows, sides, kernels, kernels, padding)
        self.size = (channels, height, width)

    def conv(self, channels: int, stride: int = 1, padding: int = 1) -> None:
        """Convolution (padded where the map is smaller than its kernel), norm, population."""
        number = self._next()
        layers, self.size = self._conv(self.size, self._wide(channels), f"{number}", stride=stride, padding=padding)
        self.layers |= layers
        self.layers[f"spikes{number}"] = self._population()

    def residual(self, channels: int, stride: int = 1) -> None:
        """Convolution, norm, population, convolution, norm, plus the shortcut, then a population: two numbers.

        The shortcut is the identity or, if channels or stride change, a 1x1 convolution with its norm. Its layers have
        the number of the next population.
        """
        channels = self._wide(channels)
        inner, outer = self._next(), self._next()
        first, size = self._conv(self.size, channels, f"{inner}", stride=stride)
        second, size = self._conv(size, channels, f"{outer}")
        shortcut: dict[str, nn.Module] = {}
        if stride != 1 or channels != self.size[0]:
            shortcut, _ = self._conv(self.size, channels, f"{outer}_shortcut", kernel=1, stride=stride, padding=0)
        self.layers[f"residual{outer}"] = Residual(first | {f"spikes{inner}": self._population()} | second, shortcut)
        self.layers[f"spikes{outer}"] = self._population()
        self.size = size

    def hidden(self, units: int) -> None:
        """Linear layer on all pixels of all channels, and its population."""
        self._flatten()
        number = self._next()
        units = self._wide(units)
        layer = self.layers[f"linear{number}"] = nn.Linear(math.prod(self.size), units, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.layers[f"spikes{number}"] = self._population()
        self.size = (units, 1, 1)

    def readout(self, classes: int) -> None:
        """The linear layer that gives the logits."""
        self._flatten()
        self.layers["readout"] = nn.Linear(math.prod(self.size), classes, bias=False)

    def end_block(self) -> None:
        """The last population ends a block. Without a call, blocks end as described in `Staged`."""
        self.block_ends = [*(self.block_ends or []), f"spikes{self._populations}"]

    def _next(self) -> int:
        self._populations += 1
        return self._populations

    def _wide(self, channels: int) -> int:
        return max(1, round(channels * self._width_multiplier))

    def _flatten(self) -> None:
        if "flatten" not in self.layers:
            self.layers["flatten"] = nn.Flatten()

    def _conv(
        self, size: _Size, channels: int, number: str, *, kernel: int = 3, stride: int = 1, padding: int = 1
    ) -> tuple[dict[str, nn.Module], _Size]:
        paddings = [max(padding, int(side < kernel)) for side in size[1:]]
        layer = nn.Conv2d(size[0], channels, kernel, stride=stride, padding=_pair(paddings), bias=self._bias)
        # Every population then fires about as often as the one before. With torch's smaller default weights the third
        # one is silent on sparse event frames, and a silent network has no gradient.
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers: dict[str, nn.Module] = {f"conv{number}": layer}
        if self._norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(channels)
        height, width = (_windows(n, kernel, stride, p) for n, p in zip(size[1:], paddings, strict=True))
        return layers, (channels, height, width)


def _windows(side: int, kernel: int, stride: int, padding: int) -> int:
    """How many windows of a convolution or pool fit along a side."""
    return (side + 2 * padding - kernel) // stride + 1


def _pair(values: list[int]) -> tuple[int, int]:
    vertical, horizontal = values
    return vertical, horizontal
