"""A labelled collection of recordings, read from their files when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from mtt_brian import html_repr
from mtt_brian.errors import InputError
from mtt_brian.events.collection import Collection
from mtt_brian.events.recording import check_recording


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Recordings(Collection):
    """Recordings of one split of one data set, in a fixed order.

    ``recordings[i]`` reads recording i and checks it against the sensor.

    Attributes:
        duration_us: the usual length of a recording; single ones may be shorter or longer.
        read: gives the recording for an id.
    """

    duration_us: int
    read: Callable[[str], np.ndarray]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.duration_us, Integral) or isinstance(self.duration_us, bool) or self.duration_us < 1:
            raise InputError(f"{self.title}: duration_us must be a whole number >= 1, not {self.duration_us!r}")
        if not callable(self.read):
            raise InputError(f"{self.title}: read must be a function id -> recording, not {self.read!r}")

    def _item(self, index: int) -> np.ndarray:
        identifier = self.ids[index]
        recording = self.read(identifier)
        check_recording(recording, self.sensor_size, f"{self.name}: {identifier}")
        return recording

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self._raster_of_the_first()

    def _raster_of_the_first(self) -> str:
        """Events of the first recording over time, a band for every channel; nothing where it cannot be read."""
        try:
            recording = self[0]
        except (IndexError, InputError):
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
