"""The report of an evaluation: frozen numbers, written as JSON (a contract), Markdown and PNG captions.

``report.json``::

    {"dataset", "split", "engine", "versions", "command",
     "runs": [{"run", "method", "seed", "n_recordings",
               "time_stepped": {"1": accuracy, "10": accuracy, ...},
               "time_stepped_standard_error": {"1": ..., ...},
               "time_stepped_at_t_max": {"time_steps", "spikes_per_recording", "synops_per_recording",
                                         "milliseconds_per_recording"},
               "event_driven": {"order", "accuracy", "standard_error",
                                "spike_difference": {"<population>": x, ..., "output": x},
                                "synops_per_recording", "milliseconds_per_recording", "compile_seconds",
                                "spikes_per_recording": {"<population>": n, ...},
                                "accuracy_over_time": {"seconds": [...], "accuracy": [...]},
                                "median_decision_seconds", "confusion_matrix": [[...], ...]},
               "event_driven_fifo": the same, where both conventions were run}]}

Accuracies lie between 0 and 1. JSON has no infinity: a spike difference against a silent reference, and a decision
time where no answer was right, are ``null``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.tables import code_block, markdown, markdown_table, number, percent
from mtt_brian.files import write_text


@dataclass(frozen=True, eq=False)
class TimeStepped:
    """A network on a time grid.

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
    """The same network in continuous time.

    Attributes:
        order: ``"sum"`` (jumps of one instant are summed) or ``"fifo"`` (each event alone, as event-driven chips do).
        accuracy: at the end of the recordings.
        spike_difference: of the time-stepped run at T_max from this one, by population and for ``"output"``.
        spikes_per_recording: mean number of spikes by population, the input included.
        synops_per_recording: mean synaptic operations.
        milliseconds_per_recording: wall time of the simulation, compilation excluded.
        compile_seconds: building and compiling the engine.
        times: seconds [K].
        accuracy_over_time: fraction right at each of ``times`` [K].
        median_decision_time: seconds after which a right answer stood for good, over the recordings answered right;
            inf if there is none.
        confusion_matrix: int64 [classes, classes], rows are the truth.
    """

    order: str
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "order": self.order,
            "accuracy": self.accuracy.value,
            "standard_error": self.accuracy.standard_error,
            "spike_difference": {name: _finite(value) for name, value in self.spike_difference.items()},
            "synops_per_recording": self.synops_per_recording,
            "milliseconds_per_recording": self.milliseconds_per_recording,
            "compile_seconds": self.compile_seconds,
            "spikes_per_recording": dict(self.spikes_per_recording),
            "accuracy_over_time": {"seconds": self.times.tolist(), "accuracy": self.accuracy_over_time.tolist()},
            "median_decision_seconds": _finite(self.median_decision_time),
            "confusion_matrix": self.confusion_matrix.tolist(),
        }


