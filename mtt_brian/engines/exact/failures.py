"""Reasons why a run cannot continue: codes that the kernels set, and their messages."""

from __future__ import annotations

import numpy as np

from mtt_brian.engines.exact.jit import piece

#: More spikes than can be counted, at once or in all; more spikes per second than are allowed; a next spike that is no
#: later than this one; an oscillation that stays so close to the threshold that a crossing cannot be decided.
TOO_MANY, TOO_FAST, NO_PROGRESS, UNDECIDED = 1, 2, 3, 4


@piece
def set_failure(failure: np.ndarray, code: int, p: int, flat: int, t: float) -> None:
    """Sets `State.failure` to the code, the population, the neuron and the time; the first failure stays."""
    if failure[0] == 0.0:
        failure[0], failure[1], failure[2], failure[3] = code, p, flat, t


def reason_for(code: int, max_rate: float) -> str:
    """The message for a failure.

    Args:
        code: `TOO_MANY` to `UNDECIDED`.
        max_rate: spikes per second that are allowed.
    """
    limit, check = f"{max_rate:g} spikes per second (max_rate)", "check its bias, v_leak, weights and spike_integral"
    return {
        TOO_MANY: f"more spikes at once than can be counted (2**53), or in all (2**62); {check}",
        TOO_FAST: f"fires without end: more than {limit}; {check}, or raise max_rate",
        NO_PROGRESS: f"fires without end: its next spike is no later than this one in float64, that is more than "
        f"{limit}; {check}",
        UNDECIDED: "oscillates with almost no damping, so close to its threshold that whether it reaches it stays "
        "open; give it more damping",
    }[code]
