"""Functions that are compiled as parts of kernels, as kernels of their own that a test can call."""

from mtt_brian.engines.exact import crossing_search, dynamics, propagation
from mtt_brian.engines.exact.jit import kernel

evolve = kernel(propagation.evolve.py_func)
response = kernel(dynamics.response.py_func)
first_crossing = kernel(crossing_search.first_crossing.py_func)
time_to_threshold = kernel(dynamics.time_to_threshold.py_func)
