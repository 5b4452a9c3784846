"""Arguments of the plotting functions: whatever is given is drawn, or refused in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mtt_brian import events, plotting
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate

HALF = Estimate(0.5, 0.1)
TRAINS = {"a": Spikes(np.array([0.001, 0.002]), np.array([0, 1]), np.array([1, 2]))}
RECORDING = events.make_recording([1, 2, 3], [0, 1, 0], [0, 0, 1], [0, 1, 0])
METRICS = [{"epoch": 1, "loss": 1.0, "train_accuracy": 0.5}, {"epoch": 2, "loss": None, "train_accuracy": 0.6}]
RIGHT: dict[Callable[..., Any], dict[str, Any]] = {
    plotting.accuracy_against: {"levels": [1, "b"], "accuracy": [HALF, HALF]},
    plotting.accuracy_bars: {"groups": ["a", "b"], "series": {"x": [HALF, None]}},
    plotting.accuracy_over_time: {"times": [0, 1], "accuracy": [0.5, 0.6]},
    plotting.change_matrix: {"names": ["a", "b"], "accuracy": np.eye(2)},
    plotting.confusion_matrix: {"matrix": np.eye(2, dtype=int)},
    plotting.early_exit: {"cost": [1, 2], "accuracy": [HALF, HALF], "name": "n"},
    plotting.event_cloud: {"recording": RECORDING},
    plotting.loss_line: {"offsets": [0, 1], "losses": [[1.0, 2.0]]},
    plotting.loss_surface: {"offsets": [0, 1], "losses": [[1.0, 2.0], [2.0, 3.0]], "levels": [1, 2]},
    plotting.raster: {"spikes": TRAINS},
    plotting.rates: {"spikes": TRAINS, "sizes": {"a": 2}},
    plotting.readout: {"times": [0, 1], "values": [[1, 2], [3, 4]]},
    plotting.spike_time_differences: {"first": TRAINS, "second": TRAINS},
    plotting.time_step_sweep: {"time_steps": [1, 2], "accuracy": [HALF, HALF]},
    plotting.time_surface: {"recording": RECORDING},
    plotting.time_surface_values: {"recording": RECORDING, "sensor_size": (2, 2, 2), "time": 1.0, "tau": 1.0},
    plotting.training_curve: {"metrics": METRICS},
    plotting.waterfall: {"names": ["a", "b"], "values": [HALF, HALF], "changes": [HALF]},
}
STRANGE = (
    None,
    3,
    1.5,
    10**30,
    "x",
    [],
    [None],
    {"a": 1},
    object(),
    np.ones((2, 2)),
    np.array("x"),
    np.array([1j, 2j]),
)


def test_every_function_is_in_the_table() -> None:
    functions = {
        value for name, value in vars(plotting).items() if inspect.isfunction(value) and name in plotting.__all__
    }
    of_figures = {
        *(
            plotting.accuracy_panels,
            plotting.figure,
            plotting.loss_surfaces,
            plotting.raster_pair,
            plotting.sweep_panels,
        )
    }
    assert functions - of_figures - {plotting.membrane} == set(RIGHT)


@pytest.mark.filterwarnings("ignore:.*[Ll]og.scale")
@pytest.mark.parametrize("draw", RIGHT, ids=lambda draw: draw.__name__)
def test_wrong_arguments(draw: Callable[..., Any]) -> None:
    """Raw exceptions of numpy and matplotlib did not name the argument."""
    figure, lines = Figure(), []
    for name in inspect.signature(draw).parameters:
        for value in STRANGE:
            figure.clear()
            projection = {"projection": "3d"} if draw is plotting.event_cloud else {}
            ax = {} if draw is plotting.time_surface_values else {"ax": figure.add_subplot(**projection)}
            try:
                draw(**{**RIGHT[draw], **ax, **({} if (name, value is None) == ("ax", True) else {name: value})})
            except InputError as error:
                lines.append(len(str(error).splitlines()))
    assert set(lines) == {1}


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plotting.raster(TRAINS, ax=np.array([1, 2])), r"ax must be of the class Axes, not array\(\[1, 2\]\)"),
        (lambda: plotting.raster(TRAINS, sizes={"a": 1.5}), r"sizes\['a'\] must be a whole number, not 1\.5"),
        (
            lambda: plotting.raster(TRAINS, highlight={"a": [0.7]}),
            r"highlight\['a'\] must be indices of neurons, not \[0\.7\]",
        ),
        (lambda: plotting.membrane(None), "trace must be of the class MembraneTrace, not None"),
        (lambda: plotting.sweep_panels(Figure(), [], ""), "curves must be at least one, and the list is empty"),
        (lambda: plotting.accuracy_panels(Figure(), [], ""), "panels must be at least one, and the list is empty"),
        (lambda: plotting.raster_pair(None, [], 0), "figure must be of the class FigureBase, not None"),
        (lambda: plotting.loss_surfaces(Figure(), [0, 1], 3, ""), "rows must be a list, not 3"),
    ],
)
def test_what_is_accepted_is_named(draw: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw()
