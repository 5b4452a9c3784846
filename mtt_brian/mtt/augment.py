"""Random changes of recordings and images that keep their class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training items, applied in the order of the attributes; drawn independently for each item.

    Attributes:
        shift: move by whole numbers of pixels, uniform on {-shift..shift}, in both directions. Pixels that leave the
            frame are lost, and the pixels that enter it are empty, as for a camera that is turned. For
            still images this is the random crop of the image with ``shift`` pixels of padding.
        roll: likewise, but pixels that leave the frame enter it on the opposite side.
        flip: mirror left and right with probability 1/2.
    """

    shift: int = 0
    roll: int = 0
    flip: bool = False

    def draw(self, rng: np.random.Generator, items: int, size: tuple[int, int]) -> Changes:
        """The changes of ``items`` frames of ``size`` (height, width); ``rng`` is used for enabled changes only."""
        shifts = rolls = mirrored = None
        if self.shift:
            reach = np.array([self.shift if pixels > 1 else 0 for pixels in size])  # a single pixel stays where it is
            shifts = reach - rng.integers(0, 2 * reach + 1, size=(items, 2))
        if self.roll:
            rolls = rng.integers(-self.roll, self.roll + 1, size=(items, 2))
        if self.flip:
            mirrored = rng.integers(0, 2, size=items) == 1
        return Changes(shifts, rolls, mirrored)

    def __call__(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Frames [N, T, C, H, W] with changes drawn from ``rng``, in the same memory format."""
        height, width = frames.shape[-2:]
        return self.draw(rng, len(frames), (height, width))(frames)


@dataclass(frozen=True)
class Changes:
    """The drawn changes of N items; None for a disabled change. Indexing gives the changes of some items.

    Attributes:
        shifts, rolls: pixels down and to the right, int64 [N, 2].
        mirrored: bool [N].
    """

    shifts: np.ndarray | None
    rolls: np.ndarray | None
    mirrored: np.ndarray | None

    def __getitem__(self, index: np.ndarray) -> Changes:
        shifts, rolls, mirrored = (
            None if drawn is None else drawn[index] for drawn in (self.shifts, self.rolls, self.mirrored)
        )
        return Changes(shifts, rolls, mirrored)

    def __call__(self, frames: Tensor) -> Tensor:
        """Changed frames in the same memory format.

        Shape:
            [N, T, C, H, W] -> [N, T, C, H, W].
        """
        height, width = frames.shape[-2:]
        if self.shifts is not None:
            before, frames = frames, torch.zeros_like(frames)
            for item, source, (down, right) in zip(frames, before, self.shifts.tolist(), strict=True):
                (to_rows, rows), (to_columns, columns) = _shifted(height, down), _shifted(width, right)
                item[..., to_rows, to_columns] = source[..., rows, columns]
        if self.rolls is not None:
            before, frames = frames, torch.empty_like(frames)
            for item, source, roll in zip(frames, before, self.rolls.tolist(), strict=True):
                item.copy_(source.roll(roll, (-2, -1)))
        if self.mirrored is not None:
            mirrored = torch.from_numpy(self.mirrored).reshape(-1, 1, 1, 1, 1)
            frames = torch.where(mirrored, frames.flip(-1), frames)
        return frames


def _shifted(size: int, by: int) -> tuple[slice, slice]:
    """Target and source of the pixels of a line that stay in the frame when they move by ``by`` pixels."""
    by = max(-size, min(by, size))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))
