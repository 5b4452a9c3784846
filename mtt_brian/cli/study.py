"""The command ``study``: runs a script of the folder ``studies`` by its name, from a repository or a wheel."""

from __future__ import annotations

import argparse
import ast
import difflib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mtt_brian import cli
from mtt_brian.errors import InputError
from mtt_brian.repository import load_script, shipped
from mtt_brian.text import shown

DESCRIPTION = "Answer one question about finished runs, time-stepped and event-driven: a table, a figure, a report."


def main(arguments: Sequence[str] | None = None) -> int | None:
    """The command line; returns the exit status of the study."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.study is None:
        parser.print_help()
        return None
    status: int | None = load(options.study).main(options.arguments)
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of the words in front of the study's own options; its help lists the studies."""
    found = scripts()
    width = max(map(len, found))
    parser = cli.Parser(
        prog=f"{cli.PROGRAM} study",
        usage=f"{cli.PROGRAM} study [-h] [STUDY] [ARGUMENT ...]",
        description=DESCRIPTION,
        epilog="\n".join(
            [
                "studies:",
                *(f"  {name:{width}}  {summary(path)}" for name, path in found.items()),
                "",
                "examples:",
                f"  {cli.PROGRAM} study time_step_sweep runs/digits-mtt-0-001",
                f"  {cli.PROGRAM} study robustness --help",
            ]
        ),
        formatter_class=cli.HelpFormatter,
    )
    parser.add_argument("study", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def scripts() -> dict[str, Path]:
    """The studies by name."""
    return {path.stem: path for path in sorted(shipped("studies").glob("*.py"))}


def summary(script: Path) -> str:
    """The first line of a script, which is not run for it."""
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    return (doc or "").partition("\n")[0]


def load(name: str) -> ModuleType:
    """The module of a study.

    Raises:
        InputError: for an unknown name.
    """
    found = scripts()
    if name not in found:
        near = difflib.get_close_matches(name, found, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown study {shown(name)}{hint} (studies: {', '.join(found)})")
    return load_script("studies", name)
