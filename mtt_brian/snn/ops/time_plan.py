"""Time steps of several configurations in one pass: batched sequences of different lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class FrameMap(NamedTuple):
    """A map of frames to frames: frame ``source[i]`` is added to frame ``target[i]``, for all i.

    Attributes:
        source, target: n integers each.
        frames: number of frames after the map.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    frames: int

    def transposed(self, frames: int) -> FrameMap:
        """The map from all frames after this map to the ``frames`` before it."""
        return FrameMap(self.target, self.source, frames)


class TimePlan(NamedTuple):
    """The time steps of the layers of a stage. Segments follow each other on axis 0 and are independent of each other.

    Attributes:
        lengths: time steps of each segment, one segment per configuration; T is their sum.
        repeat: repeats frames, from fewer to T: the input of step t is frame ``repeat.source[t]``. None: it is frame t.
            Every frame is used, in order, and none by two segments.
        sums: sums spikes, from T to fewer: those of step t are added to group ``sums.target[t]``. None: no sums.
            Every group has a step, in order.
    """

    lengths: tuple[int, ...]
    repeat: FrameMap | None = None
    sums: FrameMap | None = None

    @property
    def steps(self) -> int:
        """T, the time steps of all segments."""
        return sum(self.lengths)

    @property
    def groups(self) -> int:
        """Number of frames of spikes after the sums."""
        return self.steps if self.sums is None else self.sums.frames

    @property
    def frame_of(self) -> Sequence[int]:
        """The input frame of each of the T time steps."""
        return range(self.steps) if self.repeat is None else self.repeat.source

    @property
    def group_of(self) -> Sequence[int]:
        """The group of the spikes of each of the T time steps."""
        return range(self.steps) if self.sums is None else self.sums.target


def on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers as a tensor, which nobody may change. The host does not wait for a GPU."""
    tensor = _on_device(numbers, dtype, device)
    if _kept is not None:
        _kept.append(tensor)
    return tensor


# Limited, because mixed time steps of many stages give many different maps.
@lru_cache(10_000)
def _on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return torch.tensor(numbers, dtype=dtype, device=device)
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("numbers cannot be copied to the GPU while a CUDA graph is recorded")
    return torch.tensor(numbers, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


_kept: list[Tensor] | None = None


@contextmanager
def kept_for_graphs() -> Iterator[list[Tensor]]:
    """Within the block, the yielded list gets all tensors of `on_device`: a CUDA graph reads them again later."""
    global _kept
    kept: list[Tensor] = []
    _kept = kept
    try:
        yield kept
    finally:
        _kept = None
