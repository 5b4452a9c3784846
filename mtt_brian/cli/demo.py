"""Run three small networks with time steps and without, and draw what changes. Needs the base install only.

mtt-brian demo                   # a table, a figure, and the files to try yourself, under results/
mtt-brian demo --out results/mine

The networks (6,160 parameters each) and ten recordings of handwritten digits (a simulated event camera) are part of the
package. SDT is trained with one fixed number of time steps, MTT with a random one for every stage; both keep every
membrane above a lower bound, as the paper's chip does. The third network is SDT without this bound.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtt_brian import cli, events, files
from mtt_brian.circuit import Circuit
from mtt_brian.circuit.spikes import input_spikes
from mtt_brian.cli import demo_figure
from mtt_brian.engines import Result, Simulator
from mtt_brian.evaluate.tables import markdown_table
from mtt_brian.translate import read_nir

#: Made by training/make_demo.py.
DATA = Path(__file__).parents[1] / "demo_data"
#: The file in it that describes the others, with what was measured when they were made.
CONTENTS = "demo.json"
FIGURES = ("demo.png", "demo_dark.png")


class Runs(NamedTuple):
    """One network on some recordings, in both modes."""

    time_stepped: list[Result]
    event_driven: list[Result]


class Arrivals(NamedTuple):
    """What arrives at one neuron of the first population.

    Attributes:
        time_stepped, event_driven: when, in seconds [K].
        jumps: of the membrane [K].
        duration: of the recording, in seconds.
    """

    time_stepped: np.ndarray
    event_driven: np.ndarray
    jumps: np.ndarray
    duration: float


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    data = json.loads((DATA / CONTENTS).read_text())
    recordings = [events.read(DATA / entry["file"]) for entry in data["recordings"]]
    out = files.results_folder(options.out, "demo")
    copies = [entry["file"] for entry in (*data["networks"], *data["recordings"])]
    files.check_replaceable(out, [*FIGURES, *copies])
    started = time.perf_counter()
    with files.removed_if_empty(out):
        runs = {entry["file"]: run(DATA / entry["file"], recordings, data) for entry in data["networks"]}
    seconds = time.perf_counter() - started

    for name in copies:
        with files.replacing(out / name) as temporary:
            shutil.copyfile(DATA / name, temporary)
    shown = figure_data(data, recordings, runs)
    for name, dark in zip(FIGURES, (False, True), strict=True):
        demo_figure.draw(out / name, shown, dark)

    count = 2 * len(runs) * len(recordings)
    print(f"{count} runs of recordings with {np.mean([len(r) for r in recordings]):,.0f} events: {seconds:.1f} s\n")
    print(f"{table(data, runs)}\n\n{note(data)}\n\n{verdict(data)}\n")
    print(f"{out / FIGURES[0]} shows why.\n")
    figure = data["figure"]
    print("Next, one recording with every spike, and then a network of your own (.nir):")
    print(f"  mtt-brian simulate {shlex.join([str(out / figure[name]) for name in ('network', 'recording')])}")


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "demo")
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/demo-<number>]")
    return parser


def run(network: Path, recordings: Sequence[np.ndarray], data: Mapping[str, Any]) -> Runs:
    """A network on recordings, with all events at the ends of their time steps, and at their own instants.

    The first is the time-stepped network, computed without torch: nothing happens between the arrivals of these
    networks (`events.on_time_steps`).
    """
    simulator = Simulator(network, record="counts")
    stepped = [events.on_time_steps(r, data["time_steps"], tuple(data["sensor_size"])) for r in recordings]
    return Runs(list(simulator.run(stepped)), list(simulator.run(recordings)))


def arrivals(circuit: Circuit, neuron: int, recording: np.ndarray, data: Mapping[str, Any]) -> Arrivals:
    """What arrives from the input at one neuron of the first population, in both modes."""
    stepped = events.on_time_steps(recording, data["time_steps"], tuple(data["sensor_size"]))
    own = input_spikes(recording, circuit.input_shape)
    weights = circuit.connections[0].matrix[[neuron]].toarray().ravel()[own.i[own.order]]
    arriving = weights != 0
    return Arrivals(
        time_stepped=stepped["t"][arriving] / 1e6,
        event_driven=recording["t"][arriving] / 1e6,
        jumps=weights[arriving],
        duration=(int(recording["t"][-1]) + 1) / 1e6,
    )


def table(data: Mapping[str, Any], runs: Mapping[str, Runs]) -> str:
    """A row for every network: what was measured with it, and what was computed just now."""
    labels = np.array([entry["label"] for entry in data["recordings"]])
    ten = f"these {len(labels)}"
    rows = [("network", "time-stepped", "event-driven", "change", "SynOps", f"{ten}, stepped", f"{ten}, events")]
    for entry in data["networks"]:
        measured = entry["seeds"][0]
        rows.append(
            (
                entry["title"],
                f"{100 * measured['time_stepped']:.1f} %",
                f"{100 * measured['event_driven']:.1f} %",
                f"{100 * change(measured):+.1f}",
                f"{measured['event_driven_synops']:,.0f}",
                *(f"{correct(results, labels)} right" for results in runs[entry["file"]]),
            )
        )
    return markdown_table(rows)


def correct(results: Sequence[Result], labels: np.ndarray) -> int:
    """How many predictions are correct."""
    return int(np.sum([r.readout.argmax() == label for r, label in zip(results, labels, strict=True)]))


def change(measured: Mapping[str, float]) -> float:
    """Accuracy event by event minus time-stepped."""
    return measured["event_driven"] - measured["time_stepped"]


def note(data: Mapping[str, Any]) -> str:
    """Where the numbers of the table are from."""
    return (
        f"Accuracy and SynOps (synaptic operations per recording, event-driven): all {data['test_recordings']} test "
        f"recordings of {data['dataset']},\nmeasured when the networks were made. "
        f"The last two columns: computed just now."
    )


def verdict(data: Mapping[str, Any]) -> str:
    """One sentence, with the spread over the seeds."""

    def loss(entry: Mapping[str, Any]) -> str:
        losses = [-100 * change(measured) for measured in entry["seeds"]]
        return f"{losses[0]:.1f} points ({len(losses)} seeds: {min(losses):.1f} to {max(losses):.1f})"

    sdt, mtt, unbounded = data["networks"]
    return (
        f"Without time steps {sdt['title']} loses {loss(sdt)}, {mtt['title']} {loss(mtt)},\n"
        f"and SDT that was trained without a lower bound of the membrane {loss(unbounded)}."
    )


def figure_data(
    data: Mapping[str, Any], recordings: Sequence[np.ndarray], runs: Mapping[str, Runs]
) -> demo_figure.Shown:
    """What the figure shows of the demo's runs."""
    chosen = data["figure"]
    names = [entry["file"] for entry in data["recordings"]]
    number = names.index(chosen["recording"])
    circuit = read_nir(DATA / chosen["network"])
    found = arrivals(circuit, chosen["neuron"], recordings[number], data)
    step = found.duration / data["time_steps"]
    begin = chosen["first"] * step
    return demo_figure.Shown(
        rule=circuit.populations[0].rule,
        arrivals=(found.time_stepped, found.event_driven),
        jumps=found.jumps,
        edges=begin + step * np.arange(chosen["steps"] + 1),
        readouts=tuple(results[number].readout for results in runs[chosen["network"]]),
        label=data["recordings"][number]["label"],
        image=demo_figure.image_of(recordings[number], tuple(data["sensor_size"])),
        accuracies={
            f"{entry['title']}\n{entry['about']}": (
                entry["seeds"][0]["time_stepped"],
                entry["seeds"][0]["event_driven"],
            )
            for entry in data["networks"]
        },
    )
