"""Which of several changes of a network costs how much: effects and tables from the results of all combinations.

A combination is a tuple of changes, the empty one the network as it was. The result of a run under a combination is a
cell with ``"right"``, a string with a 1 for every recording that was answered rightly and a 0 for every other, so that
differences can be taken recording by recording.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.outputs import Predictions
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import markdown, markdown_table, percent

Combination: TypeAlias = tuple[str, ...]
#: Result by name of the run and combination, see `cell_name`.
Cells: TypeAlias = Mapping[str, Mapping[str, Any]]
#: Names of runs that differ in their seed, by label.
Groups: TypeAlias = Mapping[str, Sequence[str]]

UNCHANGED: Combination = ()


def combinations(changes: Sequence[str], never_together: Collection[tuple[str, str]]) -> list[Combination]:
    """All combinations of ``changes`` without the pairs that make no sense, the smallest first.

    Args:
        changes: names.
        never_together: pairs of names, each in the order of ``changes``.
    """
    return [
        combination
        for size in range(len(changes) + 1)
        for combination in itertools.combinations(changes, size)
        if not set(itertools.combinations(combination, 2)) & set(never_together)
    ]


def title(combination: Combination) -> str:
    """``"instants + no bound"``."""
    return " + ".join(combination) or "as trained"


def cell_name(run: str, combination: Combination) -> str:
    return f"{run}: {title(combination)}"


def hits(predicted: Predictions, labels: np.ndarray) -> str:
    """A 1 for every recording that was answered rightly, a 0 for every other."""
    return "".join("1" if hit else "0" for hit in predicted.correct(labels))


def effect(
    cells: Cells, names: Sequence[str], plus: Sequence[Combination], minus: Sequence[Combination] = ()
) -> Estimate:
    """Accuracies added and subtracted recording by recording and run by run, so that what they share cancels.

    One combination in ``plus`` is an accuracy; another one in ``minus`` makes a difference.

    Args:
        cells: the results.
        names: of the runs, which differ in their seed; see `over_seeds` for the error.
        plus, minus: combinations.
    """

    def right(run: str, combination: Combination) -> np.ndarray:
        return np.array([hit == "1" for hit in cells[cell_name(run, combination)]["right"]], dtype=np.float64)

    scores = [np.sum([right(run, c) for c in plus] + [-right(run, c) for c in minus], axis=0) for run in names]
    return over_seeds([Estimate(float(s.mean()), float(s.std() / np.sqrt(s.size))) for s in scores])


def table_of_changes(groups: Groups, cells: Cells, rows: Mapping[str, Combination], base: Combination) -> str:
    """Accuracy of each row's combination, and its difference from ``base``."""
    lines = [
        ["accuracy in %", *(f"{markdown(group)}: {column}" for group in groups for column in ("accuracy", "change"))]
    ]
    for name, combination in rows.items():
        line = [name]
        for names in groups.values():
            line.append(percent(effect(cells, names, [combination])))
            line.append("" if combination == base else percent(effect(cells, names, [combination], [base]), sign=True))
        lines.append(line)
    return markdown_table(lines)


def table_of_pairs(groups: Groups, cells: Cells, pairs: Sequence[Combination]) -> str:
    """Two changes at once: accuracy, change, and by how much the change exceeds the sum of the two alone."""
    columns = ("accuracy", "change", "beyond the sum")
    lines = [["accuracy in %", *(f"{markdown(group)}: {column}" for group in groups for column in columns)]]
    for a, b in pairs:
        line = [title((a, b))]
        for names in groups.values():
            line.append(percent(effect(cells, names, [(a, b)])))
            line.append(percent(effect(cells, names, [(a, b)], [UNCHANGED]), sign=True))
            line.append(percent(effect(cells, names, [(a, b), UNCHANGED], [(a,), (b,)]), sign=True))
        lines.append(line)
    return markdown_table(lines)


def table_of_gaps(groups: Groups, cells: Cells, rows: Sequence[Combination], groupings: Sequence[str]) -> str:
    """What running event by event costs under each rule: on time steps and event by event the same rule.

    Args:
        groups: the columns.
        cells: the results.
        rows: combinations without any of ``groupings``.
        groupings: the changes that take the time steps away. Those of a row that are not in ``cells`` stay empty.
    """
    columns = ("time steps", *(f"change by {grouping}" for grouping in groupings))
    lines = [["accuracy in %", *(f"{markdown(group)}: {column}" for group in groups for column in columns)]]
    for row in rows:
        line = [title(row)]
        for names in groups.values():
            line.append(percent(effect(cells, names, [row])))
            for grouping in groupings:
                there = (grouping, *row)
                known = all(cell_name(name, there) in cells for name in names)
                line.append(percent(effect(cells, names, [there], [row]), sign=True) if known else "-")
        lines.append(line)
    return markdown_table(lines)


def table_of_spikes(groups: Groups, cells: Cells, rows: Sequence[Combination]) -> str:
    """Spike difference from the unchanged network by population, and the change of synaptic operations, in per cent."""

    def mean(names: Sequence[str], combination: Combination, layer: str) -> str:
        values = [cells[cell_name(name, combination)]["spike_difference"].get(layer) for name in names]
        return "-" if None in values else f"{100 * np.mean(values):.1f}"

    def synops(names: Sequence[str], combination: Combination) -> str:
        after, before = (
            np.array([cells[cell_name(name, c)]["synops_per_recording"] for name in names])
            for c in (combination, UNCHANGED)
        )
        return f"{100 * np.mean(after / before - 1):+.1f}"

    first = next(iter(cells.values()))
    layers = list(first["spike_difference"])
    lines = [
        ["in %", *(f"{markdown(group)}: {column}" for group in groups for column in (*map(markdown, layers), "SynOps"))]
    ]
    for row in rows:
        line = [title(row)]
        for names in groups.values():
            line += [*(mean(names, row, layer) for layer in layers), synops(names, row)]
        lines.append(line)
    return markdown_table(lines)
