"""Evaluate trained networks, time-stepped and event-driven: the steps of mtt-brian eval, one call each.

python studies/event_driven_eval.py --help    # all options; the command has the same
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtt_brian import cli

cli.configure_threads()

from mtt_brian.cli.evaluate import parse
from mtt_brian.experiments import dask_backend, evaluation, report_files, study_cli
from mtt_brian.machine import keep_freed_memory


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    # Time-stepped passes on a CPU are a tenth faster when glibc does not return freed memory to the system.
    keep_freed_memory()

    # A run is a folder of `mtt-brian train`: config.json with the settings, and model.nir with the network. All runs
    # are tested on the same recordings, by default the test split of the data set that they were trained on.
    runs, recordings = study_cli.load_runs_and_recordings(options, options.skip_bad)

    # The networks as the engines read them: one input of the sensor's shape, one output per class.
    circuits = study_cli.load_circuits(runs, recordings)

    # Time-stepped: the events are binned into T frames, and every stage runs with T steps, for every T of --time-steps
    # and for the T_max of the training. Event-driven: the same weights without time steps, under one or both
    # conventions; spikes are compared with those at T_max. The recordings are divided into shards.
    plan = evaluation.plan_evaluation(
        runs,
        circuits,
        recordings,
        time_steps=options.time_steps,
        engine=options.engine,
        order=options.order,
        shard_size=options.shard,
        data_root=study_cli.data_root(runs, recordings, options),
    )

    # The store keeps every shard as soon as it is computed, here or by a worker of a Dask cluster.
    with (
        report_files.open_store(plan, options.out, options.html) as store,
        dask_backend.backend(options.dask, len(plan.shards)) as compute,
    ):
        command = study_cli.command_line("mtt-brian eval", arguments)
        report = evaluation.evaluate(plan, store, compute, command)

    # Accuracy, spike difference, synaptic operations, decision times: report.json, report.md, figures, and a page.
    report_files.write_report_files(report, plan, store, options.html, options.verbose)


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
