"""A labelled collection of still images, in memory."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self, SupportsIndex

import numpy as np

from mtt_brian.events.collection import Collection


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Images(Collection):
    """Still images of one split of one data set, in a fixed order.

    They have no events and no time: ``images[i]`` is uint8 [C, H, W].

    Attributes:
        pixels: uint8 [N, C, H, W], 0 to 255.
        mean, std: of every channel of the training images, for intensities 0..1 (``pixels / 255``): the published
            numbers that networks are trained with.
    """

    pixels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def _item(self, index: int) -> np.ndarray:
        return self.pixels[index]

    def subset(self, indices: Iterable[SupportsIndex]) -> Self:
        """The images with these indices, in the order of ``indices``."""
        chosen = [operator.index(i) for i in indices]
        return replace(super().subset(chosen), pixels=self.pixels[chosen])
