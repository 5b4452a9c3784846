"""Accumulators over recordings, so that a long evaluation stores numbers and not spikes.

As in torchmetrics, an accumulator adds recordings, returns its state, merges the states of others (of other processes,
or of an earlier run), and computes the result. Values that depend on the order of a sum are stored per recording and
summed at the end; all other values are whole numbers. States that are merged in the order of the recordings therefore
give the same bits as one accumulator of all recordings. Times are summed in the order of merging.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.engines.base import ORDERS, Order
from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError, check_array
from mtt_brian.evaluate.metrics import (
    Estimate,
    SpikeDifference,
    accuracy,
    confusion_matrix,
    decision_time,
    fraction,
    predictions,
    readout_trace,
)
from mtt_brian.evaluate.report import EventDriven, TimeStepped
from mtt_brian.evaluate.sign_test import sign_test
from mtt_brian.text import listed, shown


class TimeSteppedAccumulator:
    """A time-stepped network at several numbers of time steps.

    Args:
        time_steps: the T at which spikes and synaptic operations are counted (T_max).
    """

    def __init__(self, time_steps: int) -> None:
        self._time_steps = time_steps
        self._correct: dict[int, list[bool]] = {}
        self._synops: list[float] = []
        self._spikes: dict[str, float] = {}
        self._seconds = 0.0

    def add_correct(self, time_steps: int, correct: np.ndarray) -> None:
        """Add N recordings at one T: bool [N], which predictions are correct."""
        self._correct.setdefault(time_steps, []).extend(map(bool, correct))

    def add_spikes(self, counts: Mapping[str, np.ndarray], synops: np.ndarray, seconds: float) -> None:
        """Add the spikes of N recordings at T_max.

        Args:
            counts: by population, the input included: [N, ...].
            synops: synaptic operations [N].
            seconds: wall time of all N together.
        """
        self._synops.extend(map(float, synops))
        _add_up(self._spikes, {name: _number(count) for name, count in counts.items()})
        self._seconds += seconds

    @property
    def correct(self) -> dict[int, np.ndarray]:
        """Which predictions are correct, by T: bool [N]."""
        return {t: np.array(correct, dtype=bool) for t, correct in self._correct.items()}

    def state_dict(self) -> dict[str, Any]:
        """The state of the accumulator, JSON-able."""
        return {
            "correct": {str(t): list(map(int, correct)) for t, correct in self._correct.items()},
            "synops": list(self._synops),
            "spikes": dict(self._spikes),
            "seconds": self._seconds,
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the recordings of another accumulator, given by its `state_dict`, after those already added."""
        for t, correct in state["correct"].items():
            self.add_correct(int(t), correct)
        self._synops.extend(state["synops"])
        _add_up(self._spikes, state["spikes"])
        self._seconds += state["seconds"]

    def compute(self) -> TimeStepped:
        """The result of all recordings.

        Raises:
            InputError: if no spikes were added.
        """
        n = len(self._synops)
        if not n:
            raise InputError("no accuracy without a recording")
        return TimeStepped(
            time_steps=self._time_steps,
            accuracy={t: _fraction(self._correct[t]) for t in sorted(self._correct)},
            spikes_per_recording={name: total / n for name, total in self._spikes.items()},
            synops_per_recording=float(np.mean(self._synops)),
            milliseconds_per_recording=1e3 * self._seconds / n,
        )


