"""Metrics and reports: how well a network answers, how much it spikes, and how far a time grid is from the truth."""

from mtt_brian.evaluate.accumulators import EventDrivenTally, TimeSteppedTally
from mtt_brian.evaluate.metrics import (
    Estimate,
    SpikeDifference,
    accuracy,
    accuracy_over_time,
    confusion_matrix,
    decision_time,
    predictions,
    readout_trace,
    spike_difference,
    synops,
)
from mtt_brian.evaluate.outputs import Answers, event_driven
from mtt_brian.evaluate.report import EventDriven, Report, RunReport, TimeStepped
from mtt_brian.evaluate.spike_times import SpikeTimeDifferences, spike_time_differences

__all__ = [
    "Answers",
    "Estimate",
    "EventDriven",
    "EventDrivenTally",
    "Report",
    "RunReport",
    "SpikeDifference",
    "SpikeTimeDifferences",
    "TimeStepped",
    "TimeSteppedTally",
    "accuracy",
    "accuracy_over_time",
    "confusion_matrix",
    "decision_time",
    "event_driven",
    "predictions",
    "readout_trace",
    "spike_difference",
    "spike_time_differences",
    "synops",
]


def __dir__() -> list[str]:
    return sorted(__all__)
