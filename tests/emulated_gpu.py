"""A GPU for the engine `exact-cuda` without a GPU: its kernel compiled for the CPU (tests/emulated_cuda).

The kernel runs with real barriers, its threads in shuffled order, and a memory apart from the host's.
"""

import ctypes
import functools
import hashlib
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mtt_brian.engines.exact_cuda.gpu import OutOfMemory

HOME = Path(__file__).parent / "emulated_cuda"
_LIBRARY = """
#include <utility>

template <class... P, size_t... I>
static void call(void (*kernel)(P...), int blocks, int threads, int shared, const long long* a,
                 std::index_sequence<I...>) {
    kernel<<<blocks, threads, shared>>>((P)a[I]...);
}
template <class... P>
static void call(void (*kernel)(P...), int blocks, int threads, int shared, const long long* a) {
    call(kernel, blocks, threads, shared, a, std::index_sequence_for<P...>());
}
extern "C" long long allocate(long long bytes) {
    void* pointer = nullptr;
    return cudaMalloc(&pointer, bytes) ? 0 : (long long)pointer;
}
extern "C" void release(long long pointer) { cudaFree((void*)pointer); }
extern "C" void clear(long long pointer, long long bytes) { cudaMemset((void*)pointer, 0, bytes); }
extern "C" void to_device(long long to, const void* from, long long bytes) {
    cudaMemcpy((void*)to, from, bytes, cudaMemcpyHostToDevice);
}
extern "C" void to_host(void* to, long long from, long long bytes) {
    cudaMemcpy(to, (void*)from, bytes, cudaMemcpyDeviceToHost);
}
"""
_LAUNCHER = """
extern "C" const char* launch_{function}(int blocks, int threads, int shared, const long long* arguments) {{
    call({function}, blocks, threads, shared, arguments);
    cudaDeviceSynchronize();
    cudaError_t error = cudaGetLastError();
    return error ? cudaGetErrorString(error) : nullptr;
}}
"""


#: The emulation runs one operation at a time, whichever thread asks for it.
ONE_AT_A_TIME = threading.RLock()


def one_at_a_time(function):
    """Decorates what calls the emulation."""

    @functools.wraps(function)
    def locked(*arguments, **options):
        with ONE_AT_A_TIME:
            return function(*arguments, **options)

    return locked


class Buffer:
    """Memory of the emulated GPU; of a slice of columns only the content is used."""

    @one_at_a_time
    def __init__(self, library, shape, dtype):
        self.shape, self.dtype, self.columns = shape, np.dtype(dtype), slice(None)
        self.bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._library, self.address = library, library.allocate(self.bytes)
        assert self.address, "the emulated GPU has no more memory"

    def __getitem__(self, index):
        every_row, columns = index
        assert every_row == slice(None)
        part = object.__new__(Part)
        part.whole, part.columns = self, columns
        return part

    @one_at_a_time
    def __del__(self):
        self._library.release(self.address)


class Part:
    """Some columns of a buffer."""


class EmulatedGpu:
    """Implements `mtt_brian.engines.exact_cuda.gpu.Gpu`.

    Args:
        folder: for what it compiles.
        memory: in bytes.
        general: compile the general kernel for every network, which saves compilations.
        largest: bytes of the largest buffer.
    """

    name = "emulated GPU"

    def __init__(self, folder, memory=2**30, general=True, largest=2**40):
        self.folder, self._memory, self._general, self._largest = folder, memory, general, largest
        self._library = None

    def free_bytes(self):
        return self._memory

    def compile(self, sources, functions, macros):
        if self._general:
            macros = {**macros, "ANY_MOVES": "1", "ANY_SINGLE": "1", "ANY_MARKED": "1"}
        text = "".join(source.read_text() for source in sources)
        key = hashlib.sha256((text + repr(sorted(macros.items()))).encode()).hexdigest()[:16]
        library = self.folder / f"{key}.so"
        if not library.exists():
            launcher = library.with_suffix(".cu")
            launcher.write_text(text + _LIBRARY + "".join(_LAUNCHER.format(function=name) for name in functions))
            nvcc, objects = HOME / "bin" / "nvcc", library.with_suffix(".o")
            defines = [f"-D{name}={value}" for name, value in macros.items()]
            for command in (
                [nvcc, "--fmad=false", *defines, "-dc", launcher, "-o", objects],
                [nvcc, "-shared", objects, "-o", library],
            ):
                subprocess.run([sys.executable, *command], check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.allocate.argtypes = [ctypes.c_longlong]
        self._library.allocate.restype = ctypes.c_longlong
        self._library.release.argtypes = [ctypes.c_longlong]
        self._library.clear.argtypes = [ctypes.c_longlong] * 2
        self._library.to_device.argtypes = [ctypes.c_longlong, ctypes.c_void_p, ctypes.c_longlong]
        self._library.to_host.argtypes = [ctypes.c_void_p, ctypes.c_longlong, ctypes.c_longlong]
        return [self._launcher(getattr(self._library, f"launch_{name}")) for name in functions]

    def _launcher(self, start):
        start.restype = ctypes.c_char_p

        @one_at_a_time
        def launch(blocks, threads, shared, arguments):
            error = start(blocks, threads, shared, (ctypes.c_longlong * len(arguments))(*arguments))
            assert error is None, error

        return launch

    def stream(self):
        return self

    @contextmanager
    def use(self):
        yield

    def synchronize(self):
        pass

    def staging(self, shape, dtype):
        return np.full(shape, 0x7F, dtype)

    @one_at_a_time
    def upload(self, array):
        buffer = Buffer(self._library, array.shape, array.dtype)
        self._library.to_device(buffer.address, np.ascontiguousarray(array).ctypes.data, buffer.bytes)
        return buffer

    @one_at_a_time
    def zeros(self, shape, dtype):
        buffer = Buffer(self._library, shape, dtype)
        self._library.clear(buffer.address, buffer.bytes)
        return buffer

    @one_at_a_time
    def empty(self, shape, dtype):
        if int(np.prod(shape)) * np.dtype(dtype).itemsize > self._largest:
            raise OutOfMemory(f"{self.name}: not enough memory")
        return self.upload(np.full(shape, 0x7F, dtype))

    @one_at_a_time
    def download(self, buffer, to):
        whole = buffer.whole if isinstance(buffer, Part) else buffer
        content = np.empty(whole.shape, whole.dtype)
        self._library.to_host(content.ctypes.data, whole.address, whole.bytes)
        to[:] = content[:, buffer.columns] if isinstance(buffer, Part) else content

    def address(self, buffer):
        return buffer.address
