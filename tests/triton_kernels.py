"""The Triton kernels of snn/ops/gpu as Triton's interpreter runs them, on CPU tensors."""

import functools
import importlib
import os
import sys
from types import ModuleType
from unittest import mock

import pytest
import torch

from mtt_brian.snn import ops

NAME = "mtt_brian.snn.ops.gpu"


@functools.cache
def interpreted() -> ModuleType:
    """A second copy of the package: on a machine with a GPU the first one holds compiled kernels."""
    pytest.importorskip("triton", reason="Triton is not installed")
    first = _taken_away()
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        package = importlib.import_module(NAME)
    _taken_away()
    sys.modules.update(first)
    if first:
        ops.gpu = first[NAME]
    try:
        package.check(torch.device("cpu"))
    except Exception as error:
        if "0-dimensional" in str(error):
            pytest.skip("the interpreter of this release of Triton does not run with this one of numpy")
        raise
    return package


def _taken_away() -> dict[str, ModuleType]:
    """The modules of the package, which will be imported anew."""
    vars(ops).pop("gpu", None)
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name == NAME or name.startswith(f"{NAME}.")}
