"""The exact engine on an NVIDIA GPU: many recordings at once, each run by one block of threads.

`kernel.cu` is the program of the GPU, `arrays` the network in its form, `gpu` the access to the GPU through CuPy, and
`engine` the batches of recordings.

The kernel is CUDA C++, compiled when an engine is built (NVRTC through CuPy), and not Python for numba.cuda. Three
reasons: its products and sums must be rounded one by one (``--fmad=false``, which numba.cuda has not); its indices stay
32 bits wide, so that more blocks fit onto a multiprocessor; and the emulated GPU of the tests runs it with real
barriers and threads in shuffled order, some thousand times as fast as numba's simulator.
"""

from mtt_brian.engines.exact_cuda.engine import ExactCudaEngine

__all__ = ["ExactCudaEngine"]
