"""Scripts of this repository, called as a shell calls them, but in this process."""

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]


def call(script: str | Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script in the folder ``cwd``; returns its exit status and what it printed."""
    command = [str(ROOT / script), *map(str, arguments)]
    said, complained, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "path", [str(Path(command[0]).parent), *sys.path]),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(command, status, said.getvalue(), complained.getvalue())
