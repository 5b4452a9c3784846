"""CUDA graphs on a CPU: the operations of torch in a block are recorded and run again on the same tensors.

As on a GPU, a recorded block may not read a number back and may not make a tensor from numbers of the host, and tensors
from outside the block do not change before the graph runs. Other than on a GPU, no memory is shared between tensors
that are not needed at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
#: Operations that would wait for the GPU, and those that would copy from the memory of the host.
_REFUSED = {_ATEN._local_scalar_dense.default, _ATEN.nonzero.default, _ATEN.lift_fresh.default}


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


class _Recording(TorchDispatchMode):
    def __init__(self, graph: Graph, pool: object, capture_error_mode: str) -> None:
        super().__init__()
        assert capture_error_mode == "thread_local"
        self.graph = graph
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for tensor in _tensors([*args, *(kwargs or {}).values()]):
            place = tensor.untyped_storage().data_ptr()
            if place not in self._made and place not in self._before:
                self._before[place] = tensor.detach(), tensor.detach().clone()
        found = func(*args, **(kwargs or {}))
        self._made |= {tensor.untyped_storage().data_ptr() for tensor in _tensors(found)} - self._before.keys()
        self.graph.operations.append((func, args, kwargs or {}, found))
        return found

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor, before in self._before.values():
            tensor.copy_(before)


def _tensors(found: Any) -> list[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return [found]
    return [tensor for each in found for tensor in _tensors(each)] if isinstance(found, list | tuple) else []


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the graphs of `torch.cuda` by those of this module."""
    for name, value in {
        "CUDAGraph": Graph,
        "graph": _Recording,
        "graph_pool_handle": object,
        "device": lambda device: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
