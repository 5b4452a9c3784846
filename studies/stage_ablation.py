"""Train with MTT in variants: how much do its stages and samples matter, time-stepped and event-driven?

mtt-brian study stage_ablation                                                 # built-in data, three seeds
mtt-brian study stage_ablation --dataset nmnist --data-root DIR --lr 5e-3    # any setting of mtt-brian train
mtt-brian study stage_ablation --vary-blocks all 1 --vary-samples 3 --seeds 0  # less of it
mtt-brian study stage_ablation --model dvsgesture_net --vary-calibration 0 10  # a network with batch norms
mtt-brian study stage_ablation --out results/stage_ablation-001                # go on where it was stopped (Ctrl-C)

One factor at a time is moved away from g = 1, s = 3, c = 10 (MTT paper, ablations):

  g   blocks per stage. "all" is a single stage, which makes MTT the same as NMT; 1 is the finest cut.
  s   configurations of time steps per iteration. One iteration costs s forward and backward passes, so that more
      samples are also more computing.
  c   batches on which batch norms are measured again at T_max; 0 keeps the statistics of mixed time steps. Only for
      networks with norms. What a norm adds is a bias in every time step: measured at T_max, it fits no other T. The
      event-driven network has it as a constant current, which "fifo" cannot run.

All seeds see the same recordings. Networks are kept in the results folder and trained only if they are not there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtt_brian import cli

cli.configure_threads()

import numpy as np

from mtt_brian import files, mtt, plotting, snn
from mtt_brian.engines import ORDERS
from mtt_brian.errors import InputError
from mtt_brian.experiments import inference, option_checks, run_folder
from mtt_brian.experiments.inference import Condition
from mtt_brian.experiments.study_cli import Study
from mtt_brian.experiments.variants import BASE, Variant, VariantResult, compare, result_table, train_variants
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt import TrainConfig
from mtt_brian.plotting import AccuracyLine, AccuracyPanel
from mtt_brian.text import number_of

#: Settings that this study chooses itself.
OWN = ("method", "seed", *Variant._fields)


def main(arguments: Sequence[str] | None = None) -> None:
    options, shared = parse(arguments)
    keep_freed_memory()
    splits = run_folder.load_splits(shared)
    test = run_folder.with_events(splits.test)
    has_norms = snn.norm.has_norms(mtt.build_model(shared, splits.train))
    if options.vary_calibration and not has_norms:
        raise InputError(f"--vary-calibration: {shared.model} has no batch norms")
    factors = {
        "blocks_per_stage": [BASE._replace(blocks_per_stage=g) for g in options.vary_blocks],
        "samples": [BASE._replace(samples=s) for s in options.vary_samples],
        "calibration_batches": [BASE._replace(calibration_batches=c) for c in options.vary_calibration],
    }
    variants = list(dict.fromkeys([*(variant for levels in factors.values() for variant in levels), BASE]))

    out = files.results_folder(options.out, "stage_ablation")
    settings = {k: v for k, v in shared.as_dict().items() if k not in (*OWN, *mtt.config.FREE_TO_CHANGE)}
    study = Study("stage_ablation", arguments, test, out, settings | {"recordings": len(test)})
    print(f"{test.title}: {len(splits.train)} training, {len(test)} test recordings -> {out}")
    trained = train_variants(shared, variants, options.seeds, splits, out / "runs")
    models = {(str(variant), seed): run.model for (variant, seed), run in trained.items()}

    # The constant currents that norms become are not for a queue of single events.
    conditions = [Condition("time-stepped", t) for t in sorted({1, shared.time_steps, options.fine})]
    conditions += [Condition(order) for order in ORDERS if order == "sum" or not has_norms]

    def predict(variant: str, seed: int, *condition: Any) -> dict[str, Any]:
        predicted = inference.predict(models[variant, seed], test, *condition)
        return {"classes": predicted.classes.tolist(), "synops": float(np.mean(predicted.synops))}

    cells = study.compute([(*model, *condition) for model in models for condition in conditions], predict)

    def result(variant: Variant, condition: Condition) -> VariantResult:
        own, base = ([cells[str(v), seed, *condition] for seed in options.seeds] for v in (variant, BASE))
        return compare(own, base, test.labels)

    results = {variant: {c: result(variant, c) for c in conditions} for variant in variants}

    plot(results, factors, f"{test.title}, MTT, {number_of(shared.epochs, 'epoch')}", out / "stage_ablation.png")
    by_variant = {str(v): {**v._asdict(), "results": {str(c): r for c, r in of.items()}} for v, of in results.items()}
    report = study.facts | {"settings": settings, "seeds": options.seeds, "variants": by_variant}
    study.write(report, f"Stages and samples of MTT: {study.data}", result_table(results), caption(options.seeds))


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, TrainConfig]:
    """The command line, and the training settings that all variants share."""
    parser = cli.parser(__doc__, "study stage_ablation")

    def add(option: str, default: list[Any], metavar: str, text: str, convert: Any = int) -> None:
        parser.add_argument(option, nargs="+", type=convert, default=default, metavar=metavar, help=text)

    add("--seeds", [0, 1, 2], "SEED", "seeds of the training [0 1 2]")
    add("--vary-blocks", [None, 2, 1], "G", "blocks per stage g [all 2 1]", lambda t: None if t == "all" else int(t))
    add("--vary-samples", [1, 2, 3, 5], "S", "samples s [1 2 3 5]")
    add("--vary-calibration", [], "C", "calibration batches c [not varied]")
    large = "a large T to test with besides T = 1 and T_max [150]"
    parser.add_argument("--fine", type=int, default=150, metavar="T", help=large)
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/stage_ablation-<number>]")
    mtt.config.add_options(parser)
    options = parser.parse_args(arguments)
    given = mtt.config.given_options(options)
    if taken := [key for key in OWN if key in given]:
        raise InputError(f"--{taken[0].replace('_', '-')}: this study sets it itself; see --seeds and --vary-...")
    option_checks.at_least_one(options, "fine")
    option_checks.experiment(options.seeds)
    return options, TrainConfig(**given, method="mtt", **BASE._asdict())


def caption(seeds: Sequence[int]) -> str:
    error = f"mean ± standard error over {len(seeds)} seeds" if len(seeds) > 1 else "± binomial standard error, one run"
    return f"""\
Accuracy in %, {error}.
g: blocks per stage (all: a single stage, the same as NMT); s: configurations per iteration;
c: calibration batches of batch norms, {BASE.calibration_batches} where not given.
`sum`, `fifo`: event-driven, the jumps of an instant summed, or every event alone.
Change: from {BASE}, in points, seed by seed. SynOps: synaptic operations per recording."""


def plot(
    results: Mapping[Variant, Mapping[Condition, VariantResult]],
    factors: Mapping[str, Sequence[Variant]],
    title: str,
    path: Path,
) -> None:
    """A panel per factor that was varied."""
    given = {key: variants for key, variants in factors.items() if variants}
    panels = []
    for key, variants in ({k: v for k, v in given.items() if len(v) > 1} or given).items():
        levels = ["all" if (level := getattr(variant, key)) is None else str(level) for variant in variants]
        curves = {c: [results[variant][c].accuracy for variant in variants] for c in results[BASE]}
        lines = [AccuracyLine(str(c), None, curve) for c, curve in curves.items()]
        panels.append(AccuracyPanel(levels, key.replace("_", " "), lines))
    with plotting.figure(path, (0.8 + 2.4 * len(panels), 2.8)) as figure:
        plotting.accuracy_panels(figure, panels, title, columns=len(panels))


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
