"""Draws the figures of the documentation that need no large runs: python docs/figures.py

time_step_sweep.png and bounds.png from the tables of RESULTS.md, with the studies' plotting functions; raster.png from
the networks of `mtt-brian demo`. The others (dynamic_inference.png, robustness.png) are copied from the studies' own
results, as they need more numbers than RESULTS.md holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mtt_brian import events, plotting
from mtt_brian.engines import Simulator
from mtt_brian.evaluate import Estimate, readout_trace
from mtt_brian.plotting import AccuracyLine, AccuracyPanel, ModeRun, SweepCurve
from mtt_brian.plotting.axes import spelled_out

DOCS = Path(__file__).parent
DATA = "N-MNIST, 150 recordings, 3 seeds"
BOUND_DATA = "N-MNIST, 170 validation and 150 test recordings, 3 seeds"
DEMO = DOCS.parent / "mtt_brian" / "demo_data"
#: So that a figure on a page is not larger than it has to be.
DPI = 200
_ESTIMATE = re.compile(r"(\d+\.\d) ± (\d+\.\d)")


def table(first_heading: str) -> list[dict[str, str]]:
    """The rows of the table of RESULTS.md whose headings contain this one, by heading."""
    lines = (DOCS.parent / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("|") and first_heading in line)
    headings, rows = _cells(lines[start]), []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(headings, _cells(line), strict=True)))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("*", "").replace("`", "") for cell in line.strip("|").split("|")]


def estimates(text: str) -> list[Estimate]:
    """All accuracies in a cell, from per cent."""
    return [Estimate(float(value) / 100, float(error) / 100) for value, error in _ESTIMATE.findall(text)]


def sweep_curves() -> Iterator[SweepCurve]:
    """One for every method."""
    for row in table("T = 200 minus"):
        steps = [heading for heading in row if re.fullmatch(r"T = \d+", heading)]
        (event_driven,) = estimates(row["event-driven, sum"])
        stepped = [estimate for heading in steps for estimate in estimates(row[heading])]
        numbers = [int(heading.removeprefix("T = ")) for heading in steps]
        yield SweepCurve(spelled_out(row[""].lower()), numbers, stepped, event_driven)


def bound_panels() -> Iterator[AccuracyPanel]:
    """Validation and test."""
    rows = table("trained and run with the bound")
    modes = {"time-stepped": 0, "event-driven": 1}
    levels = [row["trained and run with the bound"].split(" ")[0] for row in rows]
    for part in ("validation", "test"):
        lines = [
            AccuracyLine(
                f"{spelled_out(method.lower())}, {mode}",
                (color, place),
                [estimates(row[f"{method}, {part}"])[place] for row in rows],
            )
            for color, method in enumerate(("SDT", "MTT"))
            for mode, place in modes.items()
        ]
        yield AccuracyPanel(levels, f"lower bound in training and use ({part})", lines)


def main() -> None:
    """Write the figures into this folder."""
    with plotting.figure(DOCS / "time_step_sweep.png", (5.6, 3), settings={"savefig.dpi": DPI}) as figure:
        plotting.sweep_panels(figure, list(sweep_curves()), DATA)
    with plotting.figure(DOCS / "bounds.png", (7.2, 3.2), settings={"savefig.dpi": DPI}) as figure:
        plotting.accuracy_panels(figure, list(bound_panels()), BOUND_DATA)
    recording = events.read(DEMO / "digit-0.npz")
    simulator = Simulator(DEMO / "sdt.nir", record="all")
    binned = events.on_time_steps(recording, 10, (2, 34, 34))  # which gives what the time-stepped network gives
    pair = []
    for name, shown in (("10 time steps", binned), ("event-driven", recording)):
        (result,) = simulator.run([shown])
        pair.append(ModeRun(name, result, shown, *readout_trace(result)))
    with plotting.figure(DOCS / "raster.png", (6, 4.5), {"savefig.dpi": DPI}) as figure:
        plotting.raster_pair(figure, pair, label=0)


if __name__ == "__main__":
    main()
