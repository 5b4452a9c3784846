"""An epoch of training: how much of its time is data, and how much the iterations.

    python benchmarks/epoch.py                          # frames like CIFAR10-DVS in a VGG9 of half width
    python benchmarks/epoch.py --cuda-graph             # the same with recorded iterations
    python benchmarks/epoch.py --items 256 --size 48 --device cpu --batch-size 16

For each place of the frames (``--frames-on``) and each method a row shows one iteration on a batch that stays on the
device; the batches of an epoch without iterations; an epoch of `Trainer` without calibration and validation; and by how
much it is longer than its iterations. Two columns are for what comes once per epoch: the recalibration of the norms and
the checkpoint. Rows are printed as they are measured. The frames are random, as sparse as recordings.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtt_brian import mtt
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt import TrainConfig
from mtt_brian.mtt.loop import configure_torch
from mtt_brian.snn import models

T_MAX, CLASSES = 10, 10
HEADER = (
    "| device | frames on | method | iteration, ms | data alone, ms/batch | epoch, ms/batch | iterations/s"
    " | epoch / its iterations | recalibration, s | checkpoint, s | peak, GB |\n" + "| --- " * 11 + "|"
)


def frames(items: int, size: int) -> mtt.FrameSet:
    """Frames uint8 [items, T, 2, size, size] with channels innermost, as `load_frames` gives them."""
    rng = np.random.default_rng(0)
    counts = (rng.integers(0, 256, (items, T_MAX, size, size, 2), dtype=np.uint8) < 13).view(np.uint8)
    labels = torch.from_numpy(rng.integers(0, CLASSES, items))
    return mtt.FrameSet(torch.from_numpy(counts).permute(0, 1, 4, 2, 3), labels)


def time_of(function: Callable[[], object], device: str) -> float:
    """Time of a call, until the device has finished."""
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronise()
    begin = time.perf_counter()
    function()
    synchronise()
    return time.perf_counter() - begin


def measure(data: mtt.FrameSet, config: TrainConfig) -> str:
    """A row of the table."""
    device = config.device
    size = data.frames.shape[-1]
    torch.manual_seed(0)
    model = models.build(
        config.model, sensor_size=(2, size, size), num_classes=CLASSES, width_multiplier=config.width_multiplier
    ).to(device)
    placed = data.to(device, config.frames_on)
    trainer = mtt.Trainer(model, config, placed)
    batches = config.iterations(len(data))
    order = np.array_split(np.random.default_rng(0).permutation(len(data)), batches)
    changes = mtt.Augmentation(config.shift, config.roll, config.flip).draw(
        np.random.default_rng(0), len(data), (size, size)
    )
    with trainer.running():
        model.train()
        batch, labels = next(placed.batches(order[:1], changes, amp=config.amp))
        share = trainer.processes.batch(len(labels))

        def iterate() -> None:
            for _ in range(batches):
                configurations = trainer.sampler.sample(trainer.rng["time_steps"], model.num_stages)
                trainer.step(batch, labels, configurations, share)

        def feed() -> None:
            for _ in placed.batches(order, changes, amp=config.amp):
                pass

        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(2 if config.cuda_graph else 1):  # kernels are compiled and chosen, iterations recorded
            trainer.run_epoch()
        iteration = min(time_of(iterate, device) for _ in range(2)) / batches
        fed = min(time_of(feed, device) for _ in range(2)) / batches
        epoch = min(time_of(trainer.run_epoch, device) for _ in range(2)) / batches
        peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")
        trainer.config = dataclasses.replace(config, calibration_batches=10)
        calibration = time_of(trainer.calibrate, device)
        with tempfile.TemporaryDirectory() as folder:
            saved = time_of(lambda: trainer.save(Path(folder)), device)
    times = " | ".join(f"{each * 1e3:.2f}" for each in (iteration, fed, epoch))
    method = f"{config.method}, graph" if config.cuda_graph else config.method
    return (
        f"| {device} | {config.frames_on} | {method} | {times} | {1 / epoch:.1f} | {epoch / iteration:.3f}"
        f" | {calibration:.3f} | {saved:.3f} | {peak:.2f} |"
    )


def configurations(options: argparse.Namespace) -> Iterator[TrainConfig]:
    """Of the rows."""
    cuda = options.device == "cuda"
    for method in options.methods:
        places: list[Any] = options.frames_on if cuda else ["auto"]
        for where in places:
            yield TrainConfig(
                method=method,
                model=options.model,
                width_multiplier=options.width_multiplier,
                time_steps=T_MAX,
                batch_size=options.batch_size,
                epochs=10,
                lr=1e-5,
                shift=0,
                roll=20,
                flip=True,
                calibration_batches=0,
                device=options.device,
                frames_on=where,
                amp=not options.no_amp and cuda,
                cuda_graph=options.cuda_graph and cuda,
            )


def rows(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, as they come."""
    configure_torch(1, deterministic=False)
    keep_freed_memory()
    begin = time.perf_counter()
    data = frames(options.items, options.size)
    seconds = time.perf_counter() - begin
    yield f"{options.items} items, {data.frames.nbytes / 1e9:.2f} GB, made in {seconds:.1f} s\n\n{HEADER}"
    for config in configurations(options):
        yield measure(data, config)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2048, help="recordings; CIFAR10-DVS has 9,000 for training [2048]")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side [128]")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width-multiplier", type=float, default=0.5)
    parser.add_argument("--model", default="vgg9")
    parser.add_argument("--methods", nargs="+", default=["sdt", "mtt"])
    parser.add_argument("--frames-on", nargs="+", default=["device", "host"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-amp", action="store_true", help="float32 throughout")
    parser.add_argument("--cuda-graph", action="store_true", help="iterations as CUDA graphs, on a GPU")
    return parser


def main() -> None:
    for row in rows(parser().parse_args()):
        print(row, flush=True)


if __name__ == "__main__":
    main()
