"""Spikes of populations; recordings (integer microseconds) as input spikes (seconds, flat indices)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Set, Sized
from contextlib import contextmanager
from fractions import Fraction
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.errors import InputError, MachineError
from mtt_brian.events.recording import check_fields, check_recordings, polarity_hint, second_hint
from mtt_brian.text import shown

#: Up to here (136 years) seconds in float64 distinguish consecutive microseconds, also in sums with rounding errors.
LAST_MICROSECOND = 2**32 * 10**6
#: Largest number of spikes of one neuron at one instant: float64 represents all integers up to here. More are an error.
MAX_SPIKES_AT_ONCE = 2.0**53
#: Largest number of spikes of one neuron, and of synaptic operations, in one run.
MAX_SPIKES = 2**62


class Spikes(NamedTuple):
    """Spikes of one population, sorted by time, then neuron.

    Attributes:
        t: float64 [K], seconds.
        i: int64 [K], flat (C order) index of the neuron.
        n: int64 [K], spikes fired at once, >= 1.
    """

    t: np.ndarray
    i: np.ndarray
    n: np.ndarray


class FiredSpikes(NamedTuple):
    """Spikes of one population, sorted by time, then neuron.

    Attributes:
        t: seconds, float64 [K].
        i: neuron, int64 [K].
        x: states before the reset, float64 [K, n].
    """

    t: np.ndarray
    i: np.ndarray
    x: np.ndarray


class InputSpikes(NamedTuple):
    """Input spikes of one recording, sorted by (t, i), every (t, i) once.

    Attributes:
        t: float64 [K], seconds, >= 0.
        i: int64 [K], flat index into the circuit's input.
        n: int64 [K], events of this pixel at this instant, >= 1.
        order: int64 [E], for each single event of the recording, in the recording's order, the row of
            ``t, i`` it belongs to (used by ``order="fifo"``).
        duration: seconds; the run covers [0, duration].
        name: of the recording in messages; empty for none.
    """

    t: np.ndarray
    i: np.ndarray
    n: np.ndarray
    order: np.ndarray
    duration: float
    name: str = ""

    @property
    def instants(self) -> np.ndarray:
        """The distinct times, float64 [number of instants]."""
        return np.unique(self.t)


@contextmanager
def naming_recordings(*inputs: InputSpikes) -> Iterator[None]:
    """Puts the names of the recordings that run in front of the message of an `InputError` that is about them."""
    try:
        yield
    except MachineError:
        raise
    except InputError as error:
        names = [train.name for train in inputs]
        if not all(names):
            raise
        several = f"{names[0]} .. {names[-1]}" if len(names) > 1 else names[0]
        raise InputError(f"{several}: {error}") from None


def input_spikes(
    recording: np.ndarray, input_shape: tuple[int, ...], duration: float | None = None, name: str = "recording"
) -> InputSpikes:
    """Merge events of one pixel at one instant and number the pixels in C order.

    Args:
        recording: structured array of integers ``t`` [us], ``x``, ``y``, ``p``, sorted by time. For an input of shape
            (N,) only ``t`` and ``x`` are needed, for one of shape (H, W) ``t``, ``x`` and ``y``. A field that is not
            needed must hold one value everywhere. A field of an axis of size 1 may be missing: it could be 0 only.
        input_shape: (C, H, W), (N,), or any shape of three dimensions that p, y, x index.
        duration: end of the run in seconds; later events are left out. None: the last event. A duration that is a whole
            number of microseconds up to rounding counts as that number.
        name: name of the recording in messages.

    Raises:
        InputError: for what is not a recording (`events.recording.check_fields`), coordinates outside the sensor, times
            that go backwards, are negative or above `LAST_MICROSECOND`, and a duration that is not a number of seconds.
    """
    axes = {1: ("x",), 2: ("y", "x"), 3: ("p", "y", "x")}.get(len(input_shape))
    if axes is None:
        raise InputError(f"recordings have at most 3 coordinates; the network's input has the shape {input_shape}")
    names = getattr(getattr(recording, "dtype", None), "names", None) or axes
    needed = {axis: size for axis, size in zip(axes, input_shape, strict=True) if axis in names or size != 1}
    check_fields(recording, ("t", *needed), name)
    from mtt_brian.circuit import events_to_spikes  # imports numba, which is slow

    t, sizes = recording["t"].astype(np.int64), np.array(input_shape, dtype=np.int64)
    places = np.zeros((len(axes), len(t)), dtype=np.int64)
    for place, axis in zip(places, axes, strict=True):
        if axis in needed:
            place[:] = recording[axis]
    if not events_to_spikes.fit(t, places, sizes, LAST_MICROSECOND):
        _refuse_times(recording["t"], name)
        _refuse_places(recording, needed, input_shape, name)
    events, end = len(t), int(t[-1]) / 1e6 if len(t) else 0.0
    if duration is not None:
        end, last = end_of_run(duration, name)
        events = int(t.searchsorted(last, side="right"))
    seconds, (i, n, order) = np.empty(events), np.empty((3, events), dtype=np.int64)
    rows = events_to_spikes.merge(t, places, sizes, seconds, i, n, order)
    return InputSpikes(seconds[:rows], i[:rows], n[:rows], order, end, name)


def _refuse_times(given: np.ndarray, name: str) -> None:
    """Refuses times that go backwards or are not between 0 and `LAST_MICROSECOND`."""
    if not len(given):
        return
    # Compared as they are: differences and casts of 64-bit numbers can wrap.
    backwards = given[1:] < given[:-1]
    if given[0] < 0 or backwards.any():
        k = 0 if given[0] < 0 else int(np.argmax(backwards)) + 1
        raise InputError(
            f"{name}: time goes backwards or is negative at event {k} ({given[k]} us); events must be sorted, t counts"
            " microseconds"
        )
    if int(given[-1]) > LAST_MICROSECOND:
        k = int(np.argmax(given > LAST_MICROSECOND))
        raise InputError(f"{name}: event {k} has t = {given[k]}; t counts microseconds from 0 to {LAST_MICROSECOND}")


def _refuse_places(recording: np.ndarray, sizes: Mapping[str, int], input_shape: tuple[int, ...], name: str) -> None:
    """Refuses coordinates outside the sensor, whose axes have these sizes."""
    for axis, size in sizes.items():
        value = recording[axis]
        outside = (value < 0) | (value >= size)
        if outside.any():
            k = int(np.argmax(outside))
            raise InputError(
                f"{name}: event {k} has {axis} = {value[k]}; the network's input {input_shape} allows"
                f" 0..{size - 1}{polarity_hint(axis, value[k])}"
            )


def end_of_run(duration: Any, name: str = "recording") -> tuple[float, int]:
    """A duration in seconds, and the last whole microsecond in it.

    Args:
        duration: a number of seconds. If it is a whole number of microseconds up to rounding, it counts as that.
        name: name of the recording in messages.

    Returns:
        (seconds, microseconds); an event at t us is part of the run if t is at most the second.

    Raises:
        InputError: unless it is a number between 0 and `LAST_MICROSECOND`.
    """
    _check_duration(duration, name)
    seconds = float(on_whole_microseconds(duration))
    whole = round(seconds * 1e6)
    if whole / 1e6 != seconds:
        whole = math.floor(Fraction(seconds) * 10**6)
    return seconds, whole


def _check_duration(duration: Any, name: str) -> None:
    if type(duration) is np.ndarray and duration.ndim == 0:
        duration = duration[()]
    expected = f"{name}: the duration must be a number of seconds >= 0"
    if not isinstance(duration, Real) or isinstance(duration, bool | np.timedelta64):
        raise InputError(f"{expected}, not {shown(duration, 60)}{second_hint(duration)}")
    try:
        seconds = float(duration)
    except OverflowError:
        seconds = math.inf
    if not 0 <= seconds <= LAST_MICROSECOND / 1e6:
        most = f" and at most {LAST_MICROSECOND / 1e6:g}" if seconds > 0 else ""
        raise InputError(f"{expected}{most}, not {shown(seconds)}")


def pair_with_durations(
    recordings: Any, durations: Any = None
) -> tuple[Iterator[tuple[np.ndarray, float | None]], int | None]:
    """Recordings with their durations as an iterator, and their number (None: not known yet).

    Raises:
        InputError: as `check_recordings` and `durations_for`; and from the iterator, if the numbers of recordings and
            durations differ.
    """
    given = check_recordings(recordings)
    count = len(given) if isinstance(given, Sized) else None
    return _pairs(given, durations_for(durations, count)), count


def _pairs(
    recordings: Iterable[np.ndarray], durations: Iterable[float | None]
) -> Iterator[tuple[np.ndarray, float | None]]:
    ends = iter(durations)
    count = 0
    for recording in recordings:
        try:
            duration = next(ends)
        except StopIteration:
            raise InputError(f"there are more recordings than durations, which are {count}") from None
        yield recording, duration
        count += 1
    if isinstance(durations, list) and len(durations) != count:
        raise InputError(f"{count} recordings need as many durations, not {len(durations)}")


def durations_for(durations: Any, count: int | None) -> Iterable[float | None]:
    """The end of each run in seconds, for runs one after another; None: the last event.

    Args:
        durations: None, a number for all runs, or a list (array [N]) with one number or None for each.
        count: number of recordings; None if that is not known yet.

    Raises:
        InputError: for what is neither, for another number of durations than of recordings, and for a duration that is
            not a number of seconds up to `LAST_MICROSECOND`.
    """
    if durations is None:
        return itertools.repeat(None)
    if isinstance(durations, np.ndarray) and durations.ndim > 1:
        raise InputError(f"durations must be a number or one for each recording, not an array {durations.shape}")
    scalar = getattr(durations, "ndim", 1) == 0 or not hasattr(durations, "__len__")
    if scalar or isinstance(durations, str | bytes | Mapping | Set):
        _check_duration(durations, "durations")
        return itertools.repeat(durations)
    each = list(durations)
    if count is not None and len(each) != count:
        raise InputError(f"{count} recordings need as many durations, not {len(each)}")
    for k, duration in enumerate(each):
        if duration is not None:
            _check_duration(duration, f"recording {k}")
    return each
