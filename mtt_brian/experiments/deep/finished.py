"""The files of a finished network: its model, and the time-stepped predictions with the digests of both; no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mtt_brian.errors import InputError
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS
from mtt_brian.events import Recordings
from mtt_brian.files import file_digest, read_regular, reason, write_json
from mtt_brian.text import shown

#: File beside a model. It is written last: a network is finished when it is there.
TIME_STEPPED = "time_stepped.json"


class Finished(NamedTuple):
    """The content of `TIME_STEPPED`.

    Attributes:
        model: SHA-256 of the model, which does not have to be there.
        recordings: `identity` of the test recordings; None in files of earlier versions.
        predictions: predicted classes of all test recordings by number of time steps; None: not run.
    """

    model: str
    recordings: str | None
    predictions: dict[int, list[int | None]]


def identity(recordings: Recordings) -> str:
    """SHA-256 of the names and labels of recordings, in their order."""
    content = [recordings.name, recordings.ids, recordings.labels.tolist()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write(model: Path, recordings: Recordings, predictions: Mapping[int, Sequence[int]]) -> None:
    """Write `TIME_STEPPED` beside a model."""
    content = {"model": file_digest(model), "recordings": identity(recordings), "predictions": predictions}
    write_json(model.with_name(TIME_STEPPED), content)


def read(model: Path) -> Finished:
    """What is written beside the model of a finished network; the model does not have to be there.

    Raises:
        InputError: if the file cannot be read, or has another content.
    """
    path = model.with_name(TIME_STEPPED)
    try:
        content = json.loads(read_regular(path))
        return Finished(
            _checked(content["model"], str),
            _checked(content.get("recordings"), str | None),
            {_time_steps(t): _classes(row) for t, row in _checked(content["predictions"], dict).items()},
        )
    except OSError as error:
        raise InputError(reason(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: not the predictions of a finished network ({type(error).__name__}: {error});"
            " without this file the network is trained again from its checkpoint"
        ) from None


def check(model: Path, recordings: Recordings) -> None:
    """Refuse a network that was measured on other recordings, or whose model is not the one that was measured.

    Raises:
        InputError: names the file; and as `read`.
    """
    found, path = read(model), model.with_name(TIME_STEPPED)
    numbers = {len(row) for row in found.predictions.values()}
    if numbers - {len(recordings)}:
        raise InputError(
            f"{path}: predictions of {', '.join(map(str, sorted(numbers)))} test recordings, not of the"
            f" {len(recordings)} of --test; give another --out"
        )
    if found.recordings not in (None, identity(recordings)):
        raise InputError(
            f"{path}: predictions of other test recordings than those of --dataset and --data-root; give another --out"
        )
    if model.exists() and file_digest(model) != found.model:
        raise InputError(
            f"{model}: another network than the one of {TIME_STEPPED} beside it (SHA-256); without both files"
            " the network is trained again from its checkpoint"
        )


@lru_cache(maxsize=256)
def digest(model: Path) -> str:
    """SHA-256 of the model of a finished network, as `check` has found it."""
    return read(model).model


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"unexpected {shown(value)}")
    return value


def _time_steps(text: str) -> int:
    if (number := int(text)) not in TIME_STEPS:
        raise ValueError(f"unexpected {number} time steps")
    return number


def _classes(row: Any) -> list[int | None]:
    if not isinstance(row, list) or any(isinstance(k, bool) or not isinstance(k, int | None) for k in row):
        raise TypeError(f"unexpected predictions {shown(row)}")
    return row
