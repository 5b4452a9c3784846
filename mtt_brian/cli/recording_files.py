"""The recording that a command is given: a file of events, one of a data set, or NIRData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtt_brian.circuit.model import Circuit
from mtt_brian.events import named
from mtt_brian.events.formats.hdf5 import NIRData
from mtt_brian.events.named import NamedRecording
from mtt_brian.translate.nir_data import recording_of


def open_recording(
    text: str, data_root: str | None, config: Mapping[str, Any], circuit: Circuit | None = None
) -> NamedRecording:
    """A recording from a file, or from a data set, with the axes of a network's input.

    Args:
        text: a path, ``FILE:NUMBER`` for a file of several recordings or samples, or ``DATASET:SPLIT:NUMBER``.
        data_root: folder that holds the data set; by default the one that the network was trained from.
        config: settings of the run that trained the network: recordings come at its resolution.
        circuit: the network; needed for NIRData, which does not hold the shape of the input.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    place = named.reference(text)
    if place is not None and place.dataset == config.get("dataset"):
        data_root = data_root or config.get("data_root")
    try:
        return named.open_recording(text, data_root=data_root, resolution=config.get("resolution"))
    except NIRData:
        if circuit is None:
            raise
        path, sample = named.numbered(text)
        return NamedRecording(text, recording_of(path, circuit.input, circuit.input_shape, sample))
