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


def bias_of(node: Any) -> np.ndarray:
    """The bias of a linear node in the precision of the file; 0 for none."""
    bias = getattr(node, "bias", None)
    return numbers(0.0 if bias is None else bias, "bias")


def stored_as(old: Any, values: np.ndarray) -> np.ndarray:
    """Other values for a node in the shape of its own ones and in their type, float32 or float64.

    Where these are integers or float16, the type is the smallest of the two that holds them: fractions stay.

    Args:
        old: weights or biases of the node.
        values: as many.
    """
    old = numbers(old, "values")
    return values.reshape(old.shape).astype(np.result_type(old.dtype, np.float32))


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
