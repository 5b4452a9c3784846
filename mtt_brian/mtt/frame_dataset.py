"""Recordings and still images as frames for a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mtt_brian.errors import InputError, check_whole
from mtt_brian.events import Images, Recordings
from mtt_brian.events.binning import bin_recordings
from mtt_brian.events.frame_cache import cached_frames
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.mtt.augment import Changes
from mtt_brian.mtt.prefetch import prefetched, select
from mtt_brian.snn.ops.memory_format import to_channels_last
from mtt_brian.text import shown

#: Training data.
Data: TypeAlias = Recordings | Images
#: Where the frames of a training are kept: see `FrameSet.to`.
FramesOn: TypeAlias = Literal["auto", "device", "host"]
#: Of the free memory of a GPU, what frames may fill; the rest is for the network.
SHARE = 0.5
#: Batches that a GPU selects and changes together, and the bytes of their frames, at most.
MOST_TOGETHER, BYTES_TOGETHER = 8, 1 << 28


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames of a data set as small integers, from which batches are taken.

    Attributes:
        frames: [N, T, C, H, W], uint8 or int32: event counts, or the pixels of still images with T = 1.
        labels: int64 [N].
        mean, std: of every channel of still images, float32 [C, 1, 1] in units of ``frames``; None for events.
    """

    frames: Tensor
    labels: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the batches are; ``frames`` may be in the memory of the host (`to`)."""
        return self.labels.device

    def to(self, device: torch.device | str, frames_on: FramesOn = "auto") -> FrameSet:
        """The same items with their batches on ``device``.

        Args:
            device: of the batches.
            frames_on: where all the frames are kept. "device": in the memory of a GPU. "host": in that of the computer,
                and `batches` copies each batch while the one before it is computed. "auto": on the GPU, if they fill at
                most `SHARE` of its free memory. On a CPU all are the same.

        Raises:
            InputError: if the frames have to be on the device and are larger than its free memory.
        """
        device = torch.device(device)
        frames = self.frames if _stay(self.frames, device, frames_on) else self.frames.to(device)
        mean, std = (None if values is None else values.to(device) for values in (self.mean, self.std))
        return FrameSet(frames, self.labels.to(device), mean, std)

    def batch(
        self, index: np.ndarray | Tensor, augment: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Frames float32 [T, n, C, H, W] and labels [n] of the items ``index``, on `device`.

        Still images are normalised: ``(pixel - mean) / std``.

        Args:
            index: int64 [n].
            augment: applied to the frames [n, T, C, H, W] first.
        """
        index = torch.as_tensor(index)
        frames = select(self.frames, index.to(self.frames.device)).to(self.device)
        if augment is not None:
            frames = augment(frames)
        return self._finished(frames), self.labels[index.to(self.device)]

    def batches(
        self, indices: Sequence[np.ndarray], changes: Changes | None = None, *, amp: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`batch` of several lists of items, one after the other, without waiting for a GPU in between.

        Indices and changes are copied to the device once, for all batches. On a GPU the frames of some batches are
        selected and changed together, because each of these operations is a launch, which takes longer than its work.
        Frames in the memory of the host are read and copied ahead (`prefetch`).

        Args:
            indices: lists of items, int64 [n] each.
            changes: of all items of the set; None: no augmentation.
            amp: for passes in mixed precision, which have another memory format on a GPU.
        """
        changes = None if changes is None else changes.to(self.device)
        together = self._together(max(map(len, indices), default=1))
        groups = [indices[start : start + together] for start in range(0, len(indices), together)]
        joined = [torch.from_numpy(np.concatenate(group)) for group in groups]
        on_device = torch.cat(joined).to(self.device).split([len(index) for index in joined])
        if self.frames.device == self.device:
            frames_of: Iterator[Tensor] = (select(self.frames, index) for index in on_device)
        else:
            frames_of = prefetched(self.frames, joined, self.device)
        for group, frames, index in zip(groups, frames_of, on_device, strict=True):
            if changes is not None:
                frames = changes[index](frames)
            sizes = [len(each) for each in group]
            finished = (self._finished(each, amp=amp) for each in frames.split(sizes))
            yield from zip(finished, self.labels[index].split(sizes), strict=True)

    def _together(self, items: int) -> int:
        """Batches of so many items that are selected together."""
        if self.device.type == "cpu":
            return 1
        size = items * self.frames[0].numel() * self.frames.element_size()
        return max(1, min(MOST_TOGETHER, BYTES_TOGETHER // max(1, size)))

    def _finished(self, frames: Tensor, *, amp: bool = False) -> Tensor:
        """The input of the network, of selected and changed frames."""
        # In the memory format of the network's layers, so that no pass converts them again.
        with torch.autocast(self.device.type, torch.bfloat16) if amp else nullcontext():
            frames = to_channels_last(frames.transpose(0, 1), torch.float32)
        if self.mean is not None and self.std is not None:
            frames = (frames - self.mean) / self.std
        return frames


def _stay(frames: Tensor, device: torch.device, frames_on: FramesOn) -> bool:
    """Whether frames are not copied to the device as a whole."""
    if frames.device.type != "cpu" or device.type != "cuda":
        return frames.device.type == device.type
    size, (free, _) = frames.numel() * frames.element_size(), torch.cuda.mem_get_info(device)
    if frames_on == "device" and size > free:
        raise InputError(
            f"frames_on = 'device': the frames take {size / 1e9:.1f} GB, and {device} has {free / 1e9:.1f} GB free;"
            " give frames_on = 'host', a smaller limit, or fewer time_steps"
        )
    return frames_on == "host" or (frames_on == "auto" and size > SHARE * free)


def check_data(data: Any, *more: type, name: str = "data") -> None:
    """Refuses what is neither recordings nor images of a data set, nor one of ``more``.

    Raises:
        InputError: naming what it is.
    """
    if not isinstance(data, (Recordings, Images, *more)):
        raise InputError(
            f"{name} must be Recordings or Images, as events.load gives them{', or a FrameSet' if more else ''}; not "
            f"{shown(data)}"
        )


def load_frames(data: Data, time_steps: int, workers: int = 0, *, cache: bool = False) -> FrameSet:
    """Recordings as ``time_steps`` frames each, still images as one.

    A still image is constant: the temporal transform in front of the first stage repeats its one frame.

    Args:
        data: N recordings or images.
        time_steps: T, for recordings.
        workers: processes that bin the recordings, see `bin_recordings`.
        cache: keep the frames of recordings on disk, see `cached_frames`.

    Raises:
        InputError: if there are no items, or as `bin_recordings` and `cached_frames`.
    """
    check_data(data)
    time_steps = check_whole("time_steps", time_steps, most=MOST_TIME_STEPS, least=1)
    workers = check_whole("workers", workers, most=1024, least=0)
    labels = torch.as_tensor(np.asarray(data.labels), dtype=torch.int64)
    if isinstance(data, Recordings):
        binned = (cached_frames if cache else bin_recordings)(data, time_steps, workers)
        return FrameSet(torch.from_numpy(binned), labels)
    if not len(data):
        raise InputError(f"{data.title}: no images")
    mean, std = (255 * torch.tensor(values).reshape(-1, 1, 1) for values in (data.mean, data.std))
    return FrameSet(torch.tensor(data.pixels).unsqueeze(1), labels, mean, std)
