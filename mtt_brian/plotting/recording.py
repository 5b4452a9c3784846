"""Recordings: events in space and time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mtt_brian.errors import InputError, check_number, check_seconds, check_whole
from mtt_brian.events.recording import EVENT_DTYPE, SensorSize, check_recording, check_sensor_size
from mtt_brian.plotting.axes import axes
from mtt_brian.plotting.style import SEQUENTIAL, color_of, dot_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]

_POLARITIES = ("OFF", "ON")


def event_cloud(recording: np.ndarray, *, sensor_size: SensorSize | None = None, ax: Axes3D | None = None) -> Axes3D:
    """The events of a recording as dots in x, y and time, coloured by polarity.

    Time runs from left to right, row 0 is on top. Every event is drawn: of a recording with a million of them give a
    part, such as ``recording[::20]``.

    Args:
        recording: structured array [E] with the fields t [us], x, y, p, sorted by time.
        sensor_size: (C, H, W); default: up to the largest coordinates in the recording.
        ax: axes to draw into, made with ``projection="3d"``.

    Returns:
        The axes; one line artist per polarity that has events.

    Raises:
        InputError: for axes without a third dimension; as `events.check_recording`.
    """
    channels, rows, columns = _sensor(recording, sensor_size)
    if ax is None:
        import matplotlib.pyplot as plt  # here, so that importing this module picks no backend

        ax = plt.figure().add_subplot(projection="3d")
    elif getattr(ax, "name", None) != "3d":
        raise InputError('an event cloud needs axes in three dimensions: figure.add_subplot(projection="3d")')
    names = _POLARITIES if channels <= len(_POLARITIES) else [f"channel {p}" for p in range(channels)]
    for p in np.unique(recording["p"]).tolist():
        events = recording[recording["p"] == p]
        ax.plot(
            events["t"] / 1e3,
            events["x"],
            events["y"],
            linestyle="none",
            marker="o",
            markeredgewidth=0,
            markersize=dot_size(len(recording)),
            color=color_of(p),
            label=names[p],
            rasterized=True,  # tens of thousands of dots would make a vector file unusable
        )
    ax.set(xlabel="time (ms)", ylabel="x", zlabel="y", ylim=(-0.5, columns - 0.5), zlim=(rows - 0.5, -0.5))
    # Smaller than the axes, which leave no room for labels by themselves.
    ax.set_box_aspect((2, columns / max(rows, columns), rows / max(rows, columns)), zoom=0.85)
    ax.locator_params(nbins=4)
    if len(recording):
        ax.legend(fontsize="small", loc="upper left", markerscale=4)
    return ax


def time_surface_values(recording: np.ndarray, sensor_size: SensorSize, time: float, tau: float) -> np.ndarray:
    """How recent the last event of every pixel is: ``exp(-(time - t_last) / tau)``.

    The time surface of HOTS (Lagorce, Orchard, Galluppi, Shi, Benosman: "HOTS: A Hierarchy of Event-Based
    Time-Surfaces for Pattern Recognition", IEEE TPAMI 39(7), 2017, equations 2 and 3), of the whole sensor where HOTS
    takes the surroundings of one event.

    Args:
        recording: structured array [E] with the fields t [us], x, y, p, sorted by time.
        sensor_size: (C, H, W).
        time: seconds; events at this very time count, later ones do not.
        tau: seconds > 0.

    Returns:
        float64 [C, H, W] in [0, 1]: 1 for an event at ``time``, 0 for a pixel that has seen none.

    Raises:
        InputError: for ``tau`` <= 0; as `events.check_recording`.
    """
    check_recording(recording, sensor_size)
    tau, time = check_seconds("tau", tau), check_number("time", time, most=np.inf)
    if not math.isfinite(time):
        raise InputError(f"time must be finite, not {time}")
    last = np.full(sensor_size, -np.inf)
    past = recording[recording["t"] / 1e6 <= time]
    np.maximum.at(last, (past["p"], past["y"], past["x"]), past["t"] / 1e6)
    return np.exp((last - time) / tau)


def time_surface(
    recording: np.ndarray,
    *,
    time: float | None = None,
    tau: float = 0.05,
    polarity: int | None = None,
    sensor_size: SensorSize | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The time surface of a recording as an image, the darker the more recent.

    Args:
        recording: structured array [E] with the fields t [us], x, y, p, sorted by time.
        time: seconds; default: the last event.
        tau: seconds that an event takes to fade to 1 / e.
        polarity: only events of this channel; None: the latest one of any.
        sensor_size: (C, H, W); default: up to the largest coordinates in the recording.
        ax: axes to draw into; a colour bar is put beside them.

    Raises:
        InputError: if there is no such polarity; as `time_surface_values`.
    """
    sensor_size = _sensor(recording, sensor_size)
    if polarity is not None:
        polarity = check_whole("polarity", polarity, most=sensor_size[0] - 1, least=0)
    if time is None:
        time = float(recording["t"].max(initial=0)) / 1e6
    values = time_surface_values(recording, sensor_size, time, tau)
    ax = axes(ax)
    image = ax.imshow(values.max(axis=0) if polarity is None else values[polarity], vmin=0, vmax=1, cmap=SEQUENTIAL)
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    ax.set_title(f"{1e3 * time:g} ms")
    ax.figure.colorbar(image, ax=ax, label=f"time surface ($\\tau$ = {1e3 * tau:g} ms)", shrink=0.8)
    return ax


def _sensor(recording: np.ndarray, sensor_size: SensorSize | None) -> SensorSize:
    """``sensor_size``, or the smallest one that the recording fits, with both polarities."""
    channels, rows, columns = (int(np.iinfo(EVENT_DTYPE[field]).max) for field in ("p", "y", "x"))
    check_recording(recording, (channels, rows, columns) if sensor_size is None else sensor_size)
    if sensor_size is not None:
        return check_sensor_size(sensor_size)
    channels, rows, columns = (int(recording[field].max(initial=0)) + 1 for field in ("p", "y", "x"))
    return max(channels, 2), rows, columns
