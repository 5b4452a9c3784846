"""The recordings of the experiment: the same ones in every process and on every machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings


@lru_cache(maxsize=2)
def load_recordings(dataset: str, root: str | None, split: str, count: int) -> Recordings:
    """``count`` recordings of a split, drawn at random, in the order of the drawing.

    A smaller number gives the first ones of a larger number, so that a part of them is a random sample, too.

    Raises:
        InputError: as `events.load`; for still images; for more recordings than there are.
    """
    data = events.load(dataset, root=root, split=split)
    if not isinstance(data, Recordings):
        raise InputError(f"{data.title} are still images, without events")
    if count > len(data):
        raise InputError(f"{data.title}, {split}: {len(data)} recordings, fewer than the {count} that are asked for")
    return data.subset(np.random.default_rng(0).permutation(len(data))[:count])
