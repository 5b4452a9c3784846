"""Iterations of equal shape as CUDA graphs: recorded once, then replayed with one launch.

An iteration of a network launches some hundred kernels, and a host needs longer to launch them than a fast GPU to run
them. A graph has all of them: forward and backward pass, running statistics of norms, and the norm of the gradient. The
optimizer's step is not part of it, so that it can follow the schedule of the learning rate and be left out.

Source: CUDA graphs in PyTorch's notes on CUDA semantics, "whole-network capture".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.snn.ops.time_plan import kept_for_graphs
from mtt_brian.snn.room import Pass, make_pass
from mtt_brian.snn.staged import Staged
from mtt_brian.text import one_line

#: Iterations of a shape without a graph: they compile and load its kernels, and make the work space of its libraries.
WARM_UP = 3
#: Graphs of different shapes. An epoch has two sizes of batches at most, and mixed time steps some sizes of the room.
MOST = 16


class _Recorded(NamedTuple):
    """A graph with the tensors that it writes, and those that it reads beside a batch and the weights (``kept``)."""

    graph: torch.cuda.CUDAGraph
    gradients: list[Tensor | None]
    result: Tensor
    kept: Sequence[Tensor]


class _InRoom(NamedTuple):
    """A pass of mixed time steps, and its numbers in the memory of the host."""

    room: Pass
    numbers: Sequence[Tensor]


@dataclass(eq=False)
class _Shape:
    """The iterations of one shape: what all of them read, their number, and their graph.

    Attributes:
        inputs: frames and labels, shared with other shapes, and the numbers of this one.
        parameters: the weights.
    """

    inputs: Sequence[Tensor]
    parameters: Sequence[nn.Parameter]
    seen: int = 0
    recorded: _Recorded | None = None


class Graphs:
    """The recorded iterations of a training with one set of options, on one GPU.

    An iteration is recorded when its shape has occurred `WARM_UP` times. After the first `MOST` shapes, others are
    computed as without graphs. The memory of a recorded iteration stays allocated; all share it.

    The first iterations of a shape read the same memory as the recorded one: for other addresses some kernels are
    compiled again. They run on the stream that records: the nodes of autograd that add to the gradients have the stream
    on which they were made, and one that is still there and has another stream would end the recording.

    Args:
        mixed: the largest number of time steps of configurations that change from iteration to iteration, which run in
            passes of `mtt_brian.snn.room`. None: the configurations are always the same.
    """

    def __init__(self, *, mixed: int | None = None) -> None:
        self.mixed = mixed
        self._batches: dict[Any, tuple[Tensor, Tensor]] = {}
        self._shapes: dict[Any, _Shape] = {}
        self._stream: Any = None
        self._memory: Any = None
        self._prepared: tuple[Sequence[Configuration], _InRoom] | None = None

    def prepare(self, model: Staged, frames: int, configurations: Sequence[Configuration]) -> None:
        """Makes the pass of the next iteration of mixed time steps, while the GPU computes this one."""
        if self.mixed is not None:
            self._prepared = configurations, self._in_room(model, frames, configurations)

    def take(self, model: Staged, frames: int, configurations: Sequence[Configuration]) -> _InRoom:
        """The pass of an iteration and its numbers: those of `prepare`, if these are its configurations.

        Args:
            model: the network.
            frames: number of input frames.
            configurations: of the iteration.

        Raises:
            InputError: see `make_pass`.
        """
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0] is configurations:
            return prepared[1]
        return self._in_room(model, frames, configurations)

    def _in_room(self, model: Staged, frames: int, configurations: Sequence[Configuration]) -> _InRoom:
        assert self.mixed is not None
        room = make_pass(model, frames, configurations, self.mixed)
        weight = next(model.parameters())
        reals = torch.from_numpy(room.reals).to(torch.promote_types(weight.dtype, torch.float32))
        numbers = torch.from_numpy(room.integers), reals
        # From page-locked memory the GPU copies without the host.
        return _InRoom(room, [each.pin_memory() for each in numbers] if weight.is_cuda else numbers)

    def __call__(
        self,
        compute: Callable[..., Tensor],
        parameters: Sequence[nn.Parameter],
        frames: Tensor,
        labels: Tensor,
        key: Any,
        numbers: Sequence[Tensor] = (),
    ) -> Tensor:
        """``compute(frames, labels, *numbers)``, which also replaces the gradients of the parameters.

        Args:
            compute: always launches the same kernels for the same key and shapes, and does not wait for them.
            parameters: of the network.
            frames: of a batch.
            labels: of the batch.
            key: what else the kernels depend on.
            numbers: what else the kernels read, in the memory of the host; the key determines the shapes.

        Returns:
            The result, valid until the next call.

        Raises:
            InputError: if the iteration cannot be recorded. PyTorch does not restore its allocator and its random
                numbers after that, so that the training cannot continue in this process.
        """
        # Of a shape the parameters are kept: no other network has their identities.
        batch = (frames.shape, frames.stride(), frames.dtype, labels.shape, labels.dtype)
        key = (key, *map(id, parameters), batch)
        if key not in self._shapes:
            if len(self._shapes) >= MOST:
                return compute(frames, labels, *(each.to(frames.device) for each in numbers))
            if self._stream is None:
                self._stream, self._memory = torch.cuda.Stream(frames.device), torch.cuda.graph_pool_handle()
            if batch not in self._batches:
                self._batches[batch] = frames.clone(), labels.clone()
            own = [each.to(frames.device) for each in numbers]
            self._shapes[key] = _Shape([*self._batches[batch], *own], parameters)
        shape = self._shapes[key]
        for there, given in zip(shape.inputs, (frames, labels, *numbers), strict=True):
            there.copy_(given, non_blocking=True)
        shape.seen += 1
        if shape.seen <= WARM_UP:
            return self._launch(compute, shape)
        if shape.recorded is None:
            shape.recorded = self._record(compute, shape)
        shape.recorded.graph.replay()
        for parameter, gradient in zip(parameters, shape.recorded.gradients, strict=True):
            parameter.grad = gradient
        return shape.recorded.result

    def _launch(self, compute: Callable[..., Tensor], shape: _Shape) -> Tensor:
        """Without a graph, on the stream of the records, between what the current stream computes before and after."""
        current = torch.cuda.current_stream(shape.inputs[0].device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = compute(*shape.inputs)
        current.wait_stream(self._stream)
        return result

    def _record(self, compute: Callable[..., Tensor], shape: _Shape) -> _Recorded:
        for parameter in shape.parameters:
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
                    result = compute(*shape.inputs)
                except Exception as error:
                    cause = error  # the end of a failed recording raises another one
                    raise
        except Exception as error:  # of many types
            cause = cause or error
            reason = f"cuda_graph: an iteration cannot be recorded ({one_line(cause, 150)}); train without it"
            raise InputError(reason) from cause
        return _Recorded(graph, [parameter.grad for parameter in shape.parameters], result, kept)
