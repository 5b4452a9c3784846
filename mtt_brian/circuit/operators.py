"""Linear operators between two populations, on flat C-order indices.

Every linear NIR node becomes one of the small objects here. Each has an input shape, an output shape and a sparse
matrix; an engine with a better form (a convolution as a stencil) reads the fields instead. Pooling is a depthwise
`Conv2d` with a constant kernel; flattening changes a shape and no index, so it is no operator.

The weights of `Conv2d` and `Dense` are float64 or, for half the memory, float32 (`narrowed`). What is computed from
them is float64 in both cases: convert them before any arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from mtt_brian.errors import InputError, check_array
from mtt_brian.text import shown

Pair: TypeAlias = tuple[int, int]


def narrowed(numbers: np.ndarray) -> np.ndarray:
    """The same numbers in float32 if that holds all of them without rounding, else in float64; of any shape."""
    if numbers.dtype == np.float32:
        return numbers
    with np.errstate(over="ignore", under="ignore"):
        narrow = numbers.astype(np.float32)
    same = narrow == numbers
    same |= numbers != numbers  # NaN
    return narrow if same.all() else numbers.astype(np.float64, copy=False)


def _real(operator: object, name: str) -> None:
    """Refuses a field that is no array of real numbers; a list becomes one.

    Raises:
        InputError: naming the class, the field and its value.
    """
    where = f"{type(operator).__name__}.{name}"
    object.__setattr__(operator, name, check_array(where, getattr(operator, name), wanted="real numbers"))


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Cross-correlation as in torch: ``out[o, y, x] = sum_(c, i, j) weight[o, c, i, j] * in[c, y*s - p + i*d, ...]``.

    Attributes:
        weight: float64 or float32 [C_out, C_in / groups, kernel height, kernel width].
        stride, dilation: (vertical, horizontal).
        padding: zeros added before and after, ((top, bottom), (left, right)).
        groups: channel groups.
        input_shape: (C_in, H, W).
    """

    weight: np.ndarray
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    input_shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        _real(self, "weight")
        if self.weight.ndim != 4:
            raise InputError(f"a convolution kernel has 4 dimensions, not {self.weight.ndim}")
        if not self.weight.size:
            raise InputError(f"the kernel is empty: its shape is {self.weight.shape}")
        if self.groups < 1 or min(*self.stride, *self.dilation) < 1 or min(map(min, self.padding)) < 0:
            raise InputError(
                f"groups, stride and dilation must be >= 1 and padding >= 0, not {self.groups}, {self.stride}, "
                f"{self.dilation} and {self.padding}"
            )
        c_out, c_in = self.weight.shape[0], self.weight.shape[1] * self.groups
        if len(self.input_shape) != 3 or self.input_shape[0] != c_in:
            given = str(self.input_shape[0]) if len(self.input_shape) == 3 else f"the shape {self.input_shape}"
            raise InputError(f"a kernel for {c_in} channels cannot act on an input of {given}")
        if c_out % self.groups:
            raise InputError(f"{c_out} output channels cannot be split into {self.groups} groups")
        if min(self.output_shape) < 1:
            kernel, image = (" x ".join(map(str, shape[-2:])) for shape in (self.weight.shape, self.input_shape))
            raise InputError(f"the kernel {kernel} does not fit into an input of {image}")

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(C_out, H_out, W_out)."""
        size = [
            (self.input_shape[1 + a] + sum(self.padding[a]) - self.dilation[a] * (self.weight.shape[2 + a] - 1) - 1)
            // self.stride[a]
            + 1
            for a in (0, 1)
        ]
        return (self.weight.shape[0], size[0], size[1])

    def matrix(self) -> sparse.csr_array:
        """The same map as a sparse matrix [C_out*H_out*W_out, C_in*H*W]; zero weights are not stored."""
        c_in, height, width = self.input_shape
        c_out, out_h, out_w = self.output_shape
        per_group_in, per_group_out = c_in // self.groups, c_out // self.groups
        o, c, i, j = np.nonzero(self.weight)
        # One row of these index arrays per non-zero kernel entry, one column per output pixel.
        oy, ox = (a.ravel()[None, :] for a in np.mgrid[:out_h, :out_w])
        iy = oy * self.stride[0] - self.padding[0][0] + (i * self.dilation[0])[:, None]
        ix = ox * self.stride[1] - self.padding[1][0] + (j * self.dilation[1])[:, None]
        inside = (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
        channel = (o // per_group_out) * per_group_in + c
        rows = (o[:, None] * out_h + oy) * out_w + ox
        columns = (channel[:, None] * height + iy) * width + ix
        values = np.broadcast_to(self.weight[o, c, i, j].astype(np.float64)[:, None], inside.shape)
        return sparse.csr_array(
            (values[inside], (rows[inside], columns[inside])),
            shape=(c_out * out_h * out_w, c_in * height * width),
        )

    def largest_row(self) -> float:
        """The largest sum of absolute entries in a row of `matrix`, or more."""
        return float(np.abs(self.weight).sum(axis=(1, 2, 3), dtype=np.float64).max())

    def fan_out(self) -> np.ndarray:
        """Non-zero entries in every column of `matrix`, int64 [C_in*H*W], counted without writing it out."""
        c_in, height, width = self.input_shape
        per_group = c_in // self.groups
        filled = np.zeros((c_in, *self.weight.shape[2:]), dtype=np.int64)
        for group, weight in enumerate(np.split(self.weight, self.groups)):
            filled[group * per_group : (group + 1) * per_group] = np.count_nonzero(weight, axis=0)
        # How many output rows (columns) read input row y through kernel row i: 1 or 0.
        seen = []
        for axis, size in enumerate((height, width)):
            taps, outputs = np.mgrid[: self.weight.shape[2 + axis], : self.output_shape[1 + axis]]
            at = outputs * self.stride[axis] - self.padding[axis][0] + taps * self.dilation[axis]
            inside = (at >= 0) & (at < size)
            reached = np.zeros((self.weight.shape[2 + axis], size), dtype=np.int64)
            reached[taps[inside], at[inside]] = 1
            seen.append(reached)
        return np.einsum("cij,iy,jx->cyx", filled, *seen).ravel()


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix on the last axis: ``out[..., o] = sum_i weight[o, i] * in[..., i]``.

    Attributes:
        weight: float64 or float32 [out, in].
        input_shape: (..., in).
    """

    weight: np.ndarray
    input_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _real(self, "weight")
        if self.weight.ndim != 2:
            raise InputError(f"the weight of a linear node has 2 dimensions, not {self.weight.ndim}")
        if not self.weight.size:
            raise InputError(f"the weight is empty: its shape is {self.weight.shape}")
        if not self.input_shape or self.input_shape[-1] != self.weight.shape[1]:
            raise InputError(
                f"a weight of shape {self.weight.shape} cannot act on an input of shape {self.input_shape}"
            )

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (*self.input_shape[:-1], self.weight.shape[0])

    def matrix(self) -> sparse.csr_array:
        """Sparse [n_out, n_in]; zero weights are not stored."""
        block = sparse.csr_array(self.weight).astype(np.float64)
        copies = int(np.prod(self.input_shape[:-1], dtype=np.int64))
        return block if copies == 1 else sparse.csr_array(sparse.block_diag([block] * copies))

    def largest_row(self) -> float:
        """The largest sum of absolute entries in a row of `matrix`."""
        return float(np.abs(self.weight).sum(axis=1, dtype=np.float64).max())

    def fan_out(self) -> np.ndarray:
        """Non-zero entries in every column of `matrix`, int64 [n_in]."""
        copies = int(np.prod(self.input_shape[:-1], dtype=np.int64))
        return np.tile(np.count_nonzero(self.weight, axis=0), copies)


