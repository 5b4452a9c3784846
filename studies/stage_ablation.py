"""Train with MTT in variants: how much do its stages and samples matter, on time steps and without them?

python studies/stage_ablation.py                                                 # built-in data, three seeds
python studies/stage_ablation.py --dataset nmnist --data-root DIR --lr 5e-3    # any setting of training/run_mtt.py
python studies/stage_ablation.py --vary-blocks all 1 --vary-samples 3 --seeds 0  # less of it
python studies/stage_ablation.py --model dvsgesture_net --vary-calibration 0 10  # a network with batch norms
python studies/stage_ablation.py --out results/stage_ablation-001                # go on where it was stopped (Ctrl-C)

One factor at a time is moved away from g = 1, s = 3, c = 10 (MTT paper, ablations):

  g   blocks per stage. "all" is a single stage, which makes MTT the same as NMT; 1 is the finest cut.
  s   configurations of time steps per iteration. One iteration costs s forward and backward passes, so that more
      samples are also more computing.
  c   batches on which batch norms are measured again at T_max; 0 keeps the statistics of mixed time steps. Only for
      networks with norms. What a norm adds is a bias in every time step: measured at T_max, it fits no other T. The
      event-driven network has it as a constant current, which "fifo" does not know.

All seeds see the same recordings. Networks are kept in the results folder and trained only if they are not there.
In report.json an accuracy is [value, standard error].
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

# As in training/run_mtt.py: threads that spin while they wait would take the cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from mtt_brian import cli, files, mtt, plotting, snn
from mtt_brian.engines import ORDERS
from mtt_brian.errors import InputError
from mtt_brian.evaluate import accuracy, predictions
from mtt_brian.evaluate.statistics import gap, over_seeds
from mtt_brian.evaluate.tables import markdown_table, percent
from mtt_brian.experiments import inference, run_folder, study_cli
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.mtt import TrainConfig
from mtt_brian.plotting.axes import literal

#: Settings that one variant differs in from another.
Variant: TypeAlias = dict[str, Any]

#: Where the curves of both factors meet.
BASE: Variant = {"blocks_per_stage": 1, "samples": 3, "calibration_batches": 10}
#: Settings that this study chooses itself.
OWN = ("method", "seed", *BASE)


def main(arguments: Sequence[str] | None = None) -> None:
    options, shared = parse(arguments)
    levels = zip(BASE, (options.vary_blocks, options.vary_samples, options.vary_calibration), strict=True)
    factors = {key: [BASE | {key: level} for level in of_key] for key, of_key in levels}
    variants = {title(variant): variant for variant in [*itertools.chain(*factors.values()), BASE]}
    configs = {
        (name, seed): dataclasses.replace(shared, **variant, seed=seed)
        for name, variant in variants.items()
        for seed in options.seeds
    }
    splits = run_folder.load_splits(shared)
    test = run_folder.with_events(splits.test)
    norms = snn.norm.has_norms(mtt.build_model(shared, splits.train))
    if options.vary_calibration and not norms:
        raise InputError(f"--vary-calibration: {shared.model} has no batch norms")
    out = files.results_folder(options.out, "stage_ablation")
    print(f"{test.title}: {len(splits.train)} training, {len(test)} test recordings")
    print(f"{len(configs)} networks, MTT, T <= {shared.time_steps}, {shared.epochs} epochs -> {out}/runs")

    models: dict[tuple[str, int], Path] = {}
    for (name, seed), config in configs.items():
        print(f"{len(models) + 1}/{len(configs)}: {name}, seed {seed}")
        folder = out / "runs" / f"{name.replace(' = ', '-').replace(', ', '-')}-{seed}"
        models[name, seed] = run_folder.trained(config, splits, folder).model

    grids = sorted({1, shared.time_steps, options.fine})
    orders = ["sum"] if norms else ORDERS  # the currents that norms leave are not for a queue of single events
    places = {**{f"T = {t}": ("time-stepped", t) for t in grids}, **{order: (order, 1) for order in orders}}
    names = {f"{name}, seed {seed}, {place}": (name, seed, place) for name, seed in models for place in places}

    def answer(cell: str) -> dict[str, Any]:
        name, seed, place = names[cell]
        said = inference.predict(models[name, seed], test, *places[place])
        return {"answers": predictions(said.readouts).tolist(), "synops_per_recording": float(np.mean(said.synops))}

    settings = {k: v for k, v in shared.as_dict().items() if k not in (*OWN, *mtt.config.FREE_TO_CHANGE)}
    store = ResultStore(out / "cells.jsonl", settings | {"recordings": len(test)})
    cells = {name: result for (name,), result in store.fill([(name,) for name in names], answer, "testing").items()}
    results = {
        name: {place: summary(cells, name, place, options.seeds, test.labels) for place in places} for name in variants
    }

    report = {
        "dataset": test.name,
        "split": test.split,
        "n_recordings": len(test),
        "settings": settings,
        "seeds": options.seeds,
        "variants": {name: {**variants[name], "results": results[name]} for name in variants},
    }
    heading = f"Stages and samples of MTT: {test.title}, {test.split}, {len(test)} recordings"
    text = f"{table(results)}\n\n{caption(options.seeds)}"
    study_cli.write(out, report, heading, text, study_cli.command("stage_ablation", arguments))
    plot(results, factors, f"{test.title}, MTT, {shared.epochs} epochs", out / "stage_ablation.png")
    print(f"\n{text}\n\n{files.contents(out)}")


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, TrainConfig]:
    """The command line, and the training settings that all variants share."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="seeds of the training [0 1 2]"
    )
    parser.add_argument(
        "--vary-blocks",
        nargs="+",
        type=lambda text: None if text == "all" else int(text),
        default=[None, 2, 1],
        metavar="G",
        help="blocks per stage g [all 2 1]",
    )
    parser.add_argument(
        "--vary-samples", nargs="+", type=int, default=[1, 2, 3, 5], metavar="S", help="samples s [1 2 3 5]"
    )
    parser.add_argument(
        "--vary-calibration", nargs="+", type=int, default=[], metavar="C", help="calibration batches c [not varied]"
    )
    parser.add_argument(
        "--fine", type=int, default=150, metavar="T", help="a fine time grid to test on besides T = 1 and T_max [150]"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/stage_ablation-<number>]")
    mtt.config.add_options(parser)
    options = parser.parse_args(arguments)
    given = mtt.config.given_options(options)
    for key in OWN:
        if key in given:
            option = "--" + key.replace("_", "-")
            raise InputError(f"{option}: this study sets it itself; see --seeds and --vary-...")
    study_cli.at_least_one(options, "fine")
    return options, TrainConfig(**given, method="mtt", **BASE)


