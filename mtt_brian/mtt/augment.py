"""Random changes of recordings and images that leave their class as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What happens to every item of a training batch, in the order of the attributes; each item has its own luck.

    Attributes:
        shift: move by whole numbers of pixels, uniform on {-shift..shift}, in both directions. What leaves the frame is
            lost and the space it leaves stays empty, as for a camera that points elsewhere. For still images it is the
            random crop of the image with ``shift`` pixels of padding.
        roll: likewise, but what leaves the frame enters on the opposite side.
        flip: mirror left and right with probability 1/2.
    """

    shift: int = 0
    roll: int = 0
    flip: bool = False

    def __call__(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Changed frames in the same order in memory; ``rng`` is asked only for what is on.

        Shape:
            [N, T, C, H, W] -> [N, T, C, H, W].
        """
        height, width = frames.shape[-2:]
        if self.shift:
            reach = [self.shift if size > 1 else 0 for size in (height, width)]  # one pixel is no direction to move in
            corners = rng.integers(0, 2 * np.array(reach) + 1, size=(len(frames), 2))
            before, frames = frames, torch.zeros_like(frames)
            for item, source, (down, right) in zip(frames, before, (np.array(reach) - corners).tolist(), strict=True):
                (to_rows, rows), (to_columns, columns) = _moved(height, down), _moved(width, right)
                item[..., to_rows, to_columns] = source[..., rows, columns]
        if self.roll:
            moves = rng.integers(-self.roll, self.roll + 1, size=(len(frames), 2)).tolist()
            before, frames = frames, torch.empty_like(frames)
            for item, source, move in zip(frames, before, moves, strict=True):
                item.copy_(source.roll(move, (-2, -1)))
        if self.flip:
            mirrored = torch.from_numpy(rng.integers(0, 2, size=len(frames)) == 1)
            frames = torch.where(mirrored.reshape(-1, 1, 1, 1, 1), frames.flip(-1), frames)
        return frames


def _moved(size: int, by: int) -> tuple[slice, slice]:
    """Where a line of pixels that moves by so many of them lands, and what of it does."""
    by = max(-size, min(by, size))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))
