"""The plain C scatter loop (scatter.c), compiled with the system's compiler, called from Python."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.operators import Conv2d, Dense
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines.base import InputSpikes

#: Usual flags for a C loop; no contraction of a * b + c, which would round differently from every other engine.
FLAGS = ("-O3", "-ffp-contract=off", "-shared", "-fPIC")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("c_in", "h_in", "w_in", "c_out", "h_out", "w_out")),
        *((name, ctypes.c_int64) for name in ("kernel", "stride", "pad", "pool", "fires")),
        ("weight", ctypes.POINTER(ctypes.c_double)),
    ]


class Scatter:
    """The C loop for a chain of convolutions and matrices, each with or without an average pooling in front.

    Args:
        circuit: a workload's circuit.
        folder: of the compiled library.
        flags: of the compiler.

    Raises:
        OSError: if there is no C compiler.
    """

    def __init__(self, circuit: Circuit, folder: Path, flags: tuple[str, ...] = FLAGS) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise OSError("no C compiler (cc, gcc, clang)")
        library = folder / f"scatter{abs(hash(flags))}.so"
        subprocess.run(
            [compiler, *flags, "-o", str(library), str(Path(__file__).with_name("scatter.c")), "-lm"], check=True
        )
        self._scatter = ctypes.CDLL(str(library)).scatter
        self._scatter.restype = ctypes.c_int64
        self._circuit = circuit
        self._weights: list[np.ndarray] = []
        self._layers = (_Layer * len(circuit.connections))(*(self._layer(k) for k in range(len(circuit.connections))))

    def _layer(self, k: int) -> _Layer:
        *pools, last = self._circuit.connections[k].operators
        pool = pools[0].weight.shape[2] if pools and isinstance(pools[0], Conv2d) else 1
        fires = self._circuit.populations[k].rule.fires
        if isinstance(last, Conv2d):
            weight = last.weight.transpose(1, 2, 3, 0)
            sizes = (*last.input_shape, *last.output_shape, last.weight.shape[2], last.stride[0], last.padding[0][0])
        elif isinstance(last, Dense):
            weight = last.weight.T
            sizes = (weight.shape[0], 1, 1, weight.shape[1], 1, 1, 1, 1, 0)
        else:
            raise TypeError(f"the C loop has no {type(last).__name__}")
        self._weights.append(np.ascontiguousarray(weight, np.float64))
        pointer = self._weights[-1].ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        return _Layer(*sizes, pool, fires, pointer)

    def prepare(self, train: InputSpikes, room: int) -> Callable[[], int]:
        """The call to be timed; it returns the number of records, or -1 if there is not enough memory for them.

        Args:
            train: one recording.
            room: number of records that fit into memory.
        """
        self._t, self._layer_of = np.empty(room), np.empty(room, np.int32)
        self._i, self._n = np.empty(room, np.int64), np.empty(room, np.int64)
        self.readout = np.empty(self._circuit.readout.size)
        self._train = train  # the call has only their addresses
        address = [ctypes.c_void_p(a.ctypes.data) for a in (train.t, train.i, train.n)]
        outputs = (self._t, self._layer_of, self._i, self._n, self.readout)
        return functools.partial(
            self._scatter,
            ctypes.c_int64(len(self._layers)),
            self._layers,
            ctypes.c_int64(len(train.t)),
            *address,
            ctypes.c_int64(room),
            *(ctypes.c_void_p(a.ctypes.data) for a in outputs),
        )

    def spikes(self, records: int) -> dict[str, Spikes]:
        """The records of the last call, in C order and sorted by time and neuron, as in every engine."""
        spikes = {}
        for k, population in enumerate(self._circuit.populations):
            if population.rule.fires:
                of = np.flatnonzero(self._layer_of[:records] == k)
                spikes[population.name] = _c_order(Spikes(self._t[of], self._i[of], self._n[of]), population.shape)
        return spikes


def _c_order(spikes: Spikes, shape: tuple[int, ...]) -> Spikes:
    index = np.arange(int(np.prod(shape)))
    if len(shape) == 3:
        index = np.moveaxis(index.reshape(shape), 0, -1).ravel()
    i = index[spikes.i]
    order = np.lexsort((i, spikes.t))
    return Spikes(spikes.t[order], i[order], spikes.n[order])
