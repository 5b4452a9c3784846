"""A labelled collection of recordings, read from their files when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, overload

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.recording import SensorSize, check_recording


@dataclass(frozen=True, eq=False)
class Recordings(Sequence[np.ndarray]):
    """Recordings of one split of one data set, in a fixed order.

    ``recordings[i]`` reads recording i and checks it against the sensor; a slice gives a subset.

    Attributes:
        name: the data set's name, as `load` takes it.
        title: its name for people.
        split: "train" or "test".
        classes: name of every class.
        sensor_size: (C, H, W).
        duration_us: the usual length of a recording; single ones may be shorter or longer.
        ids: where each recording lies inside the data set: a relative file name (with "#number" inside a file).
        labels: int64 [N].
        read: gives the recording for an id.
        bad: (id, reason) of every recording that was left out because it could not be read.
    """

    name: str
    title: str
    split: str
    classes: list[str]
    sensor_size: SensorSize
    duration_us: int
    ids: list[str]
    labels: np.ndarray
    read: Callable[[str], np.ndarray]
    bad: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: SupportsIndex) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Recordings: ...
    def __getitem__(self, index: SupportsIndex | slice) -> np.ndarray | Recordings:
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        identifier = self.ids[operator.index(index)]
        recording = self.read(identifier)
        check_recording(recording, self.sensor_size, f"{self.name}: {identifier}")
        return recording

    def __repr__(self) -> str:
        return f"<Recordings: {len(self)} of {self.title}, {self.split} split, sensor {self.sensor_size}>"

    def subset(self, indices: Iterable[SupportsIndex]) -> Recordings:
        """The recordings with these indices, in the order of ``indices``."""
        chosen = [operator.index(i) for i in indices]
        return replace(self, ids=[self.ids[i] for i in chosen], labels=self.labels[chosen])

    def readable(self, progress: Callable[[list[str]], Iterable[str]] = iter) -> Recordings:
        """Read every recording once and leave out those that cannot be read (listed in ``bad``)."""
        good: list[int] = []
        bad: list[tuple[str, str]] = []
        for index, identifier in enumerate(progress(self.ids)):
            try:
                self[index]
            except InputError as error:
                bad.append((identifier, str(error)))
            else:
                good.append(index)
        return replace(self.subset(good), bad=(*self.bad, *bad))


def split_validation(recordings: Recordings, fraction: float, seed: int) -> tuple[Recordings, Recordings]:
    """Set part of the training recordings aside for model selection.

    Of every class with n recordings, ``round(fraction * n)`` chosen at random go to the validation set.

    Args:
        recordings: what to split.
        fraction: 0 < fraction < 1.
        seed: the same seed gives the same split.

    Returns:
        (train, validation), disjoint, both in the order of ``recordings``.

    Raises:
        InputError: if the fraction is outside (0, 1) or one of the two parts would be empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction must lie between 0 and 1, not {fraction}")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(recordings), dtype=bool)
    for label in np.unique(recordings.labels):
        members = rng.permutation(np.flatnonzero(recordings.labels == label))
        held_out[members[: int(fraction * len(members) + 0.5)]] = True
    if held_out.all() or not held_out.any():
        raise InputError(
            f"a validation fraction of {fraction} of {len(recordings)} recordings leaves"
            f" {len(recordings) - held_out.sum()} for training and {held_out.sum()} for validation"
        )
    return recordings.subset(np.flatnonzero(~held_out)), recordings.subset(np.flatnonzero(held_out))
