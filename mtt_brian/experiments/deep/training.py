"""The trainings of the experiment, seed beside seed, within a time limit; time-stepped accuracy of every network."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, as_completed, wait
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import nir
import numpy as np

from mtt_brian import export, mtt
from mtt_brian.errors import Diverged, InputError
from mtt_brian.experiments import perturb_networks
from mtt_brian.experiments.deep import finished
from mtt_brian.experiments.deep.frames import MEASURED, test_frames, training_frames
from mtt_brian.experiments.deep.plan import TIME_STEPS, Epochs, Network, Setting, Speed, epochs_within, networks
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.run_files import CONFIG, MODEL
from mtt_brian.files import write_json
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt.checks import check_norms, check_resume
from mtt_brian.mtt.config import TrainConfig, read_config
from mtt_brian.mtt.frame_dataset import FrameSet
from mtt_brian.mtt.inference import max_batch_size
from mtt_brian.mtt.initialise import prepare
from mtt_brian.mtt.loop import Trainer, configure_torch
from mtt_brian.text import one_line
from mtt_brian.workers import end_processes, single_processes, start_worker

#: Significant bits of the exported weights: those of bfloat16, in which mixed precision computes convolutions. All
#: results are those of the rounded weights, and a compressed file is small.
BITS = 8
#: Seconds between checkpoints of a training: what is lost when it is stopped.
SAVED_EVERY = 30.0
#: On a GPU, batches of the time-stepped measurements are larger by this factor.
_GPU_BATCHES = 4
#: Iterations that are timed, and how many times as many come before: each new shape of a batch of frames has its own
#: kernels, and MTT has about 30 numbers of time steps.
_TIMED, _WARM_UP = 12, {"sdt": 1, "mtt": 8}


def train(setting: Setting, seeds: Sequence[int], epochs: Epochs, fit: bool, ends: float, jobs: int) -> None:
    """Train the networks of all seeds; those that are there already are not trained again.

    If the process of a seed is killed, the other seeds are trained to their end.

    Args:
        setting: of all networks.
        seeds: each is one task.
        epochs: of both phases.
        fit: whether they are the most, and fewer are taken if they do not fit, see `epochs_within`.
        ends: time (`time.time`) at which the last training must have ended.
        jobs: processes, each with its share of the seeds; 0: nothing is trained.

    Raises:
        InputError: for networks of other settings in the folder.
        Exception: the first one of a seed, when all seeds are done.
    """
    if not jobs:
        return
    jobs = min(jobs, len(seeds))
    kept = setting.folder / "epochs.json"
    if planned := fit and kept.exists():
        epochs, fit = _read_epochs(kept, epochs.groups), False
    with single_processes(jobs, _start) as pools:
        if fit:
            speeds = [future.result() for future in [pool.submit(measure_speed, setting) for pool in pools]]
            slowest = Speed(max(s.sdt for s in speeds), max(s.mixed for s in speeds))
            epochs = epochs_within((ends - time.time()) / -(-len(seeds) // jobs), slowest, epochs)
            print(f"seconds per epoch: SDT {slowest.sdt:.1f}, mixed {slowest.mixed:.1f}; {epochs}", flush=True)
        check_settings(setting, seeds, epochs)
        if not planned:
            write_json(kept, epochs._asdict())
        tasks = zip(seeds, itertools.cycle(pools), strict=False)
        running = {pool.submit(train_seed, setting, seed, epochs, ends): seed for seed, pool in tasks}
        errors = []
        for future in as_completed(running):
            error = future.exception()
            print(f"seed {running[future]}: {'done' if error is None else f'not done, {one_line(error)}'}", flush=True)
            errors += [] if error is None else [error]
    if errors:
        raise errors[0]


def _start() -> None:
    """Initialises a process of the trainings."""
    start_worker()
    keep_freed_memory()


def _read_epochs(path: Path, groups: Collection[int]) -> Epochs:
    """The epochs of an earlier start, of those of its groups that are asked for."""
    try:
        found = json.loads(path.read_text())
        both = tuple(number for number in found["groups"] if number in groups)
        epochs = Epochs(int(found["first"]), int(found["second"]), both)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the epochs of an earlier start ({error!r}); --epochs gives them") from None
    print(f"{path}: {epochs}", flush=True)
    return epochs


def stop(trained: Future[None]) -> None:
    """Ends the processes of the trainings at once, for example after Ctrl-C; networks that are ready stay.

    Args:
        trained: the future of `train`; a process that it starts meanwhile is ended, too.
    """
    while not trained.done():
        end_processes()
        wait([trained], timeout=0.1)


def train_seed(setting: Setting, seed: int, epochs: Epochs, ends: float) -> None:
    """The networks of one seed, in order, as long as there is time."""
    for network in networks(seed, epochs.groups):
        if setting.is_finished(network):
            continue
        if (first := network.init) and not (setting.is_finished(first) and _has_checkpoint(setting, first)):
            # Archives have no checkpoints.
            print(f"{network.name}: left out, because {first.name} is not there with its checkpoint", flush=True)
            continue
        try:
            if not train_network(setting, network, epochs, ends):
                print(f"{network.name}: the time is over", flush=True)
                break
        except Diverged as error:
            print(f"{network.name}: {error}", flush=True)


def train_network(setting: Setting, network: Network, epochs: Epochs, ends: float) -> bool:
    """One training: run folder with settings, metrics, checkpoint, model and time-stepped predictions.

    A training that was stopped goes on from its checkpoint.

    Returns:
        False if the time ended before the training did; then there is no model.
    """
    folder, config = setting.run(network), setting.config(network, epochs)
    folder.mkdir(parents=True, exist_ok=True)
    resume = mtt.checkpoint.load(folder) if _has_checkpoint(setting, network) else None
    trainer = _trainer(setting, config, _frames(setting), resume)
    write_json(folder / CONFIG, config.as_dict())
    started = saved = time.time()
    first = trainer.last.epoch
    with trainer.running():
        while trainer.last.epoch < config.epochs:
            done = trainer.last.epoch - first
            if time.time() + (time.time() - started) / max(1, done) > ends:
                trainer.save(folder)
                return False
            trainer.run_epoch()
            if time.time() - saved > SAVED_EVERY:
                trainer.save(folder)
                saved = time.time()
    trainer.save(folder)
    recordings = load_recordings(setting.dataset, setting.data_root, "test", setting.test)
    graph = export.to_nir(trainer.model, time_steps=TIME_STEPS, duration=recordings.duration_us / 1e6)
    graph = perturb_networks.rounded_weights(graph, BITS)
    stepped = time_stepped_predictions(setting, graph)
    export.write(folder / MODEL, graph)
    finished.write(folder / MODEL, recordings, stepped)
    labels = np.array(recordings.labels)
    shown = {t: f"{100 * np.mean(np.array(k) == labels):.1f}" for t, k in stepped.items()}
    accuracy, seconds = trainer.last.history[-1]["train_accuracy"], time.time() - started
    print(f"{network.name}: training accuracy {accuracy:.3f}, {seconds:.0f} s; by T {shown}", flush=True)
    return True


def time_stepped_predictions(setting: Setting, graph: nir.NIRGraph) -> dict[int, list[int]]:
    """Predicted classes of the test recordings at every measured T, on the device."""
    model = export.from_nir(graph, duration=1.0).to(setting.device).eval()
    more = _GPU_BATCHES if setting.device.startswith("cuda") else 1
    found: dict[int, list[int]] = {t: [] for t in MEASURED}
    for part in test_frames(setting):
        for t, frames in part.items():
            found[t] += mtt.predict(model, frames, t, more * max_batch_size(model, t)).argmax(1).tolist()
    return found


def measure_speed(setting: Setting) -> Speed:
    """Seconds of an epoch, from a few iterations on the real data; other seeds are measured at the same time."""
    every, seconds = _frames(setting), []
    some = slice(0, _TIMED * setting.batch_size)
    training = FrameSet(every.frames[some], every.labels[some])
    for method in ("sdt", "mtt"):
        config = replace(setting.config(Network(method, -1.0, 0), Epochs(2, 1)), calibration_batches=0)
        trainer = _trainer(setting, config, training)
        with trainer.running():
            for _ in range(_WARM_UP[method] + 1):
                trainer.run_epoch()
        per_iteration = trainer.last.history[-1]["seconds"] / config.iterations(len(training))
        seconds.append(per_iteration * config.iterations(len(every)))
    return Speed(*seconds)


def _trainer(
    setting: Setting, config: TrainConfig, training: FrameSet, resume: mtt.checkpoint.Checkpoint | None = None
) -> Trainer:
    configure_torch(config.threads, deterministic=config.deterministic)
    model = mtt.build_model(config, load_recordings(setting.dataset, setting.data_root, "test", setting.test))
    if resume is not None:
        check_resume(resume, model, config)
    prepare(model, config.phase, config.init if resume is None else None)
    check_norms(model, training, config)
    return Trainer(model, config, training, resume=resume)


@lru_cache(maxsize=1)
def _frames(setting: Setting) -> FrameSet:
    return training_frames(setting)


def _has_checkpoint(setting: Setting, network: Network) -> bool:
    return (setting.run(network) / mtt.checkpoint.FILE_NAME).exists()


def check_settings(setting: Setting, seeds: Sequence[int], epochs: Epochs | None = None) -> None:
    """Refuses a folder with networks of other settings.

    Args:
        setting: all networks must have it; the device may be another one as long as nothing is trained.
        seeds: whose networks are checked.
        epochs: of the trainings; None: nothing is trained.

    Raises:
        InputError: names the folder of the network, and every setting that differs with both values.
    """
    free = (*mtt.config.FREE_TO_CHANGE, *(("epochs", "amp") if epochs is None else ()))
    for seed in seeds:
        for network in networks(seed):
            folder = setting.run(network)
            if not setting.is_finished(network) and not _has_checkpoint(setting, network):
                continue
            found = read_config(folder / CONFIG)
            wanted = setting.config(network, epochs or Epochs(1, 1)).as_dict()
            try:
                mtt.checkpoint.check_same(f"config ({folder})", found, wanted, free)
            except InputError as error:
                raise InputError(f"{error}; give the options of its training, or another --out") from None