@dataclass(frozen=True, eq=False)
class RunReport:
    """One trained network.

    Attributes:
        run: name of the run folder.
        method: ``"sdt"``, ``"nmt"`` or ``"mtt"``.
        seed: of its training, or None if not known.
        n_recordings: how many were evaluated.
        time_stepped: on time grids.
        event_driven: one entry per convention; the first is the one the contract's ``event_driven`` key shows.
    """

    run: str
    method: str
    seed: int | None
    n_recordings: int
    time_stepped: TimeStepped
    event_driven: tuple[EventDriven, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        stepped = self.time_stepped
        first, *others = self.event_driven
        return {
            "run": self.run,
            "method": self.method,
            "seed": self.seed,
            "n_recordings": self.n_recordings,
            "time_stepped": {str(t): a.value for t, a in stepped.accuracy.items()},
            "time_stepped_standard_error": {str(t): a.standard_error for t, a in stepped.accuracy.items()},
            "time_stepped_at_t_max": {
                "time_steps": stepped.time_steps,
                "spikes_per_recording": dict(stepped.spikes_per_recording),
                "synops_per_recording": stepped.synops_per_recording,
                "milliseconds_per_recording": stepped.milliseconds_per_recording,
            },
            "event_driven": first.to_dict(),
            **{f"event_driven_{other.order}": other.to_dict() for other in others},
        }


@dataclass(frozen=True, eq=False)
class Report:
    """Runs held against each other on the same recordings.

    Attributes:
        dataset, split: what was evaluated; ``title`` says it in words ("digits (simulated event camera)").
        engine: the event-driven engine.
        versions: of Python and of the packages involved.
        command: what was typed.
        runs: side by side.
    """

    dataset: str
    split: str
    engine: str
    versions: Mapping[str, str]
    command: str
    title: str
    runs: tuple[RunReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``, as the module describes it."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "engine": self.engine,
            "versions": dict(self.versions),
            "command": self.command,
            "runs": [run.to_dict() for run in self.runs],
        }

    def json(self) -> str:
        """The text of ``report.json``."""
        # allow_nan=False: a NaN would make a file that other JSON readers refuse.
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def table(self) -> str:
        """The runs side by side as a Markdown table, accuracies with their standard errors."""
        grids = sorted({t for run in self.runs for t in run.time_stepped.accuracy})
        columns = [_column(run, grids) for run in self.runs]
        titles = dict.fromkeys(title for column in columns for title in column)
        header = ["", *(markdown(f"{run.run} ({run.method})") for run in self.runs)]
        return markdown_table([header, *([title, *(c.get(title, "-") for c in columns)] for title in titles)])

    def markdown(self) -> str:
        """The content of ``report.md``."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return "\n".join(
            [
                f"# Event-driven evaluation: {markdown(f'{self.title}, {self.split}')}",
                "",
                self.table(),
                "",
                "Accuracies with their binomial standard error sqrt(p (1 - p) / n); seeds vary on top of it.",
                "`sum`: jumps of one instant are summed and applied once. `fifo`: each event alone, one spike per",
                "neuron and event, as event-driven chips do. Spike difference: sum |s0 - s| / sum s0 with s0 the",
                "event-driven and s the time-stepped counts at T_max (of the values of a readout without spikes).",
                "",
                f"Engine `{self.engine}`. {versions}.",
                "",
                code_block(self.command),
                "",
            ]
        )

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``report.json`` and ``report.md`` into ``folder``, each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "report.json", self.json())
        write_text(folder / "report.md", self.markdown())


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _column(run: RunReport, grids: Sequence[int]) -> dict[str, str]:
    """One run's cells by row title; ``grids`` are the rows of all runs, so that they line up."""
    stepped = run.time_stepped
    cells = {"recordings": str(run.n_recordings), "T_max": str(stepped.time_steps)}
    for t in grids:
        cells[f"accuracy, time-stepped, T = {t}"] = (
            f"{percent(stepped.accuracy[t])} %" if t in stepped.accuracy else "-"
        )
    for run_as in run.event_driven:
        cells[f"**accuracy, event-driven, `{run_as.order}`**"] = f"**{percent(run_as.accuracy)} %**"
    for run_as in run.event_driven:
        for name, value in run_as.spike_difference.items():
            cells[f"spike difference of T_max from `{run_as.order}`: {markdown(name)}"] = f"{100 * value:.1f} %"
    for title, attribute in (("SynOps", "synops_per_recording"), ("milliseconds", "milliseconds_per_recording")):
        cells[f"{title} per recording, time-stepped, T_max"] = number(getattr(stepped, attribute))
        for run_as in run.event_driven:
            cells[f"{title} per recording, event-driven, `{run_as.order}`"] = number(getattr(run_as, attribute))
    for run_as in run.event_driven:
        cells[f"median decision time, `{run_as.order}`"] = f"{1e3 * run_as.median_decision_time:.1f} ms"
    return cells
