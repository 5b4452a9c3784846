"""Recordings and still images as frames for a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mtt_brian.errors import InputError
from mtt_brian.events import Images, Recordings
from mtt_brian.events.binning import bin_recordings
from mtt_brian.snn.ops.memory_format import to_channels_last

#: Training data.
Data: TypeAlias = Recordings | Images


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

    def batch(
        self,
        index: np.ndarray,
        augment: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, Tensor]:
        """Frames float32 [T, n, C, H, W] and labels [n] of the items ``index``, on ``device``.

        Still images are normalised: ``(pixel - mean) / std``.

        Args:
            index: [n].
            augment: applied to the frames [n, T, C, H, W] first.
            device: of the batch.
        """
        frames = self.frames[index]
        if augment is not None:
            frames = augment(frames)
        # In the memory format of the network's layers, so that no pass converts them again.
        frames = to_channels_last(frames.to(device).transpose(0, 1), torch.float32)
        if self.mean is not None and self.std is not None:
            frames = (frames - self.mean.to(device)) / self.std.to(device)
        return frames, self.labels[index].to(device)


def load_frames(data: Data, time_steps: int, workers: int = 0) -> FrameSet:
    """Recordings as ``time_steps`` frames each, still images as one.

    A still image is constant: the temporal transform in front of the first stage repeats its one frame.

    Args:
        data: N recordings or images.
        time_steps: T, for recordings.
        workers: processes that bin the recordings, see `bin_recordings`.

    Raises:
        InputError: if there are no items, or as `bin_recordings`.
    """
    labels = torch.as_tensor(np.asarray(data.labels), dtype=torch.int64)
    if isinstance(data, Recordings):
        return FrameSet(torch.from_numpy(bin_recordings(data, time_steps, workers)), labels)
    if not len(data):
        raise InputError(f"{data.title}: no images")
    mean, std = (255 * torch.tensor(values).reshape(-1, 1, 1) for values in (data.mean, data.std))
    return FrameSet(torch.tensor(data.pixels).unsqueeze(1), labels, mean, std)
