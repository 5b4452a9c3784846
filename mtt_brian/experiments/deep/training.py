"""The trainings of the experiment, seed beside seed, within a time limit; time-stepped accuracy of every network."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from multiprocessing import active_children, get_context
from pathlib import Path

import nir
import numpy as np

from mtt_brian import export, mtt
from mtt_brian.errors import Diverged
from mtt_brian.experiments import perturb_networks
from mtt_brian.experiments.deep.event_driven import TIME_STEPPED
from mtt_brian.experiments.deep.frames import MEASURED, test_frames, training_frames
from mtt_brian.experiments.deep.plan import TIME_STEPS, Epochs, Network, Setting, Speed, epochs_within, networks
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.run_folder import CONFIG, MODEL
from mtt_brian.files import write_json
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt.checks import check_norms, check_resume
from mtt_brian.mtt.config import TrainConfig, read_config
from mtt_brian.mtt.frame_dataset import FrameSet
from mtt_brian.mtt.inference import max_batch_size
from mtt_brian.mtt.initialise import prepare
from mtt_brian.mtt.loop import Trainer, configure_torch

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

    Args:
        setting: of all networks.
        seeds: each is one process.
        epochs: of both phases.
        fit: whether they are the most, and fewer are taken if they do not fit, see `epochs_within`.
        ends: time (`time.time`) at which the last training must have ended.
        jobs: seeds that are trained at the same time; 0: nothing is trained.
    """
    if not jobs:
        return
    rounds = -(-len(seeds) // jobs)
    kept = setting.folder / "epochs.json"
    if fit and kept.exists():
        first, second, groups = json.loads(kept.read_text()).values()
        epochs, fit = Epochs(first, second, tuple(groups)), False
    with ProcessPoolExecutor(min(jobs, len(seeds)), get_context("spawn"), initializer=keep_freed_memory) as pool:
        if fit:
            speeds = list(pool.map(measure_speed, itertools.repeat(setting, min(jobs, len(seeds)))))
            slowest = Speed(max(s.sdt for s in speeds), max(s.mixed for s in speeds))
            epochs = epochs_within((ends - time.time()) / rounds, slowest, epochs)
            print(f"seconds per epoch: SDT {slowest.sdt:.1f}, mixed {slowest.mixed:.1f}; {epochs}", flush=True)
        write_json(kept, epochs._asdict())
        for seed in pool.map(train_seed, *zip(*((setting, seed, epochs, ends) for seed in seeds), strict=True)):
            print(f"seed {seed}: done", flush=True)


def stop() -> None:
    """Ends the processes of the trainings at once, for example after Ctrl-C; networks that are ready stay."""
    for process in active_children():
        process.terminate()


def train_seed(setting: Setting, seed: int, epochs: Epochs, ends: float) -> int:
    """The networks of one seed, in order, as long as there is time; returns the seed."""
    for network in networks(seed, epochs.groups):
        folder = setting.run(network)
        if (folder / TIME_STEPPED).exists():
            _check_settings(setting, network, epochs, folder)
            continue
        if network.init is not None and not (setting.run(network.init) / TIME_STEPPED).exists():
            print(f"{network.name}: left out, because {network.init.name} is not there", flush=True)
            continue
        try:
            if not train_network(setting, network, epochs, ends):
                print(f"{network.name}: the time is over", flush=True)
                break
        except Diverged as error:
            print(f"{network.name}: {error}", flush=True)
    return seed


def train_network(setting: Setting, network: Network, epochs: Epochs, ends: float) -> bool:
    """One training: run folder with settings, metrics, checkpoint, model and time-stepped predictions.

    A training that was stopped goes on from its checkpoint.

    Returns:
        False if the time ended before the training did; then there is no model.
    """
    folder, config = setting.run(network), setting.config(network, epochs)
    folder.mkdir(parents=True, exist_ok=True)
    begun = (folder / mtt.checkpoint.FILE_NAME).exists()
    trainer = _trainer(setting, config, _frames(setting), mtt.checkpoint.load(folder) if begun else None)
    write_json(folder / CONFIG, config.as_dict())
    started = saved = time.time()
    first = trainer.last.epoch
    with trainer.running():
        while trainer.last.epoch < config.epochs:
            done = trainer.last.epoch - first
            if time.time() + (time.time() - started) / max(1, done) > ends:
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
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    write_json(folder / TIME_STEPPED, {"model": digest, "predictions": stepped})  # last: its presence marks the end
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


def _check_settings(setting: Setting, network: Network, epochs: Epochs, folder: Path) -> None:
    """Refuses a network of other settings under this name."""
    mtt.checkpoint.check_same(
        f"config ({folder})",
        read_config(folder / CONFIG),
        setting.config(network, epochs).as_dict(),
        mtt.config.FREE_TO_CHANGE,
    )
