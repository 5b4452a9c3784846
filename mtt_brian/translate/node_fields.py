"""The checked fields of linear NIR nodes, for both readers of NIR (to a circuit, to a torch network)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mtt_brian.circuit.operators import Pair
from mtt_brian.errors import InputError
from mtt_brian.translate.nir_files import Shape, for_each_axis, numbers, one_whole_number, plain, shown


class Convolution(NamedTuple):
    """A `nir.Conv1d` or `nir.Conv2d`; along one axis, or (vertical, horizontal).

    Attributes:
        weight: [C_out, C_in / groups, length] or [C_out, C_in / groups, height, width], in the precision of the file.
        stride, dilation: along each axis.
        padding: along each axis, "same" or "valid".
        groups: of channels.
    """

    weight: np.ndarray
    stride: Shape
    padding: Shape | str
    dilation: Shape
    groups: int


def convolution(node: Any, axes: int) -> Convolution:
    """The fields of a `nir.Conv1d` (one axis) or `nir.Conv2d` (two).

    Raises:
        InputError: names the field and what is accepted.
    """
    weight = numbers(node.weight, "weight")
    if weight.ndim != 2 + axes:
        kernel = "length" if axes == 1 else "height, width"
        raise InputError(f"the kernel must have the shape (C_out, C_in / groups, {kernel}), not {weight.shape}")
    padding = plain(node.padding)
    if isinstance(padding, str) and padding not in ("same", "valid"):
        pair = "" if axes == 1 else "a pair, "
        raise InputError(f"padding must be a number, {pair}'same' or 'valid', not {shown(padding)}")
    return Convolution(
        weight,
        stride=for_each_axis(axes, "stride", node.stride, 1),
        padding=padding if isinstance(padding, str) else for_each_axis(axes, "padding", padding, 0),
        dilation=for_each_axis(axes, "dilation", node.dilation, 1),
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
        kernel=_pair("kernel_size", node.kernel_size, 1),
        stride=_pair("stride", node.stride, 1),
        padding=_pair("padding", node.padding, 0),
    )


def _pair(what: str, value: Any, minimum: int) -> Pair:
    vertical, horizontal = for_each_axis(2, what, value, minimum)
    return vertical, horizontal


def flattened_dims(node: Any, least: int) -> tuple[int, int]:
    """``start_dim`` and ``end_dim`` of a `nir.Flatten`, each at least ``least``.

    Raises:
        InputError: names the field and what is accepted.
    """
    start, end = (one_whole_number(getattr(node, name), name, least) for name in ("start_dim", "end_dim"))
    return start, end
