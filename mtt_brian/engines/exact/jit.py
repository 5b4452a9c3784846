"""How the kernels are compiled.

No ``fastmath``: sums are taken in the order they are written in, and every comparison means what it says.

The kernels allocate nothing (where room runs out they return, and are called again with more) and are compiled without
numba's reference counting: counting the arrays in every touch of a named tuple costs ten times the work itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from mtt_brian.kernel_cache import kept

_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    decorate = numba.njit(**_OPTIONS, **options)
    keep = kept(Path(__file__).parent.glob("*.py"))
    return lambda function: keep(decorate(function))


#: A kernel called from Python, or a piece of one that is too rare or too large to inline.
kernel = _compiled()
#: A piece of a kernel, always inlined: whole named tuples are cheap to hand over only within a function.
inlined = _compiled(forceinline=True)
