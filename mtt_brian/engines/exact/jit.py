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
    """The same for the loop of an order, which takes seconds to compile.

    It is compiled again for neurons given by a linear system, and for networks with crossings or delays.
    """
    return _compiled(f"compiling the exact engine, order {order}, once for each kind of network, 5 to 30 s")


#: The same for the kernels of `EquationNeuron`.
device_kernel = _compiled("compiling the kernels for neurons given by equations, once, 10 to 60 s")
#: A function of a kernel that is too rare or too large to inline. Python must not call it: the wrapper for Python would
#: take a quarter of the compile time.
piece = _compiled(no_cpython_wrapper=True)
#: A function of a kernel, always inlined (LLVM's ``alwaysinline``): whole named tuples are cheap to pass only within a
#: function. Python must not call it.
inlined = _compiled(no_cpython_wrapper=True, forceinline=True)


def address(function: Any, *arguments: Any) -> int:
    """The address of a kernel that returns a float, compiled for such arguments, for `call`."""
    signature = tuple(map(numba.typeof, arguments))
    function.compile(signature)
    compiled = function.overloads[signature]
    assert compiled.signature.return_type == types.float64
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def call(_: Any, address: Any, arguments: Any) -> Any:
    """The float that a kernel returns, called by its `address` with a tuple of arguments.

    Numba compiles a function again with each of its callers, and with theirs; one that is called so only once.
    """
    given = [types.int64 if isinstance(one, types.Integer) else one for one in arguments]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        convention = context.call_conv
        pointer = builder.inttoptr(values[0], convention.get_function_type(types.float64, given).as_pointer())
        given_values = [builder.extract_value(values[1], k) for k in range(len(given))]
        return convention.call_function(builder, pointer, types.float64, given, given_values)[1]

    return types.float64(types.int64, types.Tuple(given)), generate


#: `mtt_brian.engines.lowered.packing` for kernels.
packed, unpacked = inlined(packing.pack), inlined(packing.unpack)
