"""Recording -> recording: structured arrays ``t`` [us], ``x``, ``y``, ``p``, sorted by time, [E].

A recording ends with its last event: no event is moved or added after it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mtt_brian.errors import InputError, check_number, check_whole
from mtt_brian.events import Recordings
from mtt_brian.events.recording import SensorSize, check_fields, check_order, check_recording
from mtt_brian.text import shown

#: Most events of one recording: a hundred times those of any sensor in a minute.
_MOST_EVENTS = 100_000_000


def jittered(recording: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Shifts every event by an independent Gaussian time, then sorts the events.

    Args:
        recording: the events.
        sigma: standard deviation in microseconds; times are rounded to whole ones and kept between 0 and the end.
        rng: random generator.

    Raises:
        InputError: if ``sigma`` is no number from 0 to 1e15.
    """
    sigma = _checked("the jitter", sigma, most=1e15)
    _check_events(recording, rng)
    if not len(recording):
        return recording
    moved = recording.copy()
    t = np.round(recording["t"] + sigma * rng.standard_normal(len(recording)))
    moved["t"] = np.clip(t, 0, recording["t"][-1])
    return moved[np.argsort(moved["t"], kind="stable")]


def shuffled_ties(recording: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Events of one microsecond in random order, which ``order="fifo"`` depends on."""
    _check_events(recording, rng)
    return recording[np.lexsort((rng.random(len(recording)), recording["t"]))]


def dropped(recording: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Without ``round(fraction * E)`` of its E events, chosen at random.

    Raises:
        InputError: unless 0 <= fraction <= 1.
    """
    fraction = _checked("the dropped fraction", fraction, most=1)
    _check_events(recording, rng)
    kept = len(recording) - round(fraction * len(recording))
    return recording[np.sort(rng.permutation(len(recording))[:kept])]


def with_spurious(recording: np.ndarray, rate: float, sensor_size: SensorSize, rng: np.random.Generator) -> np.ndarray:
    """Adds background activity: a Poisson process on every pixel and channel, up to the last event.

    Args:
        recording: the events.
        rate: spurious events per second, pixel and channel.
        sensor_size: (C, H, W).
        rng: the source of randomness.

    Raises:
        InputError: if ``rate`` is no number from 0 to 1e9, or would give more than 100 million events.
    """
    rate = _checked("the rate of spurious events", rate, most=1e9)
    _check_events(recording, rng)
    check_recording(recording, sensor_size)
    if not len(recording):
        return recording
    for field, size in zip(("p", "y", "x"), sensor_size, strict=True):
        if size - 1 > np.iinfo(recording.dtype[field]).max:
            raise InputError(f"the field {field} holds {recording.dtype[field]}, too few bits for a sensor of {size}")
    end = int(recording["t"][-1])
    expected = rate * end * 1e-6 * math.prod(map(int, sensor_size))
    if expected > _MOST_EVENTS:
        raise InputError(
            f"the rate of spurious events, {rate:g}, gives {expected:.3g} events in {end * 1e-6:g} s: at most"
            f" {_MOST_EVENTS:,} are made"
        )
    noise = np.empty(rng.poisson(expected), dtype=recording.dtype)
    noise["t"] = rng.integers(0, end + 1, len(noise))
    for field, size in zip(("p", "y", "x"), sensor_size, strict=True):
        noise[field] = rng.integers(0, size, len(noise))
    both = np.concatenate([recording, noise])
    return both[np.argsort(both["t"], kind="stable")]


def shifted(recording: np.ndarray, down: int, right: int, sensor_size: SensorSize) -> np.ndarray:
    """Moves all events by whole pixels, as if the camera were turned; events that leave the sensor are lost.

    Args:
        recording: the events.
        down, right: pixels, of either sign.
        sensor_size: (C, H, W).

    Raises:
        InputError: for pixels that are no whole numbers, and as `check_recording`.
    """
    down, right = (check_whole(name, n, most=2**31, least=-(2**31)) for name, n in (("down", down), ("right", right)))
    check_recording(recording, sensor_size)
    y, x = recording["y"].astype(np.int64) + down, recording["x"].astype(np.int64) + right
    kept = (y >= 0) & (y < sensor_size[1]) & (x >= 0) & (x < sensor_size[2])
    moved = recording[kept]
    moved["y"], moved["x"] = y[kept], x[kept]
    return moved


def each(recordings: Recordings, change: Callable[[np.ndarray], np.ndarray]) -> Recordings:
    """Changes all recordings once, in their order, and keeps them in memory.

    Raises:
        InputError: for what is no data set of recordings.
    """
    if not isinstance(recordings, Recordings):
        raise InputError(f"recordings must be a data set, as events.load gives it, not {shown(recordings)}")
    changed = {name: change(recording) for name, recording in zip(recordings.ids, recordings, strict=True)}
    return dataclasses.replace(recordings, read=changed.__getitem__)


def _check_events(recording: np.ndarray, rng: np.random.Generator) -> None:
    """Refuses what is no recording that is sorted by time, and what is no random generator.

    Raises:
        InputError: naming it.
    """
    names = getattr(getattr(recording, "dtype", None), "names", None) or ()
    check_fields(recording, ["t", *(name for name in names if name != "t")])
    check_order(recording["t"])
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a random generator, numpy.random.default_rng(seed), not {shown(rng)}")


def _checked(what: str, value: float, most: float) -> float:
    number = check_number(what, value, most=np.inf)
    if not 0 <= number <= most:
        raise InputError(f"{what} must lie between 0 and {most:g}, not {value}")
    return number
