"""One connection as arrays: which target neurons a spike of its source reaches, and through which weights.

Any sequence of operators is stored in two parts:

* an **index** over the source neurons (CSR): for each of them a few entries (input pixel of the stencil, first weight,
  factor, delay). A convolution or matrix has one entry per neuron; a pooling in front of it changes the pixel only;
* a **stencil**: for every input pixel the target positions that it reaches and, for each, the offset of a block of
  weights. A block holds the weights of one target position, one per channel, so that the innermost loop is contiguous.

A convolution keeps one shared kernel. A matrix is a stencil of one pixel. Any other connection is a sparse matrix: its
pixels are the columns of the matrix and its blocks have length 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mtt_brian.circuit.model import Connection, Population
from mtt_brian.circuit.operators import (
    Conv2d,
    Delay,
    Dense,
    LinearOperator,
    Operator,
    Scale,
    Synapses,
    narrowed,
)
from mtt_brian.engines.lowered.packing import pack
from mtt_brian.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Neurons of a population as channels of pixels; ``channels_first``: whether C order counts channels slowest."""

    channels: int
    pixels: int
    channels_first: bool

    @property
    def flat(self) -> np.ndarray:
        """C-order index of every neuron, neurons numbered channels last."""
        index = np.arange(self.channels * self.pixels, dtype=np.int32)
        return index.reshape(self.channels, self.pixels).T.ravel() if self.channels_first else index


@dataclass(frozen=True, eq=False)
class LoweredConnection:
    """One connection: entries sorted by source, and the stencil that they point into.

    Attributes:
        source, pixel, shift, first_weight: of every entry: source neuron (C order), input pixel of the stencil, first
            target channel, first weight; int32 or int64 [entries].
        factor, delay: of every entry: a factor of all its weights, seconds; float64 [entries].
        stencil_begin: first stencil row of every input pixel, and one more; int64 [pixels + 1].
        position, position_weight: of every stencil row: target position, offset of its block of weights; int64 [rows].
        weight: all blocks, float64, or float32 after `narrowed`; of any shape, in C order, and often a view of the
            operator's weights.
        channel_stride: target neurons per position.
        block_length: weights per block.
    """

    source: np.ndarray
    pixel: np.ndarray
    shift: np.ndarray
    first_weight: np.ndarray
    factor: np.ndarray
    delay: np.ndarray
    stencil_begin: np.ndarray
    position: np.ndarray
    position_weight: np.ndarray
    weight: np.ndarray
    channel_stride: int
    block_length: int

    def entry_targets(self, first_row: int, first_weight: int, number: type[np.integer]) -> np.ndarray:
        """Where every entry points: four numbers each [4 * entries].

        They are the begin and the end of its stencil rows, its first target channel and its first weight.

        Args:
            first_row, first_weight: where the stencil and the weights of this connection begin among those of all.
            number: type of the result.
        """
        targets = np.empty((len(self.pixel), 4), number)
        row = self.stencil_begin + first_row
        targets[:, 0], targets[:, 1] = row[self.pixel], row[1:][self.pixel]
        targets[:, 2], targets[:, 3] = self.shift, np.add(self.first_weight, first_weight, dtype=np.int64)
        return targets.ravel()

    @property
    def stencil(self) -> np.ndarray:
        """Target position and offset of the weights of every stencil row, packed."""
        return pack(self.position, self.position_weight)

    @property
    def full(self) -> bool:
        """Whether an arrival at a position reaches all neurons there."""
        return self.block_length == self.channel_stride

    @property
    def without_zeros(self) -> bool:
        """Whether no weight and no factor is 0."""
        return bool(np.all(self.weight)) and bool(np.all(self.factor))

    def scaled(self, gain: np.ndarray) -> LoweredConnection:
        """The same with the weights of every channel multiplied by its gain, float64 [channels]."""
        return replace(self, weight=self.weight.reshape(-1, len(gain)) * gain)

    def narrowed(self) -> LoweredConnection:
        """The same with weights in float32, if that holds all of them without rounding."""
        return replace(self, weight=narrowed(self.weight))


class _Paths(NamedTuple):
    """Paths from source neurons through some operators: source, end, factor and delay of each."""

    source: np.ndarray
    end: np.ndarray
    factor: np.ndarray
    delay: np.ndarray


