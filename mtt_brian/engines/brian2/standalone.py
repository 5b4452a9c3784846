"""Brian2 engines that write a project in C++, compile it once and run it as a separate process for every batch."""

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

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.brian2 import compilers, internals
from mtt_brian.engines.brian2.execution import CPP, Execution
from mtt_brian.engines.brian2.network import EventNetwork
from mtt_brian.engines.brian2.runtime import (
    EXACT_FLAGS,
    BrianEngine,
    Raw,
    Records,
    preferences,
    without_order_warnings,
)
from mtt_brian.engines.brian2.schedule import InputSchedule
from mtt_brian.errors import InputError, MachineError
from mtt_brian.text import shown


class StandaloneEngine(BrianEngine):
    """What the compiled engines share.

    Attributes:
        device: Brian2's name of the device.
        execution: what a network has to know of it.
    """

    device: str
    execution: Execution

    def __init__(
        self, circuit: Circuit, *, order: str = "sum", record: str = "all", batch_size: int | None = None
    ) -> None:
        super().__init__(circuit, order=order, record=record, batch_size=batch_size)
        self._project: Project | None = None

    def _preferences(self) -> dict[str, Any]:
        """Brian2's preferences while the project is written and compiled."""
        raise NotImplementedError

    def _run_batch(self, inputs: InputSchedule, batch_size: int) -> Raw:
        try:
            if self._project is None or not self._project.fits(inputs, batch_size):
                compilers.check_project_programs(self.name)
                project = self.write(inputs, batch_size)
                project.compile()
                self._project = project
            return self._project.run(inputs)
        except OSError as error:
            if error.filename is None:  # a full disk
                error.filename = tempfile.gettempdir()
            raise

    def write(self, inputs: InputSchedule, batch_size: int) -> Project:
        """The project with room for an input schedule, not compiled yet."""
        return Project(
            self.device,
            lambda clock: self._network(inputs, batch_size, self.execution, clock),
            self._preferences(),
        )


class CppEngine(StandaloneEngine):
    """Brian2's C++ device.

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.engines.simulate`.
        batch_size: recordings that run side by side in one process; 1 keeps the network small enough for the caches.
        flags: compiler flags; the default keeps floating-point arithmetic as written.
    """

    name = "brian2-cpp"
    device = "cpp_standalone"
    execution = CPP

    def __init__(
        self,
        circuit: Circuit,
        *,
        order: str = "sum",
        record: str = "all",
        batch_size: int | None = None,
        flags: Sequence[str] = EXACT_FLAGS,
    ) -> None:
        super().__init__(circuit, order=order, record=record, batch_size=batch_size)
        if isinstance(flags, str) or not isinstance(flags, Sequence) or not all(isinstance(f, str) for f in flags):
            raise InputError(f"flags must be a list of compiler flags, such as ['-O2'], not {shown(flags)}")
        self.flags = list(flags)

    def _default_batch_size(self, batch: Sequence[InputSpikes]) -> int:
        return 1

    def _preferences(self) -> dict[str, Any]:
        return {internals.COMPILER_FLAGS: self.flags}


