"""Copies of a batch between the host and the GPU, in the current stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mtt_brian.engines.exact_cuda.gpu import Gpu


class Transfers:
    """Holds what is copied to the GPU without waiting, until the batch is done.

    Args:
        gpu: the GPU.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._staged: list[np.ndarray] = []

    def copied(self, values: Any, dtype: type = np.int64) -> Any:
        """A buffer with some numbers; at least one."""
        values = np.asarray(values)
        staged = self._gpu.staging(values.shape if values.size else (1,), dtype)
        staged[...] = values if values.size else 0
        self._staged.append(staged)
        return self._gpu.upload(staged)

    def joined(self, parts: Iterable[np.ndarray], dtype: type) -> Any:
        """A buffer with arrays one after another."""
        return self.copied(np.concatenate([*parts]), dtype)

    def fetched(self, buffer: Any) -> np.ndarray:
        """The content of a buffer, in memory from which the GPU copies fast."""
        content = self._gpu.staging(buffer.shape, buffer.dtype)
        self._gpu.download(buffer, content)
        return content


def begins(lengths: Iterable[int]) -> np.ndarray:
    """Where parts of these lengths begin, and where the last one ends."""
    return np.cumsum([0, *lengths], dtype=np.int64)
