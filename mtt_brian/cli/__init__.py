"""``mtt-brian COMMAND``: what the package does, from a command line.

Every command is a module with a ``main(arguments)``.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mtt_brian.cli import exit_status
from mtt_brian.errors import InputError
from mtt_brian.repository import pip_install
from mtt_brian.text import printable

PROGRAM = "mtt-brian"


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        module: imported when the command is called, so that commands without torch do without it.
        summary: one line for the overview.
        example: arguments, likewise.
        kept: printed when a signal stops unfinished work.
    """

    module: str
    summary: str
    example: str
    kept: str = ""


#: Of what keeps its results as they come.
GOES_ON = "what is done is kept, and the same command with --out goes on from there"


COMMANDS = {
    "demo": Command(
        "mtt_brian.cli.demo",
        "three trained networks with time steps and without: a table and a figure, in seconds",
        "",
    ),
    "train": Command(
        "mtt_brian.cli.train",
        "train a network by MTT, NMT or SDT",
        "--method mtt --epochs 20",
    ),
    "eval": Command(
        "mtt_brian.cli.evaluate",
        "evaluate trained networks, time-stepped and event-driven",
        "runs/digits-mtt-0-001",
        GOES_ON,
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
    "gap": Command(
        "mtt_brian.cli.gap",
        "what the rule of an event-driven target costs a network, one change at a time",
        "runs/digits-mtt-0-001",
        GOES_ON,
    ),
    "repair": Command(
        "mtt_brian.cli.repair",
        "repair a network for a target with a lower bound: scales, and fine-tuning with the target in the loop",
        "runs/digits-mtt-0-001",
        GOES_ON,
    ),
    "study": Command(
        "mtt_brian.cli.study",
        "answer one question about trained networks: time_step_sweep, robustness, deep ...",
        "time_step_sweep runs/digits-mtt-0-001",
        GOES_ON,
    ),
    "conformance": Command(
        "mtt_brian.cli.conformance",
        "how far other platforms are from the exact solution, and why",
        "--golden DIR --paper DIR",
    ),
    "completion": Command(
        "mtt_brian.cli.completion",
        "a script with which a shell completes commands, options and names",
        "bash",
    ),
    "doctor": Command(
        "mtt_brian.cli.doctor",
        "check the installation: what works on this machine, and remedies",
        "--data nmnist=DIR",
    ),
}


def configure_threads() -> None:
    """Let OpenMP threads sleep while they wait; called by entry points before torch is imported, which reads it then.

    Threads that spin while they wait take the cores from each other as soon as anything else runs on the machine: an
    epoch of 3 s was seen to take 40.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, see `exit_status.run`."""
    configure_threads()

    def call() -> int | None:
        try:
            return importlib.import_module(COMMANDS[command].module).main(arguments)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            install = pip_install('"mtt_brian[train]"')
            raise InputError(f"{command} needs PyTorch ({error}); get it with: {install}") from None

    return exit_status.run(call, COMMANDS[command].kept)


def entry_point(arguments: Sequence[str] | None = None) -> int:
    """``mtt-brian`` and ``python -m mtt_brian``; returns the exit status."""
    overview = _overview()
    typed = sys.argv[1:] if arguments is None else list(arguments)
    # Brian2 copies the command line into a file when it is imported; names that are not UTF-8 would stop it.
    sys.argv[1:] = map(printable, sys.argv[1:])
    given = overview.parse_args(typed)
    if given.command is None:
        overview.print_help()
        return 0
    if given.command not in COMMANDS:
        near = difflib.get_close_matches(given.command, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        overview.error(f"unknown command {given.command!r}{hint} (commands: {', '.join(COMMANDS)})")
    return main(given.command, typed[typed.index(given.command) + 1 :])  # argparse would take a "--" away


def run_script(main: Callable[[], int | None]) -> int:
    """Call a script that keeps its results as they come; returns the exit status, see `exit_status.run`."""
    return exit_status.run(main, GOES_ON)


def _overview() -> argparse.ArgumentParser:
    from mtt_brian import __version__

    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    examples = [f"  {PROGRAM} {name} {command.example}".rstrip() for name, command in COMMANDS.items()]
    overview = Parser(
        PROGRAM,
        usage=f"{PROGRAM} COMMAND [ARGUMENT ...]",
        description="Train spiking networks with mixed time steps, then run them in continuous time, event by event.",
        epilog="\n".join(
            ["commands:", *lines, "", "examples:", *examples, "", f"{PROGRAM} COMMAND --help shows more of them."]
        ),
        formatter_class=HelpFormatter,
    )
    overview.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    overview.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    overview.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return overview


#: The value of an option that is not on the command line, see `Parser.refuse_given`.
_ABSENT = object()


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps names in one piece that have a hyphen."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Reads ``-1e-3`` as a number, as argparse does ``-0.001``, and reports an error in one line.

    An option is written in full: a shortened one could become another one when options are added.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False} | options)
        self._negative_number_matcher = re.compile(r"-((\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)$", re.I)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it; an unknown option is refused with those that it resembles."""
        # Otherwise a list of any length is taken to be empty where an option follows the argument in front of it.
        has_list = any(not action.option_strings and action.nargs == "*" for action in self._actions)
        parse = self.parse_known_intermixed_args if has_list else self.parse_known_args
        options, unknown = parse(args, namespace)
        for text in unknown:
            if text.startswith("--"):
                self.error(f"unknown option {text}{self._instead_of(text.partition('=')[0])}")
        if unknown:
            self.error(f"unexpected: {' '.join(unknown)}")
        return options

    def refuse_given(self, args: Sequence[str] | None, options: Collection[str], because: str) -> None:
        """Refuses options that are on the command line, though they have no effect beside the others.

        Args:
            args: the command line, which `parse_args` has accepted; None: that of the process.
            options: names of attributes of the parsed arguments, such as ``"batch_size"``.
            because: the reason, in words.

        Raises:
            InputError: naming the first one.
        """
        absent = argparse.Namespace(**dict.fromkeys(options, _ABSENT))
        self.parse_known_args(args, absent)
        for name in options:
            if getattr(absent, name) is not _ABSENT:
                raise InputError(f"--{name.replace('_', '-')} has no effect: {because}; leave it out")

    def _instead_of(self, option: str) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = [name for name in known if name.startswith(option)] or difflib.get_close_matches(option, known, 1)
        return f"; did you mean {' or '.join(near)}?" if near else ""

    def error(self, message: str) -> NoReturn:
        self.exit(
            exit_status.REFUSED, f"error: {exit_status.one_line(message)} ({self.prog} --help shows what is accepted)\n"
        )


def parser(doc: str | None, command: str | None = None) -> Parser:
    """A parser whose help is a module's docstring: its first paragraph, and the rest after the options.

    Args:
        doc: the docstring; its second paragraph are examples.
        command: the command that is parsed; None for a script, whose help shows the name of its file.
    """
    summary, _, more = (doc or "").partition("\n\n")  # python -OO leaves docstrings out
    examples, _, notes = more.partition("\n\n")
    return Parser(
        prog=None if command is None else f"{PROGRAM} {command}",
        description=summary,
        epilog="\n\n".join(["examples:\n" + textwrap.indent(examples, "  "), notes]),
        formatter_class=HelpFormatter,
    )
