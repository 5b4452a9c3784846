"""A labelled collection of still images, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self, SupportsIndex

import numpy as np

from mtt_brian.errors import InputError
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

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = (len(self.ids), *self.sensor_size)
        if getattr(self.pixels, "shape", None) != expected or self.pixels.dtype != np.uint8:
            given = (
                f"{self.pixels.dtype} {self.pixels.shape}" if isinstance(self.pixels, np.ndarray) else "another object"
            )
            raise InputError(f"{self.title}: pixels must be an array uint8 {expected}, not {given}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if np.shape(values) != (self.sensor_size[0],):
                raise InputError(f"{self.title}: {name} needs one number for each of {self.sensor_size[0]} channels")

    def _item(self, index: int) -> np.ndarray:
        return self.pixels[index]

    def subset(self, indices: Iterable[SupportsIndex]) -> Self:
        """The images with these indices, in the order of ``indices``."""
        chosen = self._indices(indices)
        return replace(self, ids=[self.ids[i] for i in chosen], labels=self.labels[chosen], pixels=self.pixels[chosen])
