"""Metrics as pure functions of arrays.

Axis 0 is the recording if there are several; times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError, check_array, check_kind, check_whole
from mtt_brian.text import shown

#: Largest side of a confusion matrix.
_MOST_CLASSES = 10_000


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

    Raises:
        InputError: for what holds no numbers, no class, or NaN.
    """
    readout = check_array("readout", readout)
    if not readout.ndim or not readout.shape[-1]:
        raise InputError(f"readout must have at least one class on its last axis; its shape is {readout.shape}")
    if np.isnan(readout).any():
        raise InputError("readout holds NaN, of which no class is the largest")
    return np.argmax(readout, axis=-1)


def _classes(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None, kinds: str = "iuf") -> np.ndarray:
    """Classes [N] as integers, or truth values where ``kinds`` has "b".

    Whole numbers of floating-point type, as from a table, are accepted.

    Raises:
        InputError: for what is no list of whole numbers, or has another shape than the given one.
    """
    wanted = "classes, whole numbers [N]"
    classes = check_array(name, values, kinds, wanted)
    if classes.dtype.kind == "f":
        if not np.all((classes == np.rint(classes)) & (np.abs(classes) < 2**53)):
            raise InputError(f"{name} must be {wanted}, not {shown(values)}")
        classes = classes.astype(np.int64)
    if classes.ndim != 1 or (shape is not None and classes.shape != shape):
        expected = "[N]" if shape is None else f"{shape}"
        raise InputError(f"{name} must have the shape {expected}, a class for each recording, not {classes.shape}")
    return classes


def _both(predicted: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels: both are classes, or both are truth values (two classes).

    Raises:
        InputError: as `_classes`, and for one of each kind: a list of what is correct is no list of predictions.
    """
    classes = _classes("predictions", predicted, kinds="iufb")
    known = _classes("labels", labels, classes.shape, kinds="iufb")
    if (classes.dtype.kind == "b") != (known.dtype.kind == "b"):
        truth, name = (predicted, "predictions") if classes.dtype.kind == "b" else (labels, "labels")
        raise InputError(f"{name} must be classes, whole numbers [N] like the others, not {shown(truth)}")
    return classes, known


def correct_predictions(predicted: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Which predictions are correct, bool [N].

    Raises:
        InputError: for what are no classes [N], truth values beside classes, or if the lengths differ.
    """
    classes, known = _both(predicted, labels)
    return np.asarray(classes == known)


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> Estimate:
    """Fraction of correct predictions with its binomial standard error ``sqrt(p (1 - p) / n)``.

    The error describes how much p would vary with another draw of n test recordings for these same weights; it does
    not contain the variation between training seeds. It is 0 at p = 0 and p = 1.

    Args:
        predicted: classes [N].
        labels: classes [N].

    Raises:
        InputError: if there is no recording, and as `correct_predictions`.
    """
    return fraction(correct_predictions(predicted, labels))


def fraction(correct: np.ndarray) -> Estimate:
    """The fraction of True in bool [N] as an `accuracy`.

    Raises:
        InputError: if there is none.
    """
    if not correct.size:
        raise InputError("no accuracy without a recording")
    return binomial(float(np.mean(correct)), correct.size)


def binomial(p: float, n: int) -> Estimate:
    """A fraction of ``n`` recordings with its binomial standard error."""
    return Estimate(p, float(np.sqrt(p * (1 - p) / n)))


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, classes: int) -> np.ndarray:
    """How often class ``column`` was predicted for class ``row``: int64 [classes, classes].

    Raises:
        InputError: if the lengths differ, for what is no class from 0 to ``classes`` - 1, and for a number of classes
            out of range.
    """
    classes = check_whole("classes", classes, most=_MOST_CLASSES, least=1)
    predicted, labels = _both(predicted, labels)
    for what, values in (("prediction", predicted), ("label", labels)):
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            raise InputError(f"the {what} {values[wrong][0]} is no class from 0 to {classes - 1}")
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
            InputError: if the shapes differ, and for what is no array of finite numbers.
        """
        s0, s = (_finite(name, x) for name, x in (("the reference", reference), ("counts", counts)))
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
        InputError: if a source that reaches a synapse has no counts, or counts of another shape.
    """
    for name, given in (("counts", counts), ("fan_out", fan_out)):
        if not isinstance(given, Mapping):
            raise InputError(f"{name} must be arrays by source name, not {shown(given)}")
    fans = {name: fan for name, each in fan_out.items() if (fan := _finite(f"fan_out of {name!r}", each)).any()}
    missing = [name for name in fans if name not in counts]
    if missing:
        raise InputError(f"no spike counts for {', '.join(map(repr, missing))}; there are {sorted(counts)}")
    each = {name: _finite(f"counts of {name!r}", counts[name]) for name in fans}
    for name, spikes in each.items():
        size = fans[name].size
        if size not in (math.prod(spikes.shape[k:]) for k in range(spikes.ndim)):
            raise InputError(f"counts of {name!r} must have the shape [N, ...] with {size} neurons, not {spikes.shape}")
    per_source = {name: np.reshape(spikes, (-1, fans[name].size)) @ fans[name].ravel() for name, spikes in each.items()}
    if len({len(operations) for operations in per_source.values()}) > 1:
        numbers = ", ".join(f"{name!r} {len(operations)}" for name, operations in per_source.items())
        raise InputError(f"counts need the same recordings for all sources, not so many: {numbers}")
    return np.sum(list(per_source.values()), axis=0)


