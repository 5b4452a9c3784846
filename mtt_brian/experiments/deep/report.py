"""The report of the experiment: accuracy by condition, paired comparisons, the way to a chip's rule, the score."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import plotting
from mtt_brian.evaluate import Estimate, flexibility, gap_tables
from mtt_brian.evaluate.factorial import UNCHANGED, Combination, effect, from_bits, title
from mtt_brian.evaluate.sign_test import sign_test
from mtt_brian.evaluate.statistics import mean_estimate, over_seeds
from mtt_brian.evaluate.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    decimal,
    fraction,
    in_percent,
    p_value,
    ranking,
    whole,
    words,
)
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS, Flexibility
from mtt_brian.experiments.deep.event_driven import Results
from mtt_brian.experiments.deep.plan import TIME_STEPS as T_MAX
from mtt_brian.experiments.deep.plan import Network
from mtt_brian.experiments.gap_report import cells_of
from mtt_brian.plotting import SweepCurve
from mtt_brian.plotting.axes import literal

SUM, FIFO = "instants", "fifo"
#: Keys of `gap.merge`.
_SYNOPS, _DECISION = "synops_per_recording", "median_decision_seconds"
#: Compared in pairs: what, and the labels without their bound.
COMPARISONS = (
    ("MTT", "SDT"),
    ("NMT", "SDT"),
    ("MTT", "SDT, equal compute"),
    ("MTT", "NMT"),
    ("MTT from the start", "SDT"),
)


@dataclass(frozen=True, eq=False)
class Measured:
    """One network.

    Attributes:
        network: which.
        correct: by condition (``"T = 10"``, `SUM`, `FIFO`), for each test recording 1 if it is classified right, 0 if
            not, NaN if it was not run: float64 [N].
        event_driven: results of `SUM` and `FIFO`, see `gap.merge`, as far as they were run.
        way: those of all rules on the way to a chip, for some recordings; empty if there are none.
    """

    network: Network
    correct: Mapping[str, np.ndarray]
    event_driven: Mapping[str, Mapping[str, Any]]
    way: Mapping[str, Mapping[str, Any]]

    @property
    def score(self) -> Flexibility | None:
        """The flexibility on the recordings that were run under all its conditions; None without any."""
        ran = np.all([np.isfinite(self.correct[c]) for c in (*(f"T = {t}" for t in TIME_STEPS), SUM)], axis=0)
        if not ran.any():
            return None
        return flexibility({t: self.correct[f"T = {t}"][ran] for t in TIME_STEPS}, self.correct[SUM][ran])


def measured(
    network: Network,
    stepped: Mapping[int, Sequence[int | None]],
    labels: Sequence[int],
    ran: Sequence[Results],
    way: Results,
) -> Measured:
    """A network from its time-stepped predictions (None: not run) and its event-driven results."""
    conditions = [*(f"T = {t}" for t in TIME_STEPS), SUM, FIFO]
    correct = {condition: np.full(len(labels), np.nan) for condition in conditions}
    for t, predicted in stepped.items():
        classes = np.array(predicted, dtype=float)  # NaN: not run
        correct[f"T = {t}"] = np.where(np.isnan(classes), np.nan, classes == labels)
    for numbers, rules in ran:
        for name, result in rules.items():
            correct[name][numbers] = from_bits(result["right"])
    return Measured(network, correct, {name: rule for each in ran for name, rule in each.rules.items()}, way.rules)


Groups = Mapping[str, Sequence[Measured]]


def by_label(every: Sequence[Measured]) -> dict[str, list[Measured]]:
    """The seeds of each kind of network."""
    groups: dict[str, list[Measured]] = {}
    for one in every:
        groups.setdefault(one.network.label, []).append(one)
    return groups


def accuracy_of(seeds: Sequence[Measured], condition: str) -> Estimate | None:
    """Mean over the seeds; None if one of them was not run under this condition."""
    each = [_mean(seed.correct[condition]) for seed in seeds]
    known = [one for one in each if one is not None]
    return over_seeds(known) if len(known) == len(each) else None


def _mean(values: np.ndarray) -> Estimate | None:
    """Mean of the recordings that were run, with its standard error; None if there are none."""
    values = values[np.isfinite(values)]
    return mean_estimate(values) if values.size else None


def _recordings(seeds: Sequence[Measured], condition: str) -> int:
    """The smallest number of recordings of a seed."""
    return min(int(np.isfinite(seed.correct[condition]).sum()) for seed in seeds)


def tables(groups: Groups) -> list[Table]:
    """All tables of the report."""
    return [
        accuracies(groups),
        losses(groups),
        comparisons(groups),
        *ways(groups),
        costs(groups),
        spikes(groups),
        ranking({label: [score for seed in seeds if (score := seed.score)] for label, seeds in groups.items()}),
    ]


def accuracies(groups: Groups) -> Table:
    """A row per kind of network: accuracy at every T and event-driven."""
    rows = list(groups.values())
    conditions = {f"T = {t}": f"T = {t}" for t in TIME_STEPS} | {SUM: "event-driven, sum", FIFO: "fifo"}
    return Table(
        "Accuracy in %, mean over the seeds",
        [
            words("network", groups),
            Column("", "seeds", [whole(len(seeds)) for seeds in rows]),
            *(
                Column("", title, [in_percent(accuracy_of(seeds, condition)) for seeds in rows])
                for condition, title in conditions.items()
            ),
            *(
                Column("recordings", title, [whole(_recordings(seeds, condition)) for seeds in rows])
                for condition, title in (("T = 1", "T"), (SUM, "sum"), (FIFO, "fifo"))
            ),
        ],
    )


def costs(groups: Groups) -> Table:
    """Synaptic operations and decision time of the networks that were run event by event."""
    rows = {label: seeds for label, seeds in groups.items() if any(seed.event_driven for seed in seeds)}

    def cells(unit: str, key: str, factor: float) -> list[Column]:
        columns = []
        for rule, name in (("time-stepped", "T_max"), (SUM, "sum"), (FIFO, "fifo")):
            found = [[_rules(seed).get(rule, {}).get(key) for seed in seeds] for seeds in rows.values()]
            known = [[value for value in each if value is not None] for each in found]
            means = [float(np.mean(k)) if len(k) == len(each) else None for k, each in zip(known, found, strict=True)]
            columns.append(Column(unit, name, [_scaled(mean, factor) for mean in means]))
        return columns

    return Table(
        "Synaptic operations and decision time, means over the seeds",
        [
            words("network", rows),
            *cells("SynOps, millions", _SYNOPS, 1e-6),
            *cells("median decision time, ms", _DECISION, 1e3),
        ],
    )


def _rules(one: Measured) -> dict[str, Mapping[str, Any]]:
    """The results of all rules; of the event-driven ones those of all recordings."""
    return {**one.way, **one.event_driven}


def _scaled(value: float | None, factor: float) -> Cell:
    return MISSING if value is None else decimal(value * factor)


def spikes(groups: Groups) -> Table:
    """Spike difference of the event-driven run from the time-stepped one, layer by layer."""
    rows = {label: seeds for label, seeds in groups.items() if all(seed.way for seed in seeds)}
    layers = list(next(iter(rows.values()))[0].way[SUM]["spike_difference"]) if rows else []

    def mean(seeds: Sequence[Measured], layer: str) -> float | None:
        values = [seed.way[SUM]["spike_difference"][layer] for seed in seeds]
        return None if None in values else float(np.mean(values))

    return Table(
        "Spike difference of sum from T_max in %, by layer",
        [
            words("network", rows),
            *(Column("", layer, [fraction(mean(seeds, layer)) for seeds in rows.values()]) for layer in layers),
        ],
    )


def comparisons(groups: Groups) -> Table:
    """Differences on the same recordings, seed by seed, with the sign test over the pairs of all seeds."""
    conditions = [f"T = {t}" for t in (1, 10, 200)] + [SUM, FIFO]
    bounds = list(dict.fromkeys(label.rpartition(", ")[2] for label in groups))
    rows: list[list[Cell | str]] = []
    for one, other in COMPARISONS:
        for bound in bounds:
            left, right = f"{one}, {bound}", f"{other}, {bound}"
            if left in groups and right in groups:
                found = [_difference(groups[left], groups[right], condition) for condition in conditions]
                rows.append([f"{one} - {other}, {bound}", *found])
    for method in ("SDT", "MTT"):
        free, bounded = f"{method}, no bound", f"{method}, bound -1"
        if free in groups and bounded in groups:
            found = [_difference(groups[free], groups[bounded], condition) for condition in conditions]
            rows.append([f"{method}: no bound - bound -1", *found])
    header = ["", *(c if c != SUM else "event-driven, sum" for c in conditions)]
    return Table.of_rows("Differences in points: mean over the seeds (lost, gained; p of the sign test)", header, rows)


def losses(groups: Groups) -> Table:
    """What is lost without time steps, and by single events, on the same recordings."""
    rows = {label: seeds for label, seeds in groups.items() if any(seed.event_driven for seed in seeds)}
    pairs = {
        f"sum - T = {T_MAX}": (SUM, f"T = {T_MAX}"),
        f"sum - T = {TIME_STEPS[-1]}": (SUM, f"T = {TIME_STEPS[-1]}"),
        "fifo - sum": (FIFO, SUM),
    }
    return Table(
        "Event-driven minus time-stepped in points: mean over the seeds (lost, gained; p of the sign test)",
        [
            words("network", rows),
            *(
                Column("", name, [_change(seeds, after, before) for seeds in rows.values()])
                for name, (after, before) in pairs.items()
            ),
        ],
    )


def _change(seeds: Sequence[Measured], after: str, before: str) -> Cell:
    return _paired([(seed.correct[after], seed.correct[before]) for seed in seeds])


def _difference(ones: Sequence[Measured], others: Sequence[Measured], condition: str) -> Cell:
    by_seed = {other.network.seed: other.correct[condition] for other in others}
    return _paired([(one.correct[condition], by_seed[one.network.seed]) for one in ones if one.network.seed in by_seed])


def _paired(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Cell:
    """The mean difference (after, before) over the seeds, on the recordings that have both."""
    changes = [change for after, before in pairs if (change := _mean(after - before)) is not None]
    if not changes:
        return MISSING
    after, before = (np.concatenate(part) for part in zip(*pairs, strict=True))
    ran = np.isfinite(after - before)
    test = sign_test(before[ran], after[ran])
    cell = in_percent(over_seeds(changes), sign=True)
    return Cell(cell.text, cell.value, f"{cell.error} ({test.lost}, {test.gained}; {p_value(test.p)})")


def ways(groups: Groups) -> list[Table]:
    """From the trained rule to a chip's, one change after another, for networks with a bound and for those without."""
    found = []
    for bounded in (True, False):
        some = {
            label: seeds
            for label, seeds in groups.items()
            if all(seed.way for seed in seeds) and (seeds[0].network.bound is not None) == bounded
        }
        if not some:
            continue
        path = list(next(iter(some.values()))[0].way)
        what = "trained with a bound" if bounded else "trained without a bound"
        found.append(
            Table(
                f"From time steps to a chip, accuracy in % and changes: {what}",
                [
                    words("network", some),
                    Column("", f"T = {T_MAX}", [_step(seeds, path[0]) for seeds in some.values()]),
                    *(
                        Column(
                            "",
                            gap_tables.step_names([_combination(before), _combination(after)])[1],
                            [_step(seeds, after, before) for seeds in some.values()],
                        )
                        for before, after in itertools.pairwise(path)
                    ),
                    Column("", path[-1], [_step(seeds, path[-1]) for seeds in some.values()]),
                ],
            )
        )
    return found


