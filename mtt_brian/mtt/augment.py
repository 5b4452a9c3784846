"""Random changes of recordings and images that keep their class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import torch
from torch import Tensor

from mtt_brian.errors import check_flag, check_whole
from mtt_brian.kernel_cache import kept

#: A type by its bytes: a pixel with all its channels is copied as one number.
_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training items, applied in the order of the attributes; drawn independently for each item.

    Attributes:
        shift: move by whole numbers of pixels, uniform on {-shift..shift}, in both directions. Pixels that leave the
            frame are lost, and the pixels that enter it are empty, as for a camera that is turned. For
            still images this is the random crop of the image with ``shift`` pixels of padding.
        roll: likewise, but pixels that leave the frame enter it on the opposite side.
        flip: mirror left and right with probability 1/2.

    Raises:
        InputError: for pixels that are no whole number from 0 to 32,767, and for a flip that is not True or False.
    """

    shift: int = 0
    roll: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for name in ("shift", "roll"):
            pixels = check_whole(f"Augmentation.{name}", getattr(self, name), most=2**15 - 1, least=0)
            object.__setattr__(self, name, pixels)  # a small integer of numpy would overflow
        check_flag("Augmentation.flip", self.flip)

    def draw(self, rng: np.random.Generator, items: int, size: tuple[int, int]) -> Changes:
        """The changes of ``items`` frames of ``size`` (height, width); ``rng`` is used for enabled changes only."""
        shifts = rolls = mirrored = None
        if self.shift:
            reach = np.array([self.shift if pixels > 1 else 0 for pixels in size])  # a single pixel stays where it is
            shifts = torch.from_numpy(reach - rng.integers(0, 2 * reach + 1, size=(items, 2)))
        if self.roll:
            rolls = torch.from_numpy(rng.integers(-self.roll, self.roll + 1, size=(items, 2)))
        if self.flip:
            mirrored = torch.from_numpy(rng.integers(0, 2, size=items) == 1)
        return Changes(shifts, rolls, mirrored)

    def __call__(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Frames [N, T, C, H, W] with changes drawn from ``rng`` on a CPU, in the same memory format."""
        height, width = frames.shape[-2:]
        return self.draw(rng, len(frames), (height, width)).to(frames.device)(frames)


@dataclass(frozen=True, eq=False)
class Changes:
    """The drawn changes of N items; None for a disabled change. Indexing gives the changes of some items.

    Attributes:
        shifts, rolls: pixels down and to the right, int64 [N, 2].
        mirrored: bool [N].
    """

    shifts: Tensor | None = None
    rolls: Tensor | None = None
    mirrored: Tensor | None = None

    def __getitem__(self, index: np.ndarray | Tensor) -> Changes:
        return self._each(lambda drawn: drawn[index])

    def to(self, device: torch.device | str) -> Changes:
        """The same changes on the device of the frames."""
        return self._each(lambda drawn: drawn.to(device))

    def _each(self, function: Callable[[Tensor], Tensor]) -> Changes:
        drawn = (self.shifts, self.rolls, self.mirrored)
        return Changes(*(None if values is None else function(values) for values in drawn))

    def __call__(self, frames: Tensor) -> Tensor:
        """Changed frames in the same memory format: every pixel is copied from one place of the same frame, or empty.

        Shape:
            [N, T, C, H, W] -> [N, T, C, H, W].
        """
        if self.shifts is None and self.rolls is None and self.mirrored is None:
            return frames
        items, _, channels, _, width = frames.shape
        innermost = channels_innermost(frames)
        ordered = frames.contiguous() if innermost is None else innermost
        # [N, images, H, W * K]: K numbers per pixel, one if some number has the size of all channels in memory.
        size = frames.element_size() * (1 if innermost is None else channels)
        numbers = ordered.view(_NUMBERS.get(size, _NUMBERS[frames.element_size()]))
        lines = numbers.flatten(1, 2) if innermost is None else numbers.flatten(3)
        rows, columns = (self._sources(axis, frames).expand(items, -1) for axis in (0, 1))
        if (per_pixel := lines.shape[-1] // width) > 1:
            each = columns[:, :, None] * per_pixel + torch.arange(per_pixel, device=frames.device)
            columns = torch.where(columns[:, :, None] < 0, -1, each).flatten(1)
        moved = _move(lines, rows, columns, empty=self.shifts is not None).view(numbers.shape).view(frames.dtype)
        return moved if innermost is None else moved.permute(0, 1, 4, 2, 3)

    def _sources(self, axis: int, frames: Tensor) -> Tensor:
        """The row (axis 0) or column (1) that each one is copied from: int64 [N or 1, size], -1 for an empty one."""
        size = frames.shape[3 + axis]
        source = torch.arange(size, device=frames.device)[None]
        if self.mirrored is not None and axis == 1:
            source = torch.where(self.mirrored[:, None], source.flip(1), source)
        if self.rolls is not None:
            source = (source - self.rolls[:, axis, None]) % size
        if self.shifts is not None:
            source = source - self.shifts[:, axis, None]
            source = torch.where((source >= 0) & (source < size), source, -1)
        return source


def _move(lines: Tensor, rows: Tensor, columns: Tensor, *, empty: bool) -> Tensor:
    """``lines[n, :, rows[n], columns[n]]`` for every item n, and 0 where a row or a column is -1.

    Args:
        lines: integers [N, images, H, W], contiguous.
        rows, columns: int64 [N, H] and [N, W].
        empty: whether a row or a column may be -1.
    """
    if lines.device.type != "cpu":
        return _move_by_gather(lines, rows, columns, empty=empty)
    moved = torch.empty_like(lines)
    _move_on_cpu(lines.numpy(), rows.contiguous().numpy(), columns.contiguous().numpy(), moved.numpy())
    return moved


def _move_by_gather(lines: Tensor, rows: Tensor, columns: Tensor, *, empty: bool) -> Tensor:
    there_rows, there_columns = (rows.clamp(min=0), columns.clamp(min=0)) if empty else (rows, columns)
    source = there_rows[:, :, None] * lines.shape[3] + there_columns[:, None, :]
    moved = lines.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, lines.shape[1], -1)).view(lines.shape)
    if empty:
        moved *= ((rows >= 0)[:, None, :, None] & (columns >= 0)[:, None, None, :]).to(moved.dtype)
    return moved


@kept([Path(__file__)])
@numba.njit(nogil=True)
def _move_on_cpu(lines, rows, columns, moved):  # type: ignore[no-untyped-def]
    items, images, height, width = lines.shape
    for n in range(items):
        for image in range(images):
            for y in range(height):
                row, line = rows[n, y], moved[n, image, y]
                if row < 0:
                    line[:] = 0
                    continue
                source = lines[n, image, row]
                for x in range(width):
                    column = columns[n, x]
                    line[x] = source[np.uint64(column)] if column >= 0 else 0  # unsigned: no count from the end


def channels_innermost(frames: Tensor) -> Tensor | None:
    """Frames [N, T, C, H, W] as a contiguous [N, T, H, W, C] in the same memory; None if they lie in another order."""
    innermost = frames.permute(0, 1, 3, 4, 2)
    return innermost if innermost.is_contiguous() else None
