"""Networks and recordings, changed a little: what robustness and the event-driven gap are measured with.

Pure functions; what is random takes its generator. Networks are changed as NIR graphs, the contract between both
halves: the time-stepped network (`export.from_nir`) and the circuit (`translate.read_nir`) read the same weights then.
"""

from mtt_brian.perturb.networks import (
    mismatched_thresholds,
    noisy_weights,
    one_spike,
    quantised_weights,
    without_bound,
)
from mtt_brian.perturb.recordings import dropped, each, jittered, shuffled_ties, with_spurious

__all__ = [
    "dropped",
    "each",
    "jittered",
    "mismatched_thresholds",
    "noisy_weights",
    "one_spike",
    "quantised_weights",
    "shuffled_ties",
    "with_spurious",
    "without_bound",
]
