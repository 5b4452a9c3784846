"""Compilation of the kernels.

No ``fastmath``: sums keep the order of the source, and every comparison follows IEEE 754.

The kernels allocate nothing (if an array is full they return, and are called again with a larger one) and are compiled
without numba's reference counting: counting the arrays in every use of a named tuple takes ten times the time of the
computation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from mtt_brian.circuit import plasticity
from mtt_brian.engines.base import Order
from mtt_brian.engines.exact.indexing import Compiler
from mtt_brian.engines.lowered import packing
from mtt_brian.kernel_cache import WITHOUT_RUNTIME, kept
from mtt_brian.neuron import equation_neuron

_OPTIONS = {"nogil": True, "error_model": "numpy", "pipeline_class": Compiler, **WITHOUT_RUNTIME}
#: Files whose functions and constants become part of the machine code.
_SOURCES = (
    *Path(__file__).parent.glob("*.py"),
    *Path(packing.__file__).parent.glob("*.py"),
    *Path(plasticity.__file__).parent.glob("*.py"),
    Path(equation_neuron.__file__),
)


def _compiled(before_compiling: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    decorate = numba.njit(**_OPTIONS, no_cfunc_wrapper=True, **options)
    keep = kept(_SOURCES, before_compiling)
    return lambda function: keep(decorate(function))


#: A kernel that Python calls.
kernel = _compiled()


def loop(order: Order) -> Callable[[Callable[..., Any]], Any]:
    """The same for the loop of an order, which takes seconds to compile, and which kernels `call`.

    It is compiled again for neurons given by a linear system, and for networks with crossings or delays.
    """
    text = f"compiling the exact engine, order {order}, once for each kind of network, 5 to 30 s"
    return _compiled(text, no_cpython_wrapper=True)


#: The same for the kernels of `EquationNeuron`.
device_kernel = _compiled("compiling the kernels for neurons given by equations, once, 10 to 60 s")
#: A function of a kernel that is too rare or too large to inline. Python must not call it: the wrapper for Python would
#: take a quarter of the compile time.
piece = _compiled(no_cpython_wrapper=True)
#: A function of a kernel, always inlined (LLVM's ``alwaysinline``): whole named tuples are cheap to pass only within a
#: function. Python must not call it.
inlined = _compiled(no_cpython_wrapper=True, forceinline=True)


def address(function: Any, *arguments: Any) -> int:
    """The address of a kernel that returns a number, compiled for such arguments, for `call`."""
    signature = tuple(map(numba.typeof, arguments))
    function.compile(signature)
    compiled = function.overloads[signature]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def call(_: Any, address: Any, arguments: Any, number: Any) -> Any:
    """What a kernel returns, called by its `address` with a tuple of arguments: a number of the type of ``number``.

    Numba compiles a function again with each of its callers, and with theirs; one that is called so only once.
    """
    given = [types.int64 if isinstance(one, types.Integer) else one for one in arguments]
    result = types.unliteral(number)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        convention = context.call_conv
        pointer = builder.inttoptr(values[0], convention.get_function_type(result, given).as_pointer())
        given_values = [builder.extract_value(values[1], k) for k in range(len(given))]
        return convention.call_function(builder, pointer, result, given, given_values)[1]

    return result(types.int64, types.Tuple(given), number), generate


@intrinsic
def array_at(_: Any, address: Any, size: Any, number: Any) -> Any:
    """The contiguous array at an address, of ``size`` numbers of the type of ``number``, for kernels of many arrays."""
    array_type = types.Array(types.unliteral(number), 1, "C")

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = make_array(array_type)(context, builder)
        itemsize = context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
        data = builder.inttoptr(values[0], array.data.type)
        populate_array(array, data, [values[1]], [itemsize], itemsize, meminfo=None)
        return array._getvalue()

    return array_type(types.intp, types.intp, number), generate


#: `mtt_brian.engines.lowered.packing` for kernels.
packed, unpacked = inlined(packing.pack), inlined(packing.unpack)
