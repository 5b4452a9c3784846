"""Time steps of several configurations in one pass: batched sequences of different lengths."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mtt_brian.errors import InputError


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

    def sources_on(self, device: torch.device) -> Tensor:
        """`sources`, int32."""
        return on_device(sources(self), torch.int32, device)


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

    def table_on(self, device: torch.device) -> Tensor:
        """`table`, int32."""
        return on_device(table(self, self.steps), torch.int32, device)


class RoomMap(NamedTuple):
    """A `FrameMap` whose numbers a kernel reads, so that they can be others when the kernel runs again.

    Attributes:
        sources: int32, see `sources`; a frame without sources is 0.
        frames: number of frames after the map, used or not.
        back, before: of the transposed map.
    """

    sources: Tensor
    frames: int
    back: Tensor
    before: int

    def transposed(self, frames: int) -> RoomMap:
        """As `FrameMap.transposed`."""
        return RoomMap(self.back, frames, self.sources, self.frames)

    def sources_on(self, device: torch.device) -> Tensor:
        """`sources`.

        Raises:
            InputError: for a map that was not expected to be applied, without numbers.
        """
        if not len(self.sources):
            raise InputError("mixed time steps cannot be recorded where frames are repeated in front of a layer")
        return self.sources


class RoomPlan(NamedTuple):
    """A `TimePlan` whose numbers the kernels read, so that they can be others when the kernels run again.

    All tensors have room for more frames and time steps than are used. Unused frames are 0 and have the gradient 0.

    Attributes:
        lengths: as in `TimePlan`, at present.
        steps: room for the time steps of all segments.
        repeat: as in `TimePlan`.
        sums: room for the frames of spikes after the sums; None: no sums.
        tables: see `table`, int32, by whether there are repetitions and sums.
        decays: [2 * segments]: decay of a membrane per step, and what it adds to the membrane.
    """

    lengths: tuple[int, ...]
    steps: int
    repeat: RoomMap | None
    sums: int | None
    tables: Mapping[tuple[bool, bool], Tensor]
    decays: Tensor

    @property
    def groups(self) -> int:
        """Room for the frames of spikes."""
        return self.steps if self.sums is None else self.sums

    def table_on(self, device: torch.device) -> Tensor:
        """As in `TimePlan`."""
        return self.tables[self.repeat is not None, self.sums is not None]


@lru_cache(1000)  # for the passes forward and backward of an iteration; the next one has others
def table(plan: TimePlan, steps: int) -> tuple[int, ...]:
    """A plan as five rows of ``steps + 2`` integers, in one tensor because each is copied to the GPU by itself.

    The first step of every segment, and T; the frame of every step; its group; the segment of every frame; the number
    of steps of every frame. The second and the third row have -1 in front of the first and behind the last step.
    """
    segments = [i for i, length in enumerate(plan.lengths) for _ in range(length)]
    of_frame = dict(zip(plan.frame_of, segments, strict=True))
    counts = Counter(plan.frame_of)
    rows: list[Sequence[int]] = [
        tuple(itertools.accumulate(plan.lengths, initial=0)),
        (-1, *plan.frame_of, -1),
        (-1, *plan.group_of, -1),
        tuple(of_frame.values()),
        tuple(counts.values()),
    ]
    return tuple(itertools.chain(*((*row, *[0] * (steps + 2 - len(row))) for row in rows)))


@lru_cache(1000)
def sources(frame_map: FrameMap) -> tuple[int, ...]:
    """The sources of all targets, target after target, behind the frames + 1 places where those of a target begin."""
    pairs = sorted(zip(frame_map.target, frame_map.source, strict=True))
    counts = Counter(frame_map.target)
    begins = itertools.accumulate((counts[target] for target in range(frame_map.frames)), initial=0)
    return (*begins, *(source for _, source in pairs))


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
