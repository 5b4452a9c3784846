"""Print a script with which a shell completes commands, options, names and files.

mtt-brian completion bash > ~/.local/share/bash-completion/completions/mtt-brian   # then open a new shell
mtt-brian completion zsh > ~/.zsh/_mtt-brian         # a folder of $fpath, before compinit

Print it again after an update: the script contains all names, so that completion does not start Python.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from mtt_brian import cli
from mtt_brian.cli import study
from mtt_brian.errors import InputError
from mtt_brian.repository import pip_install

SHELLS = ("bash", "zsh", "tcsh")
#: What the help shows for a file and for a folder.
FILES, FOLDERS = ("FILE", "FILE.nir", "RECORDING"), ("DIR", "RUN")


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    try:
        import shtab
    except ImportError as error:
        raise InputError(f"completion needs shtab ({error}); get it with: {pip_install('shtab')}") from None
    print(shtab.complete(all_commands(), options.shell))


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "completion")
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return parser


def all_commands() -> argparse.ArgumentParser:
    """One parser of all commands, for the script: it is never used to parse."""
    parser = argparse.ArgumentParser(cli.PROGRAM)
    parser.add_argument("--version", action="version", version="")
    commands = parser.add_subparsers()
    for name, command in cli.COMMANDS.items():
        own = _study_parser() if name == "study" else _parser_of(command.module)
        added = commands.add_parser(name, help=command.summary, parents=[own], add_help=False)
        for action in added._actions:
            _complete(action)
    return parser


def _parser_of(module: str) -> argparse.ArgumentParser:
    try:
        parser: argparse.ArgumentParser = importlib.import_module(module).make_parser()
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return argparse.ArgumentParser()  # the command cannot be used either
    return parser


def _study_parser() -> argparse.ArgumentParser:
    """The names of studies, and the options that those of finished runs share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", choices=list(study.scripts()))
    try:
        from mtt_brian.experiments import study_cli
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
    else:
        study_cli.add_options(parser, "study")
    return parser


def _complete(action: argparse.Action) -> None:
    """Let a value be completed: from its known names, or as the file or folder that its metavar stands for."""
    import shtab

    if action.metavar in FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar in FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif names := getattr(action, "names", None):
        action.choices = names
