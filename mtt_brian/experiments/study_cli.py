"""What the command lines of the studies share: their options, the runs they take up, and the way results are left."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtt_brian import cli, translate
from mtt_brian.circuit.model import Circuit
from mtt_brian.cli import exit_status
from mtt_brian.errors import InputError
from mtt_brian.evaluate.tables import code_block, markdown
from mtt_brian.events import Recordings
from mtt_brian.experiments import run_folder
from mtt_brian.experiments.run_folder import Run
from mtt_brian.files import write_text
from mtt_brian.text import shown


def run(main: Callable[[], None]) -> int:
    """Call a study that keeps its results as they come; returns the exit status, see `ending.run`."""
    return exit_status.run(main, "what is done is kept, and the same command with --out goes on from there")


def add_options(options: argparse.ArgumentParser, study: str) -> None:
    """The options of a study of finished runs: which runs, which recordings, where the results go."""
    options.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders of training/run_mtt.py [newest under runs/]"
    )
    options.add_argument("--dataset", metavar="NAME", help="data set, or package.module:NAME [that of the runs]")
    options.add_argument("--data-root", metavar="DIR", help="folder that holds the data set [that of the runs]")
    options.add_argument("--split", default="test", help="train or test [test]")
    options.add_argument(
        "--limit", type=int, metavar="N", help="only N recordings, the same random ones every time [all]"
    )
    options.add_argument("--out", metavar="DIR", help=f"folder for the results [results/{study}-<number>]")


def add_time_steps(options: argparse.ArgumentParser, default: Sequence[int], what: str) -> None:
    """The option of a study of several time grids; ``what`` says what they are for."""
    shown = " ".join(map(str, default))
    options.add_argument("--time-steps", nargs="+", type=int, default=default, metavar="T", help=f"{what} [{shown}]")


#: The largest numbers of options that count something: as many time steps as a training takes; of others 32 bits.
MOST = {"time_steps": 100_000, "fine": 100_000, "draws": 100_000}


def at_least_one(options: argparse.Namespace, *names: str) -> None:
    """Refuse numbers below 1, and those above `MOST`, in these options, each a number, several, or None.

    Raises:
        InputError: naming the option and the number.
    """
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, Sequence) else [value]:
            option = f"--{name.replace('_', '-')}"
            if number is not None and number < 1:
                raise InputError(f"{option} must be at least 1, not {shown(number)}")
            if number is not None and number > (most := MOST.get(name, 2**31 - 1)):
                raise InputError(f"{option} must be at most {most}, not {shown(number)}")


def take_up(options: argparse.Namespace) -> tuple[dict[str, Run], Recordings]:
    """As `runs_and_recordings`, and the networks go with the recordings.

    Raises:
        InputError: as `runs_and_recordings` and `circuits`.
    """
    chosen, recordings = runs_and_recordings(options)
    circuits(chosen, recordings)
    return chosen, recordings


def circuits(chosen: Mapping[str, Run], recordings: Recordings) -> dict[str, Circuit]:
    """The networks of runs, by the names of the runs.

    Raises:
        InputError: if one cannot be read, was made for another sensor or has another number of outputs than there are
            classes.
    """
    return {name: _circuit(run.model, recordings) for name, run in chosen.items()}


def _circuit(model: Path, recordings: Recordings) -> Circuit:
    circuit = translate.read_nir(model)
    if tuple(recordings.sensor_size) != tuple(circuit.input_shape):
        raise InputError(
            f"{model}: made for recordings of shape {tuple(circuit.input_shape)};"
            f" {recordings.title} has {tuple(recordings.sensor_size)}"
        )
    readout = circuit.readout
    if readout.size != len(recordings.classes):
        raise InputError(
            f"{model}: outputs of shape {tuple(readout.shape)}; {recordings.title} has {len(recordings.classes)}"
            " classes, and a network needs one output for each"
        )
    return circuit


def runs_and_recordings(options: argparse.Namespace, skip_bad: bool = False) -> tuple[dict[str, Run], Recordings]:
    """The runs by name and the recordings that `add_options` asked for.

    Args:
        options: parsed.
        skip_bad: leave out recordings that cannot be read.

    Raises:
        InputError: as `runs.load_all` and `runs.recordings_for`.
    """
    chosen = {run.name: run for run in run_folder.load_all(options.runs)}
    recordings = run_folder.recordings_for(
        list(chosen.values()),
        dataset=options.dataset,
        data_root=options.data_root,
        split=options.split,
        limit=options.limit,
        skip_bad=skip_bad,
    )
    return chosen, recordings


def digests(chosen: Mapping[str, Run]) -> dict[str, str]:
    """SHA-256 of every run's network, which ties a grid of results to what they are results of."""
    return {name: run.digest for name, run in chosen.items()}


def command(study: str, arguments: Sequence[str] | None) -> str:
    """What was typed."""
    typed = ["python", f"studies/{study}.py", *(sys.argv[1:] if arguments is None else arguments)]
    return cli.as_typed(shlex.join(typed))


def write(out: Path, report: Mapping[str, Any], title: str, text: str, typed: str) -> None:
    """``report.json``, with versions and command, and ``report.md``.

    Args:
        out: the folder.
        report: JSON-able.
        title, text: of the Markdown file.
        typed: see `command`.
    """
    versions = run_folder.versions("torch", "numpy", "scipy", "numba", "nir")
    run_folder.save_json(out / "report.json", {**report, "versions": versions, "command": typed})
    write_text(out / "report.md", f"# {markdown(title)}\n\n{text}\n\n{code_block(typed)}\n")
