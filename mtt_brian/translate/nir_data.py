"""NIRData: spikes of a graph's nodes in a file that other simulators read and write (`nir.write_data`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.spikes import LAST_MICROSECOND, Spikes
from mtt_brian.errors import InputError
from mtt_brian.events.recording import make_recording
from mtt_brian.files import replacing
from mtt_brian.text import listed, shown
from mtt_brian.translate.nir_files import load_data_tree, plain

#: Events of a recording: 14 GB.
_MOST_EVENTS = 10**9
#: Name of the observable that holds spikes.
SPIKES = "spikes"


@dataclass(frozen=True, eq=False)
class NodeSpikes:
    """Spikes of one node in one sample.

    Attributes:
        spikes: sorted by time, then neuron.
        neurons: of the node.
        duration: seconds.
    """

    spikes: Spikes
    neurons: int
    duration: float


def write_nir_data(path: str | os.PathLike[str], nodes: Mapping[str, NodeSpikes]) -> None:
    """A file of NIRData with one sample: an `nir.EventData` of the name ``spikes`` for each node, times in seconds.

    Neurons are numbered in C order of the node's shape. n spikes fired at once are n events at one time. Nodes of
    nested graphs keep their names here, ``outer.inner``.

    Args:
        path: of the file.
        nodes: by name.

    Raises:
        InputError: for a name with a slash, which HDF5 would read as groups.
    """
    import nir

    if wrong := [name for name in nodes if "/" in name or name in ("", ".")]:
        raise InputError(f"{os.fspath(path)}: NIRData has no place for a node of the name {shown(wrong[0])}; rename it")
    data = {}
    for name, node in nodes.items():
        t, i = (np.repeat(column, node.spikes.n)[None] for column in (node.spikes.t, node.spikes.i))
        data[name] = nir.NIRNodeData({SPIKES: nir.EventData(i, t, node.neurons, node.duration)})
    with replacing(path) as temporary:
        nir.write_data(temporary, nir.NIRGraphData(data))


def read_nir_data(path: str | os.PathLike[str], sample: int | None = None) -> dict[str, NodeSpikes]:
    """Spikes of all nodes in a file of NIRData.

    Events, and steps of ``dt`` in which a neuron fired (a spike of step k is one at k * dt). Nodes without spikes, such
    as those with potentials only, are left out.

    Args:
        path: of the file.
        sample: number from 0; None: the only one.

    Returns:
        by name; those of nested graphs are ``outer.inner``.

    Raises:
        InputError: for a file that is missing or damaged, several samples, values that are no numbers of spikes, and
            invalid neurons, times and shapes; names the file and the node.
    """
    tree = load_data_tree(path)
    found: dict[str, NodeSpikes] = {}
    waiting = [(name, group) for name, group in tree.items() if not name.startswith("@")]
    while waiting:
        name, group = waiting.pop(0)
        try:
            kind = _group(group, "the node").get("@__type__")
            if kind == "NIRGraphData":
                inner = _group(group.get("nodes"), "its 'nodes'")
                waiting += [(f"{name}.{key}", value) for key, value in inner.items() if not key.startswith("@")]
                continue
            if kind != "NIRNodeData":
                raise InputError(f"its type is {shown(kind)}; accepted are 'NIRNodeData' and 'NIRGraphData'")
            observable = _spikes_among(_group(group.get("observables"), "its 'observables'"))
            if observable is not None:
                found[name] = _node(observable, sample)
        except InputError as error:
            raise InputError(f"{os.fspath(path)}: node {name!r}: {error}") from None
    if not found:
        raise InputError(f"{os.fspath(path)}: no node in it has spikes")
    return found


def recording_of(
    path: str | os.PathLike[str], node: str, shape: tuple[int, ...], sample: int | None = None
) -> np.ndarray:
    """The spikes of one node in a file of NIRData as a recording for a network's input.

    Args:
        path: of the file.
        node: name of the network's input; a file with a single node may use another name.
        shape: of the input, (C, H, W), (H, W) or (N,).
        sample: see `read_nir_data`.

    Raises:
        InputError: as `read_nir_data`, for another number of neurons, and for times that are not whole microseconds.
    """
    nodes = read_nir_data(path, sample)
    if node not in nodes and len(nodes) != 1:
        raise InputError(f"{os.fspath(path)}: no node {node!r}, the network's input; it has spikes of {listed(nodes)}")
    found = nodes.get(node) or next(iter(nodes.values()))
    size = int(np.prod(shape, dtype=np.int64))
    if found.neurons != size:
        raise InputError(
            f"{os.fspath(path)}: {found.neurons} neurons with spikes; the network's input {shape} has {size}"
        )
    if len(shape) > 3:
        raise InputError(f"recordings have at most 3 coordinates; the network's input has the shape {shape}")
    t, i, n = found.spikes
    if (total := float(np.sum(n, dtype=np.float64))) > _MOST_EVENTS:
        raise InputError(f"{os.fspath(path)}: {total:.6g} spikes; a recording has at most {_MOST_EVENTS:,} events")
    microseconds = np.rint(t * 1e6)
    wrong = (on_whole_microseconds(t) != microseconds / 1e6) | (microseconds > LAST_MICROSECOND)
    if np.any(wrong):
        k = int(np.argmax(wrong))
        raise InputError(
            f"{os.fspath(path)}: the spike at {float(t[k])!r} s is at no whole microsecond between 0 and "
            f"{LAST_MICROSECOND}, as those of recordings are"
        )
    columns = dict(zip(("x", "y", "p"), reversed(np.unravel_index(np.repeat(i, n), shape)), strict=False))
    recording = make_recording(np.repeat(microseconds, n).astype(np.int64), **columns)
    return recording[["t", *columns]]


def _group(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} {'is missing' if value is None else 'is no group'}")
    return value


def _spikes_among(observables: dict[str, Any]) -> dict[str, Any] | None:
    """The observable with spikes: the one of that name, or the only one that can be spikes."""
    if SPIKES in observables:
        return _group(observables[SPIKES], f"{SPIKES!r}")
    named = {name: value for name, value in observables.items() if not name.startswith("@")}
    fit = [
        name
        for name, value in named.items()
        if _group(value, repr(name)).get("@__type__") == "EventData"
        or (value.get("@__type__") == "TimeGriddedData" and np.asarray(value.get("data")).dtype.kind == "b")
    ]
    if len(fit) > 1:
        raise InputError(f"{listed(fit)} may all be spikes; name one of them {SPIKES!r}")
    return named[fit[0]] if fit else None


def _node(observable: dict[str, Any], sample: int | None) -> NodeSpikes:
    kind = observable.get("@__type__")
    if kind == "TimeGriddedData":
        return _of_steps(_array(observable, "data", 3, sample), _number(observable, "@dt"))
    if kind not in ("EventData", "ValuedEventData"):
        raise InputError(f"its spikes are of the type {shown(kind)}; accepted are EventData and TimeGriddedData")
    i, t = _array(observable, "idx", 2, sample), _array(observable, "time", 2, sample)
    n = _array(observable, "value", 2, sample) if kind == "ValuedEventData" else np.ones(len(i), np.int64)
    if not len(i) == len(t) == len(n):
        raise InputError(f"it has {len(i)} indices, {len(t)} times and {len(n)} values; there must be as many of each")
    neurons, duration = _number(observable, "@n_neurons"), _number(observable, "@t_max")
    if neurons != int(neurons):
        raise InputError(f"its n_neurons is {neurons}, which is no whole number")
    event = i != -1
    k = np.flatnonzero(event)
    # Single precision holds whole microseconds up to rounding; float64 stays as it is, for a comparison bit for bit.
    seconds = on_whole_microseconds(t) if t.dtype == np.float32 else t.astype(np.float64)
    last = on_whole_microseconds(duration) + (np.spacing(np.asarray(duration, t.dtype)) if t.dtype.kind == "f" else 0)
    late = seconds[event] > last
    i, t, n = i[event], seconds[event], n[event]
    for wrong, what in (
        (~((i >= 0) & (i < neurons) & (i == np.rint(i))), f"names no neuron from 0 to {int(neurons) - 1}"),
        (~(np.isfinite(t) & (t >= 0)), "has no time >= 0"),
        (late, f"is later than t_max, {duration} s"),
        (~((n >= 1) & (n == np.rint(n)) & (n < 2**53)), "has a value that is no number of spikes"),
    ):
        if np.any(wrong):
            raise InputError(f"its event {k[np.argmax(wrong)]} (idx {i[wrong][0]}, time {t[wrong][0]} s) {what}")
    return NodeSpikes(_merged(t, i.astype(np.int64), n.astype(np.int64)), int(neurons), duration)


def _of_steps(data: np.ndarray, dt: float) -> NodeSpikes:
    if not dt > 0:
        raise InputError(f"its dt is {dt} s; a time step is > 0")
    if data.dtype.kind not in "biuf" or not np.all((data >= 0) & (data == np.rint(data)) & (data < 2**53)):
        raise InputError("its values are no numbers of spikes in each step")
    step, i = np.nonzero(data)
    t = on_whole_microseconds(step * dt)
    return NodeSpikes(_merged(t, i, data[step, i].astype(np.int64)), data.shape[1], data.shape[0] * dt)


def _array(observable: dict[str, Any], key: str, axes: int, sample: int | None) -> np.ndarray:
    """An array of one sample."""
    array = observable.get(key)
    if not isinstance(array, np.ndarray) or array.ndim != axes or array.dtype.kind not in "biuf":
        raise InputError(f"its {key} is no array of {axes} axes, the first of them samples")
    samples = len(array)
    if sample is None and samples != 1:
        raise InputError(f"there are {samples} samples; name one by its number, from 0")
    if sample is not None and not 0 <= sample < samples:
        raise InputError(f"there are {samples} samples, numbered from 0; there is no sample {sample}")
    return np.asarray(array[sample or 0])


def _number(observable: dict[str, Any], key: str) -> float:
    value = plain(observable.get(key))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
        raise InputError(f"its {key.lstrip('@')} is {shown(value)}, which is no number >= 0")
    return value


def _merged(t: np.ndarray, i: np.ndarray, n: np.ndarray) -> Spikes:
    """Spikes sorted by time, then neuron; the spikes of one neuron at one time are one entry."""
    order = np.lexsort((i, t))
    t, i, n = t[order], i[order], n[order]
    first = np.flatnonzero(np.concatenate([[True], (np.diff(t) != 0) | (np.diff(i) != 0)])[: len(t)])
    return Spikes(t[first], i[first], np.add.reduceat(n, first) if len(first) else n)