@dataclass(frozen=True, eq=False)
class Scale:
    """Elementwise product with ``factor`` (float64, in the input's shape)."""

    factor: np.ndarray

    def __post_init__(self) -> None:
        _real(self, "factor")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.factor.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.factor.shape

    def matrix(self) -> sparse.csr_array:
        """Sparse diagonal [n, n]; zero factors are not stored."""
        diagonal = sparse.csr_array(sparse.diags_array(self.factor.ravel()))
        diagonal.eliminate_zeros()
        return diagonal

    def largest_row(self) -> float:
        """The largest absolute entry."""
        return float(np.abs(self.factor).max())

    def fan_out(self) -> np.ndarray:
        """Non-zero entries in every column of `matrix`, int64 [n]."""
        return (self.factor.ravel() != 0).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Delay:
    """Every element arrives ``seconds`` (float64, in the input's shape, >= 0) later."""

    seconds: np.ndarray

    def __post_init__(self) -> None:
        _real(self, "seconds")
        if not np.all(np.isfinite(self.seconds)) or np.any(self.seconds < 0):
            raise InputError("delays must be finite and >= 0 seconds")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.seconds.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.seconds.shape


@dataclass(frozen=True, eq=False)
class Sparse:
    """A general linear map, for instance the sum of many paths of linear nodes.

    Attributes:
        weight: sparse float64 [n_out, n_in].
        input_shape, output_shape: of n_in and n_out elements.
    """

    weight: sparse.csr_array
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        expected = math.prod(self.output_shape), math.prod(self.input_shape)
        if not sparse.issparse(self.weight) or self.weight.shape != expected or self.weight.dtype.kind != "f":
            raise InputError(f"Sparse.weight must be a sparse matrix {expected} of floats, not {shown(self.weight)}")

    def matrix(self) -> sparse.csr_array:
        """Sparse [n_out, n_in]; zero weights are not stored."""
        matrix = self.weight.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    def largest_row(self) -> float:
        """The largest sum of absolute entries in a row of `matrix`."""
        return float(abs(self.weight).sum(axis=1).max())

    def fan_out(self) -> np.ndarray:
        """Non-zero entries in every column of `matrix`, int64 [n_in]."""
        return np.bincount(self.matrix().indices, minlength=self.weight.shape[1]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Synapses:
    """Single synapses, each with its own weight and delay; two synapses may connect the same pair.

    Attributes:
        source, target: flat indices of the two ends, integers [K].
        weight: float64 [K].
        seconds: delay of every synapse, float64 [K], >= 0.
        input_shape, output_shape: of the populations.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    seconds: np.ndarray
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.source) == len(self.target) == len(self.weight) == len(self.seconds):
            raise InputError("synapses need as many sources, targets, weights and delays")
        if not np.all(np.isfinite(self.seconds)) or np.any(self.seconds < 0):
            raise InputError("delays must be finite and >= 0 seconds")
        if not np.all(np.isfinite(self.weight)):
            raise InputError("weights must be finite")
        for name, shape in (("source", self.input_shape), ("target", self.output_shape)):
            ends, size = check_array(f"Synapses.{name}", getattr(self, name), "iu", "indices"), math.prod(shape)
            if ends.size and not 0 <= ends.min() <= ends.max() < size:
                raise InputError(f"Synapses.{name} must be 0..{size - 1}, not {ends.min()}..{ends.max()}")

    def matrix(self) -> sparse.csr_array:
        """Sparse [n_out, n_in] without the delays; weights of one pair are added, zeros are not stored."""
        shape = int(np.prod(self.output_shape)), int(np.prod(self.input_shape))
        matrix = sparse.csr_array((self.weight, (self.target, self.source)), shape=shape)
        matrix.eliminate_zeros()
        return matrix

    def largest_row(self) -> float:
        """The largest sum of absolute weights into one target."""
        return float(np.bincount(self.target, np.abs(self.weight), minlength=1).max())

    def fan_out(self) -> np.ndarray:
        """Synapses of every source, int64 [n_in]."""
        return np.bincount(self.source, minlength=int(np.prod(self.input_shape))).astype(np.int64)


LinearOperator: TypeAlias = Conv2d | Dense | Scale | Sparse | Synapses
Operator: TypeAlias = LinearOperator | Delay


def pool2d(
    kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], input_shape: tuple[int, ...], average: bool
) -> Conv2d:
    """Sum or average pooling of [C, H, W] as a depthwise convolution (padding counts in the average, as in torch)."""
    if len(input_shape) != 3:
        raise InputError(f"pooling needs an input of shape (C, H, W), not {input_shape}")
    channels, height, width = input_shape
    value = 1.0 / (kernel[0] * kernel[1]) if average else 1.0
    return Conv2d(
        weight=np.full((channels, 1, *kernel), value),
        stride=stride,
        padding=padding,
        dilation=(1, 1),
        groups=channels,
        input_shape=(channels, height, width),
    )
