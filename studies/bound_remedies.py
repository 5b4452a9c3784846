"""What helps a network on a target that clips its membranes: remedies compared on the same test recordings.

mtt-brian study bound_remedies                                       # the newest run under runs/
mtt-brian study bound_remedies runs/sdt-{0,1,2}                      # seeds of one method are averaged
mtt-brian study bound_remedies RUN --only none scales loop --out results/mine    # again with --out: what is missing

The target has the lower bound -1 threshold and single events (fifo). Every remedy starts from the same trained network:

  none        the network as it is
  sdt         fine-tuning on time steps with the bound, by SDT
  mtt         the same by MTT
  annealed    by SDT, while the bound rises from -4 to -1
  worst       by SDT, all inhibition of a time step in front of its excitation: v = max(v + inhibition, -1) + excitation
  penalty     as worst, and the charge that the bound cuts, per neuron and recording, is added to the loss
  free        by SDT without a bound, and the charge below -1 is added to the loss
  scales      weights times a factor per layer, chosen by the exact engine on training recordings; no gradient
  loop        fine-tuning with the exact engine in the loop
  repair      the loop with at most as many operations as without a bound, from weights that are scaled to need so many:
              mtt-brian repair

All fine-tunings have the same epochs, batches, optimiser and learning rate, on the training recordings only. Every
network is then run under the target's rule, with sums of instants (sum), and without a bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtt_brian import cli

cli.configure_threads()

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtt_brian import export
from mtt_brian.errors import InputError
from mtt_brian.evaluate.factorial import Groups, cell_name, effect
from mtt_brian.evaluate.tables import Column, Table, decimal, in_percent, words
from mtt_brian.events import Recordings
from mtt_brian.events.collections import some_of
from mtt_brian.events.datasets import check_not_a_reference
from mtt_brian.experiments import engine_in_the_loop, repair, run_folder, study_cli
from mtt_brian.experiments.gap import Rule, Target
from mtt_brian.experiments.option_checks import at_least_one
from mtt_brian.experiments.repair import AT_TARGET, OTHER_ORDER, UNBOUNDED, Repair
from mtt_brian.experiments.run_folder import Run
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt import MTT, TrainConfig
from mtt_brian.mtt.in_the_loop import LoopConfig, Outcome, fine_tune, frames_of
from mtt_brian.mtt.loop import configure_torch
from mtt_brian.snn import Residual, Spiking, Staged
from mtt_brian.snn.surrogate import Surrogate
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.nir_files import load_graph

#: Training recordings on which scales are compared and operations without a bound are counted.
SAMPLE = 200
#: Weight of the charge in the loss.
PENALTY = 0.1
RULES = {AT_TARGET: "fifo, bound -1", OTHER_ORDER: "sum, bound -1", UNBOUNDED: "fifo, no bound"}


@dataclass(frozen=True, eq=False)
class Case:
    """A run and what it is repaired with."""

    task: Repair
    train: Recordings
    sample: Recordings
    config: LoopConfig


Remedy = Callable[[Case], nir.NIRGraph]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    study = study_cli.open_study("bound_remedies", options, arguments)
    configure_torch(1, deterministic=False)
    keep_freed_memory()
    names = options.only or list(REMEDIES)
    keys = [(run, remedy) for run in study.runs for remedy in names]
    results = study.compute(
        keys,
        lambda run, remedy: measured(case_of(study.runs[run], options), REMEDIES[remedy], study.recordings),
        settings={"epochs": options.epochs, "lr": options.lr, "train_limit": options.train_limit},
    )
    cells = {
        cell_name(run, (remedy, rule)): cell for (run, remedy), found in results.items() for rule, cell in found.items()
    }
    study.write(
        study.facts | {"groups": study.groups, "remedies": cells},
        f"Remedies for a target with a lower bound: {study.data}",
        table(study.groups, names, cells),
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__, "study bound_remedies")
    study_cli.add_options(parser, "bound_remedies")
    parser.add_argument("--only", nargs="+", choices=list(REMEDIES), help="some of the remedies [all]")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="of every fine-tuning [5]")
    parser.add_argument(
        "--lr", type=float, default=0.03, metavar="RATE", help="relative to the size of a layer's weights [0.03]"
    )
    parser.add_argument("--train-limit", type=int, metavar="N", help="only N training recordings [all]")
    options = parser.parse_args(arguments)
    if options.only and set(options.only) <= set(UNTRAINED):
        parser.refuse_given(arguments, ["epochs", "lr"], f"{' and '.join(options.only)} train nothing")
    at_least_one(options, "limit", "epochs", "train_limit")
    return options


def case_of(run: Run, options: argparse.Namespace) -> Case:
    """The training recordings of the run, without those that it keeps for validation, and the target."""
    check_not_a_reference(run.config["dataset"], options.dataset)
    own = {"data_root": options.data_root or run.config.get("data_root")}
    config = TrainConfig(**run.config | own)
    train = run_folder.with_events(run_folder.load_splits(config).train)
    train = some_of(train, options.train_limit, seed=0)
    target = Target(order="fifo", lower_bound="-1.0 thresholds")
    task = Repair(load_graph(run.model), run.digest, Conventions(), Rule(bins=config.time_steps), target)
    loop = LoopConfig(epochs=options.epochs, lr=options.lr, time_steps=config.time_steps, seed=config.seed)
    return Case(task, train, some_of(train, SAMPLE, seed=0), loop)


def measured(case: Case, remedy: Remedy, recordings: Recordings) -> dict[str, Any]:
    """Cells of the remedied network by rule."""
    rules = {name: case.task.rules[name] for name in RULES}
    cells = repair.measure(case.task, remedy(case), recordings, recordings.labels, rules)
    return {name: {key: cell[key] for key in ("right", "synops_per_recording")} for name, cell in cells.items()}


# ----- remedies


def scales(case: Case) -> nir.NIRGraph:
    factors, _ = repair.choose_scales(case.task, case.sample)
    return repair.scaled(case.task.graph, factors)


def loop(case: Case) -> nir.NIRGraph:
    return engine_in_the_loop.tune(case.task, case.task.graph, case.train, case.config, None)[0]


def within_budget(case: Case) -> nir.NIRGraph:
    budget = repair.operations_without_bound(case.task, case.sample)
    factors, _ = repair.scale_to_budget(case.task, case.sample, budget)
    start = repair.scaled(case.task.graph, factors)
    return engine_in_the_loop.tune(case.task, start, case.train, case.config, budget)[0]


def on_time_steps(
    readouts_of: Callable[[Staged, Tensor, float], tuple[Sequence[Tensor], Tensor | float]],
) -> Remedy:
    """Fine-tuning on time steps.

    Args:
        readouts_of: the model, frames [T, N, C, H, W] and the part of the training that is done -> readouts of every
            configuration, and a term of the loss.
    """

    def remedy(case: Case) -> nir.NIRGraph:
        model = export.from_nir(case.task.graph)
        torch.manual_seed(case.config.seed)

        def outcome(batch: Sequence[np.ndarray], labels: Tensor, done: float) -> Outcome:
            frames = frames_of(model, batch, case.config.time_steps, case.train.sensor_size)
            each, more = readouts_of(model, frames, done)
            losses = [functional.cross_entropy(readouts.mean(0), labels) for readouts in each]
            return Outcome(torch.stack(losses).mean() + more, each[-1].mean(0))

        fine_tune(model, case.train, case.config, outcome)
        return export.with_weights(case.task.graph, model)

    return remedy


def sdt(model: Staged, frames: Tensor, done: float) -> tuple[Sequence[Tensor], float]:
    return [bounded(model, -1.0).readouts(frames, len(frames))], 0.0


def annealed(model: Staged, frames: Tensor, done: float) -> tuple[Sequence[Tensor], float]:
    return [bounded(model, -4.0 + 3.0 * min(1.0, done / 0.8)).readouts(frames, len(frames))], 0.0


def mtt(model: Staged, frames: Tensor, done: float) -> tuple[Sequence[Tensor], float]:
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    configurations = MTT(len(frames)).sample(rng, model.num_stages)
    return bounded(model, -1.0).readouts_of_each(frames, configurations), 0.0


def worst(model: Staged, frames: Tensor, done: float) -> tuple[Sequence[Tensor], float]:
    return [in_worst_order(model, frames, -1.0)[0]], 0.0


def penalty(model: Staged, frames: Tensor, done: float) -> tuple[Sequence[Tensor], Tensor]:
    readouts, cut = in_worst_order(model, frames, -1.0)
    return [readouts], PENALTY * cut


def free(model: Staged, frames: Tensor, done: float) -> tuple[Sequence[Tensor], Tensor]:
    readouts, cut = in_worst_order(model, frames, None)
    return [readouts], PENALTY * cut


def bounded(model: Staged, bound: float) -> Staged:
    """The model with another lower bound, changed in place."""
    for population in model.populations().values():
        population.rule = dataclasses.replace(population.rule, lower_bound=bound)
    return model


class _Spikes(torch.autograd.Function):
    """floor(v / threshold) spikes, with the surrogate gradient."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(v)
        ctx.of = threshold, surrogate
        return torch.floor(v / threshold).clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        threshold, surrogate = ctx.of
        return gradient * surrogate(ctx.saved_tensors[0], threshold), None, None


