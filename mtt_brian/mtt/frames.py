"""Recordings as frames in memory, and what a network says to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.snn import Staged


@dataclass(frozen=True, eq=False)
class FrameSet:
    """All recordings of a training set, binned once and kept in memory as small integers.

    Attributes:
        frames: event counts [N, T, C, H, W], uint8 (int32 if a pixel has more than 255 events in a bin).
        labels: int64 [N].
    """

    frames: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray, shift: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames float32 [T, n, C, H, W] and labels [n] of the recordings ``index``.

        Each recording is moved by its own whole number of pixels, uniform on {-shift..shift} in both directions; events
        that leave the sensor are lost and the space they leave stays empty, as for a camera that points elsewhere.
        """
        frames = self.frames[index]
        if shift:
            height, width = frames.shape[-2:]
            reach = [shift if size > 1 else 0 for size in (height, width)]  # a one-dimensional sensor has one direction
            padded = functional.pad(frames, (reach[1], reach[1], reach[0], reach[0]))
            corners = rng.integers(0, 2 * np.array(reach) + 1, size=(len(index), 2))
            frames = torch.stack(
                [x[..., y : y + height, left : left + width] for x, (y, left) in zip(padded, corners, strict=True)]
            )
        return frames.transpose(0, 1).float(), self.labels[index]


def bin_recordings(recordings: Recordings, time_steps: int) -> FrameSet:
    """Bin every recording into ``time_steps`` frames.

    Raises:
        InputError: if there is no recording.
    """
    if not len(recordings):
        raise InputError(f"{recordings.title}: no training recordings")
    shape = (len(recordings), time_steps, *recordings.sensor_size)
    frames = torch.zeros(shape, dtype=torch.uint8)
    for i in tqdm(range(len(recordings)), desc="binning", unit="rec", leave=False):
        counts = events.to_frames(recordings[i], time_steps, recordings.sensor_size)
        if frames.dtype == torch.uint8 and counts.max() > torch.iinfo(torch.uint8).max:
            frames = frames.to(torch.int32)
        frames[i] = torch.from_numpy(counts)
    return FrameSet(frames, torch.as_tensor(np.asarray(recordings.labels), dtype=torch.int64))


@torch.no_grad()
def predict(model: Staged, recordings: Recordings, time_steps: int, batch_size: int = 50) -> np.ndarray:
    """Logits of the time-stepped network, every stage at ``time_steps``.

    The recordings are binned anew at ``time_steps``, from their events: a fine grid shows what the network does with
    fine bins, not with stretched coarse ones.

    Args:
        model: the network; it is put into evaluation mode and back.
        recordings: N recordings.
        time_steps: T, any number, also larger than in training.
        batch_size: recordings at a time.

    Returns:
        float32 [N, classes].
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = []
    for start in range(0, len(recordings), batch_size):
        batch = [recordings[i] for i in range(start, min(start + batch_size, len(recordings)))]
        frames = torch.from_numpy(events.frames_batch(batch, time_steps, recordings.sensor_size)).to(device)
        logits.append(model(frames, time_steps).cpu().numpy())
    model.train(was_training)
    return np.concatenate(logits)
