"""Operations on several neurons at once, as vector instructions: on eight neighbours, and on `LANES` of any place.

The blocks of weights are short (8 to 512 numbers) and their length is known at run time only. LLVM vectorises such a
loop for long arrays: it tests for overlap first, and computes the last numbers, often all of them, one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from mtt_brian.engines.exact.jit import inlined

#: Numbers in one vector: one register of AVX-512, two of AVX2, four of SSE and NEON.
WIDTH = 8
#: Numbers in a row of an array of lanes: two vectors, so that a processor computes one while it waits for the other.
LANES = 16


def _address(width: int, context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """The address of ``width`` numbers of an array of float64 or float32 from index ``at`` on, as that of a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    number = ir.DoubleType() if array_type.dtype == types.float64 else ir.FloatType()
    return builder.bitcast(builder.gep(data, [at]), ir.VectorType(number, width).as_pointer())


def _loaded(width: int, context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """These numbers as float64."""
    address = _address(width, context, builder, array_type, array, at)
    numbers = builder.load(address, align=array_type.dtype.bitwidth // 8)
    return (
        numbers if array_type.dtype == types.float64 else builder.fpext(numbers, ir.VectorType(ir.DoubleType(), width))
    )


def _repeated(builder: Any, number: Any, width: int) -> Any:
    """A vector that repeats a float64."""
    whole = ir.VectorType(ir.DoubleType(), width)
    first = builder.insert_element(ir.Constant(whole, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width))


def _adder(width: int) -> Any:
    @intrinsic
    def add(_: Any, y: Any, to: Any, weight: Any, w: Any, amount: Any) -> Any:
        """Adds ``amount * weight[w : w + width]`` to ``y[to : to + width]``."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            y_, to_, weight_, w_, amount_ = arguments
            amounts = _repeated(builder, amount_, width)
            weights = _loaded(width, context, builder, signature.args[2], weight_, w_)
            address = _address(width, context, builder, signature.args[0], y_, to_)
            total = builder.fadd(builder.load(address, align=8), builder.fmul(amounts, weights))
            builder.store(total, address, align=8)
            return context.get_dummy_value()

        return types.void(y, types.int64, weight, types.int64, types.float64), generate

    return add


_add_8, _add_4, _add_2 = map(_adder, (WIDTH, 4, 2))


@inlined
def add_products(y: np.ndarray, to: int, weight: np.ndarray, w: int, length: int, amount: float) -> None:
    """Adds ``amount`` times ``length`` weights, float64 or float32, to the float64 numbers ``y[to : to + length]``."""
    for k in range(0, length - WIDTH + 1, WIDTH):
        _add_8(y, to + k, weight, w + k, amount)
    k = length & ~(WIDTH - 1)
    if length & 4:
        _add_4(y, to + k, weight, w + k, amount)
        k += 4
    if length & 2:
        _add_2(y, to + k, weight, w + k, amount)
        k += 2
    if length & 1:
        y[to + k] += amount * weight[w + k]


@intrinsic
def _mask_8(_: Any, y: Any, at: Any, threshold: Any, q: Any) -> Any:
    """Bit k: whether ``y[at + k] >= threshold[q + k]``, k < 8."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y_, at_, threshold_, q_ = arguments
        numbers = _loaded(WIDTH, context, builder, signature.args[0], y_, at_)
        limits = _loaded(WIDTH, context, builder, signature.args[2], threshold_, q_)
        bits = builder.bitcast(builder.fcmp_ordered(">=", numbers, limits), ir.IntType(WIDTH))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(y, types.int64, threshold, types.int64), generate


@intrinsic
def lowest_bit(_: Any, bits: Any) -> Any:
    """The place of the lowest bit of an integer > 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@inlined
def at_threshold(y: np.ndarray, at: int, threshold: np.ndarray, q: int, width: int) -> int:
    """Bit k: whether neuron ``at + k`` is at or above its threshold, k < ``width`` <= 8."""
    if width == WIDTH:
        return _mask_8(y, at, threshold, q)
    bits = 0
    for k in range(width):
        bits |= (1 if y[at + k] >= threshold[q + k] else 0) << k
    return bits


@intrinsic
def prefetch(_: Any, array: Any, at: Any) -> Any:
    """Begins to load the cache line of ``array[at]``, which may lie outside."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(prefetch, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


# ---- Lanes: a row of `LANES` numbers of an array float64 [rows, LANES] is one value of a kernel ----------------------


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


_VECTOR, _LANES = ir.VectorType(ir.DoubleType(), LANES), _Lanes()


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Any) -> None:
        super().__init__(manager, lanes, _VECTOR)


def _row(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    """The address of a row."""
    return _address(LANES, context, builder, array_type, array, builder.mul(row, ir.Constant(row.type, LANES)))


@intrinsic
def row_of(_: Any, array: Any, row: Any) -> Any:
    """A row of an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_row(context, builder, signature.args[0], *arguments), align=8)

    return _LANES(array, types.int64), generate


@intrinsic
def put_row(_: Any, array: Any, row: Any, x: Any) -> Any:
    """Replaces a row of an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _row(context, builder, signature.args[0], *arguments[:2]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, _LANES), generate


@intrinsic
def same(_: Any, x: Any) -> Any:
    """Lanes that all are ``x``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _repeated(builder, arguments[0], LANES)

    return _LANES(types.float64), generate


@intrinsic
def plus(_: Any, x: Any, y: Any) -> Any:
    """``x + y``."""
    return _LANES(_LANES, _LANES), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def minus(_: Any, x: Any, y: Any) -> Any:
    """``x - y``."""
    return _LANES(_LANES, _LANES), lambda context, builder, signature, arguments: builder.fsub(*arguments)


@intrinsic
def over(_: Any, x: Any, y: Any) -> Any:
    """``x / y``."""
    return _LANES(_LANES, _LANES), lambda context, builder, signature, arguments: builder.fdiv(*arguments)


@intrinsic
def where_below_1(_: Any, u: Any, x: Any, y: Any) -> Any:
    """``x`` in the lanes in which ``abs(u) < 1``, else ``y``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        u_, x_, y_ = arguments
        one = ir.Constant(u_.type, [1.0] * LANES)
        minus_one = ir.Constant(u_.type, [-1.0] * LANES)
        inside = builder.and_(builder.fcmp_ordered("<", u_, one), builder.fcmp_ordered(">", u_, minus_one))
        return builder.select(inside, x_, y_)

    return _LANES(_LANES, _LANES, _LANES), generate


@intrinsic
def times(_: Any, x: Any, y: Any) -> Any:
    """``x * y``."""
    return _LANES(_LANES, _LANES), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def size_of(_: Any, x: Any) -> Any:
    """``abs(x)``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        negative = builder.fcmp_ordered("<", arguments[0], zero)
        return builder.select(negative, builder.fneg(arguments[0]), arguments[0])

    return _LANES(_LANES), generate


@intrinsic
def positive_part(_: Any, x: Any) -> Any:
    """``max(x, 0)``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zero), arguments[0], zero)

    return _LANES(_LANES), generate


@intrinsic
def exponent(_: Any, x: Any) -> Any:
    """The exponent e of a number, 2 ** (e - 1) <= abs(x) < 2 ** e, as in ``math.frexp``; -1022 if subnormal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        bits = builder.lshr(builder.bitcast(arguments[0], number), number(52))
        return builder.sub(builder.and_(bits, number(0x7FF)), number(1022))

    return types.int64(types.float64), generate


@intrinsic
def power_of_2(_: Any, e: Any) -> Any:
    """``2.0 ** e`` for an integer, -1022 <= e < 1024."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        bits = builder.shl(builder.add(arguments[0], number(1023)), number(52))
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.int64), generate