def title(variant: Variant) -> str:
    """``"g = all, s = 3"``, and c where it is moved."""
    batches = variant["calibration_batches"]
    moved = "" if batches == BASE["calibration_batches"] else f", c = {batches}"
    return f"g = {variant['blocks_per_stage'] or 'all'}, s = {variant['samples']}{moved}"


def summary(
    cells: Mapping[str, Any], name: str, place: str, seeds: Sequence[int], labels: np.ndarray
) -> dict[str, Any]:
    """One variant in one place: its accuracy, and how far it is from the base with the same seed."""
    own, base = ([cells[f"{n}, seed {seed}, {place}"] for seed in seeds] for n in (name, title(BASE)))
    accuracies = [accuracy(seed["answers"], labels) for seed in own]
    changes = [gap(seed["answers"], other["answers"], labels) for seed, other in zip(own, base, strict=True)]
    return {
        "accuracy": over_seeds(accuracies),
        "change": over_seeds(changes),
        "accuracy_by_seed": accuracies,
        "synops_per_recording": float(np.mean([seed["synops_per_recording"] for seed in own])),
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Variants below each other."""
    lines = []
    orders = [order for order in ORDERS if order in results[title(BASE)]]
    for name, places in results.items():
        accuracies = [percent(result["accuracy"]) for result in places.values()]
        changes = ["" if name == title(BASE) else percent(places[order]["change"], sign=True) for order in orders]
        lines.append([name, *accuracies, *changes, f"{places['sum']['synops_per_recording']:,.0f}"])
    header = [place if place.startswith("T") else f"`{place}`" for place in results[title(BASE)]]
    return markdown_table([["", *header, *(f"change, `{order}`" for order in orders), "SynOps, `sum`"], *lines])


def caption(seeds: Sequence[int]) -> str:
    error = f"mean ± standard error over {len(seeds)} seeds" if len(seeds) > 1 else "± binomial standard error, one run"
    return "\n".join(
        [
            f"Accuracy in %, {error}.",
            "g: blocks per stage (all: a single stage, the same as NMT); s: configurations per iteration;",
            f"c: calibration batches of batch norms, {BASE['calibration_batches']} where not given.",
            "`sum`, `fifo`: event-driven, the jumps of an instant summed, or every event alone.",
            f"Change: from {title(BASE)}, in points, seed by seed. SynOps: synaptic operations per recording.",
        ]
    )


def plot(results: Mapping[str, Any], factors: Mapping[str, Sequence[Variant]], heading: str, path: Path) -> None:
    """A panel per factor that was varied."""
    factors = {key: variants for key, variants in factors.items() if variants}
    factors = {key: variants for key, variants in factors.items() if len(variants) > 1} or factors
    with plotting.figure(path, (0.8 + 2.4 * len(factors), 2.8)) as figure:
        axes = figure.subplots(1, len(factors), sharey=True, squeeze=False)[0]
        for ax, (key, variants) in zip(axes, factors.items(), strict=True):
            for place in results[title(BASE)]:
                plotting.accuracy_against(
                    [str("all" if variant[key] is None else variant[key]) for variant in variants],
                    [results[title(variant)][place]["accuracy"] for variant in variants],
                    label=place if place.startswith("T") else f"event-driven, {place}",
                    ax=ax,
                )
            ax.set_xlabel(key.replace("_", " "))
            ax.set_ylabel("accuracy" if ax is axes[0] else "")
            ax.get_legend().remove()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
        figure.suptitle(literal(heading, 100))


if __name__ == "__main__":
    sys.exit(study_cli.run(main))
