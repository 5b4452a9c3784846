"""A labelled collection of arrays, in a fixed order: what `Recordings` and `Images` have in common."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self, SupportsIndex, TypeVar, overload

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.recording import SensorSize


@dataclass(frozen=True, eq=False, kw_only=True)
class Collection(Sequence[np.ndarray]):
    """One split of one data set. ``collection[i]`` is item i, a slice gives a subset.

    Attributes:
        name: the data set's name, as `load` takes it.
        title: its name for people.
        split: "train" or "test".
        classes: name of every class.
        sensor_size: (C, H, W).
        ids: where each item lies inside the data set: a relative file name (with "#number" inside a file), or the
            number of the image in the data set, from 1.
        labels: int64 [N].
        bad: (id, reason) of every item that was left out because it could not be read.
    """

    name: str
    title: str
    split: str
    classes: list[str]
    sensor_size: SensorSize
    ids: list[str]
    labels: np.ndarray
    bad: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: SupportsIndex) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: SupportsIndex | slice) -> np.ndarray | Self:
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        return self._item(operator.index(index))

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind}: {len(self)} of {self.title}, {self.split} split, sensor {self.sensor_size}>"

    def subset(self, indices: Iterable[SupportsIndex]) -> Self:
        """The items with these indices, in the order of ``indices``."""
        chosen = [operator.index(i) for i in indices]
        return replace(self, ids=[self.ids[i] for i in chosen], labels=self.labels[chosen])

    @abstractmethod
    def _item(self, index: int) -> np.ndarray: ...


SomeCollection = TypeVar("SomeCollection", bound=Collection)


def split_validation(collection: SomeCollection, fraction: float, seed: int) -> tuple[SomeCollection, SomeCollection]:
    """Set part of the training data aside for model selection.

    Of every class with n items, ``round(fraction * n)`` chosen at random go to the validation set.

    Args:
        collection: what to split, `Recordings` or `Images`.
        fraction: 0 < fraction < 1.
        seed: the same seed gives the same split.

    Returns:
        (train, validation), disjoint, both in the order of ``collection``.

    Raises:
        InputError: if the fraction is outside (0, 1) or one of the two parts would be empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction must lie between 0 and 1, not {fraction}")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(collection), dtype=bool)
    for label in np.unique(collection.labels):
        members = rng.permutation(np.flatnonzero(collection.labels == label))
        held_out[members[: int(fraction * len(members) + 0.5)]] = True
    if held_out.all() or not held_out.any():
        raise InputError(
            f"{collection.title}: a validation fraction of {fraction} of {len(collection)} leaves"
            f" {len(collection) - held_out.sum()} for training and {held_out.sum()} for validation"
        )
    return collection.subset(np.flatnonzero(~held_out)), collection.subset(np.flatnonzero(held_out))
