"""How far other platforms are from the exact solution of the network that they ran, and why.

mtt-brian conformance --paper DIR     # 01_lif, 02_cnn, 03_rnn of the NIR paper, as its authors published them
mtt-brian conformance --golden DIR    # NAME.nir and NAME.npz: networks with the spikes of their tools
mtt-brian conformance --paper DIR --golden DIR --out results/conformance

Spikes are compared one by one: the k-th of a neuron with its k-th in the exact solution. Missing ones have no partner
on the platform, additional ones none in the exact solution; late and early ones are a step or more away.

Files: conformance.md and conformance.json. The causes of the deviations are on the page
"Conformance" of the documentation.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtt_brian import cli, files
from mtt_brian.errors import InputError
from mtt_brian.evaluate import conformance
from mtt_brian.evaluate.tables import Table, code_block, markdown
from mtt_brian.progress import progress_bar

FILES = ("conformance.md", "conformance.json")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    tables = [*paper_tables(options.paper), *golden_tables(options.golden)]
    out = files.results_folder(options.out, "conformance")
    files.check_replaceable(out, FILES)
    command = shlex.join([cli.PROGRAM, "conformance", *(sys.argv[2:] if arguments is None else arguments)])
    sections = [f"## {markdown(table.title)}\n\n{table.markdown()}" for table in tables]
    text = "\n\n".join(["# Other platforms beside the exact solution", *sections, code_block(command)])
    content = {
        "tables": [{"title": table.title, "rows": list(rows(table))} for table in tables],
        "versions": files.versions("numpy", "scipy", "numba", "nir"),
        "command": command,
    }
    with files.removed_if_empty(out):
        files.write_text(out / "conformance.md", f"{text}\n")
        files.write_json(out / "conformance.json", content)
    print("\n\n".join(f"{table.title}\n\n{table.terminal()}" for table in tables))
    print(f"\n{files.contents(out)}")


def rows(table: Table) -> Iterator[dict[str, str]]:
    """The rows of a table, by the headings of its columns."""
    for row in table.rows:
        yield {column.heading: str(cell) for column, cell in zip(table.columns, row, strict=True)}


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "conformance")
    parser.add_argument("--paper", type=Path, metavar="DIR", help="folder with 01_lif, 02_cnn and 03_rnn")
    parser.add_argument("--golden", type=Path, metavar="DIR", help="folder of networks with the spikes of their tools")
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/conformance-<number>]")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options that are given.

    Raises:
        InputError: for those that do not go together.
    """
    options = make_parser().parse_args(arguments)
    if options.paper is None and options.golden is None:
        raise InputError("name at least one folder: --paper DIR or --golden DIR")
    return options


def paper_tables(folder: Path | None) -> Iterator[Table]:
    """The three tasks of the NIR paper.

    Raises:
        InputError: as the functions of `evaluate.conformance`.
    """
    if folder is not None:
        yield conformance.lif_table(folder / "01_lif")
        yield conformance.accuracy_table(folder / "02_cnn")
        for name in conformance.BRAILLE:
            yield conformance.braille_table(folder / "03_rnn" / name)


def golden_tables(folder: Path | None) -> Iterator[Table]:
    """A table for every tool that exported networks of a folder.

    Raises:
        InputError: as the functions of `evaluate.conformance`.
    """
    if folder is None:
        return
    by_tool: dict[str, list[conformance.Conformance]] = {}
    for run in progress_bar(list(conformance.tool_runs(folder)), description="conformance", unit="networks"):
        by_tool.setdefault(run.tool, []).extend(conformance.conformance(run))
    for tool, results in by_tool.items():
        yield conformance.tool_table(tool, results)
