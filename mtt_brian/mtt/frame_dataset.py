"""Recordings and still images as frames for a network, and what a network says to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import Images, Recordings
from mtt_brian.mtt.binning import bin_recordings
from mtt_brian.snn import Staged
from mtt_brian.snn.ops.memory_format import as_layers_like_it, keep_freed_memory

#: What a network can be trained on.
Data: TypeAlias = Recordings | Images

#: At most so many recordings go through a network at a time, and so many numbers through its largest layer.
BATCH, BUDGET = 50, 100_000_000


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames of a data set as small integers, ready to be drawn in batches.

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
            augment: what becomes of the frames [n, T, C, H, W] before.
            device: where the batch goes.
        """
        frames = self.frames[index]
        if augment is not None:
            frames = augment(frames)
        # In memory as the network's layers want them, so that none has to turn them around again in every pass.
        frames = as_layers_like_it(frames.to(device).transpose(0, 1), torch.float32)
        if self.mean is not None and self.std is not None:
            frames = (frames - self.mean.to(device)) / self.std.to(device)
        return frames, self.labels[index].to(device)


def load_frames(data: Data, time_steps: int, workers: int = 0) -> FrameSet:
    """Recordings as ``time_steps`` frames each, still images as one.

    A still image is the same at all times: the temporal transform in front of the first stage repeats its one frame.

    Args:
        data: N recordings or images.
        time_steps: T, for recordings.
        workers: processes that bin the recordings, see `bin_recordings`.

    Raises:
        InputError: if there are none, or as `bin_recordings`.
    """
    labels = torch.as_tensor(np.asarray(data.labels), dtype=torch.int64)
    if isinstance(data, Recordings):
        return FrameSet(torch.from_numpy(bin_recordings(data, time_steps, workers)), labels)
    if not len(data):
        raise InputError(f"{data.title}: no images")
    mean, std = (255 * torch.tensor(values).reshape(-1, 1, 1) for values in (data.mean, data.std))
    return FrameSet(torch.tensor(data.pixels).unsqueeze(1), labels, mean, std)


def max_batch_size(model: Staged, time_steps: int) -> int:
    """How many recordings go through the network together: `BATCH`, or fewer where the network is large or T is."""
    largest = max(math.prod(shape) for shape in (model.input_shape, *model.shapes.values()))
    return min(BATCH, max(1, BUDGET // (largest * time_steps)))


@torch.no_grad()
def predict(model: Staged, data: Data | FrameSet, time_steps: int, batch_size: int | None = None) -> np.ndarray:
    """Logits of the time-stepped network, every stage at ``time_steps``.

    Recordings are binned anew at ``time_steps``, from their events: a fine grid shows what the network does with
    fine bins, not with stretched coarse ones.

    Args:
        model: the network; it is put into evaluation mode and back.
        data: N recordings or images, or the frames that they have become already.
        time_steps: T, any number, also larger than in training.
        batch_size: items at a time; None: as `max_batch_size`.

    Returns:
        float32 [N, classes].

    Raises:
        InputError: if there are none.
    """
    if not len(data):
        raise InputError("there is nothing to predict: no recordings or images")
    keep_freed_memory()
    device = next(model.parameters()).device
    if batch_size is None:
        batch_size = max_batch_size(model, time_steps)
    was_training = model.training
    model.eval()
    logits = [model(frames.to(device), time_steps).cpu().numpy() for frames in _batches(data, time_steps, batch_size)]
    model.train(was_training)
    return np.concatenate(logits)


def _batches(data: Data | FrameSet, time_steps: int, size: int) -> Iterator[Tensor]:
    if isinstance(data, Images):
        data = load_frames(data, time_steps)
    for start in range(0, len(data), size):
        if isinstance(data, Recordings):
            part = data[start : start + size]
            yield torch.from_numpy(events.frames_batch(part, time_steps, data.sensor_size))
        else:
            yield data.batch(np.arange(start, min(start + size, len(data))))[0]
