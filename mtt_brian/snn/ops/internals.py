"""All uses of torch's unstable interface in this package; tests/test_adapters.py tests each name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

#: Variants of a compiled function: one for every number of time steps and every rule.
MOST_VARIANTS = 1000


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, compiled by `torch.compile` separately for every number of time steps and every rule, for all
    shapes.

    torch's default limit is 8 variants; beyond it torch interprets the function.
    """
    kernel = torch.compile(function, dynamic=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with torch._dynamo.config.patch(cache_size_limit=MOST_VARIANTS):
            return kernel(*arguments)

    return call
