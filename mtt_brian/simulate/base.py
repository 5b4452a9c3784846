"""What every engine is given and what it must offer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from mtt_brian.simulate.result import Result
from mtt_brian.translate.input import InputTrain

__all__ = ["Engine", "InputTrain"]


class Engine(Protocol):
    """An engine is built once for a circuit and then run for any number of recordings."""

    name: str

    def run(self, trains: Iterable[InputTrain]) -> Iterator[Result]:
        """Results in the order of ``trains``, each as soon as it is there; trains are taken as they are needed."""
        ...
