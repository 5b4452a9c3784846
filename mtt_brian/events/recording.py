"""Recordings: events of a camera (or any other sensor) as a structured array."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, read_array
from mtt_brian.text import printable, shortened, shown

#: One event: time in microseconds since the start of the recording, column, row, channel (polarity: 0 OFF, 1 ON).
EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "<i1")])

#: (C, H, W): channels (polarities), rows, columns.
SensorSize: TypeAlias = tuple[int, int, int]

FIELDS = ("t", "x", "y", "p")

#: What the numbers of a field mean, for messages.
_NOTES = {"t": "t counts microseconds", "p": "polarities are counted from 0 (OFF 0, ON 1)"}


def make_recording(t: ArrayLike, x: ArrayLike, y: ArrayLike = 0, p: ArrayLike = 0) -> np.ndarray:
    """A recording from its columns, in the order given.

    Args:
        t: times in microseconds, [E] (or one number). Whole numbers of any real type are accepted.
        x: columns, [E], or one number for all events (a number, not a list of one).
        y: rows, likewise.
        p: polarities (channels), likewise, or bools.

    Returns:
        Structured array [E] of `EVENT_DTYPE`. Nothing is sorted or checked against a sensor: see `check_recording`.

    Raises:
        InputError: if the lengths differ, or a value is not a whole number that its field can hold.
    """
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(FIELDS, (t, x, y, p), strict=True):
        if has_unit(column):
            remedy = "; np.rint(t / brian2.usecond) are microseconds" if name == "t" else ""
            raise InputError(f"{name} has a unit, {_shown(column)}; give whole numbers{remedy}")
        if np.ma.is_masked(column):
            raise InputError(f"{name} has masked values; leave these events out")
        columns[name] = read_array(column)
        if columns[name].size:
            _check_values(name, columns[name], "iuf", "whole numbers")
    if (
        len({column.shape for column in columns.values() if column.ndim}) > 1
        or max(c.ndim for c in columns.values()) > 1
    ):
        shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise InputError(f"t, x, y and p must have one length (or be single numbers), not {shapes}")
    arrays = np.broadcast_arrays(*map(np.atleast_1d, columns.values()))
    recording = np.empty(arrays[0].shape, dtype=EVENT_DTYPE)
    for name, array in zip(columns, arrays, strict=True):
        with np.errstate(invalid="ignore"):  # casting NaN: the comparison below refuses it
            recording[name] = array
        wrong = np.flatnonzero(recording[name] != array)
        if wrong.size:
            raise InputError(
                f"{name}[{wrong[0]}] = {array[wrong[0]]}: not a whole number that fits {EVENT_DTYPE[name]}{_note(name)}"
            )
        if array.dtype.kind == "f":
            # From here on two consecutive whole numbers are the same float: the value may have been rounded.
            limit = 2.0 ** (np.finfo(array.dtype).nmant + 1)
            rounded = np.flatnonzero(np.abs(array) >= limit)
            if rounded.size:
                raise InputError(
                    f"{name}[{rounded[0]}] = {array[rounded[0]]}: {array.dtype} does not hold every whole number from"
                    f" {limit:.0f} on; give integers{_note(name)}"
                )
    return recording


def last_us(recording: np.ndarray) -> int:
    """Time of the last event in microseconds; 0 without events."""
    return int(recording["t"][-1]) if len(recording) else 0


def check_sensor_size(sensor_size: Any, name: str = "sensor_size") -> SensorSize:
    """The sensor as three Python integers.

    Raises:
        InputError: unless it is three whole numbers >= 1.
    """
    try:
        channels, rows, columns = (operator.index(size) for size in sensor_size)
    except (TypeError, ValueError):
        channels = rows = columns = 0
    if min(channels, rows, columns) < 1:
        raise InputError(
            f"{name} must be three whole numbers >= 1 (channels, rows, columns), not {_shown(sensor_size)}"
        )
    return channels, rows, columns


def check_recording(recording: np.ndarray, sensor_size: SensorSize, name: str = "recording") -> None:
    """Refuse a recording that does not fit a sensor.

    Args:
        recording: structured array [E] with the fields t, x, y, p.
        sensor_size: (C, H, W): p must lie in [0, C), y in [0, H), x in [0, W).
        name: name of the recording in the message, for instance its file name.

    Raises:
        InputError: on missing or non-integer fields, other fields that would be dropped, coordinates outside the
            sensor, negative times or times that go backwards.
    """
    sizes = check_sensor_size(sensor_size)
    check_fields(recording, FIELDS, name)
    if not recording.size:
        return
    for field, size in zip(("p", "y", "x"), sizes, strict=True):
        values = recording[field]
        if values.min() < 0 or values.max() >= size:
            event = int(np.flatnonzero((values < 0) | (values >= size))[0])
            raise InputError(
                f"{name}: event {event} has {field} = {values[event]}, outside the sensor's 0..{size - 1}"
                f" (sensor {sizes} = channels, rows, columns){polarity_hint(field, values[event])}"
            )
    check_order(recording["t"], name)


def check_order(t: np.ndarray, name: str = "recording") -> None:
    """Refuses times that are negative, go backwards or do not fit int64.

    Raises:
        InputError: naming the event.
    """
    if not t.size:
        return
    if t[0] < 0:
        raise InputError(f"{name}: event 0 has t = {t[0]}; times are microseconds >= 0")
    backwards = np.flatnonzero(t[1:] < t[:-1])
    if backwards.size:
        event = int(backwards[0]) + 1
        raise InputError(f"{name}: times go backwards at event {event} (t = {t[event]} after {t[event - 1]} us)")
    if int(t[-1]) > np.iinfo(np.int64).max:
        raise InputError(f"{name}: the last event has t = {t[-1]}; times fit 64-bit integers with a sign")


def check_fields(recording: Any, needed: Sequence[str], name: str = "recording") -> None:
    """Refuses all but a one-dimensional structured array with whole numbers in its fields.

    A field that is not needed is dropped later. It must have one value everywhere, so that no information is lost, for
    instance the y and p of a sensor with a single row.

    Args:
        recording: the argument.
        needed: the fields that are used.
        name: what the message calls the recording.

    Raises:
        InputError: names what was given instead, the field that is missing, or the field with its first value.
    """
    if (
        not isinstance(recording, np.ndarray)
        or recording.ndim != 1
        or recording.dtype.names is None
        or isinstance(recording, np.ma.MaskedArray)
    ):
        raise InputError(
            f"{name}: a recording is a one-dimensional structured array with the fields t, x, y, p; this one"
            f" {what_it_is(recording)}"
        )
    fields = recording.dtype.names
    if missing := [field for field in needed if field not in fields]:
        raise InputError(
            f"{name} has no field {missing[0]!r}: it lacks {', '.join(missing)}; needed are {', '.join(needed)}, there"
            f" are {list(fields)}"
        )
    for field in fields:
        if field in FIELDS:
            check_column(field, recording[field], name)
            if recording[field].ndim != 1:
                raise InputError(
                    f"{name}: the field {field} must hold one integer per event, not {recording.dtype[field]}"
                    f" ({field}[0] = {_shown(recording[field][:1].tolist())}){_note(field)}"
                )
    if len(fields) > len(needed):
        _check_dropped({field: recording[field] for field in fields if field not in needed}, needed, name)


def check_recordings(recordings: Any) -> Iterable[np.ndarray]:
    """Refuses all but an iterable of recordings; each recording is checked when it is used.

    Args:
        recordings: a list of recordings, a data set, an iterable, an array [N, E].

    Raises:
        InputError: names what was given and what is accepted.
    """
    if isinstance(recordings, np.ndarray):
        if recordings.dtype.names and recordings.ndim == 1:
            raise InputError("recordings: this is one recording; put it into a list: [recording]")
        several = recordings.ndim == (2 if recordings.dtype.names else 1) and recordings.dtype.kind in "VO"
    else:
        several = (
            (isinstance(recordings, Iterable) or hasattr(recordings, "__getitem__"))  # torch's data sets have no iter
            and not isinstance(recordings, str | bytes | PathLike | Mapping | type | np.generic)
            and getattr(recordings, "has_events", True)
            and not hasattr(recordings, "to_records")
            and not is_labelled_pair(recordings)
        )
    if not several:
        raise InputError(f"recordings: give a list of recordings, or any other iterable; this {what_it_is(recordings)}")
    return recordings


def check_column(field: str, values: np.ndarray, name: str) -> None:
    """Refuse a column t, x, y or p of an array that does not hold integers (or, for p, bools).

    Raises:
        InputError: names the field, its type and its first value.
    """
    _check_values(field, values, "iu", "integers", f"{name}: ")


def _check_values(field: str, values: np.ndarray, kinds: str, wanted: str, prefix: str = "") -> None:
    dtype = values.dtype
    if dtype.kind in kinds or (field == "p" and dtype.kind == "b"):
        return
    first = f" ({field}[0] = {_shown(values.flat[0])})" if values.size else ""
    seconds = "; for times in seconds: np.rint(1e6 * t).astype(np.int64)" if field == "t" and dtype.kind == "f" else ""
    raise InputError(f"{prefix}the field {field} must hold {wanted}, not {dtype}{first}{_note(field)}{seconds}")


def _check_dropped(columns: Mapping[str, np.ndarray], needed: Sequence[str], name: str) -> None:
    varied = [field for field, values in columns.items() if len(values) and _varies(values)]
    if not varied:
        return
    if strange := [field for field in varied if field not in FIELDS]:
        raise InputError(
            f"{name}: the field {strange[0]!r} holds different values and would be dropped; leave it out, or make it"
            f" part of t, x, y or p"
        )
    ranges = ", ".join(f"{field} from {columns[field].min()} to {columns[field].max()}" for field in varied)
    used, lost = (" and ".join(names) for names in ([field for field in needed if field != "t"], varied))
    flattened = "; for an input that is a flattened sensor (C, H, W), put x + W * (y + H * p) into x"
    raise InputError(
        f"{name}: the network's input takes {used} only, and {lost} would be dropped ({ranges}); to add events up, set"
        f" {lost} to 0{flattened if used == 'x' else ''}"
    )


def _varies(values: np.ndarray) -> bool:
    return values.dtype.hasobject or bool(np.any(values != values[0]))


def check_other_columns(columns: Mapping[str, np.ndarray], events: int, name: str) -> None:
    """Refuse columns of a table beside t, x, y, p that hold different values: they would be dropped.

    Args:
        columns: name -> array. Arrays of another length than ``events`` describe no events.
        events: number of events.
        name: what the message calls the recording.

    Raises:
        InputError: names the column.
    """
    others = {
        field: values for field, values in columns.items() if field not in FIELDS and np.shape(values)[:1] == (events,)
    }
    _check_dropped(others, FIELDS, name)


def polarity_hint(field: str, value: Any) -> str:
    """Hint for polarities -1 and +1, and for 0 and 255."""
    other = {-1: "-1 and 1", 255: "0 and 255"}.get(value) if field == "p" else None
    return f"; {_NOTES['p']}, not {other}" if other else ""


def has_unit(value: Any) -> bool:
    """Whether this is a quantity of Brian2 with a unit, which numpy takes in base units."""
    dim = getattr(value, "dim", None)
    return dim is not None and not callable(dim) and not getattr(dim, "is_dimensionless", False)


def second_hint(value: Any) -> str:
    """The remedy where a number of seconds is expected and this is a quantity of Brian2; else nothing."""
    return "; divide a Brian2 time by brian2.second" if has_unit(value) else ""


def _note(field: str) -> str:
    """What the numbers of a field mean, for the end of a message."""
    return f"; {_NOTES[field]}" if field in _NOTES else ""


def what_it_is(thing: Any) -> str:
    """What was given instead of a recording, and the remedy: the end of a sentence."""
    columns = "events.make_recording(t, x, y, p) makes a recording of columns"
    if isinstance(thing, np.ma.MaskedArray):
        return "is a masked array; leave the masked events out"
    if isinstance(thing, np.void) and thing.dtype.names:
        return "is a single event; recording[:1] keeps it a recording"
    if isinstance(thing, np.ndarray) and thing.dtype.names:
        return f"has the shape {thing.shape}; give one recording after another, as recording[0], or recording.ravel()"
    if isinstance(thing, np.ndarray):
        return f"lacks t, x, y, p: it is an array of {thing.dtype} of shape {thing.shape}; {columns}"
    if hasattr(thing, "has_events"):
        if thing.has_events:
            return "is a data set: data[0] is one recording, Simulator(graph).run(data) runs all"
        return "is a data set of still images, which have no events"
    if isinstance(thing, Mapping):
        return f"is a {type(thing).__name__} of {', '.join(map(_shown, list(thing)[:6])) or 'nothing'}; {columns}"
    if hasattr(thing, "to_records") and hasattr(thing, "columns"):
        return f"is a table ({type(thing).__name__}); {columns}: table['t'], table['x'] ..."
    if isinstance(thing, str | bytes | PathLike):
        return f"is {_shown(thing)}; a recording is an array, not the name of a file; events.read reads files"
    if isinstance(thing, tuple | list):
        if is_labelled_pair(thing):
            return "is a pair (recording, label), as items of tonic's data sets are; give its first part, pair[0]"
        if thing and all(map(_is_structured, thing)):
            return f"is a {type(thing).__name__} of recordings; Simulator(graph).run(recordings) runs several"
        return f"is a {type(thing).__name__} of {len(thing)}; {columns}"
    return f"is {'None' if thing is None else f'a {type(thing).__name__}'}; {columns}"


def is_labelled_pair(thing: Any) -> bool:
    """Whether this is (recording, label), an item of a data set of tonic."""
    if not isinstance(thing, tuple | list) or len(thing) != 2 or not _is_structured(thing[0]):
        return False
    return isinstance(thing, tuple) if thing[1] is None else np.ndim(thing[1]) == 0


def _is_structured(thing: Any) -> bool:
    return isinstance(thing, np.ndarray) and thing.dtype.names is not None


def _shown(value: Any) -> str:
    """`shown`, numbers of numpy without their type."""
    return shortened(printable(str(value)), 60) if isinstance(value, np.generic) else shown(value, 60)
