"""Batches of frames that are read and copied to a GPU while the one before them is computed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

from mtt_brian.machine import cores
from mtt_brian.mtt.augment import channels_innermost

Item = TypeVar("Item")
#: Threads that gather a batch. One gathers 21 MB in 4 ms, as long as a recorded iteration of VGG9 takes on an H200.
_MOST_THREADS = 4


def select(frames: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """``frames[index]`` of [N, T, C, H, W], in the same memory format.

    Args:
        frames: with time outside the channels in memory.
        index: int64 [n], on the same device.
        out: [n, T, C, H, W] in the same memory format, to be filled.
    """
    innermost = channels_innermost(frames)
    if innermost is None:
        return torch.index_select(frames, 0, index, out=out)
    return torch.index_select(innermost, 0, index, out=None if out is None else channels_innermost(out)).permute(
        0, 1, 4, 2, 3
    )


class Ahead(Generic[Item]):
    """An iterator; `prepare` makes the next item before it is needed."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._next: list[Item] = []

    def prepare(self) -> None:
        """Makes the next item, if there is one and it is not made yet."""
        if not self._next:
            self._next = list(itertools.islice(self._items, 1))

    def __iter__(self) -> Ahead[Item]:
        return self

    def __next__(self) -> Item:
        self.prepare()
        if not self._next:
            raise StopIteration
        return self._next.pop()


def prefetched(frames: Tensor, indices: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """``frames[index].to(device)`` for each index, two batches ahead.

    While the GPU computes batch k, batch k + 1 is copied to it by a stream of its own, and threads gather batch k + 2
    in page-locked memory. They make no call to the GPU: other calls would break the capture of a CUDA graph.

    Args:
        frames: [N, T, C, H, W], in the memory of the host.
        indices: int64 [n] each.
        device: of a GPU.
    """
    largest = max(map(len, indices), default=0)
    stream = torch.cuda.Stream(device)
    several = min(_MOST_THREADS, cores())
    buffers = [_Buffer(frames, largest) for _ in range(2)]
    gathering: deque[tuple[Tensor, list[Future[Tensor]]]] = deque()
    copied: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    with ThreadPoolExecutor(several, thread_name_prefix="prefetch") as threads:
        for number in range(len(indices) + 2):
            if gathering:
                batch, parts = gathering.popleft()
                for part in parts:
                    part.result()
                copied.append(buffers[(number - 1) % 2].copy(batch, device, stream))
            if number < len(indices):
                buffers[number % 2].copied.synchronize()  # the copy of two batches ago, which ended long before
                gathering.append(buffers[number % 2].gather(frames, indices[number], threads, several))
            if number >= 2:
                batch, done = copied.popleft()
                computing = torch.cuda.current_stream(device)
                done.wait(computing)  # the GPU waits, not this process
                batch.record_stream(computing)
                yield batch


class _Buffer:
    """Page-locked memory for a batch of frames, from which a GPU copies without the CPU.

    Attributes:
        copied: the event after which the last batch is on the GPU.
    """

    def __init__(self, frames: Tensor, items: int) -> None:
        self._memory = page_locked_like(frames[:items])
        self.copied = torch.cuda.Event()

    def gather(
        self, frames: Tensor, index: Tensor, threads: ThreadPoolExecutor, parts: int
    ) -> tuple[Tensor, list[Future[Tensor]]]:
        """The batch, and what fills its parts."""
        batch = self._memory[: len(index)]
        pieces = zip(index.tensor_split(parts), batch.tensor_split(parts), strict=True)
        return batch, [threads.submit(select, frames, some, out) for some, out in pieces if len(some)]

    def copy(self, batch: Tensor, device: torch.device, stream: torch.cuda.Stream) -> tuple[Tensor, torch.cuda.Event]:
        """The batch on the device, and the event after which it is there."""
        with torch.cuda.stream(stream):
            on_device = batch.to(device, non_blocking=True)
            self.copied.record(stream)
        return on_device, self.copied


def page_locked_like(frames: Tensor) -> Tensor:
    """Uninitialised memory for such frames that a GPU reads by itself."""
    return torch.empty_like(frames, pin_memory=True)
