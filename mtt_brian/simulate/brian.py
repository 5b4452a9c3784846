"""The Brian2 engines: the runtime device and the compiled C++ project."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brian2
import numpy as np
from brian2 import second
from brian2.devices.device import auto_target, get_device, reset_device
from brian2.utils.logger import catch_logs

from mtt_brian.errors import InputError
from mtt_brian.simulate.result import Result, Spikes, result_of
from mtt_brian.translate.brian import EventNetwork
from mtt_brian.translate.circuit import Circuit
from mtt_brian.translate.input import InputTrain
from mtt_brian.translate.limits import (
    available_bytes,
    estimate,
    estimate_that_fits,
    refuse_what_needs_the_exact_engine,
)
from mtt_brian.translate.playlist import Playlist

#: Brian2's own flags allow the compiler to reorder and fuse floating-point operations; these do not.
_EXACT_FLAGS = ["-w", "-O3", "-funroll-loops", "-march=native", "-ffp-contract=off", "-std=c++17"]
#: Input events of one run: enough to make the start of a run cheap, few enough to see progress.
_EVENTS_PER_RUN = 1 << 20


@dataclass(frozen=True)
class _Raw:
    """What the monitors saw, by population: neuron (over all lanes), step and value of each event."""

    spikes: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    readout: tuple[np.ndarray, np.ndarray, np.ndarray] | None


class _BrianEngine:
    """What the two engines share: batches, lanes, and the way from monitors to results."""

    name: str

    def __init__(self, circuit: Circuit, *, order: str = "sum", record: str = "all", lanes: int | None = None) -> None:
        if order != "sum":
            raise InputError(f"order={order!r} needs engine='exact'; the Brian2 engines know order='sum'")
        if lanes is not None and lanes < 1:
            raise InputError(f"lanes must be >= 1, not {lanes}")
        self.circuit, self.record, self._wanted_lanes, self._lanes = circuit, record, lanes, 0
        refuse_what_needs_the_exact_engine(circuit)
        estimate_that_fits(circuit, lanes or 1)

    def run(self, trains: Sequence[InputTrain]) -> Iterator[Result]:
        """Results in the order of ``trains``."""
        batches = list(_batches(trains, _EVENTS_PER_RUN))
        if not batches:
            return
        # A network that is there already serves fewer recordings as well: its other lanes stay empty.
        lanes = self._wanted_lanes or max(self._lanes, *map(self._default_lanes, batches))
        self._lanes = lanes
        for batch in batches:
            playlist = Playlist.arrange(batch, lanes, self.circuit.input_size)
            yield from self._results(batch, playlist, lanes, self._play(playlist, lanes))

    def _default_lanes(self, batch: Sequence[InputTrain]) -> int:
        raise NotImplementedError

    def _play(self, playlist: Playlist, lanes: int) -> _Raw:
        raise NotImplementedError

    def _network(self, playlist: Playlist, lanes: int, clock: brian2.Clock | None) -> EventNetwork:
        size = estimate_that_fits(self.circuit, lanes)
        print(f"{self.name}: building {size}", file=sys.stderr)
        events, steps = _room(playlist, lanes, self.circuit)
        return EventNetwork(self.circuit, lanes=lanes, events=events, steps=steps, clock=clock)

    def _results(self, trains: Sequence[InputTrain], playlist: Playlist, lanes: int, raw: _Raw) -> Iterator[Result]:
        # Where each recording starts in the order (lane, step).
        starts = playlist.lane * (playlist.steps + 1) + playlist.first_step
        by_start = np.argsort(starts)

        def owner(lane: np.ndarray, step: np.ndarray) -> np.ndarray:
            row = np.searchsorted(starts[by_start], lane * (playlist.steps + 1) + step, side="right") - 1
            return by_start[row]

        spikes: dict[str, list[Spikes]] = {}
        for name, (neuron, step, n) in raw.spikes.items():
            size = self.circuit.population[name].size
            lane, i = np.divmod(neuron.astype(np.int64), size)
            recording = owner(lane, step)
            order = np.lexsort((i, step, recording))
            t, i, n = playlist.instants[step, lane][order], i[order], n.astype(np.int64)[order]
            edges = np.searchsorted(recording[order], np.arange(len(trains) + 1))
            spikes[name] = [Spikes(t[a:b], i[a:b], n[a:b]) for a, b in itertools.pairwise(edges)]
        final = None
        if raw.readout is not None:
            size = self.circuit.readout.size
            final = np.zeros((len(trains), size))
            neuron, step, value = raw.readout
            lane, i = np.divmod(neuron.astype(np.int64), size)
            final[owner(lane, step), i] = value
        for k, train in enumerate(trains):
            recorded = {name: trainwise[k] for name, trainwise in spikes.items()}
            yield result_of(self.circuit, self.name, self.record, train, recorded, None if final is None else final[k])


class RuntimeEngine(_BrianEngine):
    """Brian2's runtime device: one Python call per object and step, which many lanes make worth while.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.simulate.simulate`.
        lanes: recordings that run side by side; by default as many as the recordings keep busy, up to 200, as memory
            allows.
        target: ``"cython"``, ``"numpy"`` or ``"auto"`` (cython where a compiler is found).
    """

    name = "brian2"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: str = "sum",
        record: str = "all",
        lanes: int | None = None,
        target: str = "auto",
    ) -> None:
        super().__init__(circuit, order=order, record=record, lanes=lanes)
        if target not in ("auto", "cython", "numpy"):
            raise InputError(f"target must be 'auto', 'cython' or 'numpy', not {target!r}")
        if get_device() is not brian2.all_devices["runtime"]:
            raise InputError("engine='brian2' needs Brian2's runtime device; call brian2.set_device('runtime') first")
        self.target = target if target != "auto" else auto_target().class_name
        self._built: EventNetwork | None = None

    def _default_lanes(self, batch: Sequence[InputTrain]) -> int:
        # All lanes step until the longest has ended: no more lanes than the longest recording can keep busy.
        lengths = [len(train.instants) + 1 for train in batch]
        busy = sum(lengths) // max(lengths)
        return max(1, min(busy, 200, available_bytes() // (2 * estimate(self.circuit).bytes)))

    def _play(self, playlist: Playlist, lanes: int) -> _Raw:
        with _preferences(target=self.target), _without_order_warnings():
            network = self._built
            if network is None or network.lanes != lanes or not network.has_room(playlist):
                network = self._built = self._network(playlist, lanes, None)
            network.play(playlist)
            network.run(network.duration, namespace={})
        raw = _Raw(
            {name: _taken(monitor, "n") for name, monitor in network.monitors.items()},
            network.readout_monitor and _taken(network.readout_monitor, "final"),
        )
        for monitor in (*network.monitors.values(), *filter(None, [network.readout_monitor])):
            monitor.resize(0)
            monitor.variables["N"].set_value(0)  # resize() leaves this to the monitor's own code
        return raw


class CppEngine(_BrianEngine):
    """Brian2's C++ device: one project, compiled once, run as a process of its own for every batch of recordings.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.simulate.simulate`.
        lanes: recordings that run side by side in one process; 1 keeps the network small enough for the caches.
        flags: compiler flags; the default keeps floating-point arithmetic as written.
    """

    name = "brian2-cpp"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: str = "sum",
        record: str = "all",
        lanes: int | None = None,
        flags: Sequence[str] = _EXACT_FLAGS,
    ) -> None:
        super().__init__(circuit, order=order, record=record, lanes=lanes)
        self.flags = list(flags)
        self._project: _Project | None = None

    def _default_lanes(self, batch: Sequence[InputTrain]) -> int:
        return 1

    def _play(self, playlist: Playlist, lanes: int) -> _Raw:
        project = self._project
        if project is None or not project.network.has_room(playlist) or project.network.lanes != lanes:
            project = self._project = _Project(lambda clock: self._network(playlist, lanes, clock), self.flags)
        return project.run(playlist)


class _Project:
    """A compiled Brian2 project in a folder that lives as long as this object.

    The device is handed back as it was found: afterwards only the binary and the names of its files are used.
    """

    def __init__(self, build: Any, flags: list[str]) -> None:
        if get_device() is not brian2.all_devices["runtime"]:
            raise InputError("another Brian2 device is active; call brian2.set_device('runtime') first")
        self._folder = tempfile.TemporaryDirectory(prefix="mtt_brian_cpp_")
        self.path = Path(self._folder.name)
        brian2.set_device("cpp_standalone", build_on_run=False, directory=str(self.path))
        device = get_device()
        step = float(brian2.defaultclock.dt)
        try:
            with _preferences(flags=flags), _without_order_warnings():
                brian2.defaultclock.dt = 1 * second
                self.network: EventNetwork = build(brian2.defaultclock)
                device.apply_run_args()
                # One simulated second holds all steps, however many the run has: Brian2 writes a run's duration, but
                # not its time step, into the code.
                clock = device.get_array_name(brian2.defaultclock.variables["dt"])
                steps = device.get_array_name(self.network.groups[self.network.circuit.input].variables["steps"])
                device.insert_code("before_network_run", f"{clock}[0] = 1.0/{steps}[0];")
                self.network.run(1 * second, namespace={})
                device.build(directory=str(self.path), compile=True, run=False, with_output=False)
            monitors = {**self.network.monitors, "": self.network.readout_monitor}
            self._files = {
                name: {v: self._file(device, monitor.variables[v]) for v in ("i", "t", "final" if not name else "n")}
                for name, monitor in monitors.items()
                if monitor is not None
            }
        finally:
            device.reinit()
            reset_device()
            brian2.defaultclock.dt = step * second

    @staticmethod
    def _file(device: Any, variable: Any) -> tuple[str, np.dtype]:
        return device.get_array_filename(variable), variable.dtype

    def run(self, playlist: Playlist) -> _Raw:
        with tempfile.TemporaryDirectory(dir=self.path) as scratch:
            arguments = [
                self._argument(scratch, f"{v.group_name}.{v.name}", v.dtype, value)
                for v, value in self.network.initial_values(playlist)
            ]
            arguments += [
                self._argument(scratch, f"{table.name}.values", np.float64, value)
                for table, value in self.network.table_values(playlist)
            ]
            results = os.path.join(scratch, "results", "")
            os.mkdir(results)
            done = subprocess.run(
                ["./main", "--results_dir", results, *arguments],
                cwd=self.path,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or done.stderr:
                raise RuntimeError(f"the Brian2 project failed with status {done.returncode}: {done.stderr[-2000:]}")

            def read(name: str, value: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
                i, t, v = (
                    np.fromfile(results + f, dtype) for f, dtype in (self._files[name][k] for k in ("i", "t", value))
                )
                return i, np.rint(t * playlist.steps).astype(np.int64), v

            return _Raw(
                {name: read(name, "n") for name in self.network.monitors},
                None if self.network.readout_monitor is None else read("", "final"),
            )

    @staticmethod
    def _argument(folder: str, name: str, dtype: Any, value: np.ndarray) -> str:
        if np.ndim(value) == 0:
            return f"{name}={value.item()}"
        path = os.path.join(folder, name)
        np.ascontiguousarray(value, dtype=dtype).tofile(path)
        return f"{name}={path}"


def _batches(trains: Sequence[InputTrain], events: int) -> Iterator[list[InputTrain]]:
    """Consecutive recordings with at most ``events`` input events together, but at least one recording."""
    batch: list[InputTrain] = []
    held = 0
    for train in trains:
        if batch and held + len(train.t) + 1 > events:
            yield batch
            batch, held = [], 0
        batch.append(train)
        held += len(train.t) + 1
    if batch:
        yield batch


def _room(playlist: Playlist, lanes: int, circuit: Circuit) -> tuple[int, int]:
    """Events and steps to make room for: those of a full batch, so that compiled code serves the next one as well."""
    events = len(playlist.event_step) - lanes * (circuit.input_size + 1)
    return (
        max(_EVENTS_PER_RUN, 1 << events.bit_length()),
        max(_EVENTS_PER_RUN // lanes, 1 << playlist.steps.bit_length()),
    )


def _taken(monitor: brian2.EventMonitor, value: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array(monitor.i),
        np.rint(np.asarray(monitor.t / second)).astype(np.int64),
        np.array(getattr(monitor, value)),
    )


@contextlib.contextmanager
def _preferences(target: str | None = None, flags: list[str] = _EXACT_FLAGS) -> Iterator[None]:
    """Brian2's global preferences, set for the length of a block."""
    wanted: dict[str, Any] = {
        "codegen.cpp.extra_compile_args_gcc": flags,
        "devices.cpp_standalone.extra_make_args_unix": [f"-j{os.cpu_count() or 1}"],
    }
    if target is not None:
        wanted["codegen.target"] = target
    before = {key: brian2.prefs[key] for key in wanted}
    try:
        for key, value in wanted.items():
            brian2.prefs[key] = value
        yield
    finally:
        for key, value in before.items():
            brian2.prefs[key] = value


@contextlib.contextmanager
def _without_order_warnings() -> Iterator[None]:
    """Pass on Brian2's warnings except one: that serial statements depend on the order of the synapses.

    Here that order does not matter: whichever synapse comes first settles the neuron, and the rest is a sum.
    """
    with catch_logs() as records:
        yield
    for _, _, message in records:
        if "may not be well-defined" not in message:
            warnings.warn(f"Brian2: {message}", stacklevel=3)
