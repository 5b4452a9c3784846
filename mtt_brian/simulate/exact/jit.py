"""How the kernels are compiled.

Numba keeps the machine code beside the sources, or in the user's cache folder where those cannot be written; a second
process loads it. Its cache knows the file of the kernel it compiled, not the files of what that kernel calls: after an
edit in this package delete ``__pycache__``.

No ``fastmath``: sums are taken in the order they are written in, and every comparison means what it says.

The kernels allocate nothing (where room runs out they return, and are called again with more) and are compiled without
numba's reference counting: counting the arrays in every touch of a named tuple costs ten times the work itself.
"""

from __future__ import annotations

import numba

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}

#: A kernel called from Python, or a piece of one that is too rare or too large to inline.
kernel = numba.njit(**_OPTIONS)
#: A piece of a kernel, always inlined: whole named tuples are cheap to hand over only within a function.
inlined = numba.njit(**_OPTIONS, forceinline=True)
