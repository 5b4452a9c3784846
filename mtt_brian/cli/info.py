"""What a network is made of, how large it is, and which engines run it.

mtt-brian info model.nir
mtt-brian info runs/digits-mtt-0-001          # the network of a run, and the settings it was trained with
mtt-brian info foreign.nir --tool snntorch    # a network of another tool, with its conventions
mtt-brian info model.nir --json               # the same as JSON, for other programs

A synapse is a non-zero entry of the matrix that a chain of nodes between two populations amounts to; weights are the
numbers that they share. What an engine needs that this machine does not have: mtt-brian doctor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mtt_brian import cli
from mtt_brian.cli import network_options
from mtt_brian.cli.description import describe
from mtt_brian.evaluate.tables import Table
from mtt_brian.text import printable
from mtt_brian.translate.nir_files import naming

#: What of a run's settings fits into a line.
_SETTINGS = ("method", "dataset", "model", "time_steps", "epochs", "seed", "resolution")


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    opened, integers = network_options.open_network(options), network_options.integers_from(options)
    if integers is not None:
        with naming(opened.path):
            opened = replace(opened, circuit=integers.of(opened.circuit))
    description = describe(opened)
    print(json.dumps(description, indent=2) if options.json else "\n".join(lines(description)))


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "info")
    network_options.add_options(parser)
    network_options.add_target_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def lines(description: Mapping[str, Any]) -> Iterator[str]:
    """A description for people."""
    populations, connections = description["populations"], description["connections"]
    neurons, synapses = sum(p["neurons"] for p in populations), sum(c["synapses"] for c in connections)
    description = _printable(description)
    yield f"{description['file']}: {size(description['bytes'])}, {description['nodes']} nodes"
    yield f"{neurons:,} neurons, {synapses:,} synapses, {description['weights']:,} weights"
    if metadata := description["metadata"]:
        yield f"metadata: {settings(metadata)}"
    if config := description["config"]:
        yield f"trained with: {settings({key: config[key] for key in _SETTINGS if config.get(key) is not None})}"
    for assumption in description["assumptions"]:
        yield f"assumed: {assumption}"
    yield f"\n{population_table(description)}\n\n{connection_table(connections)}\n"
    yield from engine_lines(description["engines"])


def population_table(description: Mapping[str, Any]) -> str:
    """The input and every population, in the order in which an instant passes through them."""
    given = description["input"]
    header = ("population", "shape", "neurons", "on file", "a spike moves it by, median (max)", "rule")
    rows = [(given["name"], shape(given["shape"]), "", "", "", "the input")]
    for p in description["populations"]:
        is_read = " (the readout)" if p["name"] == description["output"] else ""
        rule = in_words(p["rule"]) + is_read
        moved = thresholds(p["thresholds_per_spike"])
        rows.append((p["name"], shape(p["shape"]), f"{p['neurons']:,}", size(p["bytes"]), moved, rule))
    return Table.of_rows("populations", header, rows).terminal()


def connection_table(connections: Sequence[Mapping[str, Any]]) -> str:
    """Every connection and its nodes."""
    header = ("connection", "through", "synapses", "weights", "fan-out, mean (max)", "fan-in, mean", "on file")
    rows = []
    for c in connections:
        through = ", ".join(f"{node['name']} ({node['type']})" for node in c["nodes"]) or "nothing: one to one"
        rows.append(
            (
                f"{c['source']} -> {c['target']}",
                through,
                f"{c['synapses']:,}",
                f"{c['weights']:,}",
                f"{c['fan_out']['mean']:.1f} ({c['fan_out']['max']})",
                f"{c['fan_in']['mean']:.1f}",
                size(c["bytes"]),
            )
        )
    return Table.of_rows("connections", header, rows).terminal()


def engine_lines(engines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The engines of this machine, one line for each verdict; the others by name."""
    orders: dict[tuple[str, str], list[str]] = {}
    for e in engines:
        if not e["missing"]:
            verdict = _runs_in(e["bytes"]) if e["refused"] is None else f"refuses: {e['refused']}"
            orders.setdefault((e["engine"], verdict), []).append(e["order"])
    yield "engines"
    for (engine, verdict), own in orders.items():
        yield f"  {engine:11} {', '.join(own):9} {verdict}"
    if elsewhere := dict.fromkeys(e["engine"] for e in engines if e["missing"]):
        yield f"not on this machine: {', '.join(elsewhere)} (what they need: mtt-brian doctor)"


def in_words(rule: Mapping[str, Any]) -> str:
    """A neuron rule; parameters that have no effect are left out."""
    parts = [rule["kind"]]
    if rule["fires"]:
        parts.append(f"threshold {number(rule['threshold'])}")
        if rule["reset"] == "zero":
            parts.append(f"reset to {number(rule['v_reset'])}")
        else:
            parts += ["reset by subtraction", f"{rule['spikes']} per update"]
    else:
        parts.append("never fires")
    if rule["lower_bound"] is not None:
        parts.append(f"lower bound {number(rule['lower_bound'])}")
    if rule["upper_bound"] is not None:
        parts.append(f"upper bound {number(rule['upper_bound'])}")
    for name in ("tau", "tau_syn", "refractory"):
        if rule.get(name, 0) != 0:
            parts.append(f"{name} {number(rule[name], 1e3)} ms")
    for name, unremarkable in (("v_leak", 0), ("bias", 0), ("gain", 1)):
        if rule.get(name, unremarkable) != unremarkable:
            parts.append(f"{name} {number(rule[name])}")
    return ", ".join(parts)


def thresholds(moved: Mapping[str, float] | None) -> str:
    """``"0.3 (1.2) thresholds"``; nothing for a population without a threshold."""
    return "" if moved is None else f"{moved['median']:.3g} ({moved['max']:.3g}) thresholds"


def number(value: Any, unit: float = 1.0) -> str:
    """``0.25``, or ``0.2 .. 0.3`` where neurons differ."""
    if isinstance(value, Mapping):
        return f"{unit * value['min']:.6g} .. {unit * value['max']:.6g}"
    return f"{unit * value:.6g}"


def size(count: float) -> str:
    """``"36.2 KiB"``."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.{0 if unit == 'bytes' else 1}f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def shape(sides: Sequence[int]) -> str:
    """``"2x34x34"``."""
    return "x".join(map(str, sides)) or "1"


def _printable(value: Any) -> Any:
    """A value of a description, whose texts (names and values from outside) become one line each."""
    if isinstance(value, Mapping):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(entry) for entry in value]
    return printable(value) if isinstance(value, str) else value


def settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _runs_in(count: int | None) -> str:
    return "runs it" if count is None else f"runs it in {size(count)}"
