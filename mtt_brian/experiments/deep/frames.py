"""The recordings of the experiment as frames, binned once and kept in files."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS as MEASURED
from mtt_brian.events.binning import bin_recordings
from mtt_brian.experiments.deep.plan import TIME_STEPS, Setting
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.files import replacing
from mtt_brian.mtt.frame_dataset import FrameSet

#: Recordings whose frames are added up at a time.
_PART = 25


def prepare(setting: Setting, workers: int) -> None:
    """Write the frames of training recordings at T_max, and of test recordings at the finest measured T; once.

    Args:
        setting: which recordings.
        workers: processes that simulate and bin them.

    Raises:
        InputError: as `load_recordings` and `bin_recordings`.
    """
    folder = setting.folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, time_steps in (("train", setting.recordings, TIME_STEPS), ("test", setting.test, MEASURED[-1])):
        path = _path(setting, split)
        if path.exists():
            continue
        recordings = load_recordings(setting.dataset, setting.data_root, split, count)
        frames = bin_recordings(recordings, time_steps, workers)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.lib.format.write_array(file, frames.transpose(0, 1, 3, 4, 2), allow_pickle=False)
        path.with_suffix(".json").write_text(json.dumps(recordings.labels.tolist()))
        print(f"{path}: {len(recordings)} recordings, T = {time_steps}", flush=True)


def _path(setting: Setting, split: str) -> Path:
    return setting.folder / "data" / f"{split}-{setting.recordings if split == 'train' else setting.test}.npy"


def training_frames(setting: Setting) -> FrameSet:
    """The training recordings on the device: uint8 [N, T_max, C, H, W]."""
    return _load(_path(setting, "train"), setting.device)


def test_frames(setting: Setting, time_steps: int) -> FrameSet:
    """The test recordings at one of the measured T, on the device.

    The measured T divide the finest, so that a step is the sum of some of its steps: bin ``t T // end`` of T steps is
    bin ``t 200 // end`` of 200 steps, divided by ``200 / T`` and rounded down.
    """
    if time_steps == MEASURED[-1]:
        return _load(_path(setting, "test"), setting.device)
    finest = test_frames(setting, MEASURED[-1])
    count, steps, *shape = finest.frames.shape
    parts = finest.frames.reshape(count, time_steps, steps // time_steps, *shape).split(_PART)
    return FrameSet(torch.cat([_narrowest(part.sum(2, dtype=torch.int32)) for part in parts]), finest.labels)


def _narrowest(frames: torch.Tensor) -> torch.Tensor:
    """As uint8 where the largest number allows it."""
    return frames.to(torch.uint8) if int(frames.max()) <= np.iinfo(np.uint8).max else frames


@lru_cache(maxsize=2)
def _load(path: Path, device: str) -> FrameSet:
    # The processes of all seeds share the memory of a mapped file.
    frames = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)).permute(0, 1, 4, 2, 3)
    labels = torch.tensor(json.loads(path.with_suffix(".json").read_text()), dtype=torch.int64)
    return FrameSet(frames.to(device), labels.to(device))
