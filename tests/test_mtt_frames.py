"""Frames of a training: the same batches wherever the frames are kept, and the same augmentation as item by item."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtt_brian import events, mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt import augment, frame_dataset, inference, prefetch
from mtt_brian.mtt.augment import Changes
from tests.operations import Operations
from tests.test_mtt_fit import small, synthetic

#: A device and where its frames are kept.
PLACES = [("cpu", "auto"), *(pytest.param("cuda", where, marks=pytest.mark.gpu) for where in ("device", "host"))]

#: [N, T, C, H, W], and whether the channels are innermost in memory.
SHAPES = [((9, 3, 2, 8, 6), True), ((9, 3, 2, 8, 6), False), ((5, 1, 3, 7, 7), False), ((4, 2, 3, 5, 2), True)]
SHAPES += [((6, 2, 1, 5, 9), True), ((7, 4, 2, 1, 12), True), ((3, 2, 2, 2, 2), False), ((4, 2, 5, 3, 3), True)]
CHANGES = [{"shift": 2}, {"roll": 3}, {"flip": True}, {"shift": 40}, {"roll": 40}]
CHANGES += [{"shift": 1, "roll": 2}, {"shift": 3, "flip": True}, {"roll": 1, "flip": True}]
CHANGES += [{"shift": 2, "roll": 1, "flip": True}, {}]


def some(shape: tuple[int, ...], innermost: bool, dtype: torch.dtype) -> Tensor:
    items, steps, channels, height, width = shape
    rng = np.random.default_rng(0)
    if innermost:
        counts = rng.integers(0, 256, (items, steps, height, width, channels)).transpose(0, 1, 4, 2, 3)
    else:
        counts = rng.integers(0, 256, shape)
    return torch.from_numpy(counts).to(dtype)


def one_by_one(changes: Changes, frames: Tensor) -> Tensor:
    """Every item by itself: pixels that are shifted out are lost, then the roll, then the mirror."""
    changed = []
    _, _, _, height, width = frames.shape
    for n, frame in enumerate(frames):
        if changes.shifts is not None:
            down, right = changes.shifts[n].tolist()
            moved = torch.zeros_like(frame)
            for y in range(height):
                for x in range(width):
                    if 0 <= y - down < height and 0 <= x - right < width:
                        moved[..., y, x] = frame[..., y - down, x - right]
            frame = moved
        if changes.rolls is not None:
            frame = frame.roll(changes.rolls[n].tolist(), (-2, -1))
        if changes.mirrored is not None and changes.mirrored[n]:
            frame = frame.flip(-1)
        changed.append(frame)
    return torch.stack(changed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
@pytest.mark.parametrize(("shape", "innermost"), SHAPES)
@pytest.mark.parametrize("enabled", CHANGES, ids=str)
def test_the_changes_of_a_batch_are_those_of_its_items(
    enabled: dict[str, Any],
    shape: tuple[int, ...],
    innermost: bool,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = some(shape, innermost, dtype)
    changes = mtt.Augmentation(**enabled).draw(np.random.default_rng(1), len(frames), (shape[-2], shape[-1]))
    expected = one_by_one(changes, frames)
    assert not enabled or not torch.equal(expected, frames)
    found = changes(frames)
    assert found.dtype == dtype
    assert torch.equal(found, expected)
    assert found.stride() == frames.stride(), "the same memory format"
    monkeypatch.setattr(augment, "_move", augment._move_by_gather)  # as on a GPU
    assert torch.equal(changes(frames), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_changes_on_a_gpu_are_those_on_a_cpu(dtype: torch.dtype) -> None:
    for shape, innermost in SHAPES:
        frames = some(shape, innermost, dtype)
        for enabled in CHANGES:
            changes = mtt.Augmentation(**enabled).draw(np.random.default_rng(1), len(frames), (shape[-2], shape[-1]))
            found = changes.to("cuda")(frames.cuda())
            assert torch.equal(found.cpu(), changes(frames)), (shape, innermost, enabled)


def test_a_seed_draws_the_same_changes_as_in_earlier_versions() -> None:
    """A resumed run continues with the augmentation of the version that began it."""
    changes = mtt.Augmentation(shift=2, roll=3, flip=True).draw(np.random.default_rng(5), 4, (8, 8))
    rng = np.random.default_rng(5)
    shifts = 2 - rng.integers(0, [5, 5], size=(4, 2))
    rolls = rng.integers(-3, 4, size=(4, 2))
    mirrored = rng.integers(0, 2, size=4) == 1
    assert changes.shifts is not None
    assert changes.rolls is not None
    assert changes.mirrored is not None
    assert changes.shifts.tolist() == shifts.tolist()
    assert changes.rolls.tolist() == rolls.tolist()
    assert changes.mirrored.tolist() == mirrored.tolist()


def frame_set(items: int = 23, dtype: torch.dtype = torch.uint8, **more: Any) -> mtt.FrameSet:
    return mtt.FrameSet(some((items, 3, 2, 6, 5), True, dtype), torch.arange(items), **more)


def by_advanced_indexing(frames: mtt.FrameSet, index: np.ndarray, changes: Changes | None) -> Tensor:
    taken = frames.frames.cpu()[index]
    if changes is not None:
        taken = one_by_one(changes[index], taken)
    return taken.transpose(0, 1).float()


#: Parts of 23 items: one of them is shorter.
PARTS = np.array_split(np.random.default_rng(2).permutation(23), 5)


@pytest.mark.parametrize(("device", "frames_on"), PLACES)
@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
@pytest.mark.parametrize("together", [1, 2, 8])
def test_batches_are_the_items_in_order(
    together: int, dtype: torch.dtype, augmented: bool, device: str, frames_on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtt.FrameSet, "_together", lambda frames, items: together)
    frames = frame_set(dtype=dtype).to(device, frames_on)
    assert frames.frames.device.type == ("cpu" if frames_on == "host" else device)
    changes = mtt.Augmentation(shift=1, flip=True).draw(np.random.default_rng(3), 23, (6, 5)) if augmented else None
    for index, (batch, labels) in zip(PARTS, frames.batches(PARTS, changes), strict=True):
        assert batch.device.type == labels.device.type == device
        assert torch.equal(batch.cpu(), by_advanced_indexing(frames, index, changes))
        assert labels.tolist() == index.tolist()
        again, _ = frames.batch(index, None if changes is None else changes[index].to(device))
        assert torch.equal(again, batch)
        assert again.stride() == batch.stride()


@pytest.mark.gpu
def test_the_process_does_not_wait_for_the_gpu_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtt.FrameSet, "_together", lambda frames, items: 1)
    changes = mtt.Augmentation(shift=1, roll=1, flip=True).draw(np.random.default_rng(3), 23, (6, 5))
    batches = frame_set().to("cuda", "device").batches(PARTS, changes)
    next(batches)  # indices and changes are copied
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(batches)) == len(PARTS) - 1
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_batches_that_a_gpu_selects_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item has 180 bytes."""
    frames = frame_set()
    assert frames._together(5) == 1, "on a CPU"
    monkeypatch.setattr(mtt.FrameSet, "device", torch.device("cuda"))
    monkeypatch.setattr(frame_dataset, "BYTES_TOGETHER", 3 * 5 * 180)
    assert [frames._together(items) for items in (1, 5, 7, 100)] == [8, 3, 2, 1]


