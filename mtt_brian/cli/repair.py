"""Repairs a network for an event-driven target with a lower bound: by training in the loop, or by scales alone.

mtt-brian repair runs/digits-mtt-0-001                               # a run: its own recordings and time steps
mtt-brian repair RUN --epochs 0                                      # scales of the layers only, without PyTorch
mtt-brian repair RUN --target-order sum --target-bound -0.5          # another target
mtt-brian repair foreign.nir --tool sinabs --lower-bound none --time-per-step 1e-3 --dataset nmnist --data-root DIR
mtt-brian repair RUN --train-limit 300 --limit 100 --epochs 1        # a first look at a large network

A membrane at its lower bound discards inhibition that arrives before excitation. Time steps show little of it, because
they sum what arrives in a step. Two remedies, both on training recordings that the exact engine runs under the rule of
the target:

  in the loop  every iteration runs the batch on the engine; its spikes are the forward pass, the surrogate gradient of
               the time-stepped network is the backward pass; operations beyond --synops add to the loss. It starts
               from the largest factor of all weights with which the network needs at most --synops operations. A
               fifth of the training recordings, at most 200, is held back: the best epoch on them is kept, or the
               start if all epochs are worse. The learning rate is lowered while that lowers the loss of the first epoch
  scales       with --epochs 0: the weights in front of every population times a factor, first one for all, then one by
               one; those with the most correct predictions, and of equal ones those with the fewest operations

Before and after, the network is run on the test recordings under the target's rule, in the other order of arrivals,
without a bound, and on its own time steps. Differences are paired; p is that of the exact sign test (McNemar).

Written are model.nir, with the target's bound in its metadata, repair.json and repair.md; for a run also its
config.json, so that the folder is a run that mtt-brian eval reads. The same command with --out continues a repair
that was stopped.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtt_brian import cli, files
from mtt_brian.cli import gap as gap_command
from mtt_brian.cli import network_options
from mtt_brian.cli.gap import KEEP, Given
from mtt_brian.cli.network_options import Network
from mtt_brian.engines import ORDERS
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.events.collections import some_of, split_off
from mtt_brian.experiments import gap, option_checks, perturb_networks, repair, repair_report
from mtt_brian.experiments.gap import Target
from mtt_brian.experiments.repair import AT_TARGET, Repair
from mtt_brian.experiments.repair_report import RepairReport, Scales
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_files import CONFIG, MODEL
from mtt_brian.machine import keep_freed_memory
from mtt_brian.text import printable
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.nir_files import naming, write_graph

if TYPE_CHECKING:
    from mtt_brian.experiments.loop_search import LoopSearch
    from mtt_brian.mtt.in_the_loop import LoopConfig

#: Training recordings on which scales are compared and operations without a bound are counted, at most.
SCALED_ON = 200
#: Part of the training recordings that a training in the loop is chosen by, at most `SCALED_ON`.
HELD_BACK = 0.2
#: Files of an unfinished repair: its steps, and the state of the training in the loop.
STEPS_DONE, LOOP_STATE = "repair.jsonl", "in_the_loop.pt"
BEFORE = ("before",)
#: Time steps of the gradient where no run says how many.
STEPS = 10
#: Smallest value of --synops; the largest one is its inverse.
LEAST_SYNOPS = 1e-6


class Repaired(NamedTuple):
    """A repaired network and how it came about.

    Attributes:
        graph: the network.
        before, after: cells by name of the rule (`repair.measure`).
        scales: None: they were not changed.
        history: of the epochs in the loop; empty without any.
        trained_on: number of recordings; those of the data set without those that were held back.
    """

    graph: Any
    before: dict[str, Any]
    after: dict[str, Any]
    scales: Scales | None
    history: list[dict[str, Any]]
    trained_on: int


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    opened = network_options.open_network(options)
    if (options.dataset or opened.config.get("dataset")) is None:
        raise InputError("which recordings? --dataset names a data set with labels")
    test = gap_command.recordings_for(options, opened)
    train = _training(options, opened)
    name = opened.path.parent.name if opened.config else opened.path.name
    with naming(opened.path):
        task = Repair(
            opened.graph,
            files.file_digest(opened.path),
            network_options.conventions_from(options),
            gap_command.base_rule(options, opened),
            _target(options, opened),
        )
        _check(options, task, train)
    loop = _loop_config(options, opened) if options.epochs else None
    if loop:
        keep_freed_memory()
    out = files.results_folder(options.out, "repair")
    files.check_replaceable(out, (*repair_report.FILES, STEPS_DONE, LOOP_STATE))
    _check_kept(out, opened.path)
    with files.removed_if_empty(out):
        store = ResultStore(out / STEPS_DONE, _settings(options, task, train, test.recordings))
        if BEFORE not in store:  # a state without it is of another repair
            (out / LOOP_STATE).unlink(missing_ok=True)
        print(printable(f"{name}: {len(train):,} recordings to train on, {len(test.recordings):,} to test on -> {out}"))
        done = _repair(options, task, (train, test), loop, store)
    report = RepairReport(
        name, test.title, task.rules, done.before, done.after, options.synops, done.scales, done.history
    )
    print(f"\n{report.terminal()}\n")
    # A repair that ends in between leaves no network that could be taken for that of its report.
    (out / MODEL).unlink(missing_ok=True)
    report.write(
        out,
        {
            "network": task.digest,
            "conventions": task.conventions.given,
            "assumptions": opened.circuit.assumptions,
            "trained_on": {
                "title": f"{train.title}, {train.split}",
                "recordings": done.trained_on,
                "held_back": len(train) - done.trained_on,
            },
            "ids": list(test.recordings.ids),
            "options": {key: value for key, value in vars(options).items() if key not in ("network", "recordings")},
            "versions": files.versions(*gap.PACKAGES),
            "command": shlex.join([cli.PROGRAM, "repair", *(sys.argv[2:] if arguments is None else arguments)]),
        },
    )
    _write(out, opened, task, done.graph, done.history)
    store.remove()
    (out / LOOP_STATE).unlink(missing_ok=True)
    print(files.contents(out))


def _repair(
    options: argparse.Namespace,
    task: Repair,
    recordings: tuple[Recordings, Given],
    loop: LoopConfig | None,
    store: ResultStore,
) -> Repaired:
    """Scales and the training in the loop, measured before and after; steps that are in the store are not repeated.

    Args:
        recordings: to train on, and to test on.
        loop: None: no training in the loop.
        store: of the steps; the state of the training is kept beside it.
    """
    train, test = recordings

    def measured(graph: Any, rules: Any = None) -> dict[str, Any]:
        assert test.labels is not None  # those of a data set
        return repair.measure(task, graph, test.recordings, test.labels, rules)

    before = store.once(BEFORE, lambda: measured(task.graph))
    if loop:
        sample, rest = split_off(train, max(1, min(SCALED_ON, round(HELD_BACK * len(train)))), seed=0)
    else:
        sample, rest = some_of(train, SCALED_ON, seed=0), train
    budget = None
    if options.synops is not None:
        counted = store.once(("operations without a bound",), lambda: repair.operations_without_bound(task, sample))
        budget = options.synops * counted
    graph, scales = task.graph, None
    found = store.once(("scales",), lambda: _scales(options, task, sample, budget))
    if found is not None:
        factors, tried = found
        graph = repair.scaled(graph, factors)
        at_target = store.once(("scaled",), lambda: measured(graph, {AT_TARGET: task.rule})[AT_TARGET])
        scales = Scales(factors, tried, at_target)
    history: list[dict[str, Any]] = []
    if loop:
        search = _search(options, task, graph, (rest, sample), loop, budget)
        state = store.path.with_name(LOOP_STATE)
        graph, history = search.run(state, lambda line: print(printable(line), flush=True))
    after = store.once(("after",), lambda: measured(graph))
    return Repaired(graph, before, after, scales, history, len(rest))


def _settings(options: argparse.Namespace, task: Repair, train: Recordings, test: Any) -> dict[str, Any]:
    """All that the steps of a repair depend on."""
    return {
        **task.task(task.graph, task.rules).settings(),
        **{
            f"--{k.replace('_', '-')}": v for k, v in vars(options).items() if k not in ("network", "recordings", "out")
        },
        "train": list(train.ids),
        "test": list(test.ids),
    }


def _check(options: argparse.Namespace, task: Repair, train: Recordings) -> None:
    """Refuses what cannot be before anything is written.

    Raises:
        InputError: naming it.
    """
    for rule in task.rules.values():
        task.task(task.graph, {}).circuit(rule)
    if options.scales:
        try:
            perturb_networks.weights_of_populations(task.graph)
        except InputError as error:
            raise InputError(f"{error}; --no-scales leaves all scales as they are") from None
    if options.epochs:
        from mtt_brian.experiments import engine_in_the_loop

        if len(train) < 2:
            raise InputError("in the loop: one recording to train on and one to choose by are needed; there is one")
        engine_in_the_loop.trainable(task, task.graph, train)


def _check_kept(out: Path, network: Path) -> None:
    """Refuses a folder in which the repair would replace the given network, or files that no repair wrote.

    Raises:
        InputError: naming the file.
    """
    for name in (MODEL, CONFIG):
        path = out / name
        if not os.path.lexists(path):
            continue
        if name == MODEL and path.exists() and path.samefile(network):
            raise InputError(
                f"--out {out}: {path} is the network to repair, and would be replaced; name another folder"
            )
        if not (out / repair_report.REPORT).is_file():
            raise InputError(f"--out {out}: {path} is of no repair, and would be replaced; name another folder")


def _scales(
    options: argparse.Namespace, task: Repair, sample: Recordings, budget: float | None
) -> tuple[dict[str, float], list[dict[str, Any]]] | None:
    """Factors of the weights and all that were tried; None: they stay as they are."""
    if not options.scales:
        return None
    if not options.epochs:
        return repair.choose_scales(task, sample)
    return None if budget is None else repair.scale_to_budget(task, sample, budget)


def _search(
    options: argparse.Namespace,
    task: Repair,
    graph: Any,
    recordings: tuple[Recordings, Recordings],
    loop: LoopConfig,
    budget: float | None,
) -> LoopSearch:
    """The training in the loop on the first recordings, and its choice on the second ones."""
    from mtt_brian.experiments import loop_search
    from mtt_brian.mtt.loop import configure_torch

    configure_torch(options.threads, deterministic=False)
    rates = loop_search.RATES if options.lr is None else (options.lr,)
    return loop_search.LoopSearch(task, graph, *recordings, loop, rates, budget)


def _write(out: Path, opened: Network, task: Repair, graph: Any, history: Sequence[Any]) -> None:
    """The network, and for a run its settings: those of its training, with the bound and the epochs of the repair."""
    if opened.config:
        # A run has one threshold and one bound.
        bound = next(p.rule.lower_bound for p in task.task(graph, {}).circuit(task.rule).populations if p.rule.fires)
        changed = {"init": str(opened.path.parent), "lower_bound": bound}
        if "epochs" in opened.config:  # so that no study takes both runs for seeds of one training
            kept = (epoch["epoch"] for epoch in history if epoch["kept"])
            changed["epochs"] = opened.config["epochs"] + next(kept, 1)
        files.write_json(out / CONFIG, opened.config | changed)
    write_graph(out / MODEL, task.finished(graph))


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "repair")
    network_options.add_options(parser)
    network_options.add_data_set(parser)
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only N test recordings, the same random ones every time [all]"
    )
    parser.add_argument("--train-limit", type=int, metavar="N", help="only N training recordings, likewise [all]")
    network_options.add_time_step(parser)
    target = parser.add_argument_group("the target")
    target.add_argument("--target-order", choices=ORDERS, help="single events, or sums of instants [fifo if it exists]")
    target.add_argument(
        "--target-bound",
        metavar="V",
        default="-1 thresholds",
        help="lower bound: a potential, or thresholds [-1 thresholds]",
    )
    target.add_argument(
        "--target-bits", type=gap_command.bits, default=KEEP, metavar="N|keep", help="of the weights [keep]"
    )
    remedies = parser.add_argument_group("remedies")
    remedies.add_argument(
        "--no-scales", dest="scales", action="store_false", help="leave the scales of the layers as they are"
    )
    remedies.add_argument("--epochs", type=int, default=5, metavar="N", help="in the loop; 0: none [5]")
    remedies.add_argument("--batch-size", type=int, default=32, metavar="N", help="recordings per iteration [32]")
    remedies.add_argument(
        "--lr",
        type=_number_or("auto"),
        metavar="RATE",
        help="peak learning rate, relative to the root mean square of a layer's weights; auto: of 0.03, 0.01, "
        "0.003 and 0.001 the smallest with the lowest loss in the first epoch, within its error [auto]",
    )
    remedies.add_argument(
        "--gradient-steps",
        type=int,
        metavar="T",
        help=f"time steps in which spikes are counted for the gradient [of the run's training, or {STEPS}]",
    )
    remedies.add_argument(
        "--shift", type=int, default=1, metavar="PIXELS", help="augmentation: move by up to so many pixels [1]"
    )
    remedies.add_argument(
        "--synops",
        type=_number_or("none"),
        default=1.0,
        metavar="X|none",
        help="synaptic operations that the repaired network may need, in multiples of those without a bound [1]",
    )
    remedies.add_argument("--seed", type=int, default=0, metavar="SEED", help="of order and augmentation [0]")
    remedies.add_argument("--threads", type=int, default=1, metavar="N", help="of torch [1]")
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/repair-<number>]")
    # As for mtt-brian gap, which reads recordings one by one, too.
    parser.set_defaults(recordings=[], split="test")
    return parser


def _number_or(word: str) -> Callable[[str], float | None]:
    """The type of an option: a number, or a word for None."""

    def number(text: str) -> float | None:
        return None if text == word else float(text)

    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options that are given.

    Raises:
        InputError: for a number out of range.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.epochs == 0:
        of_the_loop = ("batch_size", "lr", "gradient_steps", "shift", "seed", "threads")
        parser.refuse_given(arguments, of_the_loop, "--epochs 0 trains nothing in the loop")
    option_checks.at_least_one(options, "limit", "train_limit", "time_steps", "batch_size", "gradient_steps", "threads")
    if options.epochs < 0:
        raise InputError(f"--epochs must be at least 0, not {options.epochs}")
    if options.synops is not None and not LEAST_SYNOPS <= options.synops <= 1 / LEAST_SYNOPS:
        raise InputError(
            f"--synops must be a number from {LEAST_SYNOPS:g} to {1 / LEAST_SYNOPS:g}, or none, not {options.synops}"
        )
    if not options.scales and not options.epochs:
        raise InputError("--no-scales with --epochs 0 leaves nothing to do")
    return options


def _training(options: argparse.Namespace, opened: Network) -> Recordings:
    """The training split of the data set, or some of it."""
    given = gap_command.recordings_for(
        argparse.Namespace(**vars(options) | {"split": "train", "limit": options.train_limit}), opened
    )
    assert isinstance(given.recordings, Recordings)
    return given.recordings


def _target(options: argparse.Namespace, opened: Network) -> Target:
    bound = Conventions(lower_bound=options.target_bound).lower_bound
    if bound == "none":
        raise InputError("--target-bound none: without a lower bound there is nothing to repair")
    order = gap.usual_target(opened.circuit, options.target_order).order
    return Target(order=order, lower_bound=bound, bits=None if options.target_bits == KEEP else options.target_bits)


def _loop_config(options: argparse.Namespace, opened: Network) -> LoopConfig:
    from mtt_brian.mtt.in_the_loop import LoopConfig

    return LoopConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        **{} if options.lr is None else {"lr": options.lr},
        time_steps=options.gradient_steps or opened.config.get("time_steps") or STEPS,
        shift=options.shift,
        seed=options.seed,
    )
