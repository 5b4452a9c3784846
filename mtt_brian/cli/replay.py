"""A run beside spikes that were recorded before, here or by another simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mtt_brian.cli.spike_files import read_spikes
from mtt_brian.engines import Result, Spikes
from mtt_brian.errors import InputError
from mtt_brian.evaluate import SpikeComparison, compare_spikes
from mtt_brian.evaluate.tables import markdown_table
from mtt_brian.text import listed, printable, shown
from mtt_brian.translate import Circuit


def recorded_spikes(path: Path, circuit: Circuit) -> dict[str, Spikes]:
    """Spikes of a network's populations from a file; without those of its input, which are replayed.

    Raises:
        InputError: as `read_spikes`, and for a population or a neuron that the network does not have.
    """
    firing = {p.name: p for p in circuit.populations if p.rule.fires}
    found = {name: spikes for name, spikes in read_spikes(path).items() if name != circuit.input}
    for name, spikes in found.items():
        if name not in firing:
            raise InputError(f"{path}: the network has no firing population {shown(name)}; it has {listed(firing)}")
        if len(spikes.i) and (last := int(spikes.i.max())) >= firing[name].size:
            raise InputError(f"{path}: a spike of neuron {last} of {name!r}, which has {firing[name].size} neurons")
    if not found:
        raise InputError(
            f"{path}: no spikes of the network's populations, which are {listed(firing)} (a .csv file has no line for "
            "a population without spikes; .npz and .h5 files hold it)"
        )
    return found


def compare(result: Result, recorded: Mapping[str, Spikes], tolerance: float) -> dict[str, SpikeComparison]:
    """Compares every recorded population with the run, in the order of the network.

    Spikes behind the end of the run are part of the recording all the same.
    """
    played = {name: spikes for name, spikes in result.spikes.items() if name in recorded}
    return {name: compare_spikes(recorded[name], spikes, tolerance) for name, spikes in played.items()}


def summary(result: Result, comparisons: Mapping[str, SpikeComparison], source: str, tolerance: float) -> str:
    """A table, the populations that were not recorded, and the first difference."""
    header = ("population", "recorded", "here", "same", "early", "late", "missing", "additional", "largest shift")
    rows: list[tuple[str, ...]] = [header]
    for name, c in comparisons.items():
        numbers = (c.reference, c.spikes, c.same, c.early, c.late, c.missing, c.additional)
        rows.append((name, *(f"{number:,}" for number in numbers), f"{c.largest_shift:.3g} s"))
    within = f"within {tolerance:g} s" if tolerance else "bit for bit"
    lines = [f"replay of {printable(source)}, times {within}:", "", markdown_table(rows), ""]
    firing = [p.name for p in result.circuit.populations if p.rule.fires]
    for name in [name for name in firing if name not in comparisons]:
        count = int(result.counts[name].sum())
        lines += [f"not compared, because it is not in the file: {name!r} ({count:,} spikes here)", ""]
    found = [(c.first.t, name, c.first) for name, c in comparisons.items() if c.first is not None]
    if not found:
        return "\n".join([*lines, "the same spikes"])
    # Of equal times the first population counts: what follows in the others may be its consequence.
    t, name, first = min(found, key=lambda difference: difference[0])
    shift = f" by {abs(first.shift):.3g} s" if first.shift else ""
    where = f"{printable(name)}, neuron {first.neuron}"
    lines.append(f"different: first at {t!r} s, {where}: a spike is {first.kind}{shift} here")
    return "\n".join(lines)
