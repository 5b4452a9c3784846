"""Exceptions whose message tells a person what to do: command lines print it without a traceback and exit with 2."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from mtt_brian.text import shown


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted."""


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message says at which epoch and batch."""


class CacheWarning(UserWarning):
    """Something kept for later was damaged and is made anew, or nothing can be kept; results do not depend on it."""


def check_whole(name: str, value: Any, most: int) -> None:
    """Refuse what is no whole number, and larger ones than ``most``; numpy's are whole numbers, True and 2.0 are not.

    Raises:
        InputError: naming ``name`` and the value.
    """
    try:
        whole = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None:
        raise InputError(f"{name} must be a whole number, not {shown(value)}")
    if whole > most:
        raise InputError(f"{name} must be at most {most}, not {shown(whole)}")


def check_number(name: str, value: Any, most: float) -> None:
    """Refuse what is no number, and larger ones than ``most``; numpy's are numbers, True and "1" are not, NaN is.

    Raises:
        InputError: naming ``name`` and the value.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number, not {shown(value)}")
    if value > most:
        raise InputError(f"{name} must be at most {most:g}, not {shown(value)}")
