"""The exact engine on an NVIDIA GPU: many recordings at once.

`engine` divides recordings into batches. `layers` runs a batch with ``order="sum"``, population after population, and
`queue` with ``order="fifo"``, event by event; the files ``.cu`` are their programs for the GPU. `arrays` is the network
in the form of these, `loaded` the same on the GPU, `transfers` copies to it and back, `output` what a run leaves, and
`gpu` the access to the GPU through CuPy.

The kernels are CUDA C++, compiled when an engine is built (NVRTC through CuPy), and not Python for numba.cuda. Three
reasons: their products and sums must be rounded one by one (``--fmad=false``, which numba.cuda has not); their indices
stay 32 bits wide, so that more threads fit onto a multiprocessor; and the emulated GPU of the tests runs them with real
barriers and threads in shuffled order, some thousand times as fast as numba's simulator.
"""

from mtt_brian.engines.exact_cuda.engine import ExactCudaEngine

__all__ = ["ExactCudaEngine"]
