"""The names of Brian2 and brian2cuda that are not part of their documented interface, each in one function.

An upgrade of Brian2 can rename or remove any of them. Every function here has a test (`tests/test_adapters.py`, section
Brian2) that names what is missing. No other module of this package uses such a name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import brian2
import numpy as np
from brian2.codegen.runtime.cython_rt.extension_manager import cython_extension_manager
from brian2.devices.device import all_devices, auto_target, get_device, reset_device
from brian2.utils.logger import catch_logs

#: Texts of Brian2's warnings and messages, as far as this package has to tell them apart.
ORDER_MATTERS = "may not be well-defined"
#: Name of the logger that gives the first of them.
GENERATOR_LOGGER = "brian2.codegen.generators.base"
NEVER_RUN = "was never included in a network"
NO_CYTHON = "Cannot use Cython"

#: Preferences: flags of the C++ compiler and of the linker; those of brian2cuda begin with `CUDA_PREFERENCES`.
COMPILER_FLAGS = "codegen.cpp.extra_compile_args_gcc"
LINKER_FLAGS = "codegen.cpp.extra_link_args"
CUDA_PREFERENCES = "devices.cuda_standalone.cuda_backend."


# ----- devices


def device_name() -> str:
    """Name of the active device: ``"runtime"``, ``"cpp_standalone"``, ``"cuda_standalone"`` or another one."""
    active = get_device()
    return next((name for name, device in all_devices.items() if device is active), type(active).__name__)


def active_device() -> Any:
    """The active device."""
    return get_device()


def previous_device() -> None:
    """Makes the device active that was active before `brian2.set_device`."""
    reset_device()


def automatic_target() -> str:
    """The code generation target that ``"auto"`` stands for: ``"cython"`` or ``"numpy"``."""
    return str(auto_target().class_name)


# ----- messages


def caught_messages() -> AbstractContextManager[list[tuple[str, str, str]]]:
    """Within it, Brian2 shows no messages; afterwards the list holds (level, name, text) of each."""
    manager: AbstractContextManager[list[tuple[str, str, str]]] = catch_logs()
    return manager


def silence_order_warning(statement: str) -> None:
    """Drops Brian2's warning that the order of execution may matter, for code that holds this statement.

    Args:
        statement: as Brian2 shows it, without spaces at its ends: part of the first line of the code.
    """

    def is_other(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return ORDER_MATTERS not in text or statement not in text

    logging.getLogger(GENERATOR_LOGGER).addFilter(is_other)


# ----- objects of the runtime device


def spike_space(group: brian2.NeuronGroup) -> np.ndarray:
    """The neurons that fire in this step, int32 [neurons + 1]; the last number is how many they are."""
    space: np.ndarray = group.variables["_spikespace"].get_value()
    return space


def set_spikes(space: np.ndarray, neurons: np.ndarray) -> None:
    """Makes neurons [K] those that fire in this step.

    Args:
        space: see `spike_space`.
        neurons: their numbers.
    """
    space[: len(neurons)] = neurons
    space[-1] = len(neurons)


def values_of(group: brian2.NeuronGroup, variable: str) -> np.ndarray:
    """The memory of a variable of a group on the runtime device, without units."""
    values: np.ndarray = group.variables[variable].get_value()
    return values


def step_of(clock: brian2.Clock) -> int:
    """Number of the current step of a clock."""
    return int(clock.variables["timestep"].item())


def schedule(runner: Any, slot: str, order: int) -> None:
    """Sets when within a step an object that exists already is run: pathway, thresholder, resetter, operation."""
    runner.when, runner.order = slot, order


def switch_off(runner: Any) -> None:
    """Takes an object out of the steps of a run."""
    runner.active = False


def empty(monitor: brian2.EventMonitor) -> None:
    """Removes all that a monitor has recorded."""
    monitor.resize(0)
    monitor.variables["N"].set_value(0)  # resize() leaves this to the monitor's own code


def rewind(network: brian2.Network) -> None:
    """Sets the time of a network to 0. `brian2.Network.restore` would put back all variables as well."""
    network.t_ = 0.0


def fill(table: brian2.TimedArray, values: np.ndarray) -> None:
    """Writes other values into a table; code that was generated for it reads them."""
    table.values[:] = values


def room_of(table: brian2.TimedArray) -> int:
    """Number of rows of a table."""
    return len(table.values)


# ----- projects of the standalone devices


def start_with_arguments(device: Any) -> None:
    """Makes the project read values of variables from its command line, from here on in ``main``."""
    device.apply_run_args()


def run_before_network(device: Any, code: str) -> None:
    """Adds a line of C++ that is run directly before the network."""
    device.insert_code("before_network_run", code)


def array_name(device: Any, variable: Any) -> str:
    """What the project calls the array of a variable."""
    return str(device.get_array_name(variable))


def result_file(device: Any, variable: Any) -> str:
    """Name of the file in the folder of results that will hold a variable."""
    return str(device.get_array_filename(variable))


def forget_project(device: Any) -> None:
    """Makes a standalone device ready for another project."""
    device.reinit()


def project_command(results: str, values: Mapping[str, str]) -> list[str]:
    """The command line of a compiled project, to be run in its folder.

    Args:
        results: folder for the results, with a separator at its end.
        values: ``group.variable`` or ``table.values`` -> a number, or a file of numbers relative to the project.
    """
    return ["./main", "--results_dir", results, *(f"{name}={value}" for name, value in values.items())]


# ----- the cache of Cython extensions


@contextmanager
def extension_loader(replacement: Callable[..., Any]) -> Iterator[None]:
    """Within it, Brian2 loads compiled extensions through ``replacement(load, module_path, *arguments, **options)``.

    ``load`` is Brian2's own function; it takes the same arguments and returns the module, or None.
    """
    original = type(cython_extension_manager)._load_module.__get__(cython_extension_manager)

    def load(*arguments: Any, **options: Any) -> Any:
        return replacement(original, *arguments, **options)

    cython_extension_manager._load_module = load
    try:
        yield
    finally:
        # Of two threads, one after the other, the first one has removed it.
        vars(cython_extension_manager).pop("_load_module", None)


# ----- brian2cuda


def forget_cuda_installation() -> None:
    """Makes brian2cuda read its preferences again. It keeps what the first project of a process was compiled with."""
    from brian2cuda.utils import gputools

    gputools.reset_cuda_installation()
    gputools.reset_gpu_selection()


def cuda_preferences(*, flags: Sequence[str], capability: float, toolkit: str, version: float) -> dict[str, object]:
    """brian2cuda's preferences for a given GPU and toolkit, of which it then detects neither."""
    return {
        CUDA_PREFERENCES + "extra_compile_args_nvcc": list(flags),
        CUDA_PREFERENCES + "detect_gpus": False,
        CUDA_PREFERENCES + "gpu_id": 0,
        CUDA_PREFERENCES + "compute_capability": capability,
        CUDA_PREFERENCES + "detect_cuda": False,
        CUDA_PREFERENCES + "cuda_path": toolkit,
        CUDA_PREFERENCES + "cuda_runtime_version": version,
    }
