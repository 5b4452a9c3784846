"""Spikes of populations: rasters, rates, and differences between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties
from numpy.typing import ArrayLike

from mtt_brian.circuit.spikes import Spikes, input_spikes
from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError, check_array, check_kind, check_seconds, check_whole
from mtt_brian.evaluate import spike_times
from mtt_brian.plotting.axes import axes, label_of, legend_above, literal
from mtt_brian.plotting.style import color_of, dot_size, grey, line_style
from mtt_brian.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Points of height that a label of two lines needs.
_TWO_LINES = 20


def raster(
    spikes: Result | Mapping[str, Spikes],
    *,
    recording: np.ndarray | None = None,
    sizes: Mapping[str, int] | None = None,
    highlight: Mapping[str, ArrayLike] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Spikes of the input and of every layer over time, one band per population, the first on top.

    Bands are equally high, so that ten outputs are as visible as two thousand hidden neurons; within a band neuron 0
    is on top. Several spikes at once are one dot.

    Args:
        spikes: a result of a run with ``record="all"``, or spikes by population name in the order of the bands.
        recording: with a result, the events that were run (structured array t, x, y, p): the band of the input.
        sizes: with a mapping, neurons by population (default: the largest index that spiked, plus one).
        highlight: flat indices of neurons by population whose spikes are drawn large and black, such as the output of
            the right class.
        ax: axes to draw into.

    Returns:
        The axes; band k spans [k, k + 1], one line artist per band, labelled with its population, and a second one on
        top of it where neurons are highlighted.

    Raises:
        InputError: if there is no population to draw, or a neuron that spiked or is highlighted is not there.
    """
    trains, known = _trains(spikes, recording, sizes)
    highlight = {} if highlight is None else highlight
    check_kind("highlight", highlight, Mapping)
    if strange := [name for name in highlight if name not in trains]:
        raise InputError(
            f"no population {strange[0]!r} to highlight neurons of; there are {printable(', '.join(trains))}"
        )
    ax = axes(ax)
    # Only the input is shown by its shape: its first axis are polarities, one above the other.
    shapes = {spikes.circuit.input: spikes.circuit.input_shape} if isinstance(spikes, Result) else {}
    labels = []
    for band, (name, train) in enumerate(trains.items()):
        size = known.get(name, int(np.max(train.i, initial=0)) + 1)
        look = {"markersize": dot_size(len(train.t)), "color": color_of(band)}
        _dots(ax, train, band, size, label=label_of(name), **look)
        if name in highlight:
            given = check_array(f"highlight[{name!r}]", highlight[name], kinds="iu", wanted="indices of neurons")
            chosen = np.atleast_1d(given.astype(np.int64))
            _check_neurons(name, chosen, size)
            shown = Spikes(*(np.asarray(column)[np.isin(train.i, chosen)] for column in train))
            _dots(ax, shown, band, size, markersize=4, color=grey(0), label=f"{label_of(name)}, highlighted")
        shape = shapes.get(name, (size,))
        labels.append(f"{literal(name, 32)}\n{' x '.join(f'{n:,}' for n in shape)} neurons")
    for edge in range(1, len(trains)):
        ax.axhline(edge, color=grey(0.7), linewidth=0.8)
    if isinstance(spikes, Result) and spikes.duration > 0:
        ax.set_xlim(-10 * spikes.duration, 1010 * spikes.duration)  # a per cent more: whole dots at both ends
    ax.set_ylim(len(trains), 0)
    # Points of a band: of many populations the labels have one line, in a smaller font.
    points = 72 * ax.get_position().height * ax.figure.bbox.height / ax.figure.dpi / len(trains)
    if points < _TWO_LINES:
        labels = [label.replace("\n", ", ") for label in labels]
    most = FontProperties(size=matplotlib.rcParams["ytick.labelsize"]).get_size_in_points()
    ax.set_yticks(np.arange(len(trains)) + 0.5, labels, fontsize=min(most, max(0.9 * points, 1)))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("neurons by population")
    return ax


