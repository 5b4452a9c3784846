"""cifar10-events-128 beside the published numbers of CIFAR10-DVS.

    python benchmarks/simulated_cifar10.py --data-root DIR --recordings 1000 --figure cifar10.png

DIR is the folder of CIFAR-10 (binary version). The recordings are drawn at random from the 9,000 for training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from mtt_brian import events
from mtt_brian.events.datasets.simulated_cifar10 import CAMERA
from mtt_brian.progress import progress_bar

#: Means over all 10,000 recordings of CIFAR10-DVS, printed by examples/cifar10-dvs/dataset-info.py of
#: https://github.com/jackd/stsc: events per recording, and microseconds from the first to the last event.
PUBLISHED_EVENTS, PUBLISHED_US = 205_071, 1_298_444

#: Interval of the rates in the figure.
BIN_US = 6_000


def measured(recordings: events.Recordings) -> dict[str, np.ndarray]:
    """Numbers of every recording: events, share of ON, microseconds from first to last event, processor seconds."""
    rows = []
    for index in progress_bar(range(len(recordings)), description="simulating", unit="recordings"):
        begin = time.process_time()
        recording = recordings[index]
        seconds = time.process_time() - begin
        rows.append((len(recording), recording["p"].mean(), recording["t"][-1] - recording["t"][0], seconds))
    return dict(zip(("events", "share", "duration", "seconds"), np.transpose(rows), strict=True))


def draw(recordings: events.Recordings, path: Path) -> None:
    """ON minus OFF along the first four sides of the path, for four recordings, and their rates below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9.5), layout="constrained")
    grid = figure.add_gridspec(5, 4, height_ratios=(1, 1, 1, 1, 0.8))
    rates = figure.add_subplot(grid[4, :])
    height, width = CAMERA.height, CAMERA.width
    for row, recording in enumerate(recordings):
        name = recordings.classes[recordings.labels[row]]
        for column, (begin, end) in enumerate(CAMERA.saccades_us[:4]):
            side = recording[(recording["t"] >= begin) & (recording["t"] < end)]
            image = np.zeros((height, width))
            np.add.at(image, (side["y"], side["x"]), 2 * side["p"].astype(int) - 1)
            ax = figure.add_subplot(grid[row, column])
            ax.imshow(image, cmap="PuOr", vmin=-3, vmax=3)
            ax.set(xticks=[], yticks=[], ylabel="" if column else name)
            if not row:
                ax.set_title(f"{begin // 1000} to {end // 1000} ms", fontsize=10)
        rate = np.bincount(recording["t"] // BIN_US, minlength=CAMERA.duration_us // BIN_US) / (BIN_US / 1000)
        rates.step(np.arange(len(rate)) * BIN_US / 1000, rate, where="post", label=name)
    rates.set(xlabel="time (ms)", ylabel="events per ms", xlim=(0, CAMERA.duration_us / 1000), ylim=(0, None))
    rates.legend(loc="upper right", ncols=4, fontsize=8)
    figure.suptitle("CIFAR-10, simulated events: ON (violet) minus OFF (orange)")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of CIFAR-10, binary version")
    parser.add_argument("--recordings", type=int, default=1000, help="number of recordings, drawn at random [1000]")
    parser.add_argument("--figure", type=Path, help="path of a PNG to write")
    options = parser.parse_args()
    data = events.load("cifar10-events-128", options.data_root)
    assert isinstance(data, events.Recordings)
    chosen = data.subset(np.random.default_rng(0).permutation(len(data))[: options.recordings])
    chosen[0]  # compiles
    m = measured(chosen)
    error = m["events"].std() / len(chosen) ** 0.5
    print(f"{len(chosen)} of {data.title}")
    print(f"{'':42} simulated   CIFAR10-DVS")
    print(f"{'events per recording, mean':42} {m['events'].mean():9,.0f}   {PUBLISHED_EVENTS:11,} (error {error:,.0f})")
    print(f"{'first to last event (s), mean':42} {m['duration'].mean() / 1e6:9.3f}   {PUBLISHED_US / 1e6:11.3f}")
    print(f"{'events per recording, standard deviation':42} {m['events'].std():9,.0f}")
    print(f"{'share of ON events, mean':42} {m['share'].mean():9.3f}")
    print(f"{'processor time per recording (s), median':42} {np.median(m['seconds']):9.3f}")
    for label, name in enumerate(data.classes):
        print(f"{'events per recording, ' + name:42} {m['events'][chosen.labels == label].mean():9,.0f}")
    if options.figure:
        first = [int(np.flatnonzero(data.labels == data.classes.index(name))[0]) for name in SHOWN]
        draw(data.subset(first), options.figure)


#: Classes in the figure: the first recording of each.
SHOWN = ("airplane", "automobile", "horse", "ship")


if __name__ == "__main__":
    main()
