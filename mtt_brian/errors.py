"""Exceptions for users: commands print the message without a traceback and exit with status 2."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from mtt_brian.text import shown


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted."""


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message states the epoch and the batch."""


class CacheWarning(UserWarning):
    """A cached file was damaged and is made again, or nothing can be cached; results do not depend on it."""


def check_whole(name: str, value: Any, most: int) -> int:
    """The value as an integer of Python, which does not overflow; numpy integers are accepted, True and 2.0 are not.

    Raises:
        InputError: naming ``name`` and the value, if it is no whole number or exceeds ``most``.
    """
    try:
        whole = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None:
        raise InputError(f"{name} must be a whole number, not {shown(value)}")
    if whole > most:
        raise InputError(f"{name} must be at most {most}, not {shown(whole)}")
    return whole


def check_number(name: str, value: Any, most: float) -> None:
    """Refuses values that are no numbers or exceed ``most``; numpy numbers and NaN are accepted, True and "1" are not.

    Raises:
        InputError: naming ``name`` and the value.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number, not {shown(value)}")
    if value > most:
        raise InputError(f"{name} must be at most {most:g}, not {shown(value)}")
