"""A network on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mtt_brian.engines.exact_cuda.arrays import KernelArrays
from mtt_brian.engines.exact_cuda.gpu import Gpu, Kernel


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """What all batches of a network share; its buffers stay on the GPU as long as this object exists.

    Attributes:
        gpu: where it is.
        sizes: the network.
        kernels: compiled for both.
        buffers: of `KernelArrays.arrays`.
        recorded: numbers of the populations whose spikes are kept, by name.
    """

    gpu: Gpu
    sizes: KernelArrays
    kernels: Sequence[Kernel]
    buffers: Sequence[Any]
    recorded: Mapping[str, int]

    @cached_property
    def addresses(self) -> list[int]:
        """The first arguments of every kernel."""
        return [self.gpu.address(buffer) for buffer in self.buffers]
