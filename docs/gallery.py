"""Draws the thumbnails of gallery.md, which shows this code beside them: python docs/gallery.py"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# --8<-- [start:setup]
import numpy as np

import mtt_brian as mb
from mtt_brian import plotting
from mtt_brian.circuit.spikes import input_spikes
from mtt_brian.cli.demo import DATA
from mtt_brian.engines.exact.trace import membrane_trace
from mtt_brian.evaluate import Estimate

recording = mb.events.read(DATA / "digit-0.npz")
stepped = mb.events.on_time_steps(recording, 10, (2, 34, 34))
simulator = mb.Simulator(DATA / "sdt.nir", record="all")
time_stepped, event_driven = simulator.run([stepped, recording])
# --8<-- [end:setup]

FOLDER = Path(__file__).parent / "gallery"


@contextmanager
def thumbnail(name: str, **options: str) -> Iterator[Any]:
    """Axes of a small figure."""
    with plotting.figure(FOLDER / f"{name}.png", (3.6, 2.6), {"savefig.dpi": 110}) as figure:
        yield figure.add_subplot(**options)


def main() -> None:
    """Write all thumbnails."""
    FOLDER.mkdir(exist_ok=True)

    with thumbnail("event_cloud", projection="3d") as ax:
        # --8<-- [start:event_cloud]
        plotting.event_cloud(recording, ax=ax)
        # --8<-- [end:event_cloud]

    with thumbnail("time_surface") as ax:
        # --8<-- [start:time_surface]
        plotting.time_surface(recording, time=0.080, tau=0.020, ax=ax)
        # --8<-- [end:time_surface]

    with thumbnail("raster") as ax:
        # --8<-- [start:raster]
        plotting.raster(event_driven, recording=recording, ax=ax)
        # --8<-- [end:raster]

    with thumbnail("rates") as ax:
        # --8<-- [start:rates]
        plotting.rates(event_driven, bin_width=0.010, ax=ax)
        # --8<-- [end:rates]

    with thumbnail("readout") as ax:
        # --8<-- [start:readout]
        times, values = mb.evaluate.readout_trace(event_driven)
        plotting.readout(times, values, label=0, ax=ax)
        # --8<-- [end:readout]

    with thumbnail("membrane") as ax:
        # --8<-- [start:membrane]
        circuit, neuron = simulator.circuit, 1943
        arriving = input_spikes(recording, circuit.input_shape)
        jumps = circuit.connections[0].matrix[[neuron]].toarray().ravel()[arriving.i]
        trace = membrane_trace(circuit.populations[0].rule, arriving.t[jumps != 0], jumps[jumps != 0], 0.3)
        plotting.membrane(trace, ax=ax)
        # --8<-- [end:membrane]

    with thumbnail("spike_time_differences") as ax:
        # --8<-- [start:spike_time_differences]
        plotting.spike_time_differences(event_driven, time_stepped, limit=0.05, ax=ax)
        # --8<-- [end:spike_time_differences]

    with thumbnail("confusion_matrix") as ax:
        # --8<-- [start:confusion_matrix]
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 5, 100)
        predicted = np.where(rng.random(100) < 0.8, labels, rng.integers(0, 5, 100))
        plotting.confusion_matrix(mb.evaluate.confusion_matrix(predicted, labels, 5), ax=ax)
        # --8<-- [end:confusion_matrix]

    with thumbnail("accuracy_bars") as ax:
        # --8<-- [start:accuracy_bars]
        bars = {
            "SDT": [Estimate(0.972, 0.009), Estimate(0.777, 0.022)],
            "MTT": [Estimate(0.961, 0.01), Estimate(0.82, 0.02)],
        }
        plotting.accuracy_bars(["time-stepped", "event-driven"], bars, ax=ax)
        # --8<-- [end:accuracy_bars]

    with thumbnail("waterfall") as ax:
        # --8<-- [start:waterfall]
        values = [Estimate(0.956, 0.01), Estimate(0.798, 0.03), Estimate(0.778, 0.03)]
        changes = [Estimate(-0.158, 0.03), Estimate(-0.020, 0.01)]
        plotting.waterfall(["time-stepped", "instants", "single events"], values, changes, ax=ax)
        # --8<-- [end:waterfall]


if __name__ == "__main__":
    main()
