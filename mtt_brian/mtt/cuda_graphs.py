"""Iterations of equal shape as CUDA graphs: recorded once, then replayed with one launch.

An iteration of a network launches some hundred kernels, and a host needs longer to launch them than a fast GPU to run
them. A graph has all of them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtt_brian.snn.ops.time_plan import kept_for_graphs
from mtt_brian.text import one_line

logger = logging.getLogger("mtt_brian")

#: Iterations of a shape without a graph: they compile and load its kernels.
WARM_UP = 3
#: Graphs of different shapes. An epoch has two sizes of batches at most.
MOST = 4


class _Recorded(NamedTuple):
    """A graph with the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    frames: Tensor
    labels: Tensor
    gradients: list[Tensor | None]
    result: Tensor
    kept: Sequence[Tensor]


class Graphs:
    """The recorded iterations of one network and one set of options.

    An iteration is recorded when its shape has occurred `WARM_UP` times. Shapes beyond `MOST`, and those that cannot be
    recorded (a warning is logged once), are computed as without graphs. The memory of a recorded iteration stays
    allocated; all share it.
    """

    def __init__(self) -> None:
        self._seen: Counter[Any] = Counter()
        self._recorded: dict[Any, _Recorded] = {}
        self._refused = False
        self._memory: Any = None

    def __call__(
        self,
        compute: Callable[[Tensor, Tensor], Tensor],
        parameters: Sequence[nn.Parameter],
        frames: Tensor,
        labels: Tensor,
        key: Any,
    ) -> Tensor:
        """``compute(frames, labels)``, which also replaces the gradients of the parameters.

        Args:
            compute: always launches the same kernels for the same key and shapes, and does not wait for them.
            parameters: of the network.
            frames: of a batch.
            labels: of the batch.
            key: what else the kernels depend on.

        Returns:
            The result, valid until the next call.
        """
        key = (key, frames.shape, frames.stride(), frames.dtype, labels.shape, labels.dtype)
        if key not in self._recorded:
            self._seen[key] += 1
            if self._refused or self._seen[key] <= WARM_UP or len(self._recorded) >= MOST:
                return compute(frames, labels)
            try:
                self._recorded[key] = self._record(compute, parameters, frames, labels)
            except Exception as error:  # an operation that cannot be recorded raises errors of many types
                self._refused = True
                logger.warning("no CUDA graph of an iteration (%s); it is launched step by step", one_line(error, 150))
                return compute(frames, labels)
        recorded = self._recorded[key]
        recorded.frames.copy_(frames)
        recorded.labels.copy_(labels)
        recorded.graph.replay()
        for parameter, gradient in zip(parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        return recorded.result

    def _record(
        self,
        compute: Callable[[Tensor, Tensor], Tensor],
        parameters: Sequence[nn.Parameter],
        frames: Tensor,
        labels: Tensor,
    ) -> _Recorded:
        if self._memory is None:
            self._memory = torch.cuda.graph_pool_handle()
        frames, labels = frames.clone(memory_format=torch.preserve_format), labels.clone()
        for parameter in parameters:
            parameter.grad = None
        graph = torch.cuda.CUDAGraph()
        with (
            kept_for_graphs() as kept,
            torch.cuda.device(frames.device),
            # Other threads may copy batches meanwhile.
            torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"),
        ):
            result = compute(frames, labels)
        return _Recorded(graph, frames, labels, [parameter.grad for parameter in parameters], result, kept)
