"""Logits of the time-stepped network for recordings, images or frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtt_brian import machine
from mtt_brian.errors import InputError, check_whole
from mtt_brian.events import Images, Recordings
from mtt_brian.events.binning import bin_indices
from mtt_brian.events.recording import SensorSize
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.mtt.frame_dataset import Data, FrameSet, check_data, load_frames
from mtt_brian.progress import progress_bar
from mtt_brian.snn import Staged
from mtt_brian.snn.staged import check_one_kind, check_staged, evaluation_mode
from mtt_brian.text import shown


def max_batch_size(model: Staged, time_steps: int) -> int:
    """Recordings per batch: see `machine.batch_size`; the largest layer has `machine.ACTIVATIONS` numbers at most."""
    device = next(model.parameters()).device.type
    largest = max(math.prod(shape) for shape in (model.input_shape, *model.shapes.values()))
    return machine.batch_size(largest * time_steps, machine.ACTIVATIONS.get(device, machine.ACTIVATIONS["cpu"]))


def predict(model: Staged, data: Data | FrameSet, time_steps: int, batch_size: int | None = None) -> np.ndarray:
    """Logits of the time-stepped network, every stage at ``time_steps``, in the precision of its weights.

    Recordings are binned at ``time_steps`` from their events: more steps are shorter bins, not repeated frames.

    Args:
        model: the network; it is in evaluation mode during the call.
        data: N recordings or images, or their frames.
        time_steps: T, any number, also larger than in training.
        batch_size: items at a time; None: `max_batch_size`.

    Returns:
        [N, classes], float32, or float64 of a network in float64; also under ``torch.autocast``.

    Raises:
        InputError: if there are no items, for weights that are not finite, and for arguments of another kind or out of
            range.

    Several threads may predict with one network at the same time; none may train it meanwhile.
    """
    return predict_each(model, data, [time_steps], batch_size, progress=False)[time_steps]


@torch.no_grad()
def predict_each(
    model: Staged,
    data: Data | FrameSet,
    numbers: Sequence[int],
    batch_size: int | None = None,
    workers: int = 0,
    *,
    progress: bool = True,
) -> dict[int, np.ndarray]:
    """`predict` for several numbers of time steps; every recording is read once.

    Args:
        model, data, batch_size: see `predict`.
        numbers: of time steps, T each.
        workers: processes that read the recordings, see `events.binning.bin_recordings`.
        progress: show a bar.

    Returns:
        [N, classes] for every T, as `predict`.
    """
    check_staged(model)
    check_one_kind(model)
    check_data(data, FrameSet)
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise InputError(f"numbers must be a list of numbers of time steps, not {shown(numbers)}")
    if batch_size is not None:
        check_whole("batch_size", batch_size, most=2**31 - 1, least=1)
    check_whole("workers", workers, most=1024, least=0)
    if not len(data):
        raise InputError("there is nothing to predict: no recordings or images")
    logits: dict[int, list[Tensor]] = {
        check_whole("time_steps", time_steps, most=MOST_TIME_STEPS, least=1): [] for time_steps in numbers
    }
    if not logits:
        raise InputError("there is nothing to predict: no numbers of time steps")
    for name, values in model.state_dict().items():
        if values.is_floating_point() and not values.isfinite().all():
            raise InputError(f"{name} of the network holds NaN or infinite values, and its logits would be NaN")
    sizes = {time_steps: batch_size or max_batch_size(model, time_steps) for time_steps in logits}
    device = next(model.parameters()).device
    if isinstance(data, Images):
        data = load_frames(data, time_steps=1).to(device)
    bar = progress_bar(total=len(data) * len(logits), description="testing", unit="passes", leave=False, show=progress)
    with bar, evaluation_mode(model), torch.autocast(device.type, enabled=False):
        if isinstance(data, FrameSet):
            batches = _batches_of_frames(data, sizes)
        else:
            batches = _batches_of_recordings(data, sizes, device, workers)
        for time_steps, frames in batches:
            logits[time_steps].append(model(frames.to(device), time_steps))
            bar.update(frames.shape[1])
    return {time_steps: torch.cat(each).cpu().numpy() for time_steps, each in logits.items()}


def _batches_of_frames(data: FrameSet, sizes: Mapping[int, int]) -> Iterator[tuple[int, Tensor]]:
    """A number of time steps and frames [T, n, C, H, W], for all items at every number."""
    for time_steps, size in sizes.items():
        indices = np.split(np.arange(len(data)), range(size, len(data), size))
        yield from ((time_steps, frames) for frames, _ in data.batches(indices))


def _batches_of_recordings(
    data: Recordings, sizes: Mapping[int, int], device: torch.device, workers: int
) -> Iterator[tuple[int, Tensor]]:
    """As `_batches_of_frames`, some recordings at every number before the next recordings are read."""
    grids = _common_grids(sizes)
    indices = bin_indices(data, grids, workers)
    while some := list(itertools.islice(indices, max(sizes.values()))):
        for time_steps, size in sizes.items():
            grid = next(k for k, finest in enumerate(grids) if finest % time_steps == 0)
            for start in range(0, len(some), size):
                part = [each[grid] for each in some[start : start + size]]
                yield time_steps, _frames(part, grids[grid], time_steps, data.sensor_size, device)


def _common_grids(numbers: Iterable[int]) -> list[int]:
    """Numbers of time steps, few of them, such that each of ``numbers`` divides one; at most twice the largest."""
    largest, *others = sorted(numbers, reverse=True)
    grids = [largest]
    for steps in others:
        for k, grid in enumerate(grids):
            if math.lcm(grid, steps) <= 2 * largest:
                grids[k] = math.lcm(grid, steps)
                break
        else:
            grids.append(steps)
    return grids


def _frames(
    indices: Sequence[np.ndarray], finest: int, time_steps: int, sensor_size: SensorSize, device: torch.device
) -> Tensor:
    """The frames float32 [T, n, C, H, W] of n recordings, counted on the device.

    Args:
        indices: of their events in frames of ``finest`` time steps, see `bin_indices`.
        finest: a multiple of ``time_steps``.
        time_steps: T.
        sensor_size: (C, H, W).
        device: of the frames.
    """
    pixels, items = math.prod(sensor_size), len(indices)
    index = torch.from_numpy(np.concatenate(indices)).to(device).long()
    item = torch.from_numpy(np.repeat(np.arange(items, dtype=np.int32), [len(each) for each in indices])).to(device)
    fine = index // pixels
    step = fine // (finest // time_steps)
    place = (step * items + item) * pixels + (index - fine * pixels)
    frames = torch.zeros(time_steps * items * pixels, device=device)
    frames.scatter_add_(0, place, torch.ones_like(place, dtype=frames.dtype))
    return frames.view(time_steps, items, *sensor_size)
