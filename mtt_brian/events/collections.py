"""Labelled collections in a fixed order: `Recordings`, read from files on access, and `Images`, held in memory."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, SupportsIndex, TypeVar, overload

import numpy as np

from mtt_brian import html_repr
from mtt_brian.errors import InputError, check_array, check_number, check_whole
from mtt_brian.events.recording import SensorSize, check_recording, check_sensor_size
from mtt_brian.files import reason
from mtt_brian.text import one_line, shown


@dataclass(frozen=True, eq=False, kw_only=True)
class Collection(Sequence[np.ndarray]):
    """One split of one data set. ``collection[i]`` is item i, a slice gives a subset.

    Attributes:
        name: the data set's name, as in `load`.
        title: its name in texts and figures.
        split: "train" or "test".
        classes: name of every class.
        sensor_size: (C, H, W).
        ids: place of each item in the data set: a relative file name (with "#number" inside a file), or the
            number of the image in the data set, from 1. No two are the same.
        labels: int64 [N], the index of each item's class.
        bad: (id, reason) of every item that was left out because it could not be read.
        has_events: whether the items are recordings.

    Raises:
        InputError: unless there is one label between 0 and the number of classes - 1 for each id, all ids differ, and
            the sensor has three sizes >= 1.
    """

    name: str
    title: str
    split: str
    classes: list[str]
    sensor_size: SensorSize
    ids: list[str]
    labels: np.ndarray
    bad: tuple[tuple[str, str], ...] = ()
    has_events: ClassVar[bool]

    def __post_init__(self) -> None:
        check_sensor_size(self.sensor_size, f"{self.title}: sensor_size")
        for name in ("ids", "classes"):
            values = getattr(self, name)
            if isinstance(values, str | bytes) or not isinstance(values, Iterable):
                raise InputError(f"{self.title}: {name} must be a list of names, not {shown(values)}")
            object.__setattr__(self, name, list(values))  # a list of the caller may change later
        labels = np.array(self.labels)
        if labels.shape != (len(self.ids),):
            raise InputError(f"{self.title}: {len(self.ids)} ids need as many labels, not an array {labels.shape}")
        if len(labels):
            if labels.dtype.kind not in "iu":
                raise InputError(f"{self.title}: labels must be integers, not {labels.dtype}")
            wrong = (labels < 0) | (labels >= len(self.classes))
            if wrong.any():
                k = int(np.argmax(wrong))
                raise InputError(
                    f"{self.title}: item {k} ({self.ids[k]}) has the label {labels[k]}; the {len(self.classes)} classes"
                    f" have the labels 0..{len(self.classes) - 1}"
                )
        if len(set(self.ids)) < len(self.ids):
            twice = next(name for name, times in Counter(self.ids).items() if times > 1)
            raise InputError(f"{self.title}: ids must differ; {twice!r} is there more than once")
        object.__setattr__(self, "labels", labels.astype(np.int64, copy=False))

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

    def _repr_html_(self) -> str:
        named = zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)), strict=True)
        return html_repr.heading(repr(self)) + html_repr.table(
            [("class", "number"), *((name, f"{n:,}") for name, n in named)]
        )

    def subset(self, indices: Iterable[SupportsIndex]) -> Self:
        """The items with these indices, in the order of ``indices``.

        Raises:
            InputError: for an index that is not a whole number or outside -N..N-1, or that comes twice.
        """
        chosen = self._indices(indices)
        return replace(self, ids=[self.ids[i] for i in chosen], labels=self.labels[chosen])

    def _indices(self, indices: Iterable[SupportsIndex]) -> list[int]:
        if isinstance(indices, str | bytes | Mapping) or not isinstance(indices, Iterable):
            raise InputError(f"{self.title}: indices must be a list of whole numbers, not {shown(indices)}")
        chosen = []
        for index in indices:
            if isinstance(index, bool | np.bool_):
                raise InputError(f"{self.title}: give indices, not a mask: np.flatnonzero(mask)")
            try:
                chosen.append(operator.index(index))
            except TypeError:
                raise InputError(f"{self.title}: an index must be a whole number, not {shown(index)}") from None
            if not -len(self) <= chosen[-1] < len(self):
                raise InputError(f"{self.title}: there is no item {index}; {len(self)} items have the numbers from 0")
        return chosen

    @abstractmethod
    def _item(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Recordings(Collection):
    """Recordings of one split of one data set, in a fixed order.

    ``recordings[i]`` reads recording i and checks it against the sensor.

    Attributes:
        duration_us: the usual length of a recording; single ones may be shorter or longer.
        read: gives the recording for an id. What it raises becomes an `InputError` that names the recording.
    """

    duration_us: int
    read: Callable[[str], np.ndarray]
    has_events: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(f"{self.title}: duration_us", self.duration_us, most=2**63 - 1, least=1)
        if not callable(self.read):
            raise InputError(f"{self.title}: read must be a function id -> recording, not {self.read!r}")

    def _item(self, index: int) -> np.ndarray:
        identifier = self.ids[index]
        try:
            recording = self.read(identifier)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # a reader raises any type for a damaged file
            cause = reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"{self.name}: {identifier}: cannot be read ({cause})") from error
        check_recording(recording, self.sensor_size, f"{self.name}: {identifier}")
        return recording

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self._raster_of_the_first()

    def _raster_of_the_first(self) -> str:
        """Events of the first recording over time, a band for every channel; nothing if it cannot be read."""
        try:
            recording = self[0]
        except Exception:
            return ""
        if not len(recording):
            return ""
        channels, height, width = self.sensor_size
        pixel = recording["y"].astype(np.int64) * width + recording["x"]
        bands = {}
        for channel in range(channels):
            chosen = recording["p"] == channel
            bands[f"{self.ids[0]}, p = {channel}"] = (recording["t"][chosen] / 1e6, pixel[chosen], height * width)
        return html_repr.raster(bands, float(recording["t"][-1]) / 1e6)

    def in_memory(self) -> Recordings:
        """The same recordings, read from their files now."""
        loaded = dict(zip(self.ids, self, strict=True))
        return replace(self, read=loaded.__getitem__)

    def readable(self, progress: Callable[[list[str]], Iterable[str]] = iter) -> Recordings:
        """Reads every recording once and removes the unreadable ones (listed in ``bad``)."""
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


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Images(Collection):
    """Still images of one split of one data set, in a fixed order.

    They have no events and no time: ``images[i]`` is uint8 [C, H, W].

    Attributes:
        pixels: uint8 [N, C, H, W], 0 to 255.
        mean, std: of every channel of the training images, for intensities 0..1 (``pixels / 255``): the published
            values for training.
    """

    pixels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    has_events: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = (len(self.ids), *self.sensor_size)
        if getattr(self.pixels, "shape", None) != expected or self.pixels.dtype != np.uint8:
            given = (
                f"{self.pixels.dtype} {self.pixels.shape}" if isinstance(self.pixels, np.ndarray) else "another object"
            )
            raise InputError(f"{self.title}: pixels must be an array uint8 {expected}, not {given}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if np.shape(values) != (self.sensor_size[0],):
                raise InputError(f"{self.title}: {name} needs one number for each of {self.sensor_size[0]} channels")
            numbers = check_array(f"{self.title}: {name}", values)
            if not np.isfinite(numbers).all() or (name == "std" and not (numbers > 0).all()):
                wanted = "finite and > 0" if name == "std" else "finite"
                raise InputError(f"{self.title}: {name} must be {wanted}, not {shown(values)}")

    def _item(self, index: int) -> np.ndarray:
        return self.pixels[index]

    def subset(self, indices: Iterable[SupportsIndex]) -> Self:
        """The images with these indices, in the order of ``indices``."""
        chosen = self._indices(indices)
        return replace(self, ids=[self.ids[i] for i in chosen], labels=self.labels[chosen], pixels=self.pixels[chosen])


SomeCollection = TypeVar("SomeCollection", bound=Collection)


def some_of(collection: SomeCollection, limit: int | None, seed: int) -> SomeCollection:
    """``limit`` items, drawn at random because they are often stored class by class; None for all."""
    return collection if limit is None or limit >= len(collection) else split_off(collection, limit, seed)[0]


def split_off(collection: SomeCollection, count: int, seed: int) -> tuple[SomeCollection, SomeCollection]:
    """``count`` items drawn at random, and the rest; both in the order of ``collection``."""
    drawn = np.zeros(len(collection), dtype=bool)
    drawn[np.random.default_rng(seed).permutation(len(collection))[:count]] = True
    return _parted(collection, drawn)


def _parted(collection: SomeCollection, first: np.ndarray) -> tuple[SomeCollection, SomeCollection]:
    """The items of a mask, and the others."""
    return collection.subset(np.flatnonzero(first)), collection.subset(np.flatnonzero(~first))


def split_validation(collection: SomeCollection, fraction: float, seed: int) -> tuple[SomeCollection, SomeCollection]:
    """Splits the training data into training and validation data for model selection.

    Of every class with n items, ``round(fraction * n)`` chosen at random go to the validation set.

    Args:
        collection: what to split, `Recordings` or `Images`.
        fraction: 0 < fraction < 1.
        seed: the same seed gives the same split.

    Returns:
        (train, validation), disjoint, both in the order of ``collection``.

    Raises:
        InputError: if the fraction is outside (0, 1), the seed is negative, or one of the two parts would be empty.
    """
    if not isinstance(collection, Collection):
        raise InputError(f"a data set (Recordings or Images) can be split, not a {type(collection).__name__}")
    if not 0 < check_number("the validation fraction", fraction, most=np.inf) < 1:
        raise InputError(f"the validation fraction must lie between 0 and 1, not {fraction}")
    rng = np.random.default_rng(check_whole("the seed of the validation split", seed, most=2**64 - 1, least=0))
    held_out = np.zeros(len(collection), dtype=bool)
    for label in np.unique(collection.labels):
        members = rng.permutation(np.flatnonzero(collection.labels == label))
        held_out[members[: int(fraction * len(members) + 0.5)]] = True
    if held_out.all() or not held_out.any():
        raise InputError(
            f"{collection.title}: a validation fraction of {fraction} of {len(collection)} leaves"
            f" {len(collection) - held_out.sum()} for training and {held_out.sum()} for validation"
        )
    return _parted(collection, ~held_out)
