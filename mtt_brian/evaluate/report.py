"""The report of an evaluation: frozen numbers, written as JSON (a contract) and read back.

``report.json``; an *estimate* is ``{"value": x, "standard_error": s}``::

    {"dataset", "title", "split", "engine", "versions", "command", "date",
     "runs": [{"run", "method", "seed", "n_recordings", "network",
               "flexibility": {"value", "low", "high"},
               "time_stepped": {"1": estimate, "10": estimate, ...},
               "time_stepped_at_t_max": {"time_steps", "spikes_per_recording", "synops_per_recording",
                                         "milliseconds_per_recording"},
               "event_driven": {"order", "accuracy": estimate, "change": {"lost", "gained", "p"},
                                "spike_difference": {"<population>": x, ..., "output": x},
                                "synops_per_recording", "milliseconds_per_recording", "compile_seconds",
                                "spikes_per_recording": {"<population>": n, ...},
                                "accuracy_over_time": {"seconds": [...], "accuracy": [...]},
                                "median_decision_seconds", "confusion_matrix": [[...], ...]},
               "event_driven_fifo": the same, where both conventions were run}]}

Accuracies lie between 0 and 1. JSON has no infinity: a spike difference against a silent reference, and a decision
time where no prediction was correct, are ``null``. So is the flexibility score (`evaluate.flexibility`) if not all of
its numbers of time steps were run. Reports of earlier versions have no date, no network, no flexibility score and no
change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtt_brian.engines.base import ORDERS, Order
from mtt_brian.errors import InputError
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.sign_test import SignTest
from mtt_brian.evaluate.temporal_flexibility import Flexibility
from mtt_brian.files import plain
from mtt_brian.text import one_line, shown


@dataclass(frozen=True, eq=False)
class TimeStepped:
    """The time-stepped results of a network.

    Attributes:
        time_steps: T_max, where spikes and synaptic operations are counted.
        accuracy: by number of time steps.
        spikes_per_recording: mean number of spikes by population, the input included, at T_max.
        synops_per_recording: mean synaptic operations at T_max.
        milliseconds_per_recording: wall time at T_max.
    """

    time_steps: int
    accuracy: Mapping[int, Estimate]
    spikes_per_recording: Mapping[str, float]
    synops_per_recording: float
    milliseconds_per_recording: float


@dataclass(frozen=True, eq=False)
class EventDriven:
    """The event-driven results of a network.

    Attributes:
        order: ``"sum"`` (jumps of one instant are summed) or ``"fifo"`` (each event alone, as on event-driven chips).
        accuracy: at the end of the recordings.
        spike_difference: of the time-stepped run at T_max from this one, by population and for ``"output"``.
        spikes_per_recording: mean number of spikes by population, the input included.
        synops_per_recording: mean synaptic operations.
        milliseconds_per_recording: wall time of the simulation, compilation excluded.
        compile_seconds: building and compiling the engine.
        times: seconds [K].
        accuracy_over_time: fraction of correct predictions at each of ``times`` [K].
        median_decision_time: seconds after which the prediction is correct and no longer changes, over the correctly
            predicted recordings in which the readouts of the classes come to differ; inf if there is none.
        confusion_matrix: int64 [classes, classes], rows are the truth.
        change: recordings lost and gained, from the time-stepped predictions at T_max; None if not known.
    """

    order: Order
    accuracy: Estimate
    spike_difference: Mapping[str, float]
    spikes_per_recording: Mapping[str, float]
    synops_per_recording: float
    milliseconds_per_recording: float
    compile_seconds: float
    times: np.ndarray
    accuracy_over_time: np.ndarray
    median_decision_time: float
    confusion_matrix: np.ndarray
    change: SignTest | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "order": self.order,
            "accuracy": plain(self.accuracy),
            "change": None if self.change is None else self.change._asdict(),
            "spike_difference": {name: _finite(value) for name, value in self.spike_difference.items()},
            "synops_per_recording": self.synops_per_recording,
            "milliseconds_per_recording": self.milliseconds_per_recording,
            "compile_seconds": self.compile_seconds,
            "spikes_per_recording": dict(self.spikes_per_recording),
            "accuracy_over_time": {"seconds": self.times.tolist(), "accuracy": self.accuracy_over_time.tolist()},
            "median_decision_seconds": _finite(self.median_decision_time),
            "confusion_matrix": self.confusion_matrix.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> EventDriven:
        """From the result of `to_dict`."""
        if content["order"] not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {shown(content['order'])}")
        over_time = content["accuracy_over_time"]
        return cls(
            order=content["order"],
            accuracy=Estimate(**content["accuracy"]),
            spike_difference={name: _or_infinity(value) for name, value in content["spike_difference"].items()},
            spikes_per_recording=content["spikes_per_recording"],
            synops_per_recording=content["synops_per_recording"],
            milliseconds_per_recording=content["milliseconds_per_recording"],
            compile_seconds=content["compile_seconds"],
            times=np.asarray(over_time["seconds"], dtype=np.float64),
            accuracy_over_time=np.asarray(over_time["accuracy"], dtype=np.float64),
            median_decision_time=_or_infinity(content["median_decision_seconds"]),
            confusion_matrix=np.asarray(content["confusion_matrix"], dtype=np.int64),
            change=None if content.get("change") is None else SignTest(**content["change"]),
        )


@dataclass(frozen=True, eq=False)
class RunReport:
    """The results of one trained network.

    Attributes:
        run: name of the run folder.
        method: ``"sdt"``, ``"nmt"`` or ``"mtt"``.
        seed: of its training, or None if not known.
        n_recordings: number of evaluated recordings.
        time_stepped: its time-stepped results.
        event_driven: one entry per convention; the first is written under the contract's ``event_driven`` key.
        network: its model, such as ``"nmnist_3c1fc"``.
        flexibility: its temporal flexibility score, with the first convention; None if a number of time steps of the
            score was not run.
    """

    run: str
    method: str
    seed: int | None
    n_recordings: int
    time_stepped: TimeStepped
    event_driven: tuple[EventDriven, ...]
    network: str = ""
    flexibility: Flexibility | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        stepped = self.time_stepped
        first, *others = self.event_driven
        return {
            "run": self.run,
            "method": self.method,
            "seed": self.seed,
            "n_recordings": self.n_recordings,
            "network": self.network,
            "flexibility": None if self.flexibility is None else self.flexibility._asdict(),
            "time_stepped": {str(t): plain(accuracy) for t, accuracy in stepped.accuracy.items()},
            "time_stepped_at_t_max": {
                "time_steps": stepped.time_steps,
                "spikes_per_recording": dict(stepped.spikes_per_recording),
                "synops_per_recording": stepped.synops_per_recording,
                "milliseconds_per_recording": stepped.milliseconds_per_recording,
            },
            "event_driven": first.to_dict(),
            **{f"event_driven_{other.order}": other.to_dict() for other in others},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunReport:
        """From the result of `to_dict`."""
        accuracy = {int(t): Estimate(**estimate) for t, estimate in content["time_stepped"].items()}
        others = [content[key] for order in ORDERS if (key := f"event_driven_{order}") in content]
        return cls(
            run=content["run"],
            method=content["method"],
            seed=content["seed"],
            n_recordings=content["n_recordings"],
            time_stepped=TimeStepped(accuracy=accuracy, **content["time_stepped_at_t_max"]),
            event_driven=tuple(map(EventDriven.from_dict, [content["event_driven"], *others])),
            network=str(content.get("network", "")),
            flexibility=None if content.get("flexibility") is None else Flexibility(**content["flexibility"]),
        )


@dataclass(frozen=True, eq=False)
class Report:
    """Several networks evaluated on the same recordings.

    Attributes:
        dataset, split: the evaluated data; ``title`` is their display name ("digits (simulated event camera)").
        engine: the event-driven engine.
        versions: of Python and of the packages involved.
        command: the command line.
        runs: the networks.
        date: on which it was finished, such as ``"2026-11-26"``.
    """

    dataset: str
    split: str
    engine: str
    versions: Mapping[str, str]
    command: str
    title: str
    runs: tuple[RunReport, ...]
    date: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``, as in the description of this module."""
        return {
            "dataset": self.dataset,
            "title": self.title,
            "split": self.split,
            "engine": self.engine,
            "versions": dict(self.versions),
            "command": self.command,
            "date": self.date,
            "runs": [run.to_dict() for run in self.runs],
        }

    def json(self) -> str:
        """The text of ``report.json``."""
        # allow_nan=False: a NaN would make a file that other JSON readers refuse.
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report from the text that `json` returned.

        Raises:
            InputError: if the text is not such a report; it names what is missing or wrong.
        """
        try:
            content = json.loads(text)
            fields = {name: content[name] for name in ("dataset", "title", "split", "engine", "versions", "command")}
            runs = tuple(map(RunReport.from_dict, content["runs"]))
            return cls(runs=runs, date=str(content.get("date", "")), **fields)
        except KeyError as error:
            raise InputError(f"not the report of an evaluation: no {error}") from None
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise InputError(f"not the report of an evaluation: {one_line(error)}") from None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else value
