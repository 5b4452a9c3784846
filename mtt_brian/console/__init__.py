"""``mtt-brian COMMAND``: what the package does, from a command line.

Every command is a module with a ``main(arguments)``; the scripts in ``training/`` and ``studies/`` call the same ones.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from mtt_brian.errors import Diverged, InputError

# OpenMP threads that spin while they wait take the cores from each other as soon as anything else runs on the machine:
# an epoch of 3 s was seen to take 40. Read when torch is imported, so it has to be said first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Modules by command; each is imported when it is called, so that commands without torch do without it.
COMMANDS = {"train": "mtt_brian.console.train", "eval": "mtt_brian.console.evaluate"}


def main(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for bad input or a loss that is no longer finite."""
    try:
        importlib.import_module(COMMANDS[command]).main(arguments)
    except (InputError, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
