"""The exact sign test: whether two classifications of the same recordings differ by more than chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mtt_brian.errors import InputError

#: A difference is called one if the sign test gives it less than this.
SIGNIFICANT = 0.05


class SignTest(NamedTuple):
    """Two classifications of the same recordings.

    Attributes:
        lost: recordings that are correct before and wrong after.
        gained: recordings that are wrong before and correct after.
        p: of the exact two-sided sign test (McNemar's test): the probability that ``lost + gained`` fair coins fall at
            least as unevenly. 1 where nothing differs.
    """

    lost: int
    gained: int
    p: float

    @property
    def is_loss(self) -> bool:
        """Whether more are lost than gained, by more than chance."""
        return self.p < SIGNIFICANT and self.lost > self.gained

    @property
    def is_gain(self) -> bool:
        """Whether more are gained than lost, by more than chance."""
        return self.p < SIGNIFICANT and self.gained > self.lost


def sign_test(before: ArrayLike, after: ArrayLike) -> SignTest:
    """The exact sign test of two classifications of the same recordings.

    Args:
        before, after: whether each recording was classified correctly: bool [N].

    Raises:
        InputError: if the lengths differ.
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if before.shape != after.shape or before.ndim != 1:
        raise InputError(f"a sign test needs the same recordings twice, not {before.shape} and {after.shape} of them")
    lost, gained = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    tail = float(special.bdtr(min(lost, gained), lost + gained, 0.5))
    return SignTest(lost, gained, min(1.0, 2 * tail))