def accuracy_over_time(readouts: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Fraction of recordings with a correct prediction at each time.

    Args:
        readouts: [N, K, classes], the readout of N recordings at K times (`Result.readout_at`).
        labels: classes [N].

    Returns:
        float64 [K].

    Raises:
        InputError: for arrays of other shapes, for what are no numbers or classes, and if there is no recording.
    """
    predicted = predictions(readouts)
    if predicted.ndim != 2 or not predicted.size:
        raise InputError(f"readouts must have the shape [N, K, classes], not {np.shape(readouts)}")
    return np.mean(predicted == _classes("labels", labels, predicted.shape[:1])[:, None], axis=0)


def readout_trace(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The readout at every instant at which it can change.

    Args:
        result: of a run that recorded the spikes that feed the readout (``record="output"`` or ``"all"``).

    Returns:
        times: float64 [K], seconds, rising, the first is 0.
        readouts: float64 [K, classes].
    """
    check_kind("result", result, Result)
    circuit = result.circuit
    sources = [circuit.output] if circuit.readout.rule.fires else [c.source for c in circuit.into(circuit.output)]
    times = np.unique(np.concatenate([[0.0], *(result.spikes[name].t for name in sources if name in result.spikes)]))
    return times, result.readout_at(times)


def decision_time(times: ArrayLike, readouts: ArrayLike, label: int) -> float:
    """The earliest time from which the prediction is correct and stays correct; inf if the last one is wrong.

    While the readouts of all classes are equal, as before the first spike, there is no prediction: class 0 would be
    decided before any event, and the time would depend on the order of the classes.

    Args:
        times: [K], rising.
        readouts: [K, classes], constant from each time to the next (`readout_trace`).
        label: the true class.

    Raises:
        InputError: for a label that is no class of the readouts, and for times that are not rising numbers [K].
    """
    predicted, times = predictions(readouts), _finite("times", times)
    if predicted.ndim != 1 or times.shape != predicted.shape or np.any(np.diff(times) < 0):
        raise InputError(
            f"times must be rising, one for each of {predicted.shape} readouts [K, classes], not {shown(times)}"
        )
    classes = np.shape(readouts)[1]
    right = predicted == check_whole("label", label, most=classes - 1, least=0)
    if classes > 1:
        right &= np.ptp(np.asarray(readouts), axis=1) > 0
    wrong = np.flatnonzero(~right)
    first_right = wrong[-1] + 1 if wrong.size else 0
    return float(times[first_right]) if first_right < len(times) else float("inf")


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    """Values as float64.

    Raises:
        InputError: for what is no array of finite numbers; truth values count as 0 and 1.
    """
    array = check_array(name, values, "iufb")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite, not {shown(array)}")
    return array.astype(np.float64, copy=False)
