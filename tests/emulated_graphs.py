"""CUDA graphs and streams on a CPU: the operations of torch in a block are recorded and run again on the same tensors.

As on a GPU, a recorded block may not read a number back and may not make a tensor from numbers of the host, it needs a
stream of its own, tensors from outside the block do not change before the graph runs, and a failed record ends with an
error of its own on the stream of the record. Other than on a GPU, no memory is shared between tensors that are not
needed at the same time, and all operations run at once: `Ordered` checks that no stream had to wait for another.
Kernels of Triton are run by its interpreter, and recorded as one operation each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_ATEN = torch.ops.aten
#: Operations that would wait for the GPU, and those that would copy from the memory of the host.
_REFUSED = {_ATEN._local_scalar_dense.default, _ATEN.nonzero.default, _ATEN.lift_fresh.default}


class Stream:
    """As `torch.cuda.Stream`.

    Attributes:
        done: by stream, how many of its operations come before the next one of this stream.
    """

    def __init__(self, device: object = None) -> None:
        self.done: dict[Stream, int] = {self: 0}

    def wait_stream(self, other: Stream) -> None:
        for stream, number in other.done.items():
            self.done[stream] = max(number, self.done.get(stream, 0))


class _State:
    """What is global on a GPU."""

    def __init__(self) -> None:
        self.default = self.current = Stream()
        self.recording: Recording | None = None


_state = _State()


def current_stream(device: object = None) -> Stream:
    """As `torch.cuda.current_stream`."""
    return _state.current


@contextmanager
def stream(own: Stream) -> Iterator[None]:
    """As `torch.cuda.stream`."""
    before, _state.current = _state.current, own
    try:
        yield
    finally:
        _state.current = before


class Graph:
    """As `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.operations: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for operation, arguments, named, found in self.operations:
                again = operation(*arguments, **named)
                for old, new in zip(_tensors(found), _tensors(again), strict=True):
                    if old.data_ptr() != new.data_ptr():  # those of views and of operations in place are the same
                        old.copy_(new)


class Recording(TorchDispatchMode):
    """As `torch.cuda.graph`."""

    def __init__(self, graph: Graph, pool: object, stream: Stream, capture_error_mode: str) -> None:
        super().__init__()
        assert capture_error_mode == "thread_local"
        self.graph = graph
        self._stream, self._outer = stream, stream
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __enter__(self) -> Recording:
        if self._stream is _state.default:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        self._outer, _state.current, _state.recording = _state.current, self._stream, self
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        self._keep([*args, *(kwargs or {}).values()])
        found = func(*args, **(kwargs or {}))
        self._made |= {tensor.untyped_storage().data_ptr() for tensor in _tensors(found)} - self._before.keys()
        self.graph.operations.append((func, args, kwargs or {}, found))
        return found

    def launch(self, kernel: Callable[..., None], args: Any, kwargs: Any) -> None:
        """Runs and records a kernel of Triton, which changes its tensors in place."""
        with _disable_current_modes():
            self._keep(args)
            kernel(*args, **kwargs)
        self.graph.operations.append((kernel, args, kwargs, None))

    def _keep(self, args: Any) -> None:
        """Tensors from outside the block are as before at its end."""
        for tensor in _tensors(args):
            place = tensor.untyped_storage().data_ptr()
            if place not in self._made and place not in self._before:
                self._before[place] = tensor.detach(), tensor.detach().clone()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor, before in self._before.values():
            tensor.copy_(before)
        _state.recording = None
        if error[0] is not None:
            raise RuntimeError("operation failed due to a previous error during capture")
        _state.current = self._outer


class Ordered(TorchDispatchMode):
    """Within the block, an operation fails that uses a tensor before another stream has finished with it.

    Recorded operations are checked where they are replayed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._used: dict[int, dict[str, dict[Stream, int]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if _state.recording:
            return found
        now = _state.current
        now.done[now] += 1
        changed = {
            tensor.untyped_storage().data_ptr()
            for argument, tensor in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in _tensors(tensor)
        }
        read = {tensor.untyped_storage().data_ptr() for tensor in _tensors([*args, *(kwargs or {}).values()])}
        for place in read | {tensor.untyped_storage().data_ptr() for tensor in _tensors(found)}:
            writes = place in changed or place not in read
            used = self._used.setdefault(place, {"read": {}, "written": {}})
            for how in ("read", "written") if writes else ("written",):
                for other, number in used[how].items():
                    if now.done.get(other, 0) < number:
                        raise AssertionError(f"{func} does not wait for another stream")
            used["written" if writes else "read"][now] = now.done[now]
        return found


def _tensors(found: Any) -> list[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return [found]
    return [tensor for each in found for tensor in _tensors(each)] if isinstance(found, list | tuple) else []


def install_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted kernels of Triton are recorded as well."""
    from triton.runtime.interpreter import InterpretedFunction

    run = InterpretedFunction.run

    def recorded(*args: Any, **kwargs: Any) -> None:
        if _state.recording is None:
            run(*args, **kwargs)
        else:
            _state.recording.launch(run, args, kwargs)

    monkeypatch.setattr(InterpretedFunction, "run", recorded)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the graphs and streams of `torch.cuda` by those of this module."""
    global _state
    _state = _State()
    for name, value in {
        "CUDAGraph": Graph,
        "graph": Recording,
        "graph_pool_handle": object,
        "Stream": Stream,
        "current_stream": current_stream,
        "stream": stream,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