def in_worst_order(model: Staged, frames: Tensor, bound: float | None) -> tuple[Tensor, Tensor]:
    """A sequential network of IF neurons whose inhibition arrives in front of the excitation of the same time step.

    Returns:
        readouts [T, N, classes], and the charge below -1 threshold, summed over steps and layers, per neuron and
        recording.
    """
    x = frames.to(next(model.parameters()).dtype)
    cut = x.new_zeros(())
    excitation = inhibition = None
    for name, layer in model.layers():
        if isinstance(layer, Residual):
            raise InputError(f"layer {name!r}: the order of arrivals is tried in sequential networks only")
        if isinstance(layer, Spiking):
            assert excitation is not None
            assert inhibition is not None
            threshold, v, spikes = float(layer.rule.threshold or 1.0), torch.zeros_like(x[0]), []
            for up, down in zip(excitation, inhibition, strict=True):
                v = v + down
                cut = cut + functional.relu(-threshold - v).sum() / x[0].numel()
                v = (v if bound is None else v.clamp(min=bound * threshold)) + up
                n = _Spikes.apply(v, threshold, layer.surrogate)
                v = v - threshold * n
                spikes.append(n)
            x = torch.stack(spikes)
            continue
        steps = x.shape[:2]
        if isinstance(layer, nn.Conv2d | nn.Linear):
            excitation, inhibition = (
                _through(layer, part, x) for part in (layer.weight.relu(), -(-layer.weight).relu())
            )
            x = excitation + inhibition
        else:
            x = layer(x.flatten(0, 1)).unflatten(0, steps)
    return x, cut


