"""``mtt-brian COMMAND``: what the package does, from a command line.

Every command is a module with a ``main(arguments)``; the scripts in ``training/`` and ``studies/`` call the same ones.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

from mtt_brian.cli import exit_status
from mtt_brian.errors import InputError

# OpenMP threads that spin while they wait take the cores from each other as soon as anything else runs on the machine:
# an epoch of 3 s was seen to take 40. Read when torch is imported, so it has to be said first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PROGRAM = "mtt-brian"

#: What was typed in front of the arguments, where that was ``mtt-brian COMMAND`` and no script.
_typed: ContextVar[str | None] = ContextVar("typed", default=None)


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        module: imported when the command is called, so that commands without torch do without it.
        summary: one line for the overview.
        example: arguments, likewise.
        elsewhere: how the same thing is called without ``mtt-brian``, if there is a way.
    """

    module: str
    summary: str
    example: str
    elsewhere: str | None = None


COMMANDS = {
    "train": Command(
        "mtt_brian.cli.train",
        "train a network by MTT, NMT or SDT",
        "--method mtt --epochs 20",
        "python training/run_mtt.py",
    ),
    "eval": Command(
        "mtt_brian.cli.evaluate",
        "run trained networks event by event, beside their time-stepped selves",
        "runs/digits-mtt-0-001",
        "python studies/event_driven_eval.py",
    ),
    "simulate": Command(
        "mtt_brian.cli.simulate",
        "run one recording through a network and keep every spike, as .npz and CSV",
        "model.nir recording.csv",
    ),
    "info": Command(
        "mtt_brian.cli.info",
        "what a network is made of, how large it is, and which engines run it",
        "model.nir",
    ),
    "convert": Command(
        "mtt_brian.cli.convert",
        "write a network so that another tool reads it",
        "model.nir spikingjelly --out for_spikingjelly.nir",
    ),
    "doctor": Command(
        "mtt_brian.cli.doctor",
        "what works on this machine, and what to do about the rest",
        "--data nmnist=DIR",
        "python -m mtt_brian.cli.doctor",
    ),
}


def main(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, see `ending.run`."""

    def call() -> int | None:
        try:
            return importlib.import_module(COMMANDS[command].module).main(arguments)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise InputError(
                f'{command} needs PyTorch ({error}); get it with: pip install "mtt_brian[train]"'
            ) from None

    return exit_status.run(call)


def entry_point(arguments: Sequence[str] | None = None) -> int:
    """``mtt-brian`` and ``python -m mtt_brian``; returns the exit status."""
    overview = _overview()
    given = overview.parse_args(arguments)
    if given.command is None:
        overview.print_help()
        return 0
    if given.command not in COMMANDS:
        near = difflib.get_close_matches(given.command, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        overview.error(f"unknown command {given.command!r}{hint} (commands: {', '.join(COMMANDS)})")
    token = _typed.set(f"{PROGRAM} {given.command}")
    try:
        return main(given.command, given.arguments)
    finally:
        _typed.reset(token)


def _overview() -> argparse.ArgumentParser:
    from mtt_brian import __version__

    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    examples = [f"  {PROGRAM} {name} {command.example}" for name, command in COMMANDS.items()]
    overview = Parser(
        PROGRAM,
        usage=f"{PROGRAM} COMMAND [ARGUMENT ...]",
        description="Train spiking networks with mixed time steps, then run them in continuous time, event by event.",
        epilog="\n".join(
            ["commands:", *lines, "", "examples:", *examples, "", f"{PROGRAM} COMMAND --help shows more of them."]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    overview.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    overview.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    overview.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return overview


class Parser(argparse.ArgumentParser):
    """Takes ``-1e-3`` for a number, as argparse does ``-0.001``, and says in one line what is wrong."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(r"-((\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)$", re.I)

    def error(self, message: str) -> NoReturn:
        self.exit(
            exit_status.REFUSED, f"error: {exit_status.one_line(message)} ({self.prog} --help shows what is accepted)\n"
        )


def parser(doc: str | None, program: str | None = None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring: its first paragraph, and the rest behind the options.

    Args:
        doc: the docstring; its second paragraph are examples.
        program: the name under which a module runs without ``mtt-brian``; None for that of the script.
    """
    assert doc is not None
    summary, _, more = doc.partition("\n\n")
    return Parser(
        prog=_typed.get() or program,
        description=summary,
        epilog="examples:\n" + as_typed(more),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def as_typed(text: str) -> str:
    """A text that calls scripts, with commands in their place where the user came through ``mtt-brian``."""
    if _typed.get() is not None:
        for name, command in COMMANDS.items():
            if command.elsewhere is not None:
                text = text.replace(command.elsewhere, f"{PROGRAM} {name}")
    return text
