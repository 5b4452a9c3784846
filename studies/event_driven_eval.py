"""Evaluate trained networks, time-stepped and event-driven in continuous time; `mtt-brian eval` does the same.

python studies/event_driven_eval.py                                  # the newest run under runs/
python studies/event_driven_eval.py runs/digits-sdt-0-001 runs/digits-mtt-0-001      # side by side
python studies/event_driven_eval.py RUN --engine brian2-cpp          # the same spikes from Brian2
python studies/event_driven_eval.py RUN --dataset nmnist --data-root DIR --limit 50
python studies/event_driven_eval.py RUN --dask                       # a process per core of this machine
python studies/event_driven_eval.py RUN --dask tcp://host:8786       # the workers of a Dask cluster
python studies/event_driven_eval.py RUN --out results/mine           # again with the same --out after a stop: the rest

Two conventions define what happens to events that arrive at the same instant:

  sum   all jumps of one instant are summed and applied once; then a neuron fires by its rule (floor(v/threshold)
        spikes for "many"). The limit of ever finer time steps, if there were one; every engine can do it.
  fifo  every event is applied alone, in the order of the recording, and travels breadth first: the lower bound acts
        after each jump, a neuron fires at most one spike per event. What event-driven chips do; engine exact only.

The predictions of the same weights can differ between the two, so both are reported where the engine can do both.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtt_brian import cli

cli.configure_threads()

from mtt_brian.cli.evaluate import parse
from mtt_brian.experiments import dask_backend, evaluation, report_files, study_cli


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(cli.parser(__doc__), arguments)

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
        command = study_cli.command_line("python studies/event_driven_eval.py", arguments)
        report = evaluation.evaluate(plan, store, compute, command)

    # Accuracy, spike difference, synaptic operations, decision times: report.json, report.md, figures, and a page.
    report_files.write_report_files(report, plan, store, options.html)


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