class EventDrivenAccumulator:
    """Event-driven runs under one convention.

    Args:
        times: seconds [K] at which the accuracy over time is read.
        order: ``"sum"`` or ``"fifo"``, see `EventDriven.order`.

    Attributes:
        compile_seconds: time to build the engine, not part of the runs; set by the caller. For merged states the
            longest, because their processes build engines at the same time.
    """

    def __init__(self, times: np.ndarray, order: Order) -> None:
        self._times = check_array("times", times).astype(np.float64)
        if order not in ORDERS or self._times.ndim != 1:
            raise InputError(
                f"an accumulator needs times [K] and an order, {listed(ORDERS)}, not {shown((times, order))}"
            )
        self._order = order
        self.compile_seconds = 0.0
        self._labels: list[int] = []
        self._predicted: list[int] = []
        self._correct_at = np.zeros(self._times.shape, dtype=np.int64)
        self._decision_times: list[float] = []
        self._differences: dict[str, list[tuple[float, float]]] = {}
        self._spikes: dict[str, float] = {}
        self._synops = 0
        self._seconds = 0.0
        self._classes = 0

    def add(
        self,
        result: Result,
        label: int,
        counts: Mapping[str, np.ndarray],
        readout: np.ndarray,
        seconds: float,
    ) -> None:
        """Add one recording.

        Args:
            result: its event-driven run, with the spikes of the populations that feed the readout.
            label: its class.
            counts: spikes per neuron of the time-stepped run, by population, to compare with the event-driven ones.
            readout: the time-stepped readout **summed** over its steps [classes].
            seconds: wall time of the event-driven run.

        Raises:
            InputError: if the two runs do not have the same populations.
        """
        populations = [p.name for p in result.circuit.populations if p.rule.fires]
        missing = [name for name in populations if name not in counts]
        if missing:
            raise InputError(f"the time-stepped run has no counts for {', '.join(map(repr, missing))}")
        for name in populations:
            shape = result.circuit.population[name].shape
            self._add_difference(name, result.counts[name], np.reshape(counts[name], shape))
        self._add_difference("output", np.ravel(result.readout), np.ravel(readout))

        times, readouts = readout_trace(result)
        self._decision_times.append(decision_time(times, readouts, label))
        self._correct_at += predictions(result.readout_at(self._times)) == label
        self._labels.append(label)
        self._predicted.append(int(predictions(np.ravel(result.readout))))
        self._classes = result.circuit.readout.size
        _add_up(self._spikes, {name: _number(count) for name, count in result.counts.items()})
        self._synops += result.synops
        self._seconds += seconds

    def _add_difference(self, name: str, reference: np.ndarray, counts: np.ndarray) -> None:
        one = SpikeDifference()
        one.add(reference, counts)
        self._differences.setdefault(name, []).append((one.difference, one.reference))

    @property
    def correct(self) -> np.ndarray:
        """Which predictions are correct, bool [N]."""
        return np.equal(self._predicted, self._labels)

    def state_dict(self) -> dict[str, Any]:
        """The state of the accumulator, JSON-able; None for a recording whose final prediction is wrong."""
        return {
            "compile_seconds": self.compile_seconds,
            "labels": self._labels,
            "predicted": self._predicted,
            "correct_at": self._correct_at.tolist(),
            "decision_times": [t if math.isfinite(t) else None for t in self._decision_times],
            "differences": {name: [list(pair) for pair in pairs] for name, pairs in self._differences.items()},
            "spikes": self._spikes,
            "synops": self._synops,
            "seconds": self._seconds,
            "classes": self._classes,
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the recordings of another accumulator, given by its `state_dict`, after those already added."""
        self.compile_seconds = max(self.compile_seconds, state["compile_seconds"])
        self._labels.extend(state["labels"])
        self._predicted.extend(state["predicted"])
        self._correct_at += state["correct_at"]
        self._decision_times.extend(math.inf if t is None else t for t in state["decision_times"])
        for name, pairs in state["differences"].items():
            self._differences.setdefault(name, []).extend((difference, reference) for difference, reference in pairs)
        _add_up(self._spikes, state["spikes"])
        self._synops += state["synops"]
        self._seconds += state["seconds"]
        self._classes = state["classes"]

    def compute(self, time_stepped: ArrayLike | None = None) -> EventDriven:
        """The result of all recordings.

        Args:
            time_stepped: which predictions are correct on time steps, bool [N], for `EventDriven.change`.

        Raises:
            InputError: if nothing was added, or for another number of predictions.
        """
        n = len(self._labels)
        decided = [t for t in self._decision_times if np.isfinite(t)]
        return EventDriven(
            order=self._order,
            accuracy=accuracy(self._predicted, self._labels),
            spike_difference={name: _summed(pairs).value for name, pairs in self._differences.items()},
            spikes_per_recording={name: total / n for name, total in self._spikes.items()},
            synops_per_recording=self._synops / n,
            milliseconds_per_recording=1e3 * self._seconds / n,
            compile_seconds=self.compile_seconds,
            times=self._times,
            accuracy_over_time=self._correct_at / n,
            median_decision_time=float(np.median(decided)) if decided else float("inf"),
            confusion_matrix=confusion_matrix(self._predicted, self._labels, self._classes),
            change=None if time_stepped is None else sign_test(time_stepped, self.correct),
        )


def _number(spikes: np.ndarray) -> float:
    """Sum of the counts in float64: counts of a time-stepped run are float32, in which a large sum would be rounded."""
    return float(np.sum(spikes, dtype=np.float64))


def _add_up(totals: dict[str, float], more: Mapping[str, float]) -> None:
    for name, number in more.items():
        totals[name] = totals.get(name, 0.0) + number


def _summed(pairs: list[tuple[float, float]]) -> SpikeDifference:
    total = SpikeDifference()
    for difference, reference in pairs:
        total.difference += difference
        total.reference += reference
    return total


def _fraction(correct: list[bool]) -> Estimate:
    return fraction(np.asarray(correct, dtype=bool))
