"""The checked fields of linear NIR nodes, for both readers of NIR (to a circuit, to a torch network)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mtt_brian.circuit.operators import Pair
from mtt_brian.errors import InputError
from mtt_brian.translate.nir_files import numbers, one_whole_number, pair_of, plain, shown


class Convolution(NamedTuple):
    """A `nir.Conv2d`.

    Attributes:
        weight: [C_out, C_in / groups, height, width], in the precision of the file.
        stride, dilation: (vertical, horizontal).
        padding: (vertical, horizontal), "same" or "valid".
        groups: of channels.
    """

    weight: np.ndarray
    stride: Pair
    padding: Pair | str
    dilation: Pair
    groups: int


def convolution(node: Any) -> Convolution:
    """The fields of a `nir.Conv2d`.

    Raises:
        InputError: names the field and what is accepted.
    """
    weight = numbers(node.weight, "weight")
    if weight.ndim != 4:
        raise InputError(f"the kernel must have the shape (C_out, C_in / groups, height, width), not {weight.shape}")
    padding = plain(node.padding)
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise InputError(f"padding must be a number, a pair, 'same' or 'valid', not {shown(padding)}")
    return Convolution(
        weight,
        stride=pair_of("stride", node.stride, 1),
        padding=padding if isinstance(padding, str) else pair_of("padding", padding, 0),
        dilation=pair_of("dilation", node.dilation, 1),
        groups=one_whole_number(node.groups, "groups", 1),
    )


def stored_weight(node: Any, weight: np.ndarray) -> np.ndarray:
    """Other weights of a node in the shape and the floating-point type of its own ones.

    Where these are integers, the type is the smallest one from float32 on that holds them: fractions stay.

    Args:
        node: with ``weight``.
        weight: as many values.
    """
    old = np.asarray(node.weight)
    dtype = old.dtype if old.dtype.kind == "f" else np.result_type(old.dtype, np.float32)
    return weight.reshape(old.shape).astype(dtype)


class Pooling(NamedTuple):
    """A `nir.AvgPool2d` or `nir.SumPool2d`; sizes are (vertical, horizontal)."""

    kernel: Pair
    stride: Pair
    padding: Pair


def pooling(node: Any) -> Pooling:
    """The fields of a `nir.AvgPool2d` or `nir.SumPool2d`.

    Raises:
        InputError: names the field and what is accepted.
    """
    return Pooling(
        kernel=pair_of("kernel_size", node.kernel_size, 1),
        stride=pair_of("stride", node.stride, 1),
        padding=pair_of("padding", node.padding, 0),
    )


def flattened_dims(node: Any, least: int) -> tuple[int, int]:
    """``start_dim`` and ``end_dim`` of a `nir.Flatten`, each at least ``least``.

    Raises:
        InputError: names the field and what is accepted.
    """
    start, end = (one_whole_number(getattr(node, name), name, least) for name in ("start_dim", "end_dim"))
    return start, end
