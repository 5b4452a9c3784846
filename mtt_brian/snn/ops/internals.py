"""Everything that this package uses of torch's unstable interface; tests/test_adapters.py tests each name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

#: Variants of a compiled function: one for every number of time steps and every rule.
MOST_VARIANTS = 1000


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, compiled by `torch.compile` anew for every number of time steps and every rule, for all shapes.

    torch's own limit is 8 variants, after which it interprets the function.
    """
    kernel = torch.compile(function, dynamic=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with torch._dynamo.config.patch(cache_size_limit=MOST_VARIANTS):
            return kernel(*arguments)

    return call
