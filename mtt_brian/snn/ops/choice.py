"""Which implementation of a population's time steps runs: compiled loops, Triton kernels or plain torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.snn.ops import cpu, reference
from mtt_brian.snn.ops.time_plan import RoomMap, RoomPlan
from mtt_brian.snn.surrogate import Surrogate
from mtt_brian.text import one_line

logger = logging.getLogger("mtt_brian")


class Kernels(NamedTuple):
    """An implementation; the functions are those of `reference`."""

    forward: Callable[..., tuple[Tensor | None, Tensor]]
    backward: Callable[..., Tensor]
    apply_map: Callable[..., Tensor]


PLAIN = Kernels(reference.forward, reference.backward, reference.apply_map)
COMPILED = Kernels(
    partial(reference.forward, compile=True), partial(reference.backward, compile=True), reference.apply_map
)
LOOPS = Kernels(cpu.forward, cpu.backward, cpu.apply_map)


def kernels_for(x: Tensor, surrogate: Surrogate | None = None, compile: bool = False, plan: Any = None) -> Kernels:
    """The implementation for these frames and this surrogate; ``compile``: by `torch.compile`.

    On a GPU there is nothing to compile where Triton works.

    Raises:
        InputError: for a plan or a map whose numbers the kernels must read, where there are no Triton kernels.
    """
    if (triton := _triton_for(x, surrogate)) is not None:
        keep = x.requires_grad and torch.is_grad_enabled()
        return Kernels(partial(triton.forward, keep=keep), triton.backward, triton.apply_map)
    if isinstance(plan, RoomPlan | RoomMap):
        raise InputError(
            f"mixed time steps cannot be recorded without Triton kernels, which {x.dtype} on {x.device} does not have"
        )
    if compile:
        return COMPILED
    return LOOPS if cpu.fits(x, surrogate) else PLAIN


def norm_kernels(x: Tensor, norm: nn.Module, surrogate: Surrogate | None = None) -> Any:
    """The module `gpu` if it has this norm for the norm's input, in front of a population with a surrogate or alone."""
    triton = _triton_for(x, surrogate)
    return triton if triton is not None and triton.fits_norm(x, norm) else None


def pool_kernels(x: Tensor, windows: tuple[int, int]) -> Any:
    """The module `gpu` if it has kernels for means over these windows of frames [N, C, H, W]; else None."""
    triton = _triton_for(x, None)
    return triton if triton is not None and triton.fits_pool(x, windows) else None


def jumps(x: Tensor, surrogate: Surrogate) -> Tensor:
    """The input of a population in the type of its spikes: float32 at least.

    Under autocast the Triton kernels have x's own type, to which the next layer would round the spikes anyway.
    """
    if _triton_for(x, surrogate) is not None and torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _triton_for(x: Tensor, surrogate: Surrogate | None) -> Any:
    """The module `gpu` if it has kernels for these frames and this surrogate."""
    triton = triton_kernels(x.device) if x.device.type == "cuda" else None
    return triton if triton is not None and triton.fits(x, surrogate) else None


@cache
def triton_kernels(device: torch.device) -> Any:
    """The module `gpu`, or None (with one warning) where Triton is missing or cannot compile."""
    try:
        from mtt_brian.snn.ops import gpu

        if torch.cuda.get_device_capability(device) < (8, 0):
            raise RuntimeError("a GPU of compute capability 8.0 or higher is needed")
        gpu.check(device)
    except Exception as error:  # a compiler can fail in any way
        logger.warning(
            "no Triton kernels on %s (%s); plain torch operations are used, which take several times as long",
            device,
            one_line(error, 150),
        )
        return None
    return gpu
