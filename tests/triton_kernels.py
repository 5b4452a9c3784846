"""The Triton kernels of snn/ops/gpu.py as Triton's interpreter runs them, on CPU tensors."""

import functools
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch

import mtt_brian.snn

FILE = Path(mtt_brian.snn.__file__).parent / "ops" / "gpu.py"


@functools.cache
def interpreted() -> ModuleType:
    """A second copy of the module: on a machine with a GPU the first one holds compiled kernels."""
    pytest.importorskip("triton", reason="Triton is not installed")
    spec = importlib.util.spec_from_file_location("interpreted_gpu", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["interpreted_gpu"] = module
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        spec.loader.exec_module(module)
    try:
        module.check(torch.device("cpu"))
    except Exception as error:
        if "0-dimensional" in str(error):
            pytest.skip("the interpreter of this release of Triton does not run with this one of numpy")
        raise
    return module
