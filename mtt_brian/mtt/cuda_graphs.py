"""Iterations of equal shape as CUDA graphs: recorded once, then replayed with one launch.

An iteration of a network launches some hundred kernels, and a host needs longer to launch them than a fast GPU to run
them. A graph has all of them: forward and backward pass, running statistics of norms, and the norm of the gradient. The
optimizer's step is not part of it, so that it can follow the schedule of the learning rate and be left out.

Source: CUDA graphs in PyTorch's notes on CUDA semantics, "whole-network capture".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.snn.ops.time_plan import kept_for_graphs
from mtt_brian.text import one_line

#: Iterations of a shape without a graph: they compile and load its kernels, and make the work space of its libraries.
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
    """The recorded iterations of one network and one set of options, on one GPU.

    An iteration is recorded when its shape has occurred `WARM_UP` times. Shapes beyond `MOST` are computed as without
    graphs. The memory of a recorded iteration stays allocated; all share it.

    The first iterations of a shape run on the stream that records it. The nodes of autograd that add to the gradients
    have the stream on which they were made; one that is still there and has another stream would end the recording.
    """

    def __init__(self) -> None:
        self._seen: Counter[Any] = Counter()
        self._recorded: dict[Any, _Recorded] = {}
        self._stream: Any = None
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

        Raises:
            InputError: if the iteration cannot be recorded. PyTorch does not restore its allocator and its random
                numbers after that, so that the training cannot continue in this process.
        """
        key = (key, frames.shape, frames.stride(), frames.dtype, labels.shape, labels.dtype)
        if key not in self._recorded:
            if len(self._recorded) >= MOST:
                return compute(frames, labels)
            if self._stream is None:
                self._stream, self._memory = torch.cuda.Stream(frames.device), torch.cuda.graph_pool_handle()
            self._seen[key] += 1
            if self._seen[key] <= WARM_UP:
                return self._launch(compute, frames, labels)
            self._recorded[key] = self._record(compute, parameters, frames, labels)
        recorded = self._recorded[key]
        recorded.frames.copy_(frames)
        recorded.labels.copy_(labels)
        recorded.graph.replay()
        for parameter, gradient in zip(parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        return recorded.result

    def _launch(self, compute: Callable[[Tensor, Tensor], Tensor], frames: Tensor, labels: Tensor) -> Tensor:
        """Without a graph, on the stream of the records, between what the current stream computes before and after."""
        current = torch.cuda.current_stream(frames.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = compute(frames, labels)
        current.wait_stream(self._stream)
        return result

    def _record(
        self,
        compute: Callable[[Tensor, Tensor], Tensor],
        parameters: Sequence[nn.Parameter],
        frames: Tensor,
        labels: Tensor,
    ) -> _Recorded:
        frames, labels = frames.clone(memory_format=torch.preserve_format), labels.clone()
        for parameter in parameters:
            parameter.grad = None
        graph, cause = torch.cuda.CUDAGraph(), None
        try:
            with (
                kept_for_graphs() as kept,
                # `torch.cuda.graph` leaves its stream only if the recording succeeds.
                torch.cuda.stream(self._stream),
                # Other threads may copy batches meanwhile.
                torch.cuda.graph(graph, self._memory, self._stream, capture_error_mode="thread_local"),
            ):
                try:
                    result = compute(frames, labels)
                except Exception as error:
                    cause = error  # the end of a failed recording raises another one
                    raise
        except Exception as error:  # of many types
            cause = cause or error
            reason = f"cuda_graph: an iteration cannot be recorded ({one_line(cause, 150)}); train without it"
            raise InputError(reason) from cause
        return _Recorded(graph, frames, labels, [parameter.grad for parameter in parameters], result, kept)
