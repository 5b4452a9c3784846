"""Figures as pure functions: arrays in, matplotlib axes out.

Every function draws into ``ax`` and returns it; without one it makes its own through pyplot (so that a notebook shows
it). Functions that draw one line can be called again on the same axes to add another. Colours are Okabe and Ito's, for
colour-blind readers; lines also differ in dash and marker and bars in hatching, for print in grey.
Times come in seconds and are shown in milliseconds; accuracies come as fractions and are shown in per cent.

Names, labels and groups are drawn unchanged (`axes.literal`): ``$`` begins no formula.

Sizes, fonts and line widths are those of matplotlib's current style. The package's own, made for the column of a
paper, is one file and on request only: ``matplotlib.style.use(plotting.STYLE)``, or for one figure `figure`.
"""

from mtt_brian.plotting.accuracy import (
    accuracy_against,
    accuracy_bars,
    early_exit,
    time_step_sweep,
)
from mtt_brian.plotting.attribution import waterfall
from mtt_brian.plotting.matrices import change_matrix, confusion_matrix
from mtt_brian.plotting.neuron import membrane
from mtt_brian.plotting.panels import (
    AccuracyLine,
    AccuracyPanel,
    ModeRun,
    SweepCurve,
    accuracy_panels,
    loss_surfaces,
    raster_pair,
    sweep_panels,
)
from mtt_brian.plotting.predictions import accuracy_over_time, readout
from mtt_brian.plotting.recording import event_cloud, time_surface, time_surface_values
from mtt_brian.plotting.spikes import raster, rates, spike_time_differences
from mtt_brian.plotting.style import COLORS, ON_SCREEN, SCREEN, STYLE, figure
from mtt_brian.plotting.training import loss_line, loss_surface, training_curve

__all__ = [
    "COLORS",
    "ON_SCREEN",
    "SCREEN",
    "STYLE",
    "AccuracyLine",
    "AccuracyPanel",
    "ModeRun",
    "SweepCurve",
    "accuracy_against",
    "accuracy_bars",
    "accuracy_over_time",
    "accuracy_panels",
    "change_matrix",
    "confusion_matrix",
    "early_exit",
    "event_cloud",
    "figure",
    "loss_line",
    "loss_surface",
    "loss_surfaces",
    "membrane",
    "raster",
    "raster_pair",
    "rates",
    "readout",
    "spike_time_differences",
    "sweep_panels",
    "time_step_sweep",
    "time_surface",
    "time_surface_values",
    "training_curve",
    "waterfall",
]


def __dir__() -> list[str]:
    return sorted(__all__)
