"""Brian2 engines that write a project in C++, compile it once and run it as a process of its own for every batch."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import brian2
import numpy as np
from brian2 import second
from brian2.devices.device import get_device, reset_device

from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.brian2 import compilers
from mtt_brian.engines.brian2.network import EventNetwork
from mtt_brian.engines.brian2.runtime import (
    COMPILER_FLAGS,
    EXACT_FLAGS,
    BrianEngine,
    Raw,
    preferences,
    without_order_warnings,
)
from mtt_brian.engines.brian2.schedule import Playlist
from mtt_brian.errors import InputError


class StandaloneEngine(BrianEngine):
    """What the compiled engines share.

    Attributes:
        device: Brian2's name of the device.
    """

    device: str

    def __init__(self, circuit: Circuit, *, order: str = "sum", record: str = "all", lanes: int | None = None) -> None:
        super().__init__(circuit, order=order, record=record, lanes=lanes)
        self._project: Project | None = None

    def _preferences(self) -> dict[str, Any]:
        """Brian2's preferences while the project is written and compiled."""
        raise NotImplementedError

    def _play(self, playlist: Playlist, lanes: int) -> Raw:
        try:
            if self._project is None or not self._project.fits(playlist, lanes):
                compilers.check_project_programs(self.name)
                project = self.write(playlist, lanes)
                project.compile()
                self._project = project
            return self._project.run(playlist)
        except OSError as error:
            if error.filename is None:  # a full disk
                error.filename = tempfile.gettempdir()
            raise

    def write(self, playlist: Playlist, lanes: int) -> Project:
        """The project with room for a playlist, not compiled yet."""
        return Project(self.device, lambda clock: self._network(playlist, lanes, clock), self._preferences())


class CppEngine(StandaloneEngine):
    """Brian2's C++ device.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.engines.simulate`.
        lanes: recordings that run side by side in one process; 1 keeps the network small enough for the caches.
        flags: compiler flags; the default keeps floating-point arithmetic as written.
    """

    name = "brian2-cpp"
    device = "cpp_standalone"

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: str = "sum",
        record: str = "all",
        lanes: int | None = None,
        flags: Sequence[str] = EXACT_FLAGS,
    ) -> None:
        super().__init__(circuit, order=order, record=record, lanes=lanes)
        self.flags = list(flags)

    def _default_lanes(self, batch: Sequence[InputSpikes]) -> int:
        return 1

    def _preferences(self) -> dict[str, Any]:
        return {COMPILER_FLAGS: self.flags}


class Project:
    """A Brian2 project in a folder that lives as long as this object.

    The device is handed back as it was found: afterwards only the folder and the names of its files are used.

    Args:
        device: Brian2's name of the device.
        build: makes the network on a clock.
        wanted: Brian2's preferences while the code is written.

    Raises:
        InputError: if another device than Brian2's runtime is active.
    """

    def __init__(self, device: str, build: Callable[[brian2.Clock], EventNetwork], wanted: Mapping[str, Any]) -> None:
        if get_device() is not brian2.all_devices["runtime"]:
            raise InputError("another Brian2 device is active; call brian2.set_device('runtime') first")
        self._engine = f"brian2-{device.partition('_')[0]}"  # for messages
        self._folder = tempfile.TemporaryDirectory(prefix=f"mtt_brian_{device}_")
        self.path = Path(self._folder.name)
        brian2.set_device(device, build_on_run=False, directory=str(self.path))
        active = get_device()
        step = float(brian2.defaultclock.dt)
        try:
            with preferences(wanted), without_order_warnings():
                brian2.defaultclock.dt = 1 * second
                self.network = build(brian2.defaultclock)
                active.apply_run_args()
                # One simulated second holds all steps, however many the run has: Brian2 writes a run's duration, but
                # not its time step, into the code.
                clock = active.get_array_name(brian2.defaultclock.variables["dt"])
                steps = active.get_array_name(self.network.groups[self.network.circuit.input].variables["steps"])
                active.insert_code("before_network_run", f"{clock}[0] = 1.0/{steps}[0];")
                self.network.run(1 * second, namespace={})
                active.build(directory=str(self.path), compile=False, run=False, with_output=False)
            monitors = {**self.network.monitors, "": self.network.readout_monitor}
            self._files = {
                name: {
                    v: self._file(active, monitor.variables[v]) for v in ("i", "t", "N", "final" if not name else "n")
                }
                for name, monitor in monitors.items()
                if monitor is not None
            }
            self._tables = {
                name: (*self._file(active, g.variables["total"]), g.variables["total"].size)
                for name, g in self.network.tallies.items()
            }
        finally:
            active.reinit()
            reset_device()
            brian2.defaultclock.dt = step * second

    def fits(self, playlist: Playlist, lanes: int) -> bool:
        """Whether the network can run a playlist as it is."""
        return self.network.has_room(playlist) and self.network.lanes == lanes

    @staticmethod
    def _file(device: Any, variable: Any) -> tuple[str, np.dtype]:
        return device.get_array_filename(variable), variable.dtype

    def compile(self) -> None:
        """Run the project's makefile on all cores.

        Raises:
            CannotCompile: with what the compiler says.
        """
        done = subprocess.run(
            ["make", f"-j{os.cpu_count() or 1}"],
            cwd=self.path,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        compilers.check_compiled(self._engine, done.returncode, done.stderr)

    def run(self, playlist: Playlist) -> Raw:
        # brian2cuda reads the value of an argument in lower case, and as a number if it begins with a digit.
        with tempfile.TemporaryDirectory(dir=self.path, prefix="scratch_") as scratch:
            values = [
                (f"{v.group_name}.{v.name}", v.dtype, value) for v, value in self.network.initial_values(playlist)
            ]
            values += [(f"{t.name}.values", np.float64, value) for t, value in self.network.table_values(playlist)]
            arguments = []
            for number, (name, dtype, value) in enumerate(values):
                if np.ndim(value) == 0:
                    arguments.append(f"{name}={value.item()}")
                    continue
                file = os.path.join(scratch, f"{number}.bin")
                np.ascontiguousarray(value, dtype=dtype).tofile(file)
                arguments.append(f"{name}={os.path.relpath(file, self.path)}")
            results = os.path.join(scratch, "results", "")
            os.mkdir(results)
            done = subprocess.run(
                ["./main", "--results_dir", results, *arguments],
                cwd=self.path,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode < 0:
                name = signal.Signals(-done.returncode).name
                raise InputError(
                    f"engine={self._engine!r}: {name} has ended the compiled network (often: too little memory)"
                )
            if done.returncode or done.stderr:
                raise RuntimeError(f"the Brian2 project failed with status {done.returncode}: {done.stderr[-2000:]}")

            def values_in(file: str, dtype: np.dtype, count: int) -> np.ndarray:
                # The project goes on where a disk is full, and leaves short files.
                found = np.fromfile(results + file, dtype) if os.path.isfile(results + file) else ()
                if len(found) != count:
                    raise InputError(
                        f"{results}: {len(found)} of {count} values are there of what the compiled network wrote; is"
                        " the disk full?"
                    )
                return np.asarray(found)

            def read(name: str, value: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
                count = int(values_in(*self._files[name]["N"], 1)[0])
                i, t, v = (values_in(*self._files[name][k], count) for k in ("i", "t", value))
                return i, np.rint(t * playlist.steps).astype(np.int64), v

            return Raw(
                {name: read(name, "n") for name in self.network.monitors},
                None if self.network.readout_monitor is None else read("", "final"),
                {
                    name: values_in(*table).reshape(-1, self.network.circuit.population[name].size)
                    for name, table in self._tables.items()
                },
            )
