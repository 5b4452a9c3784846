"""Metrics as pure functions of arrays.

Axis 0 is the recording if there are several; times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError


class Estimate(NamedTuple):
    """A measured value and its standard error, both in the value's own unit."""

    value: float
    standard_error: float


def predictions(readout: ArrayLike) -> np.ndarray:
    """The class with the largest readout.

    For ties it is the lowest class, so the prediction of an all-zero readout is class 0, as with argmax in all modes;
    it is correct by chance only.

    Args:
        readout: [..., classes].

    Returns:
        int64 [...].
    """
    return np.argmax(np.asarray(readout), axis=-1)


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> Estimate:
    """Fraction of correct predictions with its binomial standard error ``sqrt(p (1 - p) / n)``.

    The error describes how much p would vary with another draw of n test recordings for these same weights; it does
    not contain the variation between training seeds. It is 0 at p = 0 and p = 1.

    Args:
        predicted: classes [N].
        labels: classes [N].

    Raises:
        InputError: if there is no recording, or the lengths differ.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1:
        raise InputError(f"predictions of shape {predicted.shape} and labels of shape {labels.shape} do not match")
    if not predicted.size:
        raise InputError("no accuracy without a recording")
    p = float(np.mean(predicted == labels))
    return Estimate(p, float(np.sqrt(p * (1 - p) / predicted.size)))


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, classes: int) -> np.ndarray:
    """How often class ``column`` was predicted for class ``row``: int64 [classes, classes].

    Raises:
        InputError: if the lengths differ, or for what is no class from 0 to ``classes`` - 1.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1:
        raise InputError(f"predictions of shape {predicted.shape} and labels of shape {labels.shape} do not match")
    for what, values in (("prediction", predicted), ("label", labels)):
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes):
            wrong = next(v for v in values.tolist() if type(v) is not int or not 0 <= v < classes)
            raise InputError(f"the {what} {wrong} is no class from 0 to {classes - 1}")
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels.astype(np.int64), predicted.astype(np.int64)), 1)
    return matrix


@dataclass
class SpikeDifference:
    """Spike difference summed over many recordings, without keeping their counts (see `spike_difference`).

    Attributes:
        difference: ``sum |s0 - s|`` so far.
        reference: ``sum |s0|`` so far.
    """

    difference: float = 0.0
    reference: float = 0.0

    def add(self, reference: ArrayLike, counts: ArrayLike) -> None:
        """Adds arrays of the same, arbitrary shape.

        Raises:
            InputError: if the shapes differ.
        """
        s0, s = np.asarray(reference, dtype=np.float64), np.asarray(counts, dtype=np.float64)
        if s0.shape != s.shape:
            raise InputError(f"counts of shape {s.shape} cannot be compared with a reference of shape {s0.shape}")
        self.difference += float(np.abs(s0 - s).sum())
        self.reference += float(np.abs(s0).sum())

    @property
    def value(self) -> float:
        """The ratio; 0 where nothing differs (silence against silence), inf where only the reference is silent."""
        if self.difference == 0:
            return 0.0
        return self.difference / self.reference if self.reference else float("inf")


def spike_difference(reference: ArrayLike, counts: ArrayLike) -> float:
    """``SD(s0, s) = sum |s0 - s| / sum |s0|`` over neurons and recordings (Du et al., ICLR 2025; arXiv 2503.17394).

    The reference s0 is the event-driven run. For spike counts ``|s0|`` is s0, as in the paper. A readout that does
    not spike is compared by the same formula; both must then be **sums** over the recording (the logits of a
    time-stepped network are means over T steps: multiply by T first).

    Args:
        reference, counts: of one shape; summed over all axes.

    Returns:
        The ratio, >= 0. Silence against silence is 0; spikes against a silent reference are inf.
    """
    total = SpikeDifference()
    total.add(reference, counts)
    return total.value


def synops(counts: Mapping[str, ArrayLike], fan_out: Mapping[str, np.ndarray]) -> np.ndarray:
    """Synaptic operations of each recording: every spike times the synapses it reaches.

    A graded spike of n counts n times, so that a time-stepped and an event-driven run have the same measure.

    Args:
        counts: by source name, the input included: spikes [N, ...], summed over the run.
        fan_out: synapses per neuron by source name (`Circuit.fan_out`).

    Returns:
        float64 [N].

    Raises:
        InputError: if a source that reaches a synapse has no counts.
    """
    missing = [name for name, fan in fan_out.items() if fan.any() and name not in counts]
    if missing:
        raise InputError(f"no spike counts for {', '.join(map(repr, missing))}; there are {sorted(counts)}")
    per_source = [
        np.reshape(np.asarray(counts[name], dtype=np.float64), (-1, fan.size)) @ fan
        for name, fan in fan_out.items()
        if fan.any()
    ]
    return np.sum(per_source, axis=0)


def accuracy_over_time(readouts: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Fraction of recordings with a correct prediction at each time.

    Args:
        readouts: [N, K, classes], the readout of N recordings at K times (`Result.readout_at`).
        labels: classes [N].

    Returns:
        float64 [K].
    """
    return np.mean(predictions(readouts) == np.asarray(labels)[:, None], axis=0)


def readout_trace(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The readout at every instant at which it can change.

    Args:
        result: of a run that recorded the spikes that feed the readout (``record="output"`` or ``"all"``).

    Returns:
        times: float64 [K], seconds, rising, the first is 0.
        readouts: float64 [K, classes].
    """
    circuit = result.circuit
    sources = [circuit.output] if circuit.readout.rule.fires else [c.source for c in circuit.into(circuit.output)]
    times = np.unique(np.concatenate([[0.0], *(result.spikes[name].t for name in sources if name in result.spikes)]))
    return times, result.readout_at(times)


def decision_time(times: ArrayLike, readouts: ArrayLike, label: int) -> float:
    """The earliest time from which the prediction is correct and stays correct; inf if the last one is wrong.

    Args:
        times: [K], rising.
        readouts: [K, classes], constant from each time to the next (`readout_trace`).
        label: the true class.
    """
    wrong = np.flatnonzero(predictions(readouts) != label)
    first_right = wrong[-1] + 1 if wrong.size else 0
    times = np.asarray(times)
    return float(times[first_right]) if first_right < len(times) else float("inf")
