"""Time steps of several configurations in one pass: batched sequences of different lengths."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FrameMap(NamedTuple):
    """A map of frames to frames: frame ``source[i]`` is added to frame ``target[i]``, for all i.

    Attributes:
        source, target: int64 [n].
        frames: number of frames after the map.
    """

    source: Tensor
    target: Tensor
    frames: int


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
    def frame_of(self) -> Tensor | None:
        """int64 [T], the input frame of each time step; None: frame t for step t."""
        return None if self.repeat is None else self.repeat.source

    @property
    def group_of(self) -> Tensor | None:
        """int64 [T], the group of the spikes of each time step; None: each has its own."""
        return None if self.sums is None else self.sums.target
