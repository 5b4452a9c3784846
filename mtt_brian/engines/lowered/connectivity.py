"""One connection as arrays: what a spike of its source turns into, and where that goes.

Whatever the chain of operators, it becomes two steps:

* a **front**: a few entries (pattern pixel, weight row, factor, delay) for every source neuron; for a plain convolution
  or matrix that is one entry, a pooling in between only changes where it points;
* a **pattern**: for every pixel the target positions it reaches and, for each, the offset of the weights to add. The
  weights of one target position lie side by side over its channels, so that the innermost loop is contiguous.

A convolution keeps one shared kernel, a matrix is a pattern of one pixel, and anything else is a sparse matrix whose
pixels are its columns and whose rows have length 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mtt_brian.circuit.model import Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, LinearOperator, Operator, Scale, Synapses


@dataclass(frozen=True)
class Layout:
    """Neurons of a population as channels of pixels; ``channels_first`` says how their C order runs."""

    channels: int
    pixels: int
    channels_first: bool

    @property
    def flat(self) -> np.ndarray:
        """C-order index of every neuron, neurons numbered channels last."""
        index = np.arange(self.channels * self.pixels, dtype=np.int32)
        return index.reshape(self.channels, self.pixels).T.ravel() if self.channels_first else index


@dataclass
class Chain:
    """One connection, lowered: front entries sorted by source, and the pattern behind them."""

    source: np.ndarray
    pixel: np.ndarray
    shift: np.ndarray
    first_weight: np.ndarray
    factor: np.ndarray
    delay: np.ndarray
    pattern: np.ndarray
    position: np.ndarray
    position_weight: np.ndarray
    weight: np.ndarray
    spacing: int
    row: int

    def targets(self, first_position: int, first_weight: int) -> np.ndarray:
        """Where every front entry goes: four numbers each, side by side.

        They are where its positions begin and end, its first target channel and its first weight; positions and
        weights are counted from the given ones.
        """
        begin, end = self.pattern[self.pixel] + first_position, self.pattern[self.pixel + 1] + first_position
        return np.stack([begin, end, self.shift, self.first_weight + first_weight], axis=1).ravel()

    @property
    def full(self) -> bool:
        """Whether an arrival at a position reaches all neurons there."""
        return self.row == self.spacing

    @property
    def without_zeros(self) -> bool:
        return bool(np.all(self.weight)) and bool(np.all(self.factor))


def layout_of(population: Population, incoming: tuple[Connection, ...]) -> Layout:
    if len(population.shape) == 3:
        channels, height, width = population.shape
        return Layout(channels, height * width, True)
    for connection in incoming:  # a flattened convolution keeps its channels together all the same
        linear = [o for o in connection.operators if not isinstance(o, Delay)]
        if linear and isinstance(linear[-1], Conv2d):
            channels, height, width = linear[-1].output_shape
            return Layout(channels, height * width, True)
    last = population.shape[-1] if population.shape else 1
    return Layout(last, population.size // last, False)


def lower(connection: Connection, shape: tuple[int, ...], layout: Layout) -> Chain:
    if len(connection.operators) == 1 and isinstance(only := connection.operators[0], Synapses):
        return _sparse(only.target.astype(np.int64), only.source, only.weight, only.seconds)
    operators = _absorb_scales(connection.operators)
    wait, kept = 0.0, []
    for operator in operators:
        if isinstance(operator, Delay) and np.all(operator.seconds == operator.seconds.flat[0]):
            wait += float(operator.seconds.flat[0])  # the same delay everywhere commutes with all the rest
        else:
            kept.append(operator)
    operators = kept
    n = connection.source_size
    source, middle, factor, delay = np.arange(n), np.arange(n), np.ones(n), np.full(n, wait)
    last = operators[-1] if operators else None
    stencil = last if _fits(last, layout) else None
    for operator in operators[:-1] if stencil is not None else operators:
        if isinstance(operator, Delay):
            delay = delay + operator.seconds.ravel()[middle]
        else:
            source, middle, factor, delay = _through(operator, source, middle, factor, delay)
    if stencil is not None and len(factor) and np.all(factor == factor[0]):
        scale, factor = factor[0], np.ones(len(factor))
    else:
        scale = 1.0
    if isinstance(stencil, Conv2d):
        return _convolution(stencil, scale, source, middle, factor, delay)
    if isinstance(stencil, Dense):
        return _matrix(stencil, scale, source, middle, factor, delay)
    # No common kernel: the factors are the weights, one row of length 1 for every entry.
    neuron = np.empty(len(layout.flat), dtype=np.int64)
    neuron[layout.flat] = np.arange(len(layout.flat))
    return _sparse(neuron[middle], source, factor, delay)


def _absorb_scales(operators: tuple[Operator, ...]) -> list[Operator]:
    """The same chain with scales that are constant over the pixels of a kernel multiplied into that kernel."""
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


def _through(
    operator: LinearOperator, source: np.ndarray, middle: np.ndarray, factor: np.ndarray, delay: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Follows every path through one more operator; paths of one source and one delay that meet are added."""
    waits, wait = np.unique(delay, return_inverse=True)
    keys, key = np.unique(source * len(waits) + wait, return_inverse=True)
    matrix = operator.matrix()
    paths = sparse.csr_array((factor, (key, middle)), shape=(len(keys), matrix.shape[1]))
    ends = sparse.csr_array(paths @ matrix.T)
    ends.eliminate_zeros()
    ends.sort_indices()
    of = np.repeat(keys, np.diff(ends.indptr))
    return of // len(waits), ends.indices.astype(np.int64), ends.data, waits[of % len(waits)]


