"""Train a spiking network with mixed time steps: the steps of ``mtt-brian train``, one call each.

python training/run_mtt.py --help          # all options; the command has the same
python training/run_mtt.py --method sdt    # one fixed number of time steps instead of mixed ones
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtt_brian.cli import exit_status, train
from mtt_brian.experiments import run_folder
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt import distributed


def main(arguments: Sequence[str] | None = None) -> None:
    # PyTorch on a CPU is a tenth faster when glibc does not return freed memory to the system.
    keep_freed_memory()

    # One process, or those that torchrun has started: each computes its share of every batch, and the first one prints
    # and writes the files. `from_first` and `in_turn` define which process calls a function.
    with distributed.join() as processes:
        # Options: defaults < settings of the run that --resume or --init names < --config file < command line.
        settings = train.read_settings(arguments, processes)
        config = settings.config
        if processes.from_first(lambda: train.is_finished(settings)):
            return

        # Data: recordings of an event camera (or still images) for training, validation and test.
        splits = processes.in_turn(lambda: run_folder.load_splits(config))

        # Model: a network of the zoo in stages, each of which can run with its own number of time steps.
        model = train.build_network(config, splits, processes)

        # The results folder: a new folder under runs/, or that of --out or --resume.
        folder = processes.from_first(lambda: train.open_folder(settings))

        # Train: bin the recordings to frames of T_max time steps, then in every iteration draw time steps for each
        # stage and take one step on the mean gradient (`mtt.fit`). After every epoch the checkpoint is replaced; a
        # signal stops the run and prints the command that resumes it. Export: at the end, model.nir and training.png.
        with train.resume_hint(folder, config, processes):
            train.print_summary(config, splits, model, folder)
            run_folder.train(model, config, splits, folder, settings.resume, processes)

    if processes.first:
        # Results: time-stepped accuracy for many numbers of time steps (--final-steps), each with newly binned frames.
        with train.resume_hint(folder, config, processes):
            train.print_accuracies(model, splits.test, settings)

        # Next: the same weights event-driven, without time steps.
        train.print_next_command(folder, config)


if __name__ == "__main__":
    sys.exit(exit_status.run(main))
