"""Linear NIR nodes -> operators, by a table *type -> function*; every value is checked before its use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from mtt_brian import machine
from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, Operator, Pair, Scale, narrowed, pool2d
from mtt_brian.errors import InputError
from mtt_brian.translate.nir_files import (
    LARGEST,
    Shape,
    aligned,
    as_array,
    declared_shape,
    numbers,
    typed_shape,
)
from mtt_brian.translate.node_fields import Convolution, bias_of, convolution, flattened_dims, pooling

#: Smallest memory of the engines in bytes, for a neuron and for a tap of a kernel at one output pixel.
BYTES_PER_NEURON, BYTES_PER_TAP = 64, 64

T = TypeVar("T")


@dataclass(frozen=True)
class Linear:
    """One linear node: its operators, the shape of its output, and its constant current."""

    operators: tuple[Operator, ...]
    output_shape: Shape
    bias: np.ndarray | None = None


@dataclass
class Assumptions:
    """Assumptions, with the nodes that they apply to."""

    nodes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, sentence: str, node: str | None = None) -> None:
        names = self.nodes.setdefault(sentence, [])
        if node is not None and node not in names:
            names.append(node)

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{sentence}{_where(names)}" for sentence, names in self.nodes.items())


def _where(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f" (node{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:5]))}{more})"


@dataclass
class Reading:
    """The context of the reading of one node.

    Attributes:
        batch_axes: leading axes of 1 of the declared input that were left out.
        assumed: collects the assumptions.
        at: name of the linear node that is being read.
    """

    batch_axes: int
    assumed: Assumptions = field(default_factory=Assumptions)
    at: str = ""

    def seconds(self, value: Any, what: str, name: str) -> np.ndarray:
        """Delays and refractory periods: whole microseconds if they are that up to rounding."""
        given = numbers(value, what, bools=False)
        found = on_whole_microseconds(given)
        if given.dtype == np.float32 and np.any(found != given):
            self.assumed.add("times in single precision are taken for the whole microseconds next to them", name)
        return found

    def repeated(self, value: np.ndarray, shape: Shape, name: str) -> np.ndarray | None:
        """Parameters of neurons in the shape of their population, repeated along axes of 1; None if they do not fit.

        A single number stays one.
        """
        own = aligned(value.shape, shape)
        if own is None or value.size == 1 or value.shape == shape:
            return None if own is None else value
        self.assumed.add(f"parameters of the shape {value.shape} count for all neurons of {shape}", name)
        return np.broadcast_to(value.reshape(own), shape)


def _read_convolution(axes: int) -> Callable[[Any, Shape, Reading], Linear]:
    """Reads a Conv2d, or a Conv1d as one of height 1, which numbers its neurons in the same order."""

    def read(node: Any, shape: Shape, reading: Reading) -> Linear:
        given = convolution(node, axes)
        if len(shape) != 1 + axes:
            accepted = "(C, L)" if axes == 1 else "(C, H, W)"
            raise InputError(f"a convolution needs an input of shape {accepted}, not {shape}")
        if node.input_shape is not None:
            declared = declared_shape(node.input_shape, "input_shape")
            if declared != shape[1:]:
                raise InputError(f"input_shape is {declared}, but its input is {shape[1:]}")
        weight = _own(given.weight)
        operator = Conv2d(
            weight=weight.reshape(*weight.shape[:2], *_rows_and_columns(weight.shape[2:], 1)),
            stride=_rows_and_columns(given.stride, 1),
            padding=_rows_and_columns(_padding(given), (0, 0)),
            dilation=_rows_and_columns(given.dilation, 1),
            groups=given.groups,
            input_shape=(shape[0], *_rows_and_columns(shape[1:], 1)),
        )
        channels, rows, columns = that_fits(operator.output_shape, "its output")
        _fit_in_memory(weight[0, 0].size * rows * columns, BYTES_PER_TAP, "the convolution has", "taps")
        out = (channels, rows, columns) if axes == 2 else (channels, columns)
        bias = _bias(bias_of(node), channels, "output channels")
        full = np.broadcast_to(bias.reshape(-1, *[1] * axes), out)
        return Linear((operator,), out, full if np.any(bias) else None)

    return read


def _read_linear(node: Any, shape: Shape, reading: Reading) -> Linear:
    operator = Dense(_own(numbers(node.weight, "weight")), shape)
    out = that_fits(operator.output_shape, "its output")
    given = bias_of(node).astype(np.float64)
    bias = given if len(out) > 1 and given.shape == out else _bias(given, out[-1], "outputs")
    return Linear((operator,), out, np.broadcast_to(bias, out) if np.any(bias) else None)


def _read_pool(average: bool) -> Callable[[Any, Shape, Reading], Linear]:
    def read(node: Any, shape: Shape, reading: Reading) -> Linear:
        kernel, stride, (vertical, horizontal) = pooling(node)
        padding = ((vertical, vertical), (horizontal, horizontal))
        if len(shape) == 3:
            _fit_in_memory(shape[0] * kernel[0] * kernel[1], 8, "the kernel has", "weights")
        operator = pool2d(kernel, stride, padding, shape, average)
        out = that_fits(operator.output_shape, "its output")
        _fit_in_memory(kernel[0] * kernel[1] * out[1] * out[2], BYTES_PER_TAP, "the pooling has", "taps")
        return Linear((operator,), out)

    return read


def _read_flatten(node: Any, shape: Shape, reading: Reading) -> Linear:
    given = typed_shape(node.input_type, "input")
    batch = reading.batch_axes
    if given is not None:
        declared = declared_shape(given, "input_type")
        batch = len(declared) - len(shape)
        if batch < 0 or any(n != 1 for n in declared[:batch]):
            raise InputError(f"input_type is {declared}, but its input is {shape}")
        if declared[batch:] != shape:
            reading.assumed.add(f"the declared input_type {declared} is not used, because {shape} arrives", reading.at)
    # Dimensions include the batch if the graph was written with one.
    dims = flattened_dims(node, -len(shape) - batch)
    start, end = (d + batch + len(shape) if d < 0 else d for d in dims)
    if start > end or end - batch >= len(shape):
        raise InputError(f"start_dim {dims[0]} and end_dim {dims[1]} do not fit an input of shape {shape}")
    start, end = max(start - batch, 0), max(end - batch, 0)
    flat = int(np.prod(shape[start : end + 1], dtype=np.int64))
    return Linear((), (*shape[:start], flat, *shape[end + 1 :]))


def _read_scale(node: Any, shape: Shape, reading: Reading) -> Linear:
    return Linear((Scale(_of_shape(numbers(node.scale, "scale"), "scale", shape)),), shape)


def _read_delay(node: Any, shape: Shape, reading: Reading) -> Linear:
    seconds = reading.seconds(node.delay, "delay", reading.at)
    return Linear((Delay(_of_shape(seconds, "delay", shape)),), shape)


def _of_shape(value: np.ndarray, what: str, shape: Shape) -> np.ndarray:
    """One number, or one for every element, as float64 in the given shape."""
    if value.size != 1 and value.shape != shape:
        raise InputError(f"{what} has the shape {value.shape}, its input has {shape}")
    full = np.broadcast_to(value if value.size != 1 else value.reshape(()), shape)
    return np.ascontiguousarray(full, dtype=np.float64)


LINEAR: dict[str, Callable[[Any, Shape, Reading], Linear]] = {
    "Conv1d": _read_convolution(axes=1),
    "Conv2d": _read_convolution(axes=2),
    "Linear": _read_linear,
    "Affine": _read_linear,
    "SumPool2d": _read_pool(average=False),
    "AvgPool2d": _read_pool(average=True),
    "Flatten": _read_flatten,
    "Scale": _read_scale,
    "Delay": _read_delay,
}


# ----- values


def _own(weight: np.ndarray) -> np.ndarray:
    """A copy of weights, which the graph may change later; float32 if that loses nothing, else float64."""
    return narrowed(weight.astype(np.float32 if weight.dtype == np.float32 else np.float64))


def _bias(value: Any, size: int, what: str) -> np.ndarray:
    """A bias as one number per channel or output: float64 [size] or [1]; rows and columns of that length included."""
    bias = numbers(value, "bias").astype(np.float64)
    if bias.size not in (1, size) or max(bias.shape, default=1) != bias.size:
        raise InputError(f"the bias has the shape {bias.shape} for {size} {what}; accepted is ({size},)")
    return bias.ravel() if bias.size == size else np.full(size, bias.item())


def all_infinite(value: Any) -> bool:
    """Whether all entries are plus infinity."""
    try:
        array = as_array(value, "")
    except InputError:
        return False
    if array.dtype.kind == "O" and all(isinstance(x, float | np.floating) for x in array.flat):
        array = array.astype(np.float64)
    return array.dtype.kind == "f" and array.size > 0 and bool(np.all(array == np.inf))


def without_batch(shape: Shape) -> Shape:
    """A shape without leading axes of 1, its last axis kept."""
    k = next((k for k, n in enumerate(shape[:-1]) if n != 1), len(shape) - 1)
    return shape[k:]


def that_fits(shape: Shape, what: str) -> Shape:
    """A shape whose neurons can be numbered and fit into memory."""
    size = 1
    for n in shape:
        size *= int(n)
    if size > LARGEST:
        raise InputError(f"{what} has {size:,} elements in the shape {shape}; accepted are up to {LARGEST:,}")
    _fit_in_memory(size, BYTES_PER_NEURON, f"{what} has", f"elements in the shape {shape}")
    return shape


def _fit_in_memory(number: int, each: int, what: str, unit: str) -> None:
    if number * each < 2**20:
        return
    available = machine.available_bytes()
    if number * each > available:
        raise InputError(
            f"{what} {number:,} {unit}, which take at least {number * each:,} bytes; {available:,} bytes are free"
        )


def _rows_and_columns(of_axes: tuple[T, ...], of_one_row: T) -> tuple[T, T]:
    """The values of (rows, columns), as they are or from those of the columns alone."""
    rows, columns = of_axes if len(of_axes) == 2 else (of_one_row, *of_axes)
    return rows, columns


def _padding(given: Convolution) -> tuple[Pair, ...]:
    """Zeros (before, after) along each axis."""
    if not isinstance(given.padding, str):
        return tuple((n, n) for n in given.padding)
    if given.padding == "valid":
        return ((0, 0),) * len(given.stride)
    if max(given.stride) > 1:
        raise InputError(f"padding 'same' goes with stride 1, not {given.stride}")
    total = [d * (k - 1) for d, k in zip(given.dilation, given.weight.shape[2:], strict=True)]
    # torch puts the odd zero at the end.
    return tuple((n // 2, n - n // 2) for n in total)
