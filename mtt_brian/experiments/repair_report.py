"""The report of a repair: verdict, table, and the files of the repaired network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.evaluate import gap_tables
from mtt_brian.evaluate.factorial import from_bits
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.sign_test import SignTest, sign_test
from mtt_brian.evaluate.statistics import mean_estimate
from mtt_brian.evaluate.tables import (
    Column,
    Table,
    code_block,
    decimal,
    in_percent,
    markdown,
    p_value,
    percent,
    whole,
    words,
)
from mtt_brian.experiments.gap import Rule, bound_in_words, spikes_in_words
from mtt_brian.experiments.repair import AT_TARGET, STEPPED, UNBOUNDED
from mtt_brian.experiments.run_files import CONFIG, MODEL
from mtt_brian.files import write_json, write_text
from mtt_brian.text import number_of, printable

REPORT, TEXT = "repair.json", "repair.md"
FILES = (REPORT, TEXT, MODEL, CONFIG)


class Scales(NamedTuple):
    """The scales of the layers.

    Attributes:
        factors: of the weights in front of every population.
        tried: all that were compared, with their correct predictions and synaptic operations on training recordings.
        at_target: the cell of the scaled network under the target's rule, on the test recordings.
    """

    factors: Mapping[str, float]
    tried: Sequence[Mapping[str, Any]]
    at_target: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class RepairReport:
    """A network before and after its repair, on the same test recordings.

    Attributes:
        name: of the network.
        title: of the recordings.
        rules: `Repair.rules`.
        before, after: cells by name of the rule (`repair.measure`).
        budget: the most SynOps of a repaired network, as a multiple of those without a bound before; None: any number.
        scales: None: they were not changed.
        history: of the epochs in the loop (`loop_search.LoopSearch.run`); empty without any.
    """

    name: str
    title: str
    rules: Mapping[str, Rule]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    budget: float | None
    scales: Scales | None
    history: Sequence[Mapping[str, Any]]

    @property
    def reference(self) -> str:
        """The rule under which the network was best before, of those that are not the target's."""
        return max((UNBOUNDED, STEPPED), key=lambda rule: _accuracy(self.before[rule]).value)

    @property
    def test(self) -> SignTest:
        """The repaired network on the target against the network before at its best."""
        return sign_test(_right(self.before[self.reference]), _right(self.after[AT_TARGET]))

    @property
    def synops(self) -> float:
        """Synaptic operations on the target after the repair, as a multiple of those without a bound before."""
        before = float(self.before[UNBOUNDED]["synops_per_recording"])
        after = float(self.after[AT_TARGET]["synops_per_recording"])
        return after / before if before else float(after > 0)

    @property
    def change(self) -> SignTest:
        """The network on the target, after the repair against before."""
        return sign_test(_right(self.before[AT_TARGET]), _right(self.after[AT_TARGET]))

    @property
    def is_repaired(self) -> bool | None:
        """True: better on the target than before, with no loss from its best before, and within the budget.

        False: a loss from its best before, or more operations than the budget. None: neither is shown, because there
        are too few recordings, or because nothing was lost on the target.
        """
        if self.budget is not None and self.synops > self.budget:
            return False
        if self.test.is_loss:
            return False
        return True if self.change.is_gain else None

    @property
    def verdict(self) -> str:
        """What the repair gives, in a few sentences."""
        count = len(self.before[AT_TARGET]["right"])
        old, new = (_accuracy(cells[AT_TARGET]) for cells in (self.before, self.after))
        change = self.change
        head = {True: "Repaired", False: "Not repaired", None: "No difference is shown"}[self.is_repaired]
        lost, gained, p = self.test
        best = _accuracy(self.before[self.reference])
        difference = _difference(self.before[self.reference], self.after[AT_TARGET])
        within = "" if self.budget is None else f" (allowed: {self.budget:g})"
        return (
            f"{head}: on {number_of(count, 'recording')} the accuracy under "
            f"{in_words(self.rules[AT_TARGET])!r} goes from {percent(old)} to {percent(new)} % ({change.lost} lost, "
            f"{change.gained} gained, sign test p = {p_value(change.p)}). Before, it was {percent(best)} % "
            f"under {in_words(self.rules[self.reference])!r}: {percent(difference, True)} points from there ({lost} "
            f"lost, {gained} gained, p = {p_value(p)}). SynOps: {self.synops:.2f} times those without a "
            f"bound before{within}."
        )

    @property
    def table(self) -> Table:
        """Every rule, before and after."""
        names = list(self.rules)
        tests = [sign_test(_right(self.before[n]), _right(self.after[n])) for n in names]
        columns = [words("rule", [in_words(self.rules[n]) for n in names])]
        for group, cells in (("before", self.before), ("after", self.after)):
            columns += [
                Column(group, "accuracy, %", [in_percent(_accuracy(cells[n])) for n in names]),
                Column(group, "SynOps", [decimal(cells[n]["synops_per_recording"]) for n in names]),
            ]
        return Table(
            "Before and after",
            [
                *columns,
                Column("", "change", [in_percent(_difference(self.before[n], self.after[n]), True) for n in names]),
                Column("", "lost", [whole(t.lost) for t in tests]),
                Column("", "gained", [whole(t.gained) for t in tests]),
                words("p", [p_value(t.p) for t in tests]),
            ],
        )

    @property
    def steps(self) -> list[str]:
        """What was done, a sentence each."""
        done = []
        if self.scales is not None:
            factors = ", ".join(f"{name}: {factor:.3g}" for name, factor in self.scales.factors.items())
            alone, synops = _accuracy(self.scales.at_target), self.scales.at_target["synops_per_recording"]
            done.append(
                f"Weights in front of each population times {factors}; this alone gives {percent(alone)} % at "
                f"{synops:,.0f} SynOps."
            )
        for epoch in self.history:
            done.append(
                f"Epoch {epoch['epoch']} in the loop, learning rate {epoch['lr']:g}: loss {epoch['loss']:.3f}, "
                f"training accuracy {100 * epoch['accuracy']:.1f} %, {epoch['synops']:,.0f} SynOps; at its end "
                f"{epoch['held_back']} held-back recordings right, {epoch['held_back_synops']:,.0f} SynOps"
                + (" (kept)." if epoch["kept"] else ".")
            )
        if self.history and not any(epoch["kept"] for epoch in self.history):
            done.append(
                "No epoch is kept: each is worse than the start on the held-back recordings, or needs more operations."
            )
        return done

    def terminal(self) -> str:
        """The table and the verdict."""
        return "\n\n".join([self.table.terminal(), *map(printable, self.steps), printable(self.verdict)])

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write the JSON and the Markdown file.

        Args:
            out: the folder.
            about: what else belongs into the JSON file; its ``"command"`` is shown.
        """
        content = {
            **about,
            "name": self.name,
            "title": self.title,
            "verdict": self.verdict,
            "repaired": self.is_repaired,
            "synops": self.synops,
            "budget": self.budget,
            "rules": {name: in_words(rule) for name, rule in self.rules.items()},
            "before": self.before,
            "after": self.after,
            "scales": self.scales,
            "history": self.history,
        }
        write_json(out / REPORT, content)
        heading = f"Repair: {self.name}"
        parts = [f"# {markdown(heading)}", markdown(self.title), *map(markdown, [self.verdict, *self.steps])]
        parts += [f"## {self.table.title}", self.table.markdown(), code_block(about["command"])]
        write_text(out / TEXT, "\n\n".join(parts) + "\n")


def in_words(rule: Rule) -> str:
    """``"fifo, bound -1 thresholds"``, ``"10 time steps"``."""
    if rule.bins is not None:
        return f"{rule.bins} time steps"
    if rule.step_us is not None:
        return f"time steps of {gap_tables.duration(rule.step_us)}"
    parts: list[str] = [rule.order]
    if rule.lower_bound is not None:
        parts.append(bound_in_words(rule.lower_bound))
    if rule.spikes is not None:
        parts.append(spikes_in_words(rule.spikes))
    if rule.bits is not None:
        parts.append(f"{rule.bits} bit")
    return ", ".join(parts)


def _right(cell: Mapping[str, Any]) -> np.ndarray:
    return from_bits(cell["right"])


def _accuracy(cell: Mapping[str, Any]) -> Estimate:
    return mean_estimate(_right(cell))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Estimate:
    return mean_estimate(_right(after).astype(np.float64) - _right(before))
