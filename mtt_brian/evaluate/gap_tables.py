"""What the changes from a time-stepped rule to an event-driven target cost: tables, and a verdict in one sentence.

Every table is a `Table`, for HTML and for Markdown. ``what`` is the name of the quantity: ``"accuracy"``, or
``"agreement"`` where the classes of the recordings are not known and predictions are compared with time-stepped ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.evaluate.factorial import (
    UNCHANGED,
    Cells,
    Combination,
    Groups,
    Share,
    cell_name,
    effect,
    from_bits,
    right,
    share,
    title,
)
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.sign_test import SignTest, sign_test
from mtt_brian.evaluate.statistics import mean_estimate
from mtt_brian.evaluate.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    decimal,
    exact,
    fraction,
    in_percent,
    p_value,
    percent,
    whole,
    words,
)
from mtt_brian.text import number_of


def changes(
    heading: str, groups: Groups, cells: Cells, rows: Mapping[str, Combination], base: Combination, what: str
) -> Table:
    """Accuracy of each row's combination, its difference from ``base``, and operations.

    Of a group with one network the recordings that were lost and gained come with it, and the exact sign test.
    """
    return _compared(heading, groups, cells, [(n, c, None if c == base else base) for n, c in rows.items()], what)


def path(heading: str, groups: Groups, cells: Cells, combinations: Sequence[Combination], what: str) -> Table:
    """From the base to the target, one change after another: each row differs from the one above it."""
    rows = zip(step_names(combinations), combinations, [None, *combinations[:-1]], strict=True)
    return _compared(heading, groups, cells, list(rows), what)


def _compared(
    heading: str,
    groups: Groups,
    cells: Cells,
    rows: Sequence[tuple[str, Combination, Combination | None]],
    what: str,
) -> Table:
    """Rows of a name, a combination and the one that it is compared with (None: with none), for all groups."""
    columns = [words("rule", [name for name, _, _ in rows])]
    for group, names in groups.items():
        columns.append(Column(group, f"{what}, %", [in_percent(effect(cells, names, [c])) for _, c, _ in rows]))
        differences = [None if base is None else effect(cells, names, [c], [base]) for _, c, base in rows]
        columns.append(Column(group, "change", [in_percent(d, True) for d in differences]))
        if len(names) == 1 and what == "accuracy":
            columns += _tests(group, [None if b is None else _test(cells, names[0], b, c) for _, c, b in rows])
        columns.append(Column(group, "SynOps", [decimal(_synops(cells, names, c)) for _, c, _ in rows]))
    return Table(heading, columns)


def pairs(heading: str, groups: Groups, cells: Cells, combinations: Sequence[Combination], what: str) -> Table:
    """Two changes at once: accuracy, change, and by how much the change exceeds the sum of the two alone."""
    columns = [words("rule", [title(c) for c in combinations])]
    for group, names in groups.items():

        def over(plus: Sequence[Combination], minus: Sequence[Combination], names: Sequence[str] = names) -> Cell:
            return in_percent(effect(cells, names, plus, minus), bool(minus))

        columns += [
            Column(group, f"{what}, %", [over([c], []) for c in combinations]),
            Column(group, "change", [over([c], [UNCHANGED]) for c in combinations]),
            Column(group, "beyond the sum", [over([(a, b), UNCHANGED], [(a,), (b,)]) for a, b in combinations]),
        ]
    return Table(heading, columns)


def gaps(
    heading: str, groups: Groups, cells: Cells, rows: Sequence[Combination], arrivals: Sequence[str], what: str
) -> Table:
    """What running event by event costs under each rule: on time steps and event by event the same rule.

    Args:
        heading: of the table.
        groups: the columns.
        cells: the results.
        rows: combinations without any of ``arrivals``.
        arrivals: the changes that take the time steps away. Those of a row that are not in ``cells`` stay empty.
        what: see the module.
    """
    columns = [words("rule", [title(row) for row in rows])]
    for group, names in groups.items():
        columns.append(Column(group, "time steps", [in_percent(effect(cells, names, [row])) for row in rows]))
        for arrival in arrivals:
            differences = []
            for row in rows:
                there = (arrival, *row)
                measured = all(cell_name(name, there) in cells for name in names)
                differences.append(in_percent(effect(cells, names, [there], [row]), True) if measured else MISSING)
            columns.append(Column(group, f"change by {arrival}", differences))
    return Table(heading, columns)


def spikes(heading: str, groups: Groups, cells: Cells, rows: Sequence[Combination]) -> Table:
    """Spike difference from the base by population, and the change of synaptic operations, in per cent."""
    layers = list(next(iter(cells.values()))["spike_difference"])
    columns = [words("rule", [title(row) for row in rows])]
    for group, names in groups.items():
        for layer in layers:
            values = [[cells[cell_name(n, row)]["spike_difference"][layer] for n in names] for row in rows]
            shown = [None if None in of_row else float(np.mean(of_row)) for of_row in values]
            columns.append(Column(group, layer, [fraction(value) for value in shown]))
        before = _synops(cells, names, UNCHANGED)
        relative = [_synops(cells, names, row) / before - 1 if before else 0.0 for row in rows]
        columns.append(Column(group, "SynOps", [Cell(f"{100 * r:+.1f}", exact(r)) for r in relative]))
    return Table(heading, columns)


# ----- steps


class StepAgreement(NamedTuple):
    """Predictions on steps of one length beside those of the same rule without steps.

    Attributes:
        step_us: length of the steps in microseconds.
        accuracy: on these steps.
        agreement: the part of the recordings that get the same prediction.
        agrees: True if the whole interval of disagreement is within what is allowed, False if it is all beyond; None
            where so few recordings leave it open.
    """

    step_us: int
    accuracy: Estimate
    agreement: Share
    agrees: bool | None


def step_agreement(
    step_us: int, stepped: Mapping[str, Any], event_driven: Mapping[str, Any], within: float
) -> StepAgreement:
    """The predictions of one rule on steps beside those without.

    Args:
        step_us: length of the steps.
        stepped, event_driven: cells with ``"predictions"`` and ``"right"``.
        within: the part of the recordings that may get another prediction.
    """
    same = np.equal(stepped["predictions"], event_driven["predictions"])
    agreement = share(int(same.sum()), same.size)
    accuracy = mean_estimate(from_bits(stepped["right"]))
    agrees = True if 1 - agreement.low <= within else False if 1 - agreement.high > within else None
    return StepAgreement(step_us, accuracy, agreement, agrees)


def coarsest_that_agrees(steps: Sequence[StepAgreement]) -> int | None:
    """The longest step, in microseconds, for which predictions agree on it and on all shorter ones; None: on none."""
    found = None
    for step in sorted(steps, key=lambda step: step.step_us):
        if not step.agrees:
            break
        found = step.step_us
    return found


def finest_that_does_not(steps: Sequence[StepAgreement]) -> int | None:
    """The shortest step, in microseconds, for which predictions do not agree; None: there is none."""
    return min((step.step_us for step in steps if step.agrees is False), default=None)


def sweep(heading: str, rules: Mapping[str, Sequence[StepAgreement]], what: str) -> Table:
    """A row per length of a step: accuracy and agreement with the same rule without steps, for some rules."""
    lengths = [step.step_us for step in next(iter(rules.values()))]
    columns = [Column("", "step", [Cell(duration(us), exact(us)) for us in lengths], words=True)]
    verdicts = {True: "yes", False: "no", None: "undecided"}
    for rule, steps in rules.items():
        columns += [
            Column(rule, f"{what}, %", [in_percent(s.accuracy) for s in steps]),
            Column(rule, "same prediction, %", [_share(s.agreement) for s in steps]),
            words("agrees", [verdicts[s.agrees] for s in steps], rule),
        ]
    return Table(heading, columns)


def sentence_on_steps(rule: str, steps: Sequence[StepAgreement], within: float) -> str:
    """The coarsest step whose predictions agree, and the finest whose predictions do not."""
    agreeing, other = coarsest_that_agrees(steps), finest_that_does_not(steps)
    allowed = f"at most {100 * within:g} % of the predictions differ, by a 95 % interval"
    first = "no step is shown to agree" if agreeing is None else f"{duration(agreeing)} is the longest step that agrees"
    second = "no step is shown to differ" if other is None else f"{duration(other)} is the shortest that differs"
    return f"{rule}, with steps and without: {first} ({allowed}); {second}."


def duration(us: int) -> str:
    """``"30 us"``, ``"1.5 ms"``."""
    return f"{us} us" if us < 1000 else f"{us / 1000:g} ms" if us < 1_000_000 else f"{us / 1e6:g} s"


# ----- the verdict


def verdict(cells: Cells, name: str, combinations: Sequence[Combination], what: str) -> str:
    """One sentence: what the way to the target costs, whether that can be told from chance, and where most of it comes.

    Args:
        cells: the results.
        name: of the network.
        combinations: from the base to the target.
        what: see the module.
    """
    base, target = combinations[0], combinations[-1]
    before, after = effect(cells, [name], [base]), effect(cells, [name], [target])
    change = effect(cells, [name], [target], [base])
    count = len(right(cells, name, base))
    steps = list(itertools.pairwise(combinations))
    parts = [effect(cells, [name], [b], [a]).value for a, b in steps]
    worst = int(np.argmin(parts))
    largest = percent(effect(cells, [name], [steps[worst][1]], [steps[worst][0]]), True)
    most = f"the largest single loss is {largest} points, by {step_names(combinations)[worst + 1]!r}"
    if what != "accuracy":
        changed = share(round(-change.value * count), count)
        return (
            f"Of {number_of(count, 'recording')} {100 * changed.value:.1f} % (95 % interval {100 * changed.low:.1f} to "
            f"{100 * changed.high:.1f} %) get another prediction under {title(target)!r} than on time steps"
            + (f"; {most}." if changed.value else ".")
        )
    test = _test(cells, name, base, target)
    head = (
        f"From time steps to {title(target)!r} the accuracy on {number_of(count, 'recording')} goes from "
        f"{percent(before)} to {percent(after)} %, {percent(change, True)} points ({test.lost} lost, {test.gained} "
        f"gained, sign test p = {p_value(test.p)})"
    )
    if test.is_loss:
        return f"{head}; {most}."
    return f"{head}: {'the target is better' if test.is_gain else 'no difference that so many recordings can show'}."


def step_names(combinations: Sequence[Combination]) -> list[str]:
    """The first combination, and what each of the others adds to the one in front of it."""
    added = [tuple(c for c in after if c not in before) for before, after in itertools.pairwise(combinations)]
    return [title(combinations[0]), *(f"+ {title(changes)}" for changes in added)]


def _test(cells: Cells, name: str, before: Combination, after: Combination) -> SignTest:
    return sign_test(right(cells, name, before), right(cells, name, after))


def _tests(group: str, tests: Sequence[SignTest | None]) -> list[Column]:
    return [
        Column(group, "lost", [whole(None if t is None else t.lost) for t in tests]),
        Column(group, "gained", [whole(None if t is None else t.gained) for t in tests]),
        Column(group, "p", [MISSING if t is None else Cell(p_value(t.p), exact(t.p)) for t in tests]),
    ]


def _synops(cells: Cells, names: Sequence[str], combination: Combination) -> float:
    return float(np.mean([cells[cell_name(name, combination)]["synops_per_recording"] for name in names]))


def _share(value: Share) -> Cell:
    return Cell(f"{100 * value.value:.1f}", exact(value.value), f"({100 * value.low:.1f} to {100 * value.high:.1f})")
