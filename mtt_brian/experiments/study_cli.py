"""Common parts of the command lines of studies and of the evaluation: options, runs, recordings, results, reports."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtt_brian import files, translate
from mtt_brian.circuit.model import Circuit
from mtt_brian.errors import InputError
from mtt_brian.evaluate.tables import Table, code_block, markdown
from mtt_brian.events import Recordings
from mtt_brian.experiments import run_folder
from mtt_brian.experiments.evaluation import result_versions
from mtt_brian.experiments.result_store import Key, ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.text import number_of


@dataclass(frozen=True)
class Study:
    """A study from its command line to its report.

    Attributes:
        name: of the script, without ``.py``.
        arguments: of the command line; None for those of the process.
        recordings: of the study.
        out: folder of the results.
        runs: by name; empty if the study trains its own.
        settings: all values besides the keys that affect results, for the `ResultStore`.
    """

    name: str
    arguments: Sequence[str] | None
    recordings: Recordings
    out: Path
    settings: Mapping[str, Any]
    runs: Mapping[str, Run] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of runs that differ in their seed only, by a label: see `run_folder.by_method`."""
        return run_folder.by_method(self.runs)

    @property
    def data(self) -> str:
        """``"N-MNIST, test, 50 recordings"``."""
        return f"{self.recordings.title}, {self.recordings.split}, {number_of(len(self.recordings), 'recording')}"

    @property
    def facts(self) -> dict[str, Any]:
        """The description of the data in a report."""
        return {
            "dataset": self.recordings.name,
            "split": self.recordings.split,
            "n_recordings": len(self.recordings),
        }

    def compute(
        self,
        keys: Iterable[Key],
        compute: Callable[..., Any],
        file: str = "results.jsonl",
        settings: Mapping[str, Any] | None = None,
    ) -> dict[Key, Any]:
        """Results by key, see `ResultStore.fill`: those of an earlier start, and new ones, stored one by one.

        Args:
            keys: of the results, tuples.
            compute: called with the elements of a key; returns its JSON-able result.
            file: name of the file of results in the results folder.
            settings: further values that affect these results.

        Raises:
            InputError: if the file contains results of other settings.
        """
        bound = {**self.settings, **(settings or {}), "versions": result_versions()}
        with files.removed_if_empty(self.out):
            return ResultStore(self.out / file, bound).fill(keys, compute, self.name)

    def write(self, report: Mapping[str, Any], title: str, *parts: Table | str) -> None:
        """Write ``report.json`` (with versions and command) and ``report.md``; print the parts and the files.

        Args:
            report: JSON-able; estimates become ``{"value": ..., "standard_error": ...}``.
            title: of the Markdown file.
            parts: tables, and texts between them in Markdown.
        """
        command = command_line(f"mtt-brian study {self.name}", self.arguments)
        versions = files.versions("torch", "numpy", "scipy", "numba", "nir")
        files.write_json(self.out / "report.json", {**report, "versions": versions, "command": command})
        text = "\n\n".join(
            [f"# {markdown(title)}", *itertools.chain.from_iterable(map(_in_markdown, parts)), code_block(command)]
        )
        files.write_text(self.out / "report.md", f"{text}\n")
        shown = [f"{part.title}:\n{part.terminal()}" if isinstance(part, Table) else part for part in parts]
        print("\n" + "\n\n".join([*shown, files.contents(self.out)]))


def _in_markdown(part: Table | str) -> list[str]:
    return [f"## {markdown(part.title)}", part.markdown()] if isinstance(part, Table) else [part]


def command_line(program: str, arguments: Sequence[str] | None) -> str:
    """The command line of a program, for reports.

    Args:
        program: its name.
        arguments: None for those of the process.
    """
    return f"{program} {shlex.join(sys.argv[1:] if arguments is None else arguments)}".rstrip()


def open_study(name: str, options: argparse.Namespace, arguments: Sequence[str] | None) -> Study:
    """The study of finished runs from the options of `add_options`; its folder is made.

    Raises:
        InputError: as `load_runs_and_recordings`, `load_circuits` and `files.results_folder`.
    """
    runs, recordings = load_runs_and_recordings(options)
    load_circuits(runs, recordings)
    settings = {
        "dataset": recordings.name,
        "split": recordings.split,
        "recordings": len(recordings),
        "data_root": data_root(runs, recordings, options),
        "models": {run_name: run.digest for run_name, run in runs.items()},
    }
    out = files.results_folder(options.out, name)
    study = Study(name, arguments, recordings, out, settings, runs)
    print(f"{study.data} -> {out}")
    return study


def add_options(options: argparse.ArgumentParser, study: str) -> None:
    """The options of a study of finished runs: runs, recordings, results folder."""
    options.add_argument("runs", nargs="*", metavar="RUN", help="run folders of mtt-brian train [newest under runs/]")
    options.add_argument("--dataset", metavar="NAME", help="data set, or package.module:NAME [that of the runs]")
    options.add_argument("--data-root", metavar="DIR", help="folder with the data set [that of the runs]")
    options.add_argument("--split", default="test", help="train or test [test]")
    options.add_argument(
        "--limit", type=int, metavar="N", help="only N recordings, the same random ones every time [all]"
    )
    options.add_argument("--out", metavar="DIR", help=f"folder for the results [results/{study}-<number>]")


def add_time_steps(options: argparse.ArgumentParser, default: Sequence[int], what: str) -> None:
    """The option of a study of several numbers of time steps; ``what`` states their purpose."""
    listed = " ".join(map(str, default))
    options.add_argument("--time-steps", nargs="+", type=int, default=default, metavar="T", help=f"{what} [{listed}]")


def load_runs_and_recordings(options: argparse.Namespace, skip_bad: bool = False) -> tuple[dict[str, Run], Recordings]:
    """The runs by name and the recordings from the options of `add_options`.

    Args:
        options: parsed.
        skip_bad: leave out unreadable recordings.

    Raises:
        InputError: as `run_folder.load_all` and `run_folder.recordings_for`.
    """
    runs = {run.name: run for run in run_folder.load_all(options.runs)}
    recordings = run_folder.recordings_for(
        list(runs.values()),
        dataset=options.dataset,
        data_root=options.data_root,
        split=options.split,
        limit=options.limit,
        skip_bad=skip_bad,
    )
    return runs, recordings


def load_circuits(runs: Mapping[str, Run], recordings: Recordings) -> dict[str, Circuit]:
    """The networks of runs, by the names of the runs.

    Raises:
        InputError: if one cannot be read, was made for another sensor or has another number of outputs than there are
            classes.
    """
    return {name: _circuit(run.model, recordings) for name, run in runs.items()}


def data_root(runs: Mapping[str, Run], recordings: Recordings, options: argparse.Namespace) -> str | None:
    """The folder of the data set as an absolute path, to bind results to it."""
    root = run_folder.data_root_for(list(runs.values()), recordings.name, options.data_root)
    return root and os.path.abspath(root)


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
