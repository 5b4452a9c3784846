"""The recordings of the experiment as frames, binned once (`cached_frames`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS as MEASURED
from mtt_brian.experiments.deep.plan import TIME_STEPS, Setting
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.mtt.frame_dataset import FrameSet, load_frames

#: Recordings whose frames are added up and predicted at a time.
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


def test_frames(setting: Setting) -> Iterator[Mapping[int, FrameSet]]:
    """The test recordings, some at a time, at all measured T, with batches on the device.

    All recordings at one T would need gigabytes. The measured T divide the finest, so that a step is the sum of some of
    its steps: bin ``t T // end`` of T steps is bin ``t 200 // end`` of 200 steps, divided by ``200 / T`` and rounded
    down.
    """
    finest = _binned(setting, "test", MEASURED[-1])
    for start in range(0, len(finest), _PART):
        part = finest.frames[start : start + _PART]
        labels = finest.labels[start : start + _PART]
        count, steps, *shape = part.shape
        sums = {t: part.reshape(count, t, steps // t, *shape) for t in MEASURED}
        yield {t: FrameSet(_narrowest(each), labels).to(setting.device) for t, each in sums.items()}


def _narrowest(steps: torch.Tensor) -> torch.Tensor:
    """Sums of groups of steps [N, T, steps, ...], as uint8 where the largest number allows it."""
    if steps.shape[2] == 1:
        return steps.squeeze(2)
    frames = steps.sum(2, dtype=torch.int32)
    return frames.to(torch.uint8) if int(frames.max()) <= np.iinfo(np.uint8).max else frames


def _binned(setting: Setting, split: str, time_steps: int, workers: int = 0) -> FrameSet:
    count = setting.recordings if split == "train" else setting.test
    recordings = load_recordings(setting.dataset, setting.data_root, split, count)
    return load_frames(recordings, time_steps, workers, cache=True)
