"""Make the data of ``mtt-brian demo``: three small trained networks, ten recordings, and the results of their
evaluation.

python training/make_demo.py                   # trains nine networks (minutes), writes the data and the figure
python training/make_demo.py --runs runs/demo  # the folder of the runs; finished runs are used again

Each network is trained by the defaults of ``mtt-brian train`` (digits, 30 epochs) with three seeds. All are evaluated
on the whole test split. The demo contains the networks of seed 0, and the first test recording of every class.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import cli, events, files, translate
from mtt_brian.cli import demo, demo_figure
from mtt_brian.engines import Simulator
from mtt_brian.engines.exact.trace import membrane_trace
from mtt_brian.events import Recordings
from mtt_brian.events.recording import FIELDS
from mtt_brian.experiments import run_folder
from mtt_brian.mtt import TrainConfig

COMMAND = "python training/make_demo.py"
SEEDS = (0, 1, 2)
#: Name of the file -> title, addition to it in the figure, and settings of the training.
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sdt": ("SDT", "fixed time steps", {"method": "sdt"}),
    "mtt": ("MTT", "mixed time steps", {"method": "mtt"}),
    "sdt-no-bound": ("SDT, no lower bound", "in training and use", {"method": "sdt", "lower_bound": None}),
}
#: Time steps, and arrivals in them, of the membrane in the figure.
STEPS_SHOWN, ARRIVALS_SHOWN = 3, range(7, 15)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    splits = run_folder.load_splits(TrainConfig())
    test = run_folder.with_events(splits.test)
    time_steps = TrainConfig().time_steps
    options.out.mkdir(parents=True, exist_ok=True)

    networks = []
    for name, (title, about, settings) in NETWORKS.items():
        seeds = []
        for seed in SEEDS:
            run = run_folder.trained(TrainConfig(seed=seed, **settings), splits, options.runs / f"{name}-{seed}")
            seeds.append(measure(run.model, test, time_steps))
            print(title, seed, seeds[-1])
            if seed == SEEDS[0]:
                (options.out / f"{name}.nir").write_bytes(run.model.read_bytes())
        networks.append({"file": f"{name}.nir", "title": title, "about": about, "seeds": seeds})

    recordings = []
    for label, name in enumerate(test.classes):
        number = int(np.flatnonzero(test.labels == label)[0])
        recordings.append({"file": f"digit-{name}.npz", "label": label, "id": f"{test.name}:{test.split}:{number}"})
        write(options.out / f"digit-{name}.npz", test[number])

    data = {
        "made_by": COMMAND,
        "dataset": test.title,
        "test_recordings": len(test),
        "sensor_size": test.sensor_size,
        "time_steps": time_steps,
        "networks": networks,
        "recordings": recordings,
    }
    data["figure"] = shown_in_figure(options.out, data)
    files.write_text(options.out / demo.CONTENTS, json.dumps(data, indent=1) + "\n")
    draw(options.out, options.figures, data)
    print(f"{sum(path.stat().st_size for path in options.out.iterdir()):,} bytes")
    print(files.contents(options.out))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--runs", type=Path, default=run_folder.RUNS / "demo", metavar="DIR", help="[runs/demo]")
    parser.add_argument("--figures", type=Path, default=Path("docs"), metavar="DIR", help="[docs]")
    parser.add_argument("--out", type=Path, default=demo.DATA, metavar="DIR", help="[mtt_brian/demo_data]")
    return parser.parse_args(arguments)


def measure(network: Path, test: Recordings, time_steps: int) -> dict[str, float]:
    """Accuracy, and synaptic operations per recording, time-stepped and event-driven."""
    simulator = Simulator(network, record="counts")
    found = {}
    for mode, recordings in (
        ("time_stepped", [events.on_time_steps(r, time_steps, test.sensor_size) for r in test]),
        ("event_driven", test),
    ):
        results = list(simulator.run(recordings))
        correct = np.array([r.readout.argmax() for r in results]) == test.labels
        found[mode] = round(float(correct.mean()), 6)
        found[f"{mode}_synops"] = round(float(np.mean([r.synops for r in results])), 1)
    return found


def write(path: Path, recording: np.ndarray) -> None:
    """A recording as arrays t, x, y, p in the smallest types that hold them."""
    columns: dict[str, Any] = {name: recording[name].astype(np.uint32 if name == "t" else np.uint8) for name in FIELDS}
    with files.replacing(path) as temporary:
        np.savez_compressed(temporary, **columns)


def draw(folder: Path, figures: Path, data: dict[str, Any]) -> None:
    """The figure for the first page of the documentation, in both modes."""
    recordings = [events.read(folder / entry["file"]) for entry in data["recordings"]]
    runs = {entry["file"]: demo.run(folder / entry["file"], recordings, data) for entry in data["networks"]}
    for name, dark in (("hero.png", False), ("hero_dark.png", True)):
        demo_figure.draw(figures / name, demo.figure_data(data, recordings, runs), dark)


def shown_in_figure(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The data of the figure: a recording whose prediction by the first network changes without time steps, and one
    neuron.

    The neuron belongs to the first population. Some steps of its input are chosen in which the event-driven membrane is
    stopped by the lower bound and then fires more often than the time-stepped one, which fires as well; both begin at
    the same potential. Of all such cases it is the one whose arrivals are furthest apart.
    """
    network = data["networks"][0]["file"]
    circuit = translate.read_nir(folder / network)
    rule = circuit.populations[0].rule
    best: tuple[float, dict[str, Any]] | None = None
    for recording in data["recordings"]:
        found = demo.run(folder / network, [events.read(folder / recording["file"])], data)
        if found.time_stepped[0].readout.argmax() == found.event_driven[0].readout.argmax():
            continue
        for neuron in range(circuit.populations[0].size):
            arrivals = demo.arrivals(circuit, neuron, events.read(folder / recording["file"]), data)
            if len(arrivals.event_driven) < min(ARRIVALS_SHOWN):
                continue
            stepped = membrane_trace(rule, arrivals.time_stepped, arrivals.jumps)
            exact = membrane_trace(rule, arrivals.event_driven, arrivals.jumps)
            for first in range(data["time_steps"] - STEPS_SHOWN + 1):
                begin, end = (k * arrivals.duration / data["time_steps"] for k in (first, first + STEPS_SHOWN))
                within = arrivals.event_driven[(arrivals.event_driven > begin) & (arrivals.event_driven <= end)]
                before = [trace.v[trace.t <= begin + 1e-6][-1:] for trace in (stepped, exact)]
                if len(within) not in ARRIVALS_SHOWN or not np.allclose(before[0], before[1], rtol=0, atol=1e-9):
                    continue
                fired = [
                    trace.spike_n[(trace.spike_t > begin + 1e-6) & (trace.spike_t <= end + 1e-6)].sum()
                    for trace in (stepped, exact)
                ]
                stopped = np.any(exact.v[(exact.t > begin) & (exact.t < end)] == rule.lower_bound)
                apart = float(np.diff(within).min())
                if stopped and fired[1] > fired[0] > 0 and (best is None or apart > best[0]):
                    chosen = {"network": network, "recording": recording["file"], "neuron": neuron, "first": first}
                    best = apart, chosen | {"steps": STEPS_SHOWN}
    assert best is not None, "no prediction changes, or no neuron shows the cause"
    return best[1]


if __name__ == "__main__":
    sys.exit(cli.exit_status.run(main))
