"""Triton kernels for a GPU, with one launch for all time steps.

Inputs and spikes may be bfloat16; membranes are float32 at least. Numbers of frames and time steps are not specialised:
they differ from iteration to iteration, and each would be compiled anew.

The interpreter of Triton runs the same kernels on a CPU (TRITON_INTERPRET=1 before the import of this package).
"""

from __future__ import annotations

import torch

from mtt_brian.snn.ops.gpu.frame_map import apply_map
from mtt_brian.snn.ops.gpu.norm import Normed, fits_norm, norm_backward, norm_forward
from mtt_brian.snn.ops.gpu.pooling import fits_pool, pool, pool_gradient
from mtt_brian.snn.ops.gpu.population import backward, fits, forward, normed_backward, normed_forward
from mtt_brian.snn.ops.time_plan import FrameMap

__all__ = [
    "Normed",
    "apply_map",
    "backward",
    "check",
    "fits",
    "fits_norm",
    "fits_pool",
    "forward",
    "norm_backward",
    "norm_forward",
    "normed_backward",
    "normed_forward",
    "pool",
    "pool_gradient",
]


def check(device: torch.device) -> None:
    """Compiles and runs the smallest kernel.

    Raises:
        Exception: of any type, from Triton and the compilers that it calls.
    """
    found = apply_map(torch.ones(3, 1, device=device), FrameMap((0, 1, 2), (0, 0, 0), 1))
    if found.item() != 3:
        raise RuntimeError(f"Triton adds 1 + 1 + 1 to {found.item():g}")