def layout_of(population: Population, incoming: tuple[Connection, ...]) -> Layout:
    """The channels and pixels of a population, from its shape or from the operators in front of it."""
    if len(population.shape) == 3:
        channels, height, width = population.shape
        return Layout(channels, height * width, True)
    for connection in incoming:  # a flattened convolution still has channels
        linear = [o for o in connection.operators if not isinstance(o, Delay)]
        if linear and isinstance(linear[-1], Conv2d):
            channels, height, width = linear[-1].output_shape
            return Layout(channels, height * width, True)
    last = population.shape[-1] if population.shape else 1
    return Layout(last, population.size // last, False)


def lower_connection(connection: Connection, layout: Layout) -> LoweredConnection:
    """A connection as arrays.

    Args:
        connection: the connection.
        layout: of its target.
    """
    neuron = np.empty(len(layout.flat), dtype=np.int64)
    neuron[layout.flat] = np.arange(len(layout.flat))
    if len(connection.operators) == 1 and isinstance(only := connection.operators[0], Synapses):
        return _sparse(_Paths(only.source, neuron[only.target], only.weight, only.seconds))
    uniform_delay, operators = 0.0, []
    for operator in _absorb_scales(connection.operators):
        if isinstance(operator, Delay) and np.all(operator.seconds == operator.seconds.flat[0]):
            uniform_delay += float(operator.seconds.flat[0])  # the same delay everywhere commutes with all the rest
        else:
            operators.append(operator)
        if isinstance(operator, Synapses):
            raise InputError(
                f"the connection {connection.source!r} -> {connection.target!r}: Synapses cannot be combined with "
                "other operators"
            )
    n, each = connection.source_size, np.arange(connection.source_size)
    paths = _Paths(each, each, _repeated(1.0, n), _repeated(uniform_delay, n))
    last = operators[-1] if operators else None
    kernel = last if isinstance(last, Conv2d | Dense) and _fits(last, layout) else None
    for operator in operators[:-1] if kernel is not None else operators:
        if isinstance(operator, Delay):
            paths = paths._replace(delay=paths.delay + operator.seconds.ravel()[paths.end])
        else:
            paths = _through(operator, paths)
    if kernel is not None and _cancel(kernel, paths):
        paths, kernel = _through(kernel, paths), None
    scale = 1.0
    if kernel is not None and len(paths.factor) and np.all(paths.factor == paths.factor[0]):
        scale, paths = paths.factor[0], paths._replace(factor=_repeated(1.0, len(paths.factor)))
    if isinstance(kernel, Conv2d):
        return _convolution(kernel, scale, paths)
    if isinstance(kernel, Dense):
        return _matrix(kernel, scale, paths)
    # Without a common kernel the factors are the weights.
    return _sparse(paths._replace(end=neuron[paths.end]))


def _repeated(value: float, times: int) -> np.ndarray:
    """The same number everywhere, float64 [times], stored once; it cannot be written."""
    return np.broadcast_to(np.float64(value), times)


def _absorb_scales(operators: tuple[Operator, ...]) -> list[Operator]:
    """The same operators with scales that are constant over the pixels of a kernel multiplied into that kernel."""
    out: list[Operator] = []
    for operator in operators:
        before = out[-1] if out else None
        if isinstance(operator, Scale) and isinstance(before, Conv2d):
            factor = operator.factor.reshape(before.output_shape)
            if np.all(factor == factor[:, :1, :1]):
                weight = before.weight * factor[:, :1, :1, None]
                out[-1] = Conv2d(
                    weight, before.stride, before.padding, before.dilation, before.groups, before.input_shape
                )
                continue
        one_row = isinstance(before, Dense) and np.prod(before.input_shape[:-1], dtype=np.int64) == 1
        if isinstance(operator, Scale) and isinstance(before, Dense) and one_row:
            out[-1] = Dense(before.weight * operator.factor.reshape(-1, 1), before.input_shape)
            continue
        out.append(operator)
    return out


def _fits(operator: Operator | None, layout: Layout) -> bool:
    """Whether the weights of an operator lie side by side in the target's layout."""
    if isinstance(operator, Conv2d):
        channels, height, width = operator.output_shape
        return layout.channels_first and (channels, height * width) == (layout.channels, layout.pixels)
    if isinstance(operator, Dense):
        return not layout.channels_first and operator.weight.shape[0] == layout.channels
    return False


def _through(operator: LinearOperator, paths: _Paths) -> _Paths:
    """Extends every path by one more operator; paths of one source and one delay that meet are added."""
    begun, keys, delays = _begun(paths, int(np.prod(operator.input_shape)))
    ends = sparse.csr_array(begun @ operator.matrix().T)
    ends.eliminate_zeros()
    ends.sort_indices()
    of = np.repeat(keys, np.diff(ends.indptr))
    late = _repeated(delays[0], len(of)) if len(delays) == 1 else delays[of % len(delays)]
    return _Paths(of // len(delays), ends.indices.astype(np.int64), ends.data, late)


def _begun(paths: _Paths, ends: int) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """The factors of the paths, a row for every source and delay: [rows, ends]; source * D + delay of every row, and
    the D delays."""
    delays, delay = np.unique(paths.delay, return_inverse=True)
    keys, key = np.unique(paths.source * len(delays) + delay, return_inverse=True)
    return sparse.csr_array((paths.factor, (key, paths.end)), shape=(len(keys), ends)), keys, delays


def _cancel(kernel: LinearOperator, paths: _Paths) -> bool:
    """Whether weights of one source and one delay add up to 0 behind the kernel.

    There is no synapse then, and no spike arrives; through the stencil one would arrive on every path.
    """
    order = np.lexsort((paths.delay, paths.source))
    source, delay = paths.source[order], paths.delay[order]
    if not np.any((source[1:] == source[:-1]) & (delay[1:] == delay[:-1])):
        return False  # no two paths meet
    begun, matrix = _begun(paths, int(np.prod(kernel.input_shape)))[0], kernel.matrix().T
    reached, crossed = sparse.csr_array(abs(begun) @ abs(matrix)), sparse.csr_array(begun @ matrix)
    crossed.eliminate_zeros()
    return crossed.nnz < reached.nnz


def _times(weight: np.ndarray, scale: float) -> np.ndarray:
    """Weights times a factor, computed in float64."""
    return weight if scale == 1 else np.multiply(weight, scale, dtype=np.float64)


def _short(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers in int32 if they fit, else in int64."""
    return numbers.astype(np.int32) if numbers.max(initial=0) < 2**31 else numbers


def _convolution(conv: Conv2d, scale: float, paths: _Paths) -> LoweredConnection:
    _, height, width = conv.input_shape
    c_out, out_h, out_w = conv.output_shape
    _, per_group, k_h, k_w = conv.weight.shape
    block_length, taps = c_out // conv.groups, k_h * k_w
    # Blocks of the kernel [C_in, kernel position, output channels of the convolution's group].
    grouped = _times(conv.weight, scale).reshape(conv.groups, block_length, per_group, k_h, k_w)
    weight = grouped.transpose(0, 2, 3, 4, 1)
    # For every pixel the output positions that it reaches, and through which part of the kernel.
    i, j, oy, ox = (a.ravel() for a in np.mgrid[:k_h, :k_w, :out_h, :out_w])
    y = oy * conv.stride[0] - conv.padding[0][0] + i * conv.dilation[0]
    x = ox * conv.stride[1] - conv.padding[1][0] + j * conv.dilation[1]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixel, tap, position = (y * width + x)[inside], (i * k_w + j)[inside], (oy * out_w + ox)[inside]
    order = np.lexsort((-position, pixel))
    channel = paths.end // (height * width)
    return LoweredConnection(
        source=_short(paths.source),
        pixel=_short(paths.end % (height * width)),
        shift=_short(channel // per_group * block_length),
        first_weight=_short(channel * taps * block_length),
        factor=paths.factor,
        delay=paths.delay,
        stencil_begin=np.searchsorted(pixel[order], np.arange(height * width + 1)),
        position=position[order],
        position_weight=tap[order] * block_length,
        weight=weight,
        channel_stride=c_out,
        block_length=block_length,
    )


def _matrix(dense: Dense, scale: float, paths: _Paths) -> LoweredConnection:
    n_out, n_in = dense.weight.shape
    copies = int(np.prod(dense.input_shape[:-1], dtype=np.int64))
    return LoweredConnection(
        source=paths.source,
        pixel=paths.end // n_in,
        shift=np.broadcast_to(np.int64(0), len(paths.end)),
        first_weight=paths.end % n_in * n_out,
        factor=paths.factor,
        delay=paths.delay,
        stencil_begin=np.arange(copies + 1),
        position=np.arange(copies),
        position_weight=np.zeros(copies, dtype=np.int64),
        weight=_times(dense.weight, scale).T,
        channel_stride=n_out,
        block_length=n_out,
    )


def _sparse(paths: _Paths) -> LoweredConnection:
    """One entry per source and delay; its pixel lists the target neurons, which ``paths.end`` numbers."""
    order = np.lexsort((paths.end, paths.delay, paths.source))
    source, neuron, factor, delay = (column[order] for column in paths)
    new = np.flatnonzero(np.append(True, (np.diff(source) != 0) | (np.diff(delay) != 0))[: len(source)])
    zeros = np.zeros(len(new), dtype=np.int64)
    return LoweredConnection(
        source=source[new],
        pixel=np.arange(len(new)),
        shift=zeros,
        first_weight=zeros,
        factor=np.ones(len(new)),
        delay=delay[new],
        stencil_begin=np.append(new, len(neuron)),
        position=neuron,
        position_weight=np.arange(len(neuron)),
        weight=factor,
        channel_stride=1,
        block_length=1,
    )
