"""Comparison of the simulated event camera with the real one, digit by digit, on the same images of MNIST.

    python benchmarks/simulated_camera.py --nmnist DIR --mnist DIR --digits 100 --figure camera.png

DIR are the folders of N-MNIST and MNIST. N-MNIST's Train/<digit>/00007.bin shows MNIST's training image 7. The camera's
parameters were fitted to 80 of the numbers up to 850.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtt_brian import events
from mtt_brian.errors import InputError

#: Between the saccades of N-MNIST, in microseconds.
TURNS = (95_000, 208_000)

BIN_US = 10_000
BINS = 32


@dataclass(frozen=True)
class Views:
    """Many recordings of one camera as counts.

    Attributes:
        images: events per saccade, polarity and pixel, [N, 3, 2, H, W].
        rates: events per polarity and `BIN_US`, [N, 2, BINS].
    """

    images: np.ndarray
    rates: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Events of every recording, [N]."""
        return self.images.sum(axis=(1, 2, 3, 4))


def views(recordings: list[np.ndarray], sensor_size: tuple[int, int, int]) -> Views:
    """Count the events of ``recordings``."""
    images = np.zeros((len(recordings), 3, *sensor_size))
    rates = np.zeros((len(recordings), 2, BINS))
    for n, r in enumerate(recordings):
        np.add.at(images[n], (np.searchsorted(TURNS, r["t"], side="right"), r["p"], r["y"], r["x"]), 1)
        np.add.at(rates[n], (r["p"], np.minimum(r["t"] // BIN_US, BINS - 1)), 1)
    return Views(images, rates)


def on_share(v: Views) -> float:
    """Mean share of ON among the events of a recording."""
    return float(np.mean(v.rates[:, 1].sum(axis=1) / v.counts))


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of every row of ``a`` [N, ...] with that of ``b``: [N]."""
    return np.array([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)])


def matched(nmnist: Path, mnist: Path, digits: int, seed: int = 0) -> tuple[events.Recordings, events.Recordings]:
    """Real and simulated recordings of the same images, drawn at random from N-MNIST's Train folder."""
    real = events.load("nmnist", nmnist, progress=False)
    simulated = events.load("mnist-events", mnist, progress=False)
    assert isinstance(real, events.Recordings)
    assert isinstance(simulated, events.Recordings)
    chosen = np.random.default_rng(seed).permutation(len(real))[:digits]
    real = real.subset(chosen)
    simulated = simulated.subset(int(Path(identifier).stem) - 1 for identifier in real.ids)
    if not np.array_equal(real.labels, simulated.labels):
        raise InputError(f"{nmnist} does not show the training images in {mnist}: the labels differ")
    return real, simulated


def table(real: Views, simulated: Views, labels: np.ndarray) -> dict[str, tuple[float, float]]:
    """What is compared, and its value for the simulated camera and for a reference.

    The reference of a mean is the real camera. That of a correlation is a real recording of another image of the same
    digit, so that it contains the common shape of all images of a digit, but not the image itself.
    """
    other = np.arange(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        other[members] = np.roll(members, 1)
    other = np.where(other == np.arange(len(labels)), (other + 1) % len(labels), other)  # the only one of its class
    rows = {
        "events per recording": (simulated.counts.mean(), real.counts.mean()),
        "share of ON events": (on_share(simulated), on_share(real)),
        "median ratio of events, simulated : real": (float(np.median(simulated.counts / real.counts)), 1.0),
        "correlation of the numbers of events": (
            float(np.corrcoef(simulated.counts, real.counts)[0, 1]),
            float(np.corrcoef(real.counts[other], real.counts)[0, 1]),
        ),
    }
    compared = {"rate over time (10 ms)": (simulated.rates.sum(axis=1), real.rates.sum(axis=1))}
    for p, polarity in enumerate(("OFF", "ON")):
        a, b = simulated.images[:, :, p], real.images[:, :, p]
        compared[f"{polarity} image"] = a.sum(axis=1), b.sum(axis=1)
        for s in range(3):
            compared[f"{polarity} image of saccade {s + 1}"] = a[:, s], b[:, s]
    for name, (a, b) in compared.items():
        rows[f"correlation: {name}"] = (float(correlations(a, b).mean()), float(correlations(b[other], b).mean()))
    return rows


def draw(real: Views, simulated: Views, path: Path, shown: int = 4) -> None:
    """ON minus OFF per saccade of the first recordings, real above simulated, and the mean rates below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    grid = figure.add_gridspec(3, 3 * shown, height_ratios=(1, 1, 2.6))
    for row, (name, v) in enumerate((("real", real), ("simulated", simulated))):
        for column in range(3 * shown):
            n, saccade = divmod(column, 3)
            image = v.images[n, saccade, 1] - v.images[n, saccade, 0]
            ax = figure.add_subplot(grid[row, column])
            ax.imshow(image, cmap="PuOr", vmin=-4, vmax=4)
            ax.set(xticks=[], yticks=[], title=f"saccade {saccade + 1}", ylabel="" if column else name)
    ax = figure.add_subplot(grid[2, :])
    t = (np.arange(BINS) + 0.5) * BIN_US / 1000
    for name, v, style in (("real", real, "-"), ("simulated", simulated, "--")):
        for p, polarity, color in ((0, "OFF", "#D55E00"), (1, "ON", "#0072B2")):
            ax.plot(t, v.rates[:, p].mean(axis=0), style, color=color, label=f"{name}, {polarity}")
    ax.set(xlabel="time (ms)", ylabel="events per 10 ms and recording")
    ax.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nmnist", type=Path, required=True, help="folder of N-MNIST")
    parser.add_argument("--mnist", type=Path, required=True, help="folder of MNIST")
    parser.add_argument("--digits", type=int, default=100, help="number of recordings, drawn at random [100]")
    parser.add_argument("--figure", type=Path, help="path of a PNG to write")
    options = parser.parse_args()
    both = matched(options.nmnist, options.mnist, options.digits)
    real, simulated = (views(list(recordings), recordings.sensor_size) for recordings in both)
    print(f"{len(both[0])} digits")
    print(f"{'':45} simulated   reference")
    for name, (value, reference) in table(real, simulated, both[0].labels).items():
        print(f"{name:45} {value:9.3f}   {reference:9.3f}")
    if options.figure:
        draw(real, simulated, options.figure)


if __name__ == "__main__":
    main()
