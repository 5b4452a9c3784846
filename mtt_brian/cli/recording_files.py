"""The recording that a command is given: a file of events, or one of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtt_brian.events import named
from mtt_brian.events.named import NamedRecording


def open_recording(text: str, data_root: str | None, config: Mapping[str, Any]) -> NamedRecording:
    """A recording from a file, or from a data set, as the network that it is meant for sees it.

    Args:
        text: a path, or ``DATASET:SPLIT:NUMBER``.
        data_root: folder that holds the data set; by default the one that the network was trained from.
        config: settings of the run that trained the network: recordings come at its resolution.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    place = named.reference(text)
    if place is not None and place.dataset == config.get("dataset"):
        data_root = data_root or config.get("data_root")
    return named.open_recording(text, data_root=data_root, resolution=config.get("resolution"))
