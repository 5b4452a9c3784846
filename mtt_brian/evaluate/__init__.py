"""Metrics and reports: accuracy, spikes, synaptic operations, and the difference that time steps make."""

from mtt_brian.evaluate.accumulators import EventDrivenAccumulator, TimeSteppedAccumulator
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
from mtt_brian.evaluate.outputs import Predictions, predict_event_driven
from mtt_brian.evaluate.report import EventDriven, Report, RunReport, TimeStepped
from mtt_brian.evaluate.report_tables import write_report
from mtt_brian.evaluate.report_verdict import verdict
from mtt_brian.evaluate.spike_times import SpikeComparison, SpikeTimeDifferences, compare_spikes, spike_time_differences
from mtt_brian.evaluate.temporal_flexibility import Flexibility, flexibility

__all__ = [
    "Estimate",
    "EventDriven",
    "EventDrivenAccumulator",
    "Flexibility",
    "Predictions",
    "Report",
    "RunReport",
    "SpikeComparison",
    "SpikeDifference",
    "SpikeTimeDifferences",
    "TimeStepped",
    "TimeSteppedAccumulator",
    "accuracy",
    "accuracy_over_time",
    "compare_spikes",
    "confusion_matrix",
    "decision_time",
    "flexibility",
    "predict_event_driven",
    "predictions",
    "readout_trace",
    "spike_difference",
    "spike_time_differences",
    "synops",
    "verdict",
    "write_report",
]


def __dir__() -> list[str]:
    return sorted(__all__)
