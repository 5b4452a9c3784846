"""NIR graphs as files, and the values they hold: what both halves of the package read them with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mtt_brian.errors import InputError

if TYPE_CHECKING:
    import nir


def load_graph(graph: nir.NIRGraph | str | os.PathLike[str]) -> nir.NIRGraph:
    """A graph as it is, or read from the path of a ``.nir`` file.

    Raises:
        InputError: for anything else, and a file that is missing, damaged or no graph.
    """
    import nir

    if isinstance(graph, nir.NIRGraph):
        return graph
    if not isinstance(graph, str | os.PathLike):
        raise InputError(f"expected a nir.NIRGraph or the path of a .nir file, not {type(graph).__name__}")
    path = os.fspath(graph)
    if not os.path.isfile(path):
        raise InputError(f"no such NIR file: {path}")
    try:
        # NIR's own shape inference assumes square kernels; whoever builds something from a graph checks shapes itself.
        loaded = nir.read(path, type_check=False)
    except Exception as error:  # h5py and nir raise many types for a damaged file
        raise InputError(f"{path} is not a readable NIR file: {error}") from error
    if not isinstance(loaded, nir.NIRGraph):
        raise InputError(f"{path} holds a single {type(loaded).__name__} node, not a graph")
    return loaded


def plain(value: Any) -> Any:
    """Metadata come back from HDF5 as bytes and numpy scalars; here as Python's own."""
    if isinstance(value, bytes):
        return value.decode("utf8")
    return value.item() if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0 else value


def uniform(value: np.ndarray) -> float | np.ndarray:
    """One number if all entries agree, else the entries in float64."""
    value = np.asarray(value, dtype=np.float64)
    return float(value.flat[0]) if value.size and np.all(value == value.flat[0]) else value
