"""Early exit: a recording is decided as soon as the readout is confident, time-stepped or event-driven.

SEENN-I (Li, Geller, Kim, Panda: "SEENN", NeurIPS 2023; MTT paper, dynamic inference) runs a network step by step and
takes the prediction of the first step at which the softmax of the mean readout so far exceeds a threshold. Here one
definition serves both modes. R(t) is the sum of the readout up to t, and the recording is T steps long; then

    "mean"    confidence(t) = max softmax( R(t) / max(1, steps passed at t) )
    "total"   confidence(t) = max softmax( R(t) / T )

"mean" is SEENN-I's rule. Time-stepped, it is the mean over the steps so far. Event-driven, it has the same unit, but
there is no division within the first step, because the mean over a very short time would give the first spike a
confidence near 1. The rule was made for static images, where every step has the whole image. A step of a recording has
only its own events, and a mean over few steps is as confident as a mean over all of them. With "total" evidence
accumulates: it is the confidence at the end of the recording if no more events followed.

The final value of both is the softmax of the logits in training. Between two instants at which the readout changes,
"total" is constant and "mean" can only decrease. A threshold is therefore always crossed at such an instant, and it is
enough to evaluate these instants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from mtt_brian.circuit.spikes import Spikes, input_spikes
from mtt_brian.engines.result import Result
from mtt_brian.errors import check_choice
from mtt_brian.evaluate.metrics import Estimate, accuracy, predictions, readout_trace
from mtt_brian.evaluate.statistics import over_seeds

#: A rule of confidence.
ExitRule: TypeAlias = Literal["mean", "total"]
RULES: tuple[ExitRule, ...] = get_args(ExitRule)


class ReadoutTrace(NamedTuple):
    """Readout and operations of one recording over time; entry k holds from its time on until the next one.

    Attributes:
        time_steps: T, how many steps the recording is long.
        seconds: float64 [K], rising; the last one is the end of the recording.
        readouts: float64 [K, classes], sums from the start.
        synops: float64 [K], synaptic operations up to and including this time.
    """

    time_steps: int
    seconds: np.ndarray
    readouts: np.ndarray
    synops: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """The times in time steps [K]."""
        end = self.seconds[-1]
        return self.time_steps * self.seconds / end if end else np.full(len(self.seconds), float(self.time_steps))

    def confidence(self, rule: ExitRule) -> np.ndarray:
        """Confidence at every time, float64 [K], between 1 / classes and 1.

        Raises:
            InputError: if the rule is not one of `RULES`.
        """
        check_choice("rule", rule, RULES)
        passed = np.maximum(1.0, self.steps) if rule == "mean" else np.full(len(self.seconds), float(self.time_steps))
        return softmax(self.readouts / passed[:, None], axis=-1).max(axis=-1)


class Decisions(NamedTuple):
    """Accuracy and mean costs of N decisions.

    Attributes:
        accuracy: of the predictions at the time of the decision.
        steps, milliseconds, synops: up to the decision.
    """

    accuracy: Estimate
    steps: float
    milliseconds: float
    synops: float

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Decisions:
        """From its named fields, as JSON has them."""
        return cls(**{**content, "accuracy": Estimate(**content["accuracy"])})


class Curve(NamedTuple):
    """Decisions along thresholds or fixed times [K].

    Attributes:
        accuracy: with standard errors.
        steps, milliseconds, synops: mean costs, rising.
    """

    accuracy: list[Estimate]
    steps: list[float]
    milliseconds: list[float]
    synops: list[float]

    def accuracy_at(self, cost: str, level: float) -> Estimate | None:
        """The accuracy, interpolated, where a cost has this level; None outside the curve.

        Args:
            cost: ``"steps"``, ``"milliseconds"`` or ``"synops"``.
            level: of the cost.
        """
        costs = np.asarray(getattr(self, cost))
        if not costs[0] <= level <= costs[-1] * (1 + 1e-9):
            return None
        columns = zip(*self.accuracy, strict=True)
        return Estimate(*(float(np.interp(level, costs, column)) for column in columns))


def mean_curve(seeds: Sequence[Sequence[Decisions]]) -> Curve:
    """The decisions of several seeds [seeds, K] as one curve, point by point, see `over_seeds`."""
    points = list(zip(*seeds, strict=True))
    return Curve(
        accuracy=[over_seeds([decisions.accuracy for decisions in point]) for point in points],
        steps=[float(np.mean([decisions.steps for decisions in point])) for point in points],
        milliseconds=[float(np.mean([decisions.milliseconds for decisions in point])) for point in points],
        synops=[float(np.mean([decisions.synops for decisions in point])) for point in points],
    )


def time_stepped_trace(readouts: np.ndarray, synops: np.ndarray, duration: float) -> ReadoutTrace:
    """The trace of a time-stepped run; the readout of a step is available at the end of its bin.

    Args:
        readouts: [T, classes], of each single step.
        synops: [T], of each single step.
        duration: of the recording in seconds.
    """
    time_steps = len(readouts)
    ends = np.arange(1, time_steps + 1) * duration / time_steps
    return ReadoutTrace(time_steps, ends, np.cumsum(readouts, axis=0, dtype=np.float64), np.cumsum(synops))


def event_driven_trace(result: Result, recording: np.ndarray, time_steps: int) -> ReadoutTrace:
    """The trace of an event-driven run: every instant at which the readout changes, every hundredth of the duration.

    Args:
        result: of a run with ``record="all"``.
        recording: the events of the run, ``t`` [us], ``x``, ``y``, ``p``.
        time_steps: T, the number of steps in training: the unit of the mean.

    Raises:
        InputError: as `Result.readout_at`.
    """
    seconds = np.union1d(readout_trace(result)[0], result.duration * np.linspace(0, 1, 101))
    train = input_spikes(recording, result.circuit.input_shape, result.duration)
    spikes = {result.circuit.input: Spikes(train.t, train.i, train.n), **result.spikes}
    spent = synops_until(seconds, spikes, result.circuit.fan_out)
    return ReadoutTrace(time_steps, seconds, result.readout_at(seconds), spent)


def synops_until(times: np.ndarray, spikes: Mapping[str, Spikes], fan_out: Mapping[str, np.ndarray]) -> np.ndarray:
    """Synaptic operations up to given times: every spike until then, that instant included, times its synapses.

    Args:
        times: seconds [K].
        spikes: of every source, the input included, sorted by time.
        fan_out: synapses per neuron by source name (`Circuit.fan_out`).

    Returns:
        float64 [K].
    """
    total = np.zeros(len(times))
    for name, train in spikes.items():
        operations = np.append(0, np.cumsum(train.n * fan_out[name][train.i]))
        total += operations[np.searchsorted(train.t, times, side="right")]
    return total


def exit_when_confident(
    traces: Sequence[ReadoutTrace], labels: ArrayLike, thresholds: Sequence[float], rule: ExitRule
) -> list[Decisions]:
    """Every recording is decided when its confidence first exceeds the threshold, or else at its end.

    Args:
        traces: of N recordings.
        labels: classes [N].
        thresholds: between 1 / classes (exit at the first evidence) and 1 (no early exit).
        rule: one of `RULES`.

    Returns:
        One entry per threshold.
    """
    confidences = [trace.confidence(rule) for trace in traces]
    return [
        _decisions([_first(confidence > threshold) for confidence in confidences], traces, labels)
        for threshold in thresholds
    ]


def stop_after(traces: Sequence[ReadoutTrace], labels: ArrayLike, fractions: Sequence[float]) -> list[Decisions]:
    """Every recording is decided after the same fraction of its duration: the baseline for early exit.

    Args:
        traces: of N recordings.
        labels: classes [N].
        fractions: k / T for step k in the time-stepped mode; multiples of 1 / 100 in the event-driven modes.

    Returns:
        One entry per fraction.
    """
    # A time may be the product of two roundings: half a nanosecond of tolerance affects nothing else.
    return [
        _decisions(
            [int(np.searchsorted(c.seconds, fraction * c.seconds[-1] + 5e-10, side="right")) - 1 for c in traces],
            traces,
            labels,
        )
        for fraction in fractions
    ]


def _first(reached: np.ndarray) -> int:
    """Index of the first True, or of the last entry."""
    return int(np.argmax(reached)) if reached.any() else len(reached) - 1


def _decisions(entries: Sequence[int], traces: Sequence[ReadoutTrace], labels: ArrayLike) -> Decisions:
    """The decision for trace k is made at its entry ``entries[k]``."""
    left = list(zip(traces, entries, strict=True))
    return Decisions(
        accuracy=accuracy(predictions([c.readouts[k] for c, k in left]), labels),
        steps=float(np.mean([c.steps[k] for c, k in left])),
        milliseconds=float(1e3 * np.mean([c.seconds[k] for c, k in left])),
        synops=float(np.mean([c.synops[k] for c, k in left])),
    )