def _convolution(
    conv: Conv2d, scale: float, source: np.ndarray, middle: np.ndarray, factor: np.ndarray, delay: np.ndarray
) -> Chain:
    _, height, width = conv.input_shape
    c_out, out_h, out_w = conv.output_shape
    _, per_group, k_h, k_w = conv.weight.shape
    row, taps = c_out // conv.groups, k_h * k_w
    # Kernel rows [C_in, kernel position, output channels of the group].
    grouped = (conv.weight * scale).reshape(conv.groups, row, per_group, k_h, k_w)
    weight = grouped.transpose(0, 2, 3, 4, 1).ravel()
    # For every pixel the output positions that see it, and with which part of the kernel.
    i, j, oy, ox = (a.ravel() for a in np.mgrid[:k_h, :k_w, :out_h, :out_w])
    y = oy * conv.stride[0] - conv.padding[0][0] + i * conv.dilation[0]
    x = ox * conv.stride[1] - conv.padding[1][0] + j * conv.dilation[1]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixel, tap, position = (y * width + x)[inside], (i * k_w + j)[inside], (oy * out_w + ox)[inside]
    order = np.lexsort((position, pixel))
    channel = middle // (height * width)
    return Chain(
        source=source,
        pixel=middle % (height * width),
        shift=channel // per_group * row,
        first_weight=channel * taps * row,
        factor=factor,
        delay=delay,
        pattern=np.searchsorted(pixel[order], np.arange(height * width + 1)),
        position=position[order],
        position_weight=tap[order] * row,
        weight=weight,
        spacing=c_out,
        row=row,
    )


def _matrix(
    dense: Dense, scale: float, source: np.ndarray, middle: np.ndarray, factor: np.ndarray, delay: np.ndarray
) -> Chain:
    n_out, n_in = dense.weight.shape
    copies = int(np.prod(dense.input_shape[:-1], dtype=np.int64))
    return Chain(
        source=source,
        pixel=middle // n_in,
        shift=np.zeros(len(middle), dtype=np.int64),
        first_weight=middle % n_in * n_out,
        factor=factor,
        delay=delay,
        pattern=np.arange(copies + 1),
        position=np.arange(copies),
        position_weight=np.zeros(copies, dtype=np.int64),
        weight=(dense.weight * scale).T.ravel(),
        spacing=n_out,
        row=n_out,
    )


def _sparse(neuron: np.ndarray, source: np.ndarray, factor: np.ndarray, delay: np.ndarray) -> Chain:
    # One front entry per source and delay; its pixel lists the targets.
    order = np.lexsort((neuron, delay, source))
    source, neuron, factor, delay = source[order], neuron[order], factor[order], delay[order]
    new = np.flatnonzero(np.append(True, (np.diff(source) != 0) | (np.diff(delay) != 0))[: len(source)])
    zeros = np.zeros(len(new), dtype=np.int64)
    return Chain(
        source=source[new],
        pixel=np.arange(len(new)),
        shift=zeros,
        first_weight=zeros,
        factor=np.ones(len(new)),
        delay=delay[new],
        pattern=np.append(new, len(neuron)),
        position=neuron,
        position_weight=np.arange(len(neuron)),
        weight=factor,
        spacing=1,
        row=1,
    )