def _step(seeds: Sequence[Measured], rule: str, before: str | None = None) -> Cell:
    """Accuracy under a rule, or with ``before`` its change on the same recordings."""
    cells: dict[str, Any] = {}
    for seed in seeds:
        cells |= cells_of(seed.network.name, seed.way)
    names = [seed.network.name for seed in seeds]
    minus = [] if before is None else [_combination(before)]
    return in_percent(effect(cells, names, [_combination(rule)], minus), sign=before is not None)


def _combination(rule: str) -> Combination:
    """The changes of a rule, from its title."""
    return UNCHANGED if rule == title(UNCHANGED) else tuple(rule.split(" + "))


def plot(groups: Groups, heading: str, path: Path) -> None:
    """Accuracy over T, and event-driven, of the second phases that were run event by event."""
    curves = []
    for label, seeds in groups.items():
        over = {t: one for t in TIME_STEPS if (one := accuracy_of(seeds, f"T = {t}")) is not None}
        event_driven = accuracy_of(seeds, SUM)
        if over and event_driven is not None:
            curves.append(SweepCurve(literal(label), list(over), list(over.values()), event_driven))
    if curves:
        with plotting.figure(path, (6.4, 0.17 * len(curves) + 2.8)) as figure:
            plotting.sweep_panels(figure, curves, literal(heading, 100))


def as_json(every: Sequence[Measured]) -> dict[str, Any]:
    """All networks for JSON, without the predictions."""
    return {
        one.network.name: {
            "label": one.network.label,
            "seed": one.network.seed,
            "accuracy": {condition: _mean(correct) for condition, correct in one.correct.items()},
            "recordings": {condition: _recordings([one], condition) for condition in one.correct},
            "flexibility": None if (score := one.score) is None else score._asdict(),
            "event_driven": {rule: _costs(result) for rule, result in one.event_driven.items()},
            "way": {
                rule: _costs(result) | {"spike_difference": result["spike_difference"]}
                for rule, result in one.way.items()
            },
        }
        for one in every
    }


def _costs(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in (_SYNOPS, _DECISION)}
