"""How the kernels are compiled, and where their machine code is kept.

No ``fastmath``: sums are taken in the order they are written in, and every comparison means what it says.

The kernels allocate nothing (where room runs out they return, and are called again with more) and are compiled without
numba's reference counting: counting the arrays in every touch of a named tuple costs ten times the work itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

from mtt_brian.files import cache_folder

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


@cache
def _code_folder() -> str:
    """One folder for every state of this package's sources.

    Numba recognises a changed kernel by its own file only and would go on using machine code with an old version of
    a function from another file in it.
    """
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    folder = cache_folder() / f"kernels-{hashlib.sha256(sources).hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return numba.config.CACHE_DIR  # numba's own choice
    return str(folder)


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    decorate = numba.njit(**_OPTIONS, **options)

    def compiled(function: Callable[..., Any]) -> Any:
        # Numba reads its setting when a function is decorated; other people's functions keep theirs.
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = _code_folder()
        try:
            return decorate(function)
        finally:
            numba.config.CACHE_DIR = before

    return compiled


#: A kernel called from Python, or a piece of one that is too rare or too large to inline.
kernel = _compiled()
#: A piece of a kernel, always inlined: whole named tuples are cheap to hand over only within a function.
inlined = _compiled(forceinline=True)
