"""Access to the GPU: memory, streams and the compiler, through CuPy. Everything that CuPy is asked stands here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.repository import pip_install

_INSTEAD = "use engine='exact', which needs no GPU"
#: Products and sums are rounded one by one, as on the CPU.
_FLAGS = ("--std=c++17", "--fmad=false")
#: A kernel; called with the number of blocks, the threads of a block, bytes of shared memory, and 64-bit arguments.
Kernel = Callable[[int, int, int, Sequence[int]], None]


class OutOfMemory(InputError):
    """The GPU has no memory left for a buffer."""


class Stream(Protocol):
    """A queue of operations of the GPU."""

    def use(self) -> AbstractContextManager[None]:
        """A context in which all operations of `Gpu` join this queue."""

    def synchronize(self) -> None:
        """Waits until the operations of the queue are done."""


class Gpu(Protocol):
    """What the engine needs of a GPU. A buffer is whatever `zeros` and `upload` return."""

    name: str

    def free_bytes(self) -> int:
        """Free memory of the GPU."""

    def compile(self, sources: Sequence[Path], functions: Sequence[str], macros: Mapping[str, str]) -> list[Kernel]:
        """Functions of CUDA files that are compiled as one."""

    def stream(self) -> Stream:
        """A new queue of operations."""

    def staging(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array on the host from which `upload` copies without waiting, and to which `download` copies fast."""

    def upload(self, array: np.ndarray) -> Any:
        """Copies an array to the GPU; it must not change until the stream has been synchronised."""

    def zeros(self, shape: tuple[int, ...], dtype: type) -> Any:
        """A buffer of zeros."""

    def empty(self, shape: tuple[int, ...], dtype: type) -> Any:
        """A buffer that nothing has been written to."""

    def download(self, buffer: Any, to: np.ndarray) -> None:
        """Copies a buffer, or a slice of it, into an array of the same shape; waits for the stream."""

    def address(self, buffer: Any) -> int:
        """Address of a buffer on the GPU."""


class CupyGpu:
    """The current GPU of CuPy.

    Raises:
        InputError: without CuPy, a driver or a GPU; the message says what is missing.
    """

    def __init__(self) -> None:
        if util.find_spec("cupy") is None:
            package = "cupy-cuda13x"
            raise InputError(
                f"engine='exact-cuda' needs the package CuPy for the installed CUDA version ({pip_install(package)}) "
                f"and an NVIDIA GPU; {_INSTEAD}"
            )
        import cupy

        self._cupy = cupy
        self.name = "engine='exact-cuda'"
        with self._in_one_line("needs an NVIDIA GPU and its driver"):
            self._device = cupy.cuda.Device()
            properties = cupy.cuda.runtime.getDeviceProperties(self._device.id)
        capability = f"{properties['major']}.{properties['minor']}"
        self.name = f"{properties['name'].decode()}, compute capability {capability}"

    @contextmanager
    def _in_one_line(self, problem: str) -> Iterator[None]:
        """Turns the errors of CuPy and CUDA into one line."""
        cuda = self._cupy.cuda
        try:
            yield
        except cuda.memory.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.name}: not enough memory ({_last_line(error)}); pass a smaller batch_size"
            ) from error
        except (
            *(cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError),
            *(cuda.compiler.CompileException, cuda.nvrtc.NVRTCError, RuntimeError, OSError, ImportError),
        ) as error:
            raise InputError(f"{self.name}: {problem} ({_last_line(error)}); {_INSTEAD}") from error

    def free_bytes(self) -> int:
        """Free memory of the GPU, that which CuPy keeps for reuse included."""
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(free) + int(self._cupy.get_default_memory_pool().free_bytes())

    def compile(self, sources: Sequence[Path], functions: Sequence[str], macros: Mapping[str, str]) -> list[Kernel]:
        """Functions of CUDA files, compiled for this GPU; CuPy keeps the machine code on disk."""
        flags = (*_FLAGS, *(f"-D{name}={value}" for name, value in macros.items()))
        with self._in_one_line("CUDA's compiler (NVRTC) cannot compile for it"):
            module = self._cupy.RawModule(code="".join(source.read_text() for source in sources), options=flags)
            return [self._launcher(module.get_function(function)) for function in functions]

    def _launcher(self, kernel: Any) -> Kernel:
        def launch(blocks: int, threads: int, shared: int, arguments: Sequence[int]) -> None:
            with self._in_one_line("a kernel cannot be started"):
                kernel((blocks,), (threads,), tuple(map(np.int64, arguments)), shared_mem=shared)

        return launch

    def stream(self) -> Stream:
        """A new stream."""
        with self._device:
            return _CupyStream(self._device, self._cupy.cuda.Stream(non_blocking=True), self._in_one_line)

    def staging(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Page-locked memory, which CuPy reuses."""
        import cupyx

        return cupyx.empty_pinned(shape, dtype)

    def upload(self, array: np.ndarray) -> Any:
        """Copies an array to the GPU."""
        with self._in_one_line("a copy to the GPU failed"):
            buffer = self._cupy.empty(array.shape, array.dtype)
            # Unlike buffer.set(), this does not wait for the copy from page-locked memory.
            stream = self._cupy.cuda.get_current_stream()
            buffer.data.copy_from_host_async(array.ctypes.data, array.nbytes, stream)
        return buffer

    def zeros(self, shape: tuple[int, ...], dtype: type) -> Any:
        """A buffer of zeros."""
        with self._in_one_line("memory cannot be allocated"):
            return self._cupy.zeros(shape, dtype)

    def empty(self, shape: tuple[int, ...], dtype: type) -> Any:
        """A buffer that nothing has been written to."""
        with self._in_one_line("memory cannot be allocated"):
            return self._cupy.empty(shape, dtype)

    def download(self, buffer: Any, to: np.ndarray) -> None:
        """Copies a buffer, or a slice of it, into an array of the same shape."""
        with self._in_one_line("a run ended early"):
            buffer.get(out=to)

    def address(self, buffer: Any) -> int:
        """Address of a buffer on the GPU."""
        return int(buffer.data.ptr)


def missing() -> list[str]:
    """What this machine lacks for `CupyGpu`, in words; empty where it can be used."""
    try:
        CupyGpu()
    except InputError as error:
        return [str(error)]
    return []


class _CupyStream:
    """A stream of CuPy whose errors are one line."""

    def __init__(self, device: Any, stream: Any, in_one_line: Callable[[str], AbstractContextManager[None]]) -> None:
        self._device, self._stream, self._in_one_line = device, stream, in_one_line

    @contextmanager
    def use(self) -> Iterator[None]:
        with self._device, self._stream:  # also in another thread than the one that chose the device
            yield

    def synchronize(self) -> None:
        with self._in_one_line("a run ended early"):
            self._stream.synchronize()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
