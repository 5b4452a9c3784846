"""The report of a gap: verdict, tables and figures from the results of all rules."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtt_brian import plotting
from mtt_brian.evaluate import Flexibility, flexibility, gap_tables
from mtt_brian.evaluate.factorial import UNCHANGED, Cells, Combination, effect, from_bits, title
from mtt_brian.evaluate.gap_tables import StepAgreement
from mtt_brian.evaluate.html.page import ReportFigure, write_page
from mtt_brian.evaluate.tables import Table, code_block, markdown
from mtt_brian.experiments.gap import FIFO, INSTANTS, Plan, scored_name, swept_name
from mtt_brian.files import write_json, write_text
from mtt_brian.plotting.axes import accuracy_floor, cut_accuracy_axis, literal
from mtt_brian.text import number_of, printable

WATERFALL, STEPS = "waterfall.png", "steps.png"
#: What the rule of the network itself is called, beside those with changes.
OWN_RULE = "own rule"
FILES = ("gap.json", "gap.md", "gap.html", WATERFALL, STEPS)


#: For a reader of the report who has not seen the documentation.
WORDS = (
    "instants: every event at its own microsecond; what arrives at one instant is summed. fifo: each event is "
    "applied alone. one spike, many spikes: of a neuron per update. bound: lower bound of the membrane. N bit: "
    "rounded weights. lost, gained: recordings that only the one or only the other of two rules predicts correctly; "
    "p: exact sign test. undecided: too few recordings."
)


@dataclass(frozen=True, eq=False)
class GapReport:
    """What the changes cost one network.

    Attributes:
        name: of the network.
        title: of the recordings.
        what: ``"accuracy"`` or ``"agreement"``.
        plan: the rules.
        cells: their results.
        steps: by name of the rule, its predictions at every length of a step beside those without steps.
        within: the part of the recordings that may get another prediction.
        flexibility: the temporal flexibility score, if the plan has its numbers of steps.
    """

    name: str
    title: str
    what: str
    plan: Plan
    cells: Cells
    steps: Mapping[str, Sequence[StepAgreement]]
    within: float
    flexibility: Flexibility | None

    @property
    def verdict(self) -> list[str]:
        """Sentences on the way to the target, on every rule that was run with other steps, and on the flexibility."""
        sentences = [gap_tables.verdict(self.cells, self.name, self.plan.path, self.what)]
        sentences += [gap_tables.sentence_on_steps(rule, steps, self.within) for rule, steps in self.steps.items()]
        return sentences + ([] if self.flexibility is None else [self.flexibility.sentence])

    @property
    def tables(self) -> list[Table]:
        return [*tables_of({"": [self.name]}, self.plan, self.cells, self.what), *self._sweep()]

    def _sweep(self) -> list[Table]:
        if not self.steps:
            return []
        heading = "Steps of other lengths: accuracy, and the same prediction as without steps (95 % interval)"
        return [gap_tables.sweep(heading, self.steps, self.what)]

    def terminal(self) -> str:
        """The way to the target, the steps and the verdict."""
        way, *_, spikes = tables_of({"": [self.name]}, self.plan, self.cells, self.what)
        shown = [way, spikes, *self._sweep()]
        return "\n\n".join(
            [*(f"{table.title}\n\n{table.terminal()}" for table in shown), *map(printable, self.verdict)]
        )

    def write(self, out: Path, notes: Sequence[str], about: Mapping[str, Any]) -> None:
        """Write `FILES`; without steps there is no figure of them.

        Args:
            out: the folder.
            notes: sentences on what was assumed.
            about: what else belongs into the JSON file; ``"ids"`` of the recordings are counted, and ``"versions"`` and
                ``"command"`` shown.
        """
        heading = f"From time steps to an event-driven target: {self.name}"
        lead = f"{self.title}: {number_of(len(about['ids']), 'recording')}"
        content = {
            **about,
            "name": self.name,
            "title": self.title,
            "what": self.what,
            "verdict": self.verdict,
            "notes": list(notes),
            "path": [title(c) for c in self.plan.path],
            "results": {name.removeprefix(f"{self.name}: "): cell for name, cell in self.cells.items()},
            "steps": self.steps,
            "within": self.within,
            "flexibility": None if self.flexibility is None else self.flexibility._asdict(),
        }
        write_json(out / "gap.json", content)
        sections = [f"## {markdown(table.title)}\n\n{table.markdown()}" for table in self.tables]
        said = [markdown(sentence) for sentence in (*self.verdict, *notes, WORDS)]
        text = "\n\n".join([f"# {markdown(heading)}", markdown(lead), *said, *sections, code_block(about["command"])])
        write_text(out / "gap.md", f"{text}\n")
        with tempfile.TemporaryDirectory() as beside:
            figures = self._plots(out, Path(beside))
            write_page(out / "gap.html", heading, [lead, *self.verdict, *notes, WORDS], self.tables, figures, content)

    def _plots(self, out: Path, beside: Path) -> list[ReportFigure]:
        """Draws the figures as PNG files into one folder and as SVG files, for the page, into another one."""
        path = self.plan.path
        values = [effect(self.cells, [self.name], [c]) for c in path]
        changes = [effect(self.cells, [self.name], [b], [a]) for a, b in itertools.pairwise(path)]
        heading = f"{literal(self.name, 48)}\n{literal(self.title, 48)}"
        paths = {name: (out / name, (beside / name).with_suffix(".svg")) for name in (WATERFALL, STEPS)}
        with plotting.figure(paths[WATERFALL], (plotting.SCREEN, 3.2), plotting.ON_SCREEN) as figure:
            ax = plotting.waterfall(gap_tables.step_names(path), values, changes, what=self.what, ax=figure.subplots())
            ax.set_title(heading, wrap=True)
        figures = [
            ReportFigure(
                paths[WATERFALL][1],
                f"bars: how far each change takes the {self.what}",
                f"From time steps to the target, one change after another, with paired standard errors; the points are "
                f"the {self.what} at both ends with its own.",
            )
        ]
        if not self.steps:
            (out / STEPS).unlink(missing_ok=True)  # of an earlier run
            return figures
        with plotting.figure(paths[STEPS], (plotting.SCREEN, 3.2), plotting.ON_SCREEN) as figure:
            ax = figure.subplots()
            for (rule, steps), combination in zip(self.steps.items(), self.plan.swept, strict=True):
                plotting.time_step_sweep(
                    [step.step_us * 1e-3 for step in steps],
                    [step.accuracy for step in steps],
                    event_driven=effect(self.cells, [self.name], [(INSTANTS, *combination)]),
                    label=rule,
                    ax=ax,
                )
            ax.set_xlabel("length of a time step (ms)")
            ax.set_ylabel(self.what)
            lowest = min(s.accuracy.value - s.accuracy.standard_error for steps in self.steps.values() for s in steps)
            cut_accuracy_axis(ax, accuracy_floor(lowest))
            ax.set_title(heading, wrap=True)
        figures.append(
            ReportFigure(
                paths[STEPS][1],
                f"lines: {self.what} over the length of a time step; across: without steps",
                "Steps of other lengths; across: the same rule without steps, in a band of one standard error.",
            )
        )
        return figures


def report_of(name: str, heading: str, what: str, plan: Plan, results: Mapping[str, Any], within: float) -> GapReport:
    """The report of one network.

    Args:
        name: of the network.
        heading: of the recordings.
        what: ``"accuracy"`` or ``"agreement"``.
        plan: the rules.
        results: of `gap.merge`.
        within: the part of the recordings that may get another prediction on steps.
    """
    steps = {}
    for combination in plan.swept if plan.steps_us else []:
        event_driven = results[title((INSTANTS, *combination))]
        steps[title(combination) if combination else OWN_RULE] = [
            gap_tables.step_agreement(us, results[swept_name(combination, us)], event_driven, within)
            for us in plan.steps_us
        ]
    correct = {t: from_bits(results[scored_name(t)]["right"]) for t in plan.scored}
    score = flexibility(correct, from_bits(results[INSTANTS]["right"])) if correct else None
    return GapReport(name, heading, what, plan, cells_of(name, results), steps, within, score)


def cells_of(name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Results by rule as cells of one of several networks."""
    return {f"{name}: {rule}": result for rule, result in results.items()}