def _through(layer: nn.Conv2d | nn.Linear, weight: Tensor, x: Tensor) -> Tensor:
    """The layer with another weight on frames [T, N, *]."""
    found = torch.func.functional_call(layer, {"weight": weight}, (x.flatten(0, 1),))
    return found.unflatten(0, x.shape[:2])


REMEDIES: dict[str, Remedy] = {
    "none": lambda case: case.task.graph,
    "sdt": on_time_steps(sdt),
    "mtt": on_time_steps(mtt),
    "annealed": on_time_steps(annealed),
    "worst": on_time_steps(worst),
    "penalty": on_time_steps(penalty),
    "free": on_time_steps(free),
    "scales": scales,
    "loop": loop,
    "repair": within_budget,
}
#: Those without a training.
UNTRAINED = ("none", "scales")


# ----- the table


def table(groups: Groups, remedies: Sequence[str], cells: Mapping[str, Any]) -> Table:
    """A row per remedy: accuracy under every rule, the change on the target, synaptic operations there."""
    columns = [words("remedy", remedies)]
    for group, names in groups.items():
        for rule, heading in RULES.items():
            columns.append(Column(group, heading, [in_percent(effect(cells, names, [(r, rule)])) for r in remedies]))
        reference = [("none", UNBOUNDED)] if "none" in remedies else []
        if reference:
            against = [in_percent(effect(cells, names, [(r, AT_TARGET)], reference), True) for r in remedies]
            columns.append(Column(group, "target minus no bound before", against))
        synops = [
            np.mean([cells[cell_name(n, (r, AT_TARGET))]["synops_per_recording"] for n in names]) for r in remedies
        ]
        columns.append(Column(group, "SynOps on the target", [decimal(float(s)) for s in synops]))
    return Table("Accuracy in %, by remedy", columns)


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
