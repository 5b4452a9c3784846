"""The paper's deep event-driven experiment, VGG9 by SDT, NMT and MTT, on simulated recordings of CIFAR-10.

mtt-brian study deep --data-root DIR --seeds 0 1 2 --device cuda           # all steps; about an hour on a GPU
mtt-brian study deep --data-root DIR --size eighth --recordings 3000       # on a CPU: an afternoon
mtt-brian study deep --data-root DIR --steps train --minutes 8 --pack OUT  # as much as fits; archives to be carried
mtt-brian study deep --data-root DIR --steps evaluate report --unpack OUT  # elsewhere: event-driven, on all cores

First phase: SDT with batch norms (and MTT, for the row "from the start"). Second phase: biases removed, norms locked,
trained on by SDT, NMT or MTT for equally many epochs, and by SDT for as much computation as MTT's. Both phases with
the lower bound -1, with -4, and without a bound. Weights are rounded to 8 significant bits at the end; all results
are those of the rounded weights.

Steps: data (recordings to frames), train (time-stepped accuracy included), evaluate (the exact engine, event by event),
report. With --minutes the epochs are chosen so that the networks fit, and less important groups of networks are left
out. Groups: 1: SDT and MTT with the bound -1 and without; 2: NMT and SDT with equal computation, bound -1; 3: SDT and
MTT, bound -4; 4: MTT from the start; 5: NMT and SDT with equal computation without a bound.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from mtt_brian import cli

cli.configure_threads()

from mtt_brian import files, machine
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.experiments import option_checks, study_cli
from mtt_brian.experiments.deep import event_driven, finished, frames, packing, plan, report, training
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_files import CONFIG, MODEL
from mtt_brian.mtt.build import check_computes
from mtt_brian.mtt.config import read_config
from mtt_brian.text import printable

STEPS = ("data", "train", "evaluate", "report")
#: Of the time limit, the part that may be used for training if the event-driven runs follow.
FOR_TRAINING = {"exact": 0.85, "exact-cuda": 0.78}
#: Of the time limit, the part after which nothing is started: the last jobs, report and archives need the rest.
STARTS = 0.9


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.time()
    options = parse(arguments)
    if "train" in options.steps:
        check_computes(options.device)
    if options.pack:
        packing.check_packable(Path(options.pack))
    recordings = load_recordings(options.dataset, options.data_root, "test", options.test)
    folder = files.results_folder(options.out, "deep")
    with files.removed_if_empty(folder):
        if options.unpack:
            packing.unpack(Path(options.unpack), folder)
        test = event_driven.Recorded(options.dataset, options.data_root, options.test, plan.TIME_STEPS)
        store = ResultStore(folder / "event_driven.jsonl", test.settings)
        chosen = {
            name: getattr(options, name) for name in ("dataset", "size", "device", "recordings", "test", "batch_size")
        }
        setting = plan.Setting(folder, data_root=options.data_root, **chosen)
        check_networks(options, setting, recordings)
        print(printable(f"{recordings.title} -> {folder}"), flush=True)
        try:
            run_steps(options, setting, test, store, started)
            if "report" in options.steps:
                write_report(options, arguments, setting, store, recordings)
        finally:
            if options.pack:
                packing.pack(folder, Path(options.pack), models(options, setting))


def run_steps(
    options: argparse.Namespace, setting: plan.Setting, test: event_driven.Recorded, store: ResultStore, started: float
) -> None:
    """The steps that compute."""
    seconds = 60 * STARTS * options.minutes if options.minutes else float("inf")
    # Recordings as frames, once: the training ones at T_max, the test ones at 200 steps.
    if "data" in options.steps:
        frames.prepare(setting, options.workers)
    # Training, a process per seed, and at the same time the event-driven runs of the networks that are there.
    with ThreadPoolExecutor(1) as background:
        share = FOR_TRAINING[options.engine] if "evaluate" in options.steps else 1
        jobs = options.jobs if "train" in options.steps else 0
        ends, fit = started + share * seconds, bool(options.minutes) and options.epochs is None
        trained = background.submit(training.train, setting, options.seeds, epochs_of(options), fit, ends, jobs)
        try:
            if "evaluate" in options.steps:
                there = partial(models, options, setting)
                ends = started + seconds
                event_driven.evaluate(there, trained.done, test, store, options.workers, ends, options.engine)
            trained.result()
        except BaseException:
            training.stop(trained)
            raise


def models(options: argparse.Namespace, setting: plan.Setting) -> list[Path]:
    """The models of the second phases that are there, the most important ones first."""
    there = [network for network in plan.second_phases(options.seeds) if setting.is_finished(network)]
    return [model for network in there if (model := setting.run(network) / MODEL).exists()]


def check_networks(options: argparse.Namespace, setting: plan.Setting, recordings: Recordings) -> None:
    """Refuse networks of other settings or recordings in the folder, and steps that need networks without any."""
    epochs = epochs_of(options) if "train" in options.steps and (options.epochs or not options.minutes) else None
    training.check_settings(setting, options.seeds, epochs)
    there = [n for seed in options.seeds for n in plan.networks(seed) if setting.is_finished(n)]
    for network in there:
        finished.check(setting.run(network) / MODEL, recordings)
    if not there and "train" not in options.steps and {"evaluate", "report"} & set(options.steps):
        raise InputError(
            f"{setting.folder}: no trained network of the seeds {', '.join(map(str, options.seeds))}; "
            "the step train makes them, and --unpack reads those of another machine"
        )
    without = [n.name for n in there if n.second and not (setting.run(n) / MODEL).exists()]
    if without and "evaluate" in options.steps:
        print(f"not run event by event, because {MODEL} is not there: {', '.join(without)}", flush=True)


def write_report(
    options: argparse.Namespace,
    arguments: Sequence[str] | None,
    setting: plan.Setting,
    store: ResultStore,
    recordings: Recordings,
) -> None:
    """Tables and a figure of all networks that are there."""
    test = event_driven.Recorded(options.dataset, options.data_root, options.test, plan.TIME_STEPS)
    labels = recordings.labels.tolist()
    every, epochs = [], {}
    for seed in options.seeds:
        for network in plan.networks(seed):
            if setting.is_finished(network):
                model = setting.run(network) / MODEL
                kinds = (event_driven.SUM, event_driven.FIFO, event_driven.WAY)
                *ran, way = [event_driven.results(store, model, kind, test, labels) for kind in kinds]
                every.append(report.measured(network, finished.read(model).predictions, labels, ran, way))
                epochs[network.name] = read_config(model.with_name(CONFIG))["epochs"]
    if not every:
        print("no report, because no training has ended", flush=True)
        return
    groups = report.by_label(every)
    study = study_cli.Study("deep", arguments, recordings, setting.folder, {})
    title = f"VGG9, {options.size} size: {study.data}"
    report.plot(groups, title, setting.folder / "deep.png")
    facts = study.facts | {"epochs": epochs, "size": options.size, "networks": report.as_json(every)}
    study.write(facts, title, *report.tables(groups))


def epochs_of(options: argparse.Namespace) -> plan.Epochs:
    """Those that are given, or the usual ones."""
    first, second = options.epochs or plan.USUAL[:2]
    return plan.Epochs(first, second, tuple(sorted(set(options.groups))))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__, "study deep")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="of the experiment [all]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="of the trainings [0]")
    parser.add_argument("--device", default="cpu", help="torch device of the training [cpu]")
    parser.add_argument("--size", choices=plan.SIZES, default="half", help="of the network [half]")
    parser.add_argument("--dataset", default="cifar10-events-128", metavar="NAME", help="data set [cifar10-events-128]")
    parser.add_argument("--data-root", metavar="DIR", help="folder with the data set")
    parser.add_argument("--recordings", type=int, default=9000, metavar="N", help="training recordings [9000]")
    parser.add_argument("--test", type=int, default=264, metavar="N", help="test recordings [264]")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="of the training [64]")
    parser.add_argument("--epochs", nargs=2, type=int, metavar=("FIRST", "SECOND"), help="of both phases [20 12]")
    every = plan.ALL_GROUPS
    parser.add_argument("--groups", nargs="+", type=int, choices=every, default=every, help="of networks [all]")
    parser.add_argument("--minutes", type=float, metavar="N", help="time limit for all steps together [none]")
    cores = machine.cores()
    engines = ("exact", "exact-cuda")
    parser.add_argument("--engine", choices=engines, default="exact", help="of the event-driven runs with sum [exact]")
    parser.add_argument("--workers", type=int, default=cores, metavar="N", help=f"processes besides training [{cores}]")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="seeds that are trained at the same time [1]")
    parser.add_argument("--out", metavar="DIR", help="folder of the experiment [results/deep-<number>]")
    parser.add_argument("--pack", metavar="DIR", help="write archives of results and networks there")
    parser.add_argument("--unpack", metavar="DIR", help="begin with these archives")
    options = parser.parse_args(arguments)
    option_checks.at_least_one(options, "recordings", "test", "batch_size", "epochs", "workers", "jobs")
    option_checks.experiment(options.seeds, options.minutes)
    return options


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
