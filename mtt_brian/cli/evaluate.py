"""Evaluate trained networks, time-stepped and event-driven in continuous time.

mtt-brian eval                                  # the newest run under runs/
mtt-brian eval runs/digits-sdt-0-001 runs/digits-mtt-0-001      # side by side
mtt-brian eval RUN --engine brian2-cpp          # the same spikes from Brian2
mtt-brian eval RUN --dataset nmnist --data-root DIR --limit 50
mtt-brian eval RUN --dask                       # a process per core of this machine
mtt-brian eval RUN --dask tcp://host:8786       # the workers of a Dask cluster
mtt-brian eval RUN --out results/mine           # again with the same --out after a stop: the rest

The command prints a verdict and the numbers behind it; --verbose prints all tables, which are also in the files. The
temporal flexibility is the mean accuracy over T = 1 .. 200 and event-driven, divided by the largest of these
accuracies; it needs the default --time-steps.

Two conventions define what happens to events that arrive at the same instant:

  sum   all jumps of one instant are summed and applied once; then a neuron fires by its rule (floor(v/threshold)
        spikes for "many"). Every engine supports it.
  fifo  every event is applied alone, in the order of the recording, and travels breadth first: the lower bound acts
        after each jump, a neuron fires at most one spike per event. What event-driven chips do; exact, exact-cuda only.

The predictions of the same weights can differ between the two, so both are reported where the engine can do both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mtt_brian import cli
from mtt_brian.cli import network_options
from mtt_brian.engines import ORDERS, engine_info
from mtt_brian.engines.engine_table import engines_with
from mtt_brian.errors import InputError
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS
from mtt_brian.experiments import dask_backend, option_checks, study_cli
from mtt_brian.machine import BATCH, BATCH_SIDE_BY_SIDE
from mtt_brian.repository import load_script


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs ``studies/event_driven_eval.py``."""
    load_script("studies", "event_driven_eval").main(arguments)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "eval")
    study_cli.add_options(parser, "event_driven_eval")
    network_options.add_engine(parser)
    parser.add_argument(
        "--order", choices=[*ORDERS, "both"], help="convention for simultaneous events [both where that is possible]"
    )
    parser.add_argument(
        "--skip-bad",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="leave out recordings that cannot be read, and list them [false]",
    )
    parser.add_argument("--html", action="store_true", help="also write report.html: tables and figures in one file")
    parser.add_argument("--verbose", action="store_true", help="print all tables, by layer and with operations")
    study_cli.add_time_steps(parser, TIME_STEPS, "numbers of time steps to compare with, besides T_max of each run")
    dask_backend.add_option(parser)
    parser.add_argument(
        "--shard",
        type=int,
        metavar="N",
        help="recordings per chunk; finished chunks are kept when the command is stopped"
        f" [{BATCH}; {BATCH_SIDE_BY_SIDE} for engines that run them side by side; fewer for a large network]",
    )
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options that are given.

    Raises:
        InputError: for those that do not go together.
    """
    options = make_parser().parse_args(arguments)
    known = engine_info(options.engine).orders
    for order in ORDERS if options.order == "both" else [options.order] if options.order else []:
        if order not in known:
            others = " or ".join(f"--engine {name}" for name in engines_with(order))
            raise InputError(f"--order {options.order} needs {others}; {options.engine} takes {', '.join(known)}")
    option_checks.at_least_one(options, "limit", "time_steps", "shard")
    return options