def tables_of(groups: Mapping[str, Sequence[str]], plan: Plan, cells: Cells, what: str) -> list[Table]:
    """The way to the target, single changes, pairs, the target with one change undone, spikes, event-driven costs.

    Args:
        groups: networks that differ in their seed, by label.
        plan: the rules, the same for all networks.
        cells: results by network and rule.
        what: ``"accuracy"`` or ``"agreement"``.
    """
    every = plan.combinations
    single = [c for c in every if len(c) < 2]
    arrivals = [change for change in (INSTANTS, FIFO) if change in plan.changes]
    rows = [c for c in every if not set(c) & set(arrivals)]
    tables = [
        gap_tables.path("From time steps to the target", groups, cells, plan.path, what),
        gap_tables.changes(
            "One change of the time-stepped rule", groups, cells, {title(c): c for c in single}, UNCHANGED, what
        ),
        gap_tables.pairs("Two changes at once", groups, cells, [c for c in every if len(c) == 2], what),
        gap_tables.changes("One change of the target undone", groups, cells, undone(plan), plan.target, what),
        gap_tables.gaps("Without time steps, under every rule", groups, cells, rows, arrivals, what),
        gap_tables.spikes("Spike difference by each change alone, in %", groups, cells, single[1:]),
    ]
    return tables


def undone(plan: Plan) -> dict[str, Combination]:
    """The target, and the target without one of its changes.

    Without its queue a target of single events keeps its one spike per update, where that is among the changes.
    """
    target, changes = plan.target, tuple(plan.changes)
    rows: dict[str, Combination] = {f"{title(target)} (the target)": target}
    one = next((c for c in changes if plan.changes[c].get("spikes") == "one"), None)
    for change in target:
        rest = [c for c in target if c != change]
        if change == FIFO:
            rest += [one] if one is not None else []
            rows["instants instead of single events"] = _in_order(changes, [INSTANTS, *rest])
            rows["time steps instead of single events"] = _in_order(changes, rest)
        else:
            rows[f"without {change!r}"] = tuple(rest)
    return rows


def _in_order(changes: Sequence[str], some: Sequence[str]) -> Combination:
    return tuple(c for c in changes if c in some)
