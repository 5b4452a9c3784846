"""Names of numba that its documentation does not promise, one test each (`kernel_cache`, `exact.jit`, `indexing`)."""

import inspect

import numba
import numpy as np
from numba.core import caching, serialize

from mtt_brian.engines.exact import jit
from mtt_brian.engines.exact.indexing import Compiler


def double(x):
    return 2 * x


def fill(x):
    x[:] = 2.0


def test_a_function_without_a_cache_has_a_null_cache_that_can_be_replaced():
    dispatcher = numba.njit(double)
    assert isinstance(dispatcher._cache, caching.NullCache)
    dispatcher._cache = caching.NullCache()
    assert dispatcher(3) == 6


def test_function_cache_reads_its_implementation_from_a_class_attribute():
    assert caching.FunctionCache._impl_class is caching.CompileResultCacheImpl
    assert list(inspect.signature(caching.FunctionCache).parameters) == ["py_func"]


def test_function_cache_looks_a_kernel_up_by_signature_and_target():
    assert list(inspect.signature(caching.FunctionCache.load_overload).parameters) == ["self", "sig", "target_context"]
    assert list(inspect.signature(caching.FunctionCache._index_key).parameters) == ["self", "sig", "codegen"]


def test_compile_result_cache_reads_its_locators_from_a_class_attribute():
    assert isinstance(caching.CompileResultCacheImpl._locator_classes, list | tuple)
    assert isinstance(caching.CompileResultCacheImpl.filename_base, property)


def test_the_locator_has_the_methods_that_are_overridden():
    for name in ("from_function", "get_cache_path", "get_source_stamp", "get_disambiguator", "ensure_cache_path"):
        assert callable(getattr(caching._CacheLocator, name)), name


def test_the_file_of_a_cache_saves_loads_and_flushes():
    for name in ("save", "load", "flush"):
        assert callable(getattr(caching.IndexDataCacheFile, name)), name


def test_dumps_writes_what_pickle_reads():
    import pickle

    assert pickle.loads(serialize.dumps(("key", 1.5))) == ("key", 1.5)


def test_without_nrt_no_references_are_counted():
    """``_nrt=False``: the machine code has no calls that count references."""
    kernels = {nrt: numba.njit(_nrt=nrt)(sum_in_a_tuple) for nrt in (True, False)}
    for kernel in kernels.values():
        assert kernel((np.ones(3), np.ones(3))) == 6.0
    code = {nrt: next(iter(kernel.inspect_llvm().values())) for nrt, kernel in kernels.items()}
    assert "NRT_incref" in code[True]
    assert "NRT_incref" not in code[False]


def sum_in_a_tuple(arrays):
    first, second = arrays
    return first.sum() + second.sum()


def test_forceinline_marks_a_function_for_llvm():
    """``forceinline=True``: LLVM inlines the function whatever its size."""
    code = {name: numba.njit(forceinline=name == "inlined")(double) for name in ("inlined", "called")}
    for kernel in code.values():
        assert kernel(3) == 6
    assert "alwaysinline" in next(iter(code["inlined"].inspect_llvm().values()))
    assert "alwaysinline" not in next(iter(code["called"].inspect_llvm().values()))


def test_without_wrappers_a_function_is_compiled_for_other_kernels_only():
    """``no_cpython_wrapper``, ``no_cfunc_wrapper``: the machine code has none of the entrances for Python and C."""
    piece = numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)(double)
    assert numba.njit(lambda x: piece(x) + 1)(3) == 7
    code = {"piece": next(iter(piece.inspect_llvm().values()))}
    called = numba.njit(double)
    assert called(3) == 6
    code["called"] = next(iter(called.inspect_llvm().values()))
    for entrance in ("cpython", "cfunc"):
        assert entrance in code["called"]
        assert entrance not in code["piece"]


def test_a_test_for_none_leaves_its_branch_out():
    """What is behind ``if x is not None`` is not compiled for None: here it could not be."""

    @numba.njit
    def either(x):
        if x is not None:
            return len(x)
        return -1

    assert either(None) == -1
    assert either(np.zeros(3)) == 3


def test_kernels_of_the_package_are_compiled_with_these_options():
    options = jit.inlined(double).targetoptions
    assert options["forceinline"] is True
    assert options["_nrt"] is False
    assert "forceinline" not in jit.kernel(fill).targetoptions


def test_indices_of_our_kernels_are_unsigned():
    """``pipeline_class``: no code for negative indices, which in Python count from the end."""

    def at(x, k):
        return x[k]

    def at_two(x, k):
        x[k, 1] += x[1, k]

    x = np.arange(6.0).reshape(2, 3)
    plain, ours = numba.njit(at), numba.njit(pipeline_class=Compiler)(at)
    assert (plain(x[0], -1), plain(x[0], 1), ours(x[0], 1)) == (2.0, 1.0, 1.0)
    code = {kernel: next(iter(kernel.inspect_llvm().values())) for kernel in (plain, ours)}
    assert "ashr" in code[plain] or "icmp slt" in code[plain]
    assert "load double" in code[ours]
    assert not any(sign in code[ours] for sign in ("ashr", "icmp slt"))
    jit.kernel(at_two)(x, 1)
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 8.0, 5.0]]