def test_images_are_normalised_wherever_they_are() -> None:
    mean, std = torch.tensor([3.0, 5.0]).reshape(-1, 1, 1), torch.tensor([2.0, 7.0]).reshape(-1, 1, 1)
    frames = frame_set(mean=mean, std=std)
    (batch, _), *_ = frames.batches(PARTS)
    assert torch.equal(batch, (by_advanced_indexing(frames, PARTS[0], None) - mean) / std)


class FakeGPU:
    """What `prefetched` calls of torch.cuda, with copies that happen as late as the calls allow: when a stream or the
    host waits for them, or when the copying stream would be idle otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.late: list[Callable[[], None]] = []
        self.calls_of_the_host = {threading.get_ident()}
        gpu = self

        class Event:
            def __init__(self) -> None:
                gpu.called()
                self.before = 0

            def record(self, stream: Any) -> None:
                gpu.called()
                self.before = gpu.enqueued

            def synchronize(self) -> None:
                gpu.called()
                gpu.run(self.before)

            def wait(self, stream: Any) -> None:
                gpu.called()
                gpu.run(self.before)

        self.enqueued = self.done = 0

        @contextmanager
        def stream(which: Any) -> Iterator[None]:
            yield

        fake = SimpleNamespace(
            Event=Event, Stream=lambda device: SimpleNamespace(), stream=stream, current_stream=lambda device: None
        )
        monkeypatch.setattr(prefetch.torch, "cuda", fake)
        monkeypatch.setattr(prefetch, "page_locked_like", torch.empty_like)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)

        def to(host: Tensor, device: Any, non_blocking: bool) -> Tensor:
            gpu.called()
            assert non_blocking
            on_device = torch.empty_like(host)
            gpu.late.append(lambda: on_device.copy_(host))
            gpu.enqueued += 1
            return on_device

        self.to = to

    def called(self) -> None:
        assert threading.get_ident() in self.calls_of_the_host, "the thread makes no call to the GPU"

    def run(self, before: int) -> None:
        while self.done < before:
            self.late[self.done]()
            self.done += 1


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 23])
def test_prefetched_batches_are_read_before_their_buffer_is_filled_again(
    count: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "cores", lambda: threads)
    frames = some((23, 3, 2, 6, 5), True, torch.uint8)
    parts = [torch.from_numpy(part) for part in np.array_split(np.random.default_rng(2).permutation(23), count)]
    expected = [frames[part] for part in parts]
    fake = FakeGPU(monkeypatch)
    monkeypatch.setattr(Tensor, "to", fake.to)
    found = [batch.clone() for batch in prefetch.prefetched(frames, parts, torch.device("cuda"))]
    assert len(found) == count
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()


@pytest.mark.parametrize("amp", [False, True])
def test_frames_for_mixed_precision_are_made_in_its_memory_format(amp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, frames = [], frame_set()
    convert = frame_dataset.to_channels_last

    def watched(frames: Tensor, dtype: torch.dtype) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return convert(frames, dtype)

    monkeypatch.setattr(frame_dataset, "to_channels_last", watched)
    (batch, _), (again, _) = (next(frames.batches([np.arange(4)], amp=choice)) for choice in (amp, not amp))
    assert seen == [amp, not amp]
    assert torch.equal(batch, again)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.gpu
def test_a_pass_in_mixed_precision_does_not_convert_its_frames() -> None:
    frames = frame_set().to("cuda")
    (batch, _) = next(frames.batches([np.arange(4)], amp=True))
    with torch.autocast("cuda", torch.bfloat16):
        assert frame_dataset.to_channels_last(batch, torch.float32).data_ptr() == batch.data_ptr()
    (plain, _) = next(frames.batches([np.arange(4)]))
    assert torch.equal(batch, plain)
    assert frame_dataset.to_channels_last(plain, torch.float32).data_ptr() == plain.data_ptr()


def test_a_batch_is_made_ahead_only_when_asked_for() -> None:
    made: list[int] = []

    def batches() -> Iterator[Any]:
        for k in range(3):
            made.append(k)
            yield k

    ahead = prefetch.Ahead(batches())
    assert next(ahead) == 0  # type: ignore[comparison-overlap]
    assert made == [0]
    ahead.prepare()
    ahead.prepare()
    assert made == [0, 1]
    assert list(ahead) == [1, 2]
    ahead.prepare()
    assert list(ahead) == []


def test_pixels_that_all_come_from_somewhere_are_not_masked() -> None:
    """On a GPU the mask is a further pass over the frames of several batches."""
    frames = some((9, 3, 2, 8, 6), True, torch.uint8)
    lines = frames.permute(0, 1, 3, 4, 2).contiguous().view(torch.int16).flatten(3)
    rows, columns = torch.arange(8).flip(0).expand(9, -1), torch.arange(6).roll(2).expand(9, -1)
    with Operations() as operations:
        moved = augment._move_by_gather(lines, rows, columns, empty=False)
    assert torch.equal(moved, lines.flip(2).roll(2, 3))
    assert "aten.gather.default" in operations.names
    assert not [name for name in operations.names if any(op in name for op in ("mul_", "clamp", "ge."))]


def test_a_stopped_epoch_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = some((23, 3, 2, 6, 5), True, torch.uint8)
    fake = FakeGPU(monkeypatch)
    monkeypatch.setattr(Tensor, "to", fake.to)
    batches = prefetch.prefetched(frames, [torch.from_numpy(part) for part in PARTS], torch.device("cuda"))
    next(batches)
    assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("free", "frames_on", "stays"),
    [(10_000, "auto", False), (8_000, "auto", True), (10_000, "host", True), (4_200, "device", False)],
)
def test_where_the_frames_are_kept(free: int, frames_on: Any, stays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """23 items of 180 bytes."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    assert frame_dataset._stay(frame_set().frames, torch.device("cuda"), frames_on) is stays


