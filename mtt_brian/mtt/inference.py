"""Logits of the time-stepped network for recordings, images or frames."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mtt_brian import events, machine
from mtt_brian.errors import InputError
from mtt_brian.events import Images
from mtt_brian.mtt.frame_dataset import Data, FrameSet, load_frames
from mtt_brian.snn import Staged


def max_batch_size(model: Staged, time_steps: int) -> int:
    """Recordings per batch: see `machine.batch_size`; the largest layer has `machine.ACTIVATIONS` numbers at most."""
    largest = max(math.prod(shape) for shape in (model.input_shape, *model.shapes.values()))
    return machine.batch_size(largest * time_steps, machine.ACTIVATIONS)


@torch.no_grad()
def predict(model: Staged, data: Data | FrameSet, time_steps: int, batch_size: int | None = None) -> np.ndarray:
    """Logits of the time-stepped network, every stage at ``time_steps``.

    Recordings are binned at ``time_steps`` from their events: more steps are shorter bins, not repeated frames.

    Args:
        model: the network; it is in evaluation mode during the call.
        data: N recordings or images, or their frames.
        time_steps: T, any number, also larger than in training.
        batch_size: items at a time; None: `max_batch_size`.

    Returns:
        float32 [N, classes].

    Raises:
        InputError: if there are no items.
    """
    if not len(data):
        raise InputError("there is nothing to predict: no recordings or images")
    device = next(model.parameters()).device
    if batch_size is None:
        batch_size = max_batch_size(model, time_steps)
    was_training = model.training
    model.eval()
    logits = [model(frames.to(device), time_steps) for frames in _batches(data, time_steps, batch_size)]
    model.train(was_training)
    return torch.cat(logits).cpu().numpy()


def _batches(data: Data | FrameSet, time_steps: int, size: int) -> Iterator[Tensor]:
    if isinstance(data, Images):
        data = load_frames(data, time_steps)
    starts = range(0, len(data), size)
    if isinstance(data, FrameSet):
        indices = [np.arange(start, min(start + size, len(data))) for start in starts]
        yield from (frames for frames, _ in data.batches(indices))
        return
    for start in starts:
        part = data[start : start + size]
        yield torch.from_numpy(events.frames_batch(part, time_steps, data.sensor_size))
