"""The recordings of the experiment as frames, binned once (`cached_frames`)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS as MEASURED
from mtt_brian.experiments.deep.plan import TIME_STEPS, Setting
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.mtt.frame_dataset import FrameSet, load_frames

#: Recordings whose frames are added up at a time.
_PART = 25


def prepare(setting: Setting, workers: int) -> None:
    """Bin training recordings at T_max, and test recordings at the finest measured T, for all later processes.

    Args:
        setting: which recordings.
        workers: processes that simulate and bin them.

    Raises:
        InputError: as `load_recordings` and `load_frames`.
    """
    for split, time_steps in (("train", TIME_STEPS), ("test", MEASURED[-1])):
        frames = _binned(setting, split, time_steps, workers)
        print(f"{split}: {len(frames)} recordings, T = {time_steps}", flush=True)


def training_frames(setting: Setting) -> FrameSet:
    """The training recordings with batches on the device: uint8 [N, T_max, C, H, W]."""
    return _binned(setting, "train", TIME_STEPS).to(setting.device)


def test_frames(setting: Setting, time_steps: int) -> FrameSet:
    """The test recordings at one of the measured T, with batches on the device.

    The measured T divide the finest, so that a step is the sum of some of its steps: bin ``t T // end`` of T steps is
    bin ``t 200 // end`` of 200 steps, divided by ``200 / T`` and rounded down.
    """
    finest = _finest(setting)
    if time_steps == MEASURED[-1]:
        return finest
    count, steps, *shape = finest.frames.shape
    parts = finest.frames.reshape(count, time_steps, steps // time_steps, *shape).split(_PART)
    return FrameSet(torch.cat([_narrowest(part.sum(2, dtype=torch.int32)) for part in parts]), finest.labels)


def _narrowest(frames: torch.Tensor) -> torch.Tensor:
    """As uint8 where the largest number allows it."""
    return frames.to(torch.uint8) if int(frames.max()) <= np.iinfo(np.uint8).max else frames


@lru_cache(maxsize=1)
def _finest(setting: Setting) -> FrameSet:
    return _binned(setting, "test", MEASURED[-1]).to(setting.device)


def _binned(setting: Setting, split: str, time_steps: int, workers: int = 0) -> FrameSet:
    count = setting.recordings if split == "train" else setting.test
    recordings = load_recordings(setting.dataset, setting.data_root, split, count)
    return load_frames(recordings, time_steps, workers, cache=True)