class Project:
    """A Brian2 project in a folder that exists as long as this object.

    The active device is as before: afterwards only the folder and the names of its files are used.

    Args:
        device: Brian2's name of the device.
        build: makes the network on a clock.
        wanted: Brian2's preferences while the code is written.

    Raises:
        InputError: if another device than Brian2's runtime is active.
    """

    def __init__(self, device: str, build: Callable[[brian2.Clock], EventNetwork], wanted: Mapping[str, Any]) -> None:
        if internals.device_name() != "runtime":
            raise MachineError("another Brian2 device is active; call brian2.set_device('runtime') first")
        self._engine = f"brian2-{device.partition('_')[0]}"  # for messages
        self._folder = tempfile.TemporaryDirectory(prefix=f"mtt_brian_{device}_")
        self.path = Path(self._folder.name)
        brian2.set_device(device, build_on_run=False, directory=str(self.path))
        active = internals.active_device()
        step = float(brian2.defaultclock.dt)
        try:
            with preferences(wanted), without_order_warnings():
                brian2.defaultclock.dt = 1 * second
                self.network = build(brian2.defaultclock)
                internals.start_with_arguments(active)
                # One simulated second holds all steps, however many the run has: Brian2 writes a run's duration, but
                # not its time step, into the code.
                clock = internals.array_name(active, brian2.defaultclock.variables["dt"])
                group = self.network.groups[self.network.circuit.input]
                steps = internals.array_name(active, group.variables["steps"])
                internals.run_before_network(active, f"{clock}[0] = 1.0/{steps}[0];")
                self.network.run(1 * second, namespace={})
                active.build(directory=str(self.path), compile=False, run=False, with_output=False)
            monitors = {**self.network.monitors, "": self.network.readout_monitor}
            self._files = {
                name: {
                    v: self._file(active, monitor.variables[v])
                    for v in ("i", "t", "N", "event_entry", "event_time", "n" if name else "final")
                    if v in monitor.variables
                }
                for name, monitor in monitors.items()
                if monitor is not None
            }
            self._alarms = {
                name: [(*self._file(active, group.variables[v]), len(group)) for v in ("alarm", "alarm_time")]
                for name, group in self.network.watched.items()
            }
            if self.network.self_timed:
                self._idle = (*self._file(active, self.network.scheduler.variables["idle"]), self.network.batch_size)
            self._tables = {
                name: (*self._file(active, g.variables["total"]), g.variables["total"].size)
                for name, g in self.network.totals.items()
            }
        finally:
            internals.forget_project(active)
            internals.previous_device()
            brian2.defaultclock.dt = step * second

    def fits(self, inputs: InputSchedule, batch_size: int) -> bool:
        """Whether the network can run an input schedule as it is."""
        return self.network.has_room(inputs) and self.network.batch_size == batch_size

    @staticmethod
    def _file(device: Any, variable: Any) -> tuple[str, np.dtype]:
        return internals.result_file(device, variable), variable.dtype

    def compile(self) -> None:
        """Runs the project's makefile on all cores; what depends on what does not matter, for nothing is there yet.

        Raises:
            CannotCompile: with the compiler's first error.
        """
        done = self._call(["make", f"-j{machine.cores()}", "DEPS="])
        compilers.check_compiled(self._engine, done.returncode, done.stderr)

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a program in the project's folder, and reads what it prints."""
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, errors="replace", check=False)

    def run(self, inputs: InputSchedule) -> Raw:
        """Runs the compiled project on an input schedule.

        A network that computes its instants is run again with four times as many steps until they suffice.

        Raises:
            InputError: if a signal ended the process, or its results are incomplete.
        """
        steps = self.network.expected_steps(inputs)
        while (raw := self._run_steps(inputs, steps)) is None:
            steps *= 4
        return raw

    def _run_steps(self, inputs: InputSchedule, steps: int) -> Raw | None:
        """One run of so many steps; None if they do not suffice."""
        with tempfile.TemporaryDirectory(dir=self.path, prefix="scratch_") as scratch:
            results = os.path.join(scratch, "results", "")
            os.mkdir(results)
            done = self._call(internals.project_command(results, self._arguments(inputs, steps, scratch)))
            if done.returncode < 0:
                name = signal.Signals(-done.returncode).name
                raise InputError(
                    f"engine={self._engine!r}: {name} has ended the compiled network (often: too little memory)"
                )
            if done.returncode or done.stderr:
                raise RuntimeError(f"the Brian2 project failed with status {done.returncode}: {done.stderr[-2000:]}")

            def values_in(file: str, dtype: np.dtype, count: int) -> np.ndarray:
                # On a full disk the project continues and leaves short files.
                found = np.fromfile(results + file, dtype) if os.path.isfile(results + file) else ()
                if len(found) != count:
                    raise MachineError(
                        f"{results}: {len(found)} of {count} values are there of what the compiled network wrote; is"
                        " the disk full?"
                    )
                return np.asarray(found)

            def read(name: str, value: str) -> Records:
                files = self._files[name]
                count = int(values_in(*files["N"], 1)[0])
                column = {key: values_in(*file, count) for key, file in files.items() if key != "N"}
                if "event_entry" in files:
                    return Records(
                        column["i"], column["event_entry"].astype(np.int64), column[value], column["event_time"]
                    )
                return Records(column["i"], np.rint(column["t"] * steps).astype(np.int64), column[value], None)

            if self.network.self_timed and not np.all(values_in(*self._idle)):
                return None

            return Raw(
                {name: read(name, "n") for name in self.network.monitors},
                None if self.network.readout_monitor is None else read("", "final"),
                {
                    name: values_in(*table).reshape(-1, self.network.circuit.population[name].size)
                    for name, table in self._tables.items()
                },
                {name: (values_in(*alarm), values_in(*since)) for name, (alarm, since) in self._alarms.items()},
            )

    def _arguments(self, inputs: InputSchedule, steps: int, folder: str) -> dict[str, str]:
        """Initial values and tables by name: numbers, and names of files in ``folder`` with arrays.

        brian2cuda reads the value of an argument in lower case, and as a number if it begins with a digit.
        """
        values = [
            (f"{v.group_name}.{v.name}", v.dtype, value) for v, value in self.network.initial_values(inputs, steps)
        ]
        values += [(f"{t.name}.values", np.float64, value) for t, value in self.network.table_values(inputs)]
        arguments = {}
        for number, (name, dtype, value) in enumerate(values):
            if np.ndim(value) == 0:
                arguments[name] = str(value.item())
                continue
            file = os.path.join(folder, f"{number}.bin")
            np.ascontiguousarray(value, dtype=dtype).tofile(file)
            arguments[name] = os.path.relpath(file, self.path)
        return arguments
