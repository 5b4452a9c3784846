"""What every engine is given and what it must offer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mtt_brian.simulate.result import Result


class InputTrain(NamedTuple):
    """Input spikes of one recording, sorted by (t, i), every (t, i) once.

    Attributes:
        t: float64 [K], seconds, >= 0.
        i: int64 [K], flat index into the circuit's input.
        n: int64 [K], events of this pixel at this instant, >= 1.
        order: int64 [E], for each single event of the recording, in the order in which they stand there, the row of
            ``t, i`` it belongs to (what ``order="fifo"`` follows).
        duration: seconds; the run covers [0, duration].
    """

    t: np.ndarray
    i: np.ndarray
    n: np.ndarray
    order: np.ndarray
    duration: float


class Engine(Protocol):
    """An engine is built once for a circuit and then run for any number of recordings."""

    name: str

    def run(self, trains: Sequence[InputTrain]) -> Iterator[Result]:
        """Results in the order of ``trains``, each as soon as it is there."""
        ...
