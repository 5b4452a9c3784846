"""Exceptions for users: commands print the message without a traceback and exit with status 2."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mtt_brian.text import listed, shown


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted."""


class MachineError(InputError):
    """What this machine lacks, whatever the input is: a program, a package, a device, space on a disk."""


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message states the epoch and the batch."""


class CacheWarning(UserWarning):
    """A cached file was damaged and is made again, or nothing can be cached; results do not depend on it."""


class DataWarning(UserWarning):
    """Data are read, and something beside them is not: results are those of the data that are read."""


def check_choice(name: str, value: Any, accepted: Collection[str]) -> None:
    """Refuses all but the accepted texts.

    Raises:
        InputError: naming ``name``, the value, and what is accepted.
    """
    if not isinstance(value, str) or value not in accepted:
        raise InputError(f"{name} must be one of {listed(accepted)}, not {shown(value)}")


def check_whole(name: str, value: Any, most: int, least: int | None = None) -> int:
    """The value as an integer of Python, which does not overflow; numpy integers are accepted, True and 2.0 are not.

    Raises:
        InputError: naming ``name`` and the value, if it is no whole number, exceeds ``most`` or is below ``least``.
    """
    try:
        whole = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None:
        raise InputError(f"{name} must be a whole number, not {shown(value)}")
    if least is not None and whole < least:
        raise InputError(f"{name} must be at least {least}, not {shown(whole)}")
    if whole > most:
        raise InputError(f"{name} must be at most {most}, not {shown(whole)}")
    return whole


def check_number(name: str, value: Any, most: float, least: float | None = None) -> float:
    """The value as a float; numpy numbers are accepted, True, "1" and more than float64 holds are not.

    Raises:
        InputError: naming ``name`` and the value, if it is no number, exceeds ``most`` or is not at least ``least``;
            without ``least``, NaN is accepted.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number, not {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise InputError(f"{name} must be a number that float64 holds, not {shown(value)}") from None
    if least is not None and not number >= least:
        raise InputError(f"{name} must be at least {least:g}, not {shown(value)}")
    if number > most:
        raise InputError(f"{name} must be at most {most:g}, not {shown(value)}")
    return number


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuses an object of another class.

    Raises:
        InputError: naming ``name``, the class and the value.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} must be of the class {kind.__name__}, not {shown(value)}")


def check_list(name: str, value: Any) -> list[Any]:
    """The items of a list, an array or another iterable; text and mappings are refused.

    Raises:
        InputError: naming ``name`` and the value.
    """
    try:
        if not isinstance(value, str | bytes | Mapping):
            return list(value)
    except TypeError:
        pass
    raise InputError(f"{name} must be a list, not {shown(value)}")


def check_seconds(name: str, value: Any) -> float:
    """A finite time above 0 as a float.

    Raises:
        InputError: naming ``name`` and the value.
    """
    seconds = check_number(name, value, most=np.inf)
    if not 0 < seconds < np.inf:
        raise InputError(f"{name} must be > 0 seconds and finite, not {shown(value)}")
    return seconds


def check_flag(name: str, value: Any) -> None:
    """Refuses what is neither True nor False; numpy's are accepted.

    Raises:
        InputError: naming ``name`` and the value.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {shown(value)}")


def read_array(value: Any) -> np.ndarray:
    """The value as numpy reads it; what numpy cannot read is an array of type object with this one element.

    It cannot read rows of different lengths, tensors with gradients, on a GPU or of type bfloat16.
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty((), dtype=object)
        array[()] = value
        return array


def check_array(name: str, value: Any, kinds: str = "iuf", wanted: str = "numbers") -> np.ndarray:
    """The value as an array of real numbers: an array, a list, a number, or what numpy reads as one of them.

    Args:
        name: of the argument, for the message.
        value: the argument.
        kinds: accepted kinds of its type (`numpy.dtype.kind`); an empty array may have any without fields.
        wanted: what is accepted, for the message.

    Raises:
        InputError: naming ``name`` and the value, for text, truth values, objects, masked values, rows of different
            lengths, and tensors that numpy does not read (with gradients, on a GPU, bfloat16).
    """
    array = read_array(value)
    fields = array.dtype.kind == "V"  # of a structured array, such as a recording
    if fields or (array.size and (array.dtype.kind not in kinds or np.ma.is_masked(value))):
        raise InputError(f"{name} must be {wanted}, not {shown(value)}")
    return array
