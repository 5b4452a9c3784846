"""Repair of a network for an event-driven target: other scales of its layers, and fine-tuning with the target in the
loop.

A lower bound cuts inhibition that arrives in front of excitation, one arrival after another; time steps do not show it.
Two remedies work, both on training recordings that the exact engine runs under the target's rule:

* **Scales.** Weights times a factor below 1, layer by layer, are smaller beside the bound. An IF network without a
  bound only fires less; under a bound it also loses less.
* **In the loop** (`engine_in_the_loop`): the engine's spikes forward, the surrogate gradient backward.

Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import nir
import numpy as np

from mtt_brian.engines import Simulator
from mtt_brian.errors import InputError
from mtt_brian.evaluate import predictions
from mtt_brian.evaluate.factorial import as_bits
from mtt_brian.events import Recordings
from mtt_brian.experiments import gap, perturb_networks
from mtt_brian.experiments.backend import divide
from mtt_brian.experiments.gap import GapTask, GivenRecordings, Rule, Target
from mtt_brian.progress import progress_bar
from mtt_brian.translate.conventions import NONE, Conventions

#: Factors of all layers that are tried first.
FACTORS = (1.0, 0.85, 0.7, 0.6, 0.5, 0.42, 0.35, 0.3)
#: Then of every layer alone, relative to that.
REFINED = (0.8, 1.25)
#: Recordings in memory together.
SHARD = 50
#: Names of the rules under which a network is measured.
AT_TARGET, OTHER_ORDER, UNBOUNDED, STEPPED = "target", "other order", "without bound", "time steps"


@dataclass(frozen=True, eq=False)
class Repair:
    """A network, and the target that it is repaired for.

    Attributes:
        graph: the network.
        digest: SHA-256 of its file.
        conventions: facts that the file does not contain.
        base: its own time-stepped rule.
        target: the rule of the target.
    """

    graph: nir.NIRGraph
    digest: str
    conventions: Conventions
    base: Rule
    target: Target

    @property
    def rule(self) -> Rule:
        """The rule of the target."""
        return Rule(**{field: getattr(self.target, field) for field in ("order", "spikes", "lower_bound", "bits")})

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules under which a network is measured, the target first."""
        other = dataclasses.replace(self.rule, order="sum" if self.rule.order == "fifo" else "fifo")
        unbounded = Rule(order=self.target.order, lower_bound=NONE)
        # A network that cannot run in a queue of single events has sums only.
        others = {OTHER_ORDER: other} if self.rule.order == "fifo" else {}
        return {AT_TARGET: self.rule, **others, UNBOUNDED: unbounded, STEPPED: self.base}

    def task(self, graph: nir.NIRGraph, rules: Mapping[str, Rule]) -> GapTask:
        """A graph of the same form under some rules."""
        return GapTask(graph, self.digest, self.conventions, tuple(rules.items()))

    def simulator(self, graph: nir.NIRGraph, rule: Rule, record: Any) -> Simulator:
        """The exact engine for a graph of the same form."""
        return Simulator(self.task(graph, {}).circuit(rule), order=rule.order, record=record)

    def finished(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """The graph with the target's lower bound in its metadata."""
        bound = self.target.lower_bound
        return graph if bound is None else perturb_networks.with_bound(graph, bound)


def measure(
    repair: Repair,
    graph: nir.NIRGraph,
    recordings: Recordings | GivenRecordings,
    labels: np.ndarray,
    rules: Mapping[str, Rule] | None = None,
) -> dict[str, Any]:
    """Cells (`gap.merge`) of a network by name of the rule.

    Args:
        repair: the target.
        graph: the network.
        recordings: N of them.
        labels: classes [N].
        rules: by name; None: `Repair.rules`.
    """
    task = repair.task(graph, repair.rules if rules is None else rules)
    evaluator = task.evaluator()
    shards = divide("", task, recordings, SHARD)
    with progress_bar(total=len(recordings) * task.passes, description="measuring", unit="runs") as bar:
        parts = [evaluator.evaluate(shard.recordings, bar.update) for shard in shards]
    return gap.merge(parts, labels)


# ----- scales


class Score(NamedTuple):
    """How well a network does under the target's rule.

    Attributes:
        right: which predictions are right, see `evaluate.factorial.as_bits`.
        synops: mean synaptic operations per recording.
    """

    right: str
    synops: float

    @property
    def correct(self) -> int:
        """Number of right predictions."""
        return self.right.count("1")

    @property
    def key(self) -> tuple[int, float]:
        """A larger one is better."""
        return self.correct, -self.synops


def score(repair: Repair, graph: nir.NIRGraph, recordings: Recordings, bar: Any) -> Score:
    """The score of a network of the same form.

    Args:
        repair: the target.
        graph: the network.
        recordings: with labels.
        bar: of the progress, in runs of a recording.
    """
    found = []
    for result in repair.simulator(graph, repair.rule, "counts").run(recordings):
        found.append((int(predictions(result.readout)), result.synops))
        bar.update()
    right = np.array([k for k, _ in found]) == np.asarray(recordings.labels)
    return Score(as_bits(right), float(np.mean([n for _, n in found])))


class _Trials:
    """Networks with other scales on training recordings, under the target's rule.

    Args:
        repair: the network and its target.
        recordings: of the training.
        bar: of the progress, in runs of a recording.
    """

    def __init__(self, repair: Repair, recordings: Recordings, bar: Any) -> None:
        self._repair, self._recordings, self._bar = repair, recordings, bar
        self.tried: list[dict[str, Any]] = []

    def score(self, factors: Mapping[str, float]) -> Score:
        value = score(self._repair, scaled(self._repair.graph, factors), self._recordings, self._bar)
        self.tried.append({"factors": dict(factors), "correct": value.correct, "synops": value.synops})
        return value

    def best(self, candidates: Iterable[dict[str, float]]) -> tuple[dict[str, float], Score]:
        """The first of the best ones."""
        return max(((c, self.score(c)) for c in candidates), key=lambda pair: pair[1].key)


def choose_scales(repair: Repair, recordings: Recordings) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Factors of the weights in front of every firing population: first the same for all, then one by one.

    The best are those with the most correct predictions under the target's rule; of equal ones, those with the fewest
    synaptic operations.

    Args:
        repair: the network and its target.
        recordings: of the training.

    Returns:
        the factor of every population, and all that was tried.
    """
    groups = perturb_networks.weights_of_populations(repair.graph)
    count = (len(FACTORS) + len(groups) * len(REFINED)) * len(recordings)
    with progress_bar(total=count, description="scales", unit="runs") as bar:
        trials = _Trials(repair, recordings, bar)
        best, found = trials.best(dict.fromkeys(groups, f) for f in FACTORS)
        for name in groups:
            other, value = trials.best([best | {name: best[name] * factor} for factor in REFINED])
            if value.key > found.key:
                best, found = other, value
    return best, trials.tried


def scale_to_budget(
    repair: Repair, recordings: Recordings, budget: float
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The largest factor of all weights with which the network stays within a budget on the target.

    Fine-tuning in the loop starts from there: fewer spikes would carry less, and cost accuracy.

    Args:
        repair: the network and its target.
        recordings: of the training.
        budget: mean synaptic operations per recording.

    Returns:
        the factor of every population, the smallest of `FACTORS` if all need more; and all that was tried.
    """
    groups = perturb_networks.weights_of_populations(repair.graph)
    count = len(FACTORS) * len(recordings)
    with progress_bar(total=count, description="scales", unit="runs", leave=False) as bar:
        trials = _Trials(repair, recordings, bar)
        for factor in FACTORS:
            factors = dict.fromkeys(groups, factor)
            if trials.score(factors).synops <= budget:
                break
    return factors, trials.tried


def scaled(graph: nir.NIRGraph, factors: Mapping[str, float]) -> nir.NIRGraph:
    """The weights in front of every population times its factor."""
    groups = perturb_networks.weights_of_populations(graph)
    return perturb_networks.scaled_weights(graph, {node: f for name, f in factors.items() for node in groups[name]})


def operations_without_bound(repair: Repair, recordings: Recordings) -> float:
    """Mean synaptic operations of the network as it is, without a lower bound.

    Raises:
        InputError: if there are none.
    """
    results = repair.simulator(repair.graph, repair.rules[UNBOUNDED], "counts").run(recordings)
    bar = progress_bar(
        results, total=len(recordings), description="operations without a bound", unit="runs", leave=False
    )
    synops = float(np.mean([result.synops for result in bar]))
    if not synops:
        raise InputError(
            f"{len(recordings):,} training recordings cause no synaptic operation in the network without a bound, so "
            "that there is nothing to repair: its weights are 0, or the recordings have no events"
        )
    return synops