def rates(
    spikes: Result | Mapping[str, Spikes],
    *,
    bin_width: float = 5e-3,
    recording: np.ndarray | None = None,
    sizes: Mapping[str, int] | None = None,
    duration: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Spikes per neuron and second of every layer over time, a staircase per population; arguments as for `raster`.

    Several spikes at once count as several.

    Args:
        spikes: a result of a run with ``record="all"``, or spikes by population name.
        bin_width: seconds; the width taken is the nearest one of which a whole number fills the duration.
        recording: with a result, the events that were run: the rate of the input.
        sizes: with a mapping, neurons of every population.
        duration: with a mapping, seconds from 0 on (default: the last spike); later spikes are left out.
        ax: axes to draw into.

    Returns:
        The axes; one `StepPatch` per population, labelled with it.

    Raises:
        InputError: if there is no population or no time to draw, a size is missing, or a neuron that spiked is not
            there.
    """
    trains, known = _trains(spikes, recording, sizes)
    if missing := [name for name in trains if name not in known]:
        raise InputError(f"a rate per neuron needs the number of neurons: sizes has no {missing[0]!r}")
    if isinstance(spikes, Result):
        duration = spikes.duration
    elif duration is None:
        duration = max(float(np.max(train.t, initial=0)) for train in trains.values())
    duration, bin_width = check_seconds("duration", duration), check_seconds("bin_width", bin_width)
    bins = check_whole("duration / bin_width", max(1, round(duration / bin_width)), most=10**7)
    edges = np.linspace(0, duration, bins + 1)
    ax = axes(ax)
    for k, (name, train) in enumerate(trains.items()):
        fired, _ = np.histogram(train.t, edges, weights=train.n)
        _staircase(ax, fired / (known[name] * edges[1]), edges, k, literal(name))
    ax.set_xlim(0, 1e3 * duration)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("spikes per neuron and second")
    return legend_above(ax)


def spike_time_differences(
    first: Result | Mapping[str, Spikes],
    second: Result | Mapping[str, Spikes],
    *,
    bins: int = 51,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Delays of the spikes of a second run: a histogram per population, counts on a logarithmic axis.

    The k-th spike of a neuron in one run is held against its k-th spike in the other. Spikes without a partner, those
    that a neuron fired more often in one run, are in no bin; the legend counts them:
    "hidden: 120 pairs, 3 + 0 unpaired" (first + second run). See `evaluate.spike_times.spike_time_differences`.

    Args:
        first, second: results of runs with ``record="all"``, or spikes by population name; the same populations.
        bins: number of bins, odd so that one is centred at 0.
        limit: seconds to either side of 0; larger differences fall into the outermost bins. Default: the largest
            difference, or a millisecond where there is none.
        ax: axes to draw into.

    Returns:
        The axes; one `StepPatch` per population.

    Raises:
        InputError: if the runs do not have the same populations, or the number of bins is not odd.
    """
    (one, _), (other, _) = _trains(first), _trains(second)
    if apart := sorted(set(one) ^ set(other)):
        raise InputError(f"{apart[0]!r} was recorded in one of two runs only: record the same populations in both")
    if check_whole("bins", bins, most=10**6, least=1) % 2 == 0:
        raise InputError(f"bins must be odd, so that one is centred at 0, not {bins}")
    differences = {name: spike_times.spike_time_differences(train, other[name]) for name, train in one.items()}
    if limit is None:
        limit = max(float(np.max(np.abs(found.seconds), initial=0)) for found in differences.values()) or 1e-3
    limit = check_seconds("limit", limit)
    edges = np.linspace(-limit, limit, bins + 1)
    ax = axes(ax)
    for k, (name, found) in enumerate(differences.items()):
        counts, _ = np.histogram(np.clip(found.seconds, -limit, limit), edges)
        unpaired = f"{found.only_first} + {found.only_second} unpaired"
        _staircase(ax, counts, edges, k, f"{literal(name)}: {len(found.seconds)} pairs, {unpaired}")
    ax.set_yscale("symlog", linthresh=1)  # empty bins are at 0, which a logarithm does not have
    ax.set_ylim(bottom=0)
    ax.set_xlabel("later in the second run by (ms)")
    ax.set_ylabel("pairs of spikes")
    return legend_above(ax, columns=1)


def _trains(
    spikes: Result | Mapping[str, Spikes],
    recording: np.ndarray | None = None,
    sizes: Mapping[str, int] | None = None,
) -> tuple[dict[str, Spikes], dict[str, int]]:
    """Spikes by population in the order of the network, and sizes as far as they are known."""
    if isinstance(spikes, Result):
        circuit = spikes.circuit
        known = {circuit.input: circuit.input_size, **{p.name: p.size for p in circuit.populations}}
        recorded = dict(spikes.spikes)
        if recording is not None:
            arrived = input_spikes(recording, circuit.input_shape, spikes.duration)
            recorded[circuit.input] = Spikes(arrived.t, arrived.i, arrived.n)
        trains = {name: recorded[name] for name in known if name in recorded}
    elif recording is not None:
        raise InputError(
            "the input's neurons follow from a result only: give the input's spikes beside those of the layers"
        )
    else:
        check_kind("spikes", spikes, Mapping)
        check_kind("sizes", sizes := {} if sizes is None else sizes, Mapping)
        trains = dict(spikes)
        known = {name: check_whole(f"sizes[{name!r}]", n, most=2**53, least=1) for name, n in sizes.items()}
    if not trains:
        raise InputError("there is nothing to draw without the spikes of at least one population")
    for name, train in trains.items():
        check_kind(f"spikes[{name!r}]", train, Spikes)
        if name in known:
            _check_neurons(name, train.i, known[name])
    return trains, known


def _check_neurons(name: str, neurons: ArrayLike, size: int) -> None:
    strange = [i for i in np.unique(neurons) if not 0 <= i < size]
    if strange:
        raise InputError(f"{name!r} has {size} neurons, numbered from 0, and no neuron {strange[0]}")


def _dots(ax: Axes, train: Spikes, band: int, size: int, **style: Any) -> None:
    """One dot per spike in band [band, band + 1]."""
    ax.plot(
        1e3 * np.asarray(train.t),
        band + (np.asarray(train.i) + 0.5) / size,
        linestyle="none",
        marker="o",
        markeredgewidth=0,
        rasterized=True,  # tens of thousands of dots would make a vector file unusable
        **style,
    )


def _staircase(ax: Axes, values: np.ndarray, edges: np.ndarray, number: int, label: str) -> None:
    """A value for every bin; edges in seconds, shown in milliseconds."""
    line = line_style(number)
    ax.stairs(values, 1e3 * edges, color=line["color"], linestyle=line["linestyle"], label=label)
