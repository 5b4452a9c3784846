"""Run one recording through a network, event by event, and keep every spike.

mtt-brian simulate model.nir recording.csv                     # a header t,x,y,p, then a line per event
mtt-brian simulate runs/digits-mtt-0-001 digits:test:0         # the first test recording of a data set
mtt-brian simulate RUN nmnist:test:7 --data-root DIR --order fifo
mtt-brian simulate model.nir 00007.bin --engine brian2 --out results/mine
mtt-brian simulate foreign.nir events.npz --tool snntorch --time-per-step 1e-3 --duration 0.1   # a step was 1 ms

Recordings: .bin (N-MNIST, N-Caltech101), .aedat and .aedat4 (cameras of iniVation), .dat and .raw (cameras of
Prophesee), .npy (a structured array with the fields t, x, y, p), .npz (such an array, or one array for each of them),
.csv (also .csv.gz, .csv.bz2, .csv.xz), .h5 and .hdf5 (the layouts of DSEC, MVSEC, Prophesee and others, or NIRData
with spikes of the input; FILE.h5:NUMBER is one of several), or DATASET:SPLIT:NUMBER, where DATASET may be
package.module:NAME. t counts microseconds, x, y and p (polarity) count from 0; a network whose input has one axis needs
t and x only. A field that the network would drop must hold one value everywhere.

--bits and --membrane-bits run the network with integer weights, integer thresholds and saturating membranes, as integer
chips do.

--replay compares the run with spikes that were recorded before, here or by another simulator: NIRData (.h5), spikes.npz
or spikes.csv as written here. The exit status is 0 if all are the same within --tolerance, and 1 if not.

Files: spikes.npz (for numpy.load: spikes1_t, spikes1_i, spikes1_n for every population, counts, readout ...;
"keys" lists the replacements of names that a file cannot have),
spikes.csv (population,t,i,n; t in seconds with all its digits), readout.csv (the readout whenever it changed; for one
that is linear or fires) and raster.png.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtt_brian import cli, files, plotting
from mtt_brian.cli import network_options, replay, spike_files
from mtt_brian.cli.recording_files import open_recording
from mtt_brian.engines import ORDERS, Result, Simulator, engine_info
from mtt_brian.engines.result import population_rows
from mtt_brian.errors import InputError
from mtt_brian.evaluate import readout_trace
from mtt_brian.evaluate.tables import markdown_table
from mtt_brian.events import named
from mtt_brian.events.named import NamedRecording
from mtt_brian.plotting.axes import literal
from mtt_brian.text import printable
from mtt_brian.translate.nir_files import naming


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if named.reference(options.recording) is None:
        parser.refuse_given(arguments, ["data_root"], "the recording is a file")
    if options.tolerance is not None and options.replay is None:
        raise InputError("--tolerance needs --replay: it is the largest difference between times of equal spikes")
    opened = network_options.open_network(options)
    recording = open_recording(options.recording, options.data_root, opened.config, opened.circuit)
    recorded = None if options.replay is None else replay.recorded_spikes(Path(options.replay), opened.circuit)
    if not len(recording.events) and options.duration is None:
        raise InputError(f"{recording.name}: no events; give the length of the run by --duration")
    # The engines check it too, but do not know what it is called.
    train = opened.circuit.input_spikes(recording.events, options.duration, recording.name)
    started = time.perf_counter()
    chosen = {} if options.max_rate is None else {"max_rate": options.max_rate}
    if chosen and "max_rate" not in engine_info(options.engine).options:
        raise InputError(f"--max-rate goes with --engine exact; {options.engine} has no such option")
    with naming(opened.path):
        integers = network_options.integers_from(options)
        simulator = Simulator(opened.circuit, options.engine, order=options.order, integers=integers, **chosen)
    out = files.results_folder(options.out, "simulate")
    given = [opened.path, named.numbered(options.recording)[0], *([options.replay] if options.replay else [])]
    files.check_replaceable(out, ["spikes.npz", "spikes.csv", "spikes.h5", "readout.csv", "raster.png"], given)
    with files.removed_if_empty(out), naming(opened.path):
        (result,) = simulator.run([recording.events], options.duration, names=[recording.name])
    took = time.perf_counter() - started

    about = {
        "assumptions": "\n".join(result.assumptions),
        "order": options.order,
        "recording": options.recording,
        "network_sha256": files.file_digest(opened.path),
    }
    spike_files.write_npz(out / "spikes.npz", result, **about)
    spike_files.write_spikes(out / "spikes.csv", result)
    if options.nir_data:
        spike_files.write_run(out / "spikes.h5", result, train)
    else:
        (out / "spikes.h5").unlink(missing_ok=True)  # of an earlier run
    trace = trace_of(result)
    if trace is not None:
        spike_files.write_readout(out / "readout.csv", *trace)
    else:
        (out / "readout.csv").unlink(missing_ok=True)  # of an earlier run
    plot(result, recording, trace, out / "raster.png")
    print(printable(f"{recording.name}: {len(recording.events):,} events, {result.duration:g} s -> {opened.path}"))
    print(f"engine {result.engine}, {options.order}: {took:.2f} s, compiling included")
    for assumption in result.assumptions:
        print(f"assumed: {printable(assumption)}")
    print()
    print(f"{markdown_table(population_rows(result))}\n\n{prediction(result, recording)}\n{files.contents(out)}")
    if recorded is None:
        return 0
    tolerance = options.tolerance or 0.0
    comparisons = replay.compare(result, recorded, tolerance)
    print(f"\n{replay.summary(result, comparisons, options.replay, tolerance)}")
    return 0 if all(comparison.equal for comparison in comparisons.values()) else 1


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "simulate")
    network_options.add_options(parser)
    network_options.add_target_options(parser)
    parser.add_argument("recording", metavar="RECORDING", help="a file of events, or DATASET:SPLIT:NUMBER")
    parser.add_argument("--data-root", metavar="DIR", help="folder that holds the data set [that of the run]")
    network_options.add_engine(parser)
    parser.add_argument(
        "--order",
        choices=ORDERS,
        default="sum",
        help="what arrives at one instant: all at once, or one event after another (exact, exact-cuda) [sum]",
    )
    parser.add_argument(
        "--max-rate",
        type=float,
        metavar="HZ",
        help="spikes per second above which a neuron that fires without input events ends the run (exact only) [1e6]",
    )
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="end of the run [the last event]")
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/simulate-<number>]")
    parser.add_argument(
        "--nir-data", action="store_true", help="write spikes.h5 too: NIRData, which other simulators can replay"
    )
    parser.add_argument("--replay", metavar="FILE", help="compare with recorded spikes: .h5 (NIRData), .npz or .csv")
    parser.add_argument(
        "--tolerance",
        type=seconds,
        metavar="SECONDS",
        help="largest difference between the times of equal spikes [0]",
    )
    return parser


def seconds(text: str) -> float:
    """A time >= 0, of an option."""
    value = float(text)
    if not 0 <= value < np.inf:
        raise ValueError
    return value


def trace_of(result: Result) -> tuple[np.ndarray, np.ndarray] | None:
    """The readout over time (`readout_trace`); None where it leaks or drifts between the instants of spikes."""
    try:
        return readout_trace(result)
    except InputError as error:
        print(f"the readout is known at the end only: {error}")
        return None


def prediction(result: Result, recording: NamedRecording) -> str:
    """The class with the largest readout, whether it is the label where that is known, and by how much it is ahead.

    ::

        prediction 5 (correct), ahead of 3 by 4.1
    """
    classes = recording.classes if len(recording.classes) == len(result.readout) else ()

    def called(k: int) -> str:
        return f"{k} ({printable(classes[k])})" if classes and classes[k] != str(k) else str(k)

    label = recording.label if classes else None
    if not np.any(result.readout):
        known = "" if label is None else f"; the label is {called(label)}"
        return f"no prediction: the readout is 0 everywhere{known}"
    best, *others = np.argsort(-result.readout, kind="stable").tolist()
    text = f"prediction {called(best)}"
    if label is not None:
        text += " (correct)" if best == label else f" (wrong; the label is {called(label)})"
    if not others:
        return text
    margin = float(result.tool_readout[best] - result.tool_readout[others[0]])
    unit = "" if result.circuit.readout_unit == 1 else " (in weights of the tool)"
    return f"{text}, ahead of {called(others[0])} by {margin:.3g}{unit}"


def plot(result: Result, recording: NamedRecording, trace: tuple[np.ndarray, np.ndarray] | None, path: Path) -> None:
    """Spikes of the input and all populations, with the readout below where it is known over time."""
    ratios = [3] if trace is None else [3, 1]
    with plotting.figure(path, (7.2, 1.6 * sum(ratios))) as figure:
        panels = figure.subplots(len(ratios), squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
        plotting.raster(result, recording=recording.events, ax=panels[0])
        if trace is not None:
            known = recording.label if recording.label is not None and recording.label < len(result.readout) else None
            plotting.readout(*trace, label=known, ax=panels[1])
            panels[0].set_xlabel("")
        figure.suptitle(literal(recording.name, 80), wrap=True)
