"""The paper's deep event-driven experiment, VGG9 by SDT, NMT and MTT, on simulated recordings of CIFAR-10.

mtt-brian study deep --data-root DIR --seeds 0 1 2 --device cuda           # all steps; about an hour on a GPU
mtt-brian study deep --data-root DIR --size eighth --recordings 3000       # on a CPU: an afternoon
mtt-brian study deep --data-root DIR --steps train --minutes 8 --pack OUT  # as much as fits; archives to be carried
mtt-brian study deep --data-root DIR --steps evaluate report --unpack OUT  # elsewhere: event-driven, on all cores

First phase: SDT with batch norms (and MTT, for the row "from the start"). Second phase: biases removed, norms locked,
trained on by SDT, NMT or MTT for equally many epochs, and by SDT for as much computation as MTT's. Both phases with
the lower bound -1, with -4, and without a bound. Weights are rounded to 11 significant bits at the end; all results
are those of the rounded weights.

Steps: data (recordings to frames), train (time-stepped accuracy included), evaluate (the exact engine, event by event),
report. With --minutes the epochs are chosen so that the networks fit, and the less important networks are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mtt_brian import cli

cli.configure_threads()

from mtt_brian import files
from mtt_brian.experiments import option_checks, study_cli
from mtt_brian.experiments.deep import event_driven, frames, packing, plan, report, training
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import MODEL

STEPS = ("data", "train", "evaluate", "report")
#: Of the time limit, the part that may be used for training if the event-driven runs follow.
FOR_TRAINING = 0.85
#: Seconds in front of the time limit that report and archives may need.
RESERVE = 20


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.time()
    options = parse(arguments)
    folder = files.results_folder(options.out, "deep")
    if options.unpack:
        packing.unpack(Path(options.unpack), folder)
    chosen = {
        name: getattr(options, name) for name in ("dataset", "size", "device", "recordings", "test", "batch_size")
    }
    setting = plan.Setting(folder, data_root=options.data_root, **chosen)
    test = event_driven.Recorded(options.dataset, options.data_root, options.test)
    seconds = 60 * options.minutes - RESERVE if options.minutes else float("inf")
    second_phases = plan.second_phases(options.seeds)
    bound = {"test": [options.dataset, options.test], "chunk": event_driven.CHUNK, "time_steps": plan.TIME_STEPS}
    store = ResultStore(folder / "event_driven.jsonl", bound)

    def models() -> list[Path]:
        return [path for network in second_phases if (path := setting.run(network) / MODEL).exists()]

    # Recordings as frames, once: the training ones at T_max, the test ones at 200 steps.
    if "data" in options.steps:
        frames.prepare(setting, options.workers)
    # Training, a process per seed, and at the same time the event-driven runs of the networks that are there.
    with ThreadPoolExecutor(1) as background:
        share = FOR_TRAINING if "evaluate" in options.steps else 1
        trained = background.submit(
            lambda: (
                training.train(setting, options.seeds, epochs_of(options), started + share * seconds, options.jobs)
                if "train" in options.steps
                else None
            )
        )
        if "evaluate" in options.steps:
            event_driven.evaluate(
                models, trained.done, test, plan.TIME_STEPS, store, options.workers, started + seconds
            )
        trained.result()
    if "report" in options.steps:
        write_report(options, arguments, setting, test, store)
    if options.pack:
        packing.pack(folder, Path(options.pack), models(), options.pack_bytes, options.pack_archives)


def write_report(
    options: argparse.Namespace,
    arguments: Sequence[str] | None,
    setting: plan.Setting,
    test: event_driven.Recorded,
    store: ResultStore,
) -> None:
    """Tables and a figure of all networks that are there."""
    recordings = load_recordings(options.dataset, options.data_root, "test", options.test)
    labels = recordings.labels.tolist()
    every = []
    for seed in options.seeds:
        for network in plan.networks(seed):
            run = setting.run(network)
            if (run / MODEL).exists():
                found = event_driven.results(store, run / MODEL, test, labels)
                every.append(report.measured(network, run / training.TIME_STEPPED, labels, *found))
    groups = report.by_label(every)
    epochs = json.loads((setting.folder / "epochs.json").read_text())
    study = study_cli.Study("deep", arguments, recordings, setting.folder, {})
    title = f"VGG9, {options.size} size: {study.data}"
    report.plot(groups, title, setting.folder / "deep.png")
    facts = study.facts | {"epochs": epochs, "size": options.size, "networks": report.as_json(every)}
    study.write(facts, title, *report.tables(groups))


def epochs_of(options: argparse.Namespace) -> plan.Epochs | None:
    """Those that are given; without a time limit the usual ones; None: as many as fit."""
    if options.epochs is not None:
        return plan.Epochs(*options.epochs)
    return None if options.minutes else plan.USUAL


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__, "study deep")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="of the experiment [all]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="of the trainings [0]")
    parser.add_argument("--device", default="cpu", help="torch device of the training [cpu]")
    parser.add_argument("--size", choices=plan.SIZES, default="half", help="of the network [half]")
    parser.add_argument("--dataset", default="cifar10-events-128", metavar="NAME", help="[cifar10-events-128]")
    parser.add_argument("--data-root", metavar="DIR", help="folder with the data set")
    parser.add_argument("--recordings", type=int, default=9000, metavar="N", help="training recordings [9000]")
    parser.add_argument("--test", type=int, default=400, metavar="N", help="test recordings [400]")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="of the training [64]")
    parser.add_argument("--epochs", nargs=2, type=int, metavar=("FIRST", "SECOND"), help="of both phases [20 12]")
    parser.add_argument("--minutes", type=float, metavar="N", help="time limit for all steps together [none]")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, metavar="N", help=f"processes besides training [{cores}]")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="seeds that are trained at the same time [1]")
    parser.add_argument("--out", metavar="DIR", help="folder of the experiment [results/deep-<number>]")
    parser.add_argument("--pack", metavar="DIR", help="write archives of results and networks there")
    parser.add_argument("--pack-bytes", type=int, default=15_000_000, metavar="N", help="per archive [15000000]")
    parser.add_argument("--pack-archives", type=int, default=3, metavar="N", help="archives of networks, at most [3]")
    parser.add_argument("--unpack", metavar="DIR", help="begin with these archives")
    options = parser.parse_args(arguments)
    option_checks.at_least_one(options, "recordings", "test", "batch_size", "epochs", "workers", "jobs")
    return options


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