def test_frames_that_have_to_be_on_the_gpu_but_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 10_000))
    with pytest.raises(InputError, match=r"frames_on = 'device': the frames take .* give frames_on = 'host'"):
        frame_set().to("cuda", "device")


#: Numbers of time steps that nest, that do not, and that have a common multiple too large to be used.
NUMBERS = [[1], [1, 2, 5, 10, 20, 50, 150], [7, 3, 7], [97, 89, 83, 1]]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
def test_recordings_that_are_read_once_give_the_frames_of_every_grid(
    numbers: list[int], workers: int, device: str
) -> None:
    data = dataclasses.replace(synthetic(11), read=recorded)
    sizes = {time_steps: 1 + time_steps % 4 for time_steps in numbers}
    found: dict[int, list[Tensor]] = {time_steps: [] for time_steps in sizes}
    for time_steps, frames in inference._batches_of_recordings(data, sizes, torch.device(device), workers):
        assert frames.device.type == device
        assert 1 <= frames.shape[1] <= sizes[time_steps]
        found[time_steps].append(frames.cpu())
    for time_steps, parts in found.items():
        expected = events.frames_batch(data, time_steps, data.sensor_size)
        np.testing.assert_array_equal(torch.cat(parts, 1).numpy(), expected)


def recorded(identifier: str) -> np.ndarray:
    """A recording of random length; the first is empty, the second has one event."""
    number = int(identifier)
    rng = np.random.default_rng(number)
    count = number if number < 2 else int(rng.integers(2, 3000))
    t = np.sort(rng.integers(0, 10 ** int(rng.integers(1, 7)), count))
    return events.make_recording(t, rng.integers(0, 8, count), rng.integers(0, 8, count), rng.integers(0, 2, count))


@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
def test_few_grids_contain_all(numbers: list[int]) -> None:
    grids = inference._common_grids(numbers)
    assert all(any(grid % steps == 0 for grid in grids) for steps in numbers)
    assert max(grids) <= 2 * max(numbers)
    assert grids == {1: [1], 7: [300], 3: [7, 3], 4: [97, 89, 83]}[len(numbers)]


def test_every_recording_is_read_once() -> None:
    read: list[str] = []
    data = dataclasses.replace(synthetic(7), read=lambda identifier: read.append(identifier) or recorded(identifier))
    model = mtt.build_model(small(), data)
    each = mtt.predict_each(model, data, [6, 4, 3], progress=False)
    assert sorted(read) == sorted(data.ids)
    for time_steps, logits in each.items():
        np.testing.assert_array_equal(logits, mtt.predict(model, data, time_steps))


def test_the_frames_of_a_set_are_predicted_like_its_recordings() -> None:
    data = synthetic(7)
    model = mtt.build_model(small(), data)
    expected = mtt.predict(model, data, 4)
    frames = mtt.load_frames(data, 4)
    np.testing.assert_allclose(mtt.predict(model, frames, 4, batch_size=3), expected, rtol=1e-5, atol=1e-6)
