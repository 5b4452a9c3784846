"""What the rule of an event-driven target costs a network: from its time steps to the target, one change at a time.

mtt-brian gap runs/digits-mtt-0-001                                  # a run: its own time steps and recordings
mtt-brian gap foreign.nir --tool sinabs --time-per-step 1e-3 --dataset nmnist --data-root DIR
mtt-brian gap foreign.nir a.npz b.npz c.npz --tool snntorch --time-per-step 1e-3 --duration 0.1   # without labels
mtt-brian gap model.nir --reset subtract --step 1e-3 --dataset nmnist --data-root DIR --target-bits 4
mtt-brian gap RUN --target-order sum --target-bound keep             # fewer changes
mtt-brian gap RUN --out results/mine                                 # again with the same --out after a stop: the rest
mtt-brian gap RUN --dask                                             # a process per core of this machine

The network is run by the exact engine, first with all events of a time step at the beginning of that step. For neurons
without leak this is the time-stepped network of its tool. Neurons that leak decay by exp(-step / tau) from step to
step; a membrane that a bias or a synaptic current carries to the threshold between two steps fires there. Changes:

  instants     every event at its own microsecond; what arrives at one instant is summed
  fifo         single events: each is applied alone, in the order of the recording, and travels breadth first
  one spike    a neuron fires at most one spike per update (many spikes: as many as its membrane has thresholds)
  bound, no bound   another lower bound of the membrane
  N bit        every layer's weights are rounded to N bits, symmetric about 0

"fifo" contains "instants" and "one spike", so these are not combined. All other combinations are run, on the same
recordings: differences have paired errors, and p is that of the exact sign test (McNemar) of lost against gained ones.
Without labels the agreement with the time-stepped predictions takes the place of the accuracy.

Finally the time-stepped rule is run with steps of other lengths, as it is and with the target's bound and weights, and
its predictions are compared with those of the same rule without steps. With labels, the temporal flexibility score is
computed from runs with 1, 2, 5 .. 200 steps per recording.

Files: gap.json, gap.md, gap.html, waterfall.png and steps.png.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtt_brian import cli, events, files
from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.model import Circuit
from mtt_brian.cli import network_options
from mtt_brian.cli.network_options import Network
from mtt_brian.cli.recording_files import open_recording
from mtt_brian.engines import ORDERS
from mtt_brian.errors import InputError
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS
from mtt_brian.events import Recordings, named
from mtt_brian.events.collections import some_of
from mtt_brian.events.datasets import check_not_a_reference
from mtt_brian.events.recording import last_us
from mtt_brian.experiments import dask_backend, gap, gap_report, option_checks
from mtt_brian.experiments.backend import divide
from mtt_brian.experiments.gap import FIFO, INSTANTS, GapTask, GivenRecordings, Plan, Rule, Target
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.neuron import SPIKES_PER_UPDATE
from mtt_brian.text import number_of, printable
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.nir_files import naming

#: Recordings that are computed and kept together.
SHARD = 50
KEEP = "keep"


@dataclass(frozen=True, eq=False)
class Given:
    """The recordings that a network is run on.

    Attributes:
        title: of all of them.
        recordings: read when they are asked for.
        labels: classes; None where they are not known.
        longest_step_us: lengths of steps that are tried without being asked for are not longer.
    """

    title: str
    recordings: Recordings | GivenRecordings
    labels: np.ndarray | None
    longest_step_us: float

    @property
    def digest(self) -> str | None:
        """SHA-256 of the events of recordings that are named one by one, whose files may change."""
        if isinstance(self.recordings, Recordings):
            return None
        digests = (hashlib.sha256(recording.tobytes()).digest() for recording in self.recordings)
        return hashlib.sha256(b"".join(digests)).hexdigest()

    @property
    def what(self) -> str:
        """What is measured."""
        return "agreement" if self.labels is None else "accuracy"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    opened = network_options.open_network(options)
    given = recordings_for(options, opened)
    name = opened.path.parent.name if opened.config else opened.path.name
    digest = files.file_digest(opened.path)
    with naming(opened.path):
        plan = plan_for(options, opened, given)
        conventions = network_options.conventions_from(options)
        task = GapTask(opened.graph, digest, conventions, plan.named_rules, options.duration)
        for rule in {rule.engine for _, rule in plan.named_rules}:
            task.circuit(rule)  # what cannot be is refused before anything is written
    shards = divide(name, task, given.recordings, options.shard)
    out = files.results_folder(options.out, "gap")
    files.check_replaceable(out, gap_report.FILES)
    with files.removed_if_empty(out):
        bound = {
            "shard": options.shard,
            "title": given.title,
            "ids": list(given.recordings.ids),
            "root": options.data_root,
            "events": given.digest,
        }
        store = ResultStore(out / "gap.jsonl", task.settings() | bound)
        some = number_of(len(given.recordings), "recording")
        print(printable(f"{given.title}: {opened.path} on {some}, {task.passes} rules -> {out}"))
        with dask_backend.backend(options.dask, len(shards)) as backend:
            parts = gap.evaluate(shards, store, backend)
    results = gap.merge(parts, given.labels)
    report = gap_report.report_of(name, given.title, given.what, plan, results, options.within / 100)
    about = {
        **store.settings,
        "assumptions": opened.circuit.assumptions,
        "versions": files.versions(*gap.PACKAGES),
        "command": shlex.join([cli.PROGRAM, "gap", *(sys.argv[2:] if arguments is None else arguments)]),
    }
    report.write(out, notes(opened.circuit, plan), about)
    store.remove()
    print(f"\n{report.terminal()}\n\n{files.contents(out)}")


def notes(circuit: Circuit, plan: Plan) -> list[str]:
    """What was assumed of the network, and what time steps mean for its neurons."""
    said = [f"Assumed: {assumption}." for assumption in circuit.assumptions]
    if leaking := gap.decaying(circuit):
        said.append(
            f"On time steps {', '.join(leaking)} decay by exp(-step / tau) from one step to the next; a tool that "
            "takes 1 - step / tau leaves less by (step / tau)^2 / 2."
        )
    if crossing := gap.crossing_between_steps(circuit):
        said.append(
            f"{', '.join(crossing)} can reach the threshold between two steps, and then fire there; a time-stepped "
            "tool lets them fire at the next step."
        )
    if FIFO not in plan.changes and plan.target != (INSTANTS,):
        said.append("Single events (fifo) are left out: --target-order sum, or the network has delays or such neurons.")
    return said


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "gap")
    network_options.add_options(parser)
    parser.add_argument(
        "recordings",
        nargs="*",
        default=(),  # so that argparse lists it as optional
        metavar="RECORDING",
        help="files of events, or DATASET:SPLIT:NUMBER; or --dataset",
    )
    network_options.add_data_set(parser)
    parser.add_argument("--split", default="test", help="train or test [test]")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only N recordings, the same random ones every time [all]"
    )
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="end of every run [its last event]")
    network_options.add_time_step(parser)
    parser.add_argument(
        "--steps", type=float, nargs="*", metavar="SECONDS", help="other lengths to compare [1e-5, 3e-5 .. 0.1]"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="largest part of the recordings whose prediction may differ where a step counts as equal [1]",
    )
    target = parser.add_argument_group("the target")
    target.add_argument("--target-order", choices=ORDERS, help="single events, or sums of instants [fifo if it exists]")
    target.add_argument(
        "--target-spikes",
        choices=[*SPIKES_PER_UPDATE, KEEP],
        help="per update, where the order is not fifo [the other one than the network has]",
    )
    target.add_argument(
        "--target-bound",
        metavar="V",
        help="lower bound: a potential, thresholds as in '-1 thresholds', none, or keep [none where there is one, else "
        "-1 thresholds]",
    )
    target.add_argument("--target-bits", type=bits, metavar="N|keep", help="of the weights [8]")
    parser.add_argument(
        "--shard",
        type=int,
        default=SHARD,
        metavar="N",
        help=f"recordings per chunk; finished chunks are kept when the command is stopped [{SHARD}]",
    )
    dask_backend.add_option(parser)
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/gap-<number>]")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options that are given.

    Raises:
        InputError: for those that do not go together.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.recordings:
        parser.refuse_given(arguments, ["split"], "recordings are named one by one")
        if not any(map(named.reference, options.recordings)):
            parser.refuse_given(arguments, ["data_root"], "all recordings are files")
    if options.steps == []:
        parser.refuse_given(arguments, ["within"], "--steps without a number compares no other lengths")
    option_checks.at_least_one(options, "limit", "time_steps", "shard")
    if not 0 <= options.within <= 100:
        raise InputError(f"--within must be a percentage from 0 to 100, not {options.within}")
    return options


def bits(text: str) -> int | str:
    """A number of bits, or keep."""
    return text if text == KEEP else int(text)


bits.__name__ = "number of bits"


# ----- what is asked for


def recordings_for(options: argparse.Namespace, opened: Network) -> Given:
    """The recordings of a data set, or those that are named one by one.

    Raises:
        InputError: for both or neither, for recordings that cannot be read, and for a data set whose shape or classes
            are not those of the network.
    """
    if options.recordings and (options.dataset or options.limit):
        raise InputError("pass recordings, or --dataset and --limit, not both")
    if options.recordings:
        opened_ones = [
            open_recording(text, options.data_root, opened.config, opened.circuit) for text in options.recordings
        ]
        labels = [recording.label for recording in opened_ones]
        classes = {recording.classes for recording in opened_ones}
        labelled = None not in labels and len(classes) == 1 and len(*classes) == opened.circuit.readout.size
        ends = [last_us(recording.events) for recording in opened_ones]
        names = [recording.name for recording in opened_ones]
        recordings = GivenRecordings("given recordings", names, [recording.events for recording in opened_ones])
        return Given(recordings.name, recordings, np.array(labels) if labelled else None, min(ends))
    name = options.dataset or opened.config.get("dataset")
    if name is None:
        raise InputError("which recordings? Name files, DATASET:SPLIT:NUMBER, or --dataset NAME")
    check_not_a_reference(name, options.dataset)
    root = options.data_root or (opened.config.get("data_root") if opened.config.get("dataset") == name else None)
    data = events.load(name, root=root, split=options.split)
    if not isinstance(data, Recordings):
        raise InputError(f"{data.title} are still images, without events")
    if opened.config.get("resolution") is not None:
        data = events.at_resolution(data, opened.config["resolution"])
    _check_fit(data, opened)
    data = some_of(data, options.limit, seed=0)
    return Given(f"{data.title}, {data.split}", data, data.labels, data.duration_us)


def _check_fit(data: Recordings, opened: Network) -> None:
    circuit = opened.circuit
    if int(np.prod(data.sensor_size)) != circuit.input_size:
        raise InputError(
            f"{opened.path}: made for recordings of shape {circuit.input_shape}; {data.title} has {data.sensor_size}"
        )
    if circuit.readout.size != len(data.classes):
        raise InputError(
            f"{opened.path}: outputs of shape {circuit.readout.shape}; {data.title} has {len(data.classes)} classes"
        )


def plan_for(options: argparse.Namespace, opened: Network, given: Given) -> Plan:
    """The rules to run, from the options, the network's file and its run.

    Raises:
        InputError: if the length of a time step is not given, and as `gap.plan`.
    """
    base = base_rule(options, opened)
    steps_us = [_whole_us("--steps", step) for step in options.steps] if options.steps is not None else gap.STEPS
    if options.steps is None:
        steps_us = [step for step in steps_us if step <= given.longest_step_us / 3]
    scored = TIME_STEPS if given.labels is not None and given.longest_step_us >= TIME_STEPS[-1] else ()
    return gap.plan(opened.circuit, base, _target(options, opened.circuit), sorted(set(steps_us)), scored)


def base_rule(options: argparse.Namespace, opened: Network) -> Rule:
    """The time-stepped rule of a network, from the options, its run, or its file.

    Raises:
        InputError: if nothing says how long a time step is.
    """
    if options.step is not None:
        return Rule(step_us=_whole_us("--step", options.step))
    bins = options.time_steps if options.time_steps is not None else opened.config.get("time_steps")
    if bins is not None:
        return Rule(bins=bins)
    if opened.circuit.time_step is not None:
        return Rule(step_us=_whole_us("--time-per-step", opened.circuit.time_step))
    raise InputError(
        f"{opened.path}: how long is a time step? Pass --step SECONDS, --time-steps T (per recording), or --tool and "
        f"--time-per-step"
    )


def _whole_us(option: str, seconds: float) -> int:
    """A time in microseconds.

    Raises:
        InputError: unless it is a whole number of them, and at least one.
    """
    us = float(on_whole_microseconds(seconds)) * 1e6 if np.isfinite(seconds) else np.nan
    if not us >= 1 or abs(us - round(us)) > 1e-6:
        raise InputError(f"{option} must be a whole number of microseconds, not {seconds:g} s")
    return round(us)


def _target(options: argparse.Namespace, circuit: Circuit) -> Target:
    usual = gap.usual_target(circuit, options.target_order)
    bound = options.target_bound
    if bound is not None and bound != KEEP:
        bound = Conventions(lower_bound=bound).lower_bound

    def chosen(given: Any, otherwise: Any) -> Any:
        return otherwise if given is None else None if given == KEEP else given

    return Target(
        order=usual.order,
        spikes=chosen(options.target_spikes, usual.spikes),
        lower_bound=chosen(bound, usual.lower_bound),
        bits=chosen(options.target_bits, usual.bits),
    )
