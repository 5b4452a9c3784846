"""The names of Brian2 and brian2cuda that are not part of their documented interface, each in one function.

An upgrade of Brian2 can rename or remove any of them. Every function here has a test (`tests/test_adapters.py`, section
Brian2) that names what is missing. No other module of this package uses such a name.
"""

from __future__ import annotations

import logging
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

import brian2
import numpy as np
from brian2.codegen.runtime.cython_rt.extension_manager import cython_extension_manager
from brian2.codegen.translation import analyse_identifiers
from brian2.devices.device import RuntimeDevice, all_devices, auto_target, get_device, reset_device
from brian2.utils.logger import catch_logs
from brian2.utils.stringtools import get_identifiers

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


# ----- plain Brian2 scripts (device "event_driven")


def pathways_of(synapses: brian2.Synapses) -> list[Any]:
    """The pathways of a Synapses object."""
    from brian2.synapses.synapses import SynapticPathway

    return [part for part in synapses.contained_objects if isinstance(part, SynapticPathway)]


def register_device(name: str, device: RuntimeDevice) -> None:
    """Makes a device known to `brian2.set_device`; does nothing where the name is taken."""
    all_devices.setdefault(name, device)


def check_before_run(owner: Any, device: RuntimeDevice, name: str) -> None:
    """Lets an object refuse a run on another device than the one that has its memory.

    Args:
        owner: a weak reference to the object, as `brian2.Variable.owner`.
        device: has its memory.
        name: of this device.
    """
    thing = owner.after_run.__self__  # the object behind the weak reference
    if "before_run" in vars(thing):
        return
    # No reference to the object itself: Brian2 forgets objects as soon as a script does.
    reference = weakref.ref(thing)

    def before_run(run_namespace: Any = None) -> None:
        found = reference()
        assert found is not None
        if get_device() is not device:
            raise RuntimeError(
                f"{found.name!r} was created on the device {name!r} and cannot run on {device_name()!r}; create all "
                "objects after set_device"
            )
        type(found).before_run(found, run_namespace)

    object.__setattr__(thing, "before_run", before_run)


def memory(variable: Any) -> np.ndarray:
    """The values of a variable, or of a constant, as an array without units; changes of it change the variable."""
    return np.asarray(variable.get_value())


def is_part_of_group(part: Any) -> bool:
    """Whether a contained object does what the texts of a NeuronGroup state: equations, threshold and reset."""
    from brian2.groups.neurongroup import Resetter, StateUpdater, SubexpressionUpdater, Thresholder

    return isinstance(part, StateUpdater | Thresholder | Resetter | SubexpressionUpdater)


def slot_of(part: Any) -> str | None:
    """The slot of a time step in which Brian2 runs a part of a group, a source or a monitor of spikes.

    None for other objects, and for events that are not spikes.
    """
    from brian2.groups.neurongroup import Resetter, StateUpdater, Thresholder

    slots: Mapping[str, tuple[type, ...]] = {
        "groups": (StateUpdater,),
        "thresholds": (Thresholder, brian2.SpikeGeneratorGroup, brian2.EventMonitor),
        "synapses": (brian2.PoissonInput,),
        "resets": (Resetter,),
    }
    if getattr(part, "event", "spike") != "spike":
        return None
    return next((slot for slot, kinds in slots.items() if isinstance(part, kinds)), None)


def unknown_methods(group: brian2.NeuronGroup) -> list[str]:
    """What was given as ``method`` and is no name of a method."""
    from brian2.stateupdaters.base import StateUpdateMethod

    given = [group.method_choice] if isinstance(group.method_choice, str) else group.method_choice
    names = [one for one in given if isinstance(one, str)] if isinstance(given, list | tuple) else []
    return [name for name in names if name.lower() not in StateUpdateMethod.stateupdaters]


def was_connected(synapses: brian2.Synapses) -> bool:
    """Whether ``connect`` was called, or synapses were restored from a file."""
    return bool(synapses._connect_called or len(synapses))


def take_new_spikes(group: brian2.SpikeGeneratorGroup) -> bool:
    """Whether the spikes of a generator were set after the last call of this function."""
    changed, group._spikes_changed = group._spikes_changed, False
    return bool(changed)


def show_without_traceback(kind: type[Exception]) -> None:
    """Makes uncaught exceptions of this kind end a script with their message alone.

    Brian2 shows a traceback, asks for a report of the error, and keeps its log file.
    """
    others = sys.excepthook

    def show(found: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(found, kind):
            print(error, file=sys.stderr)
        else:
            others(found, error, traceback)

    sys.excepthook = show


def endpoints(synapses: brian2.Synapses) -> tuple[np.ndarray, np.ndarray]:
    """Neuron of the source and of the target of every synapse, counted in the whole groups and not in subgroups."""
    ends = (synapses.variables[name].get_value() for name in ("_synaptic_pre", "_synaptic_post"))
    source, target = (np.asarray(end, dtype=np.int64) for end in ends)
    return source, target


def refractory_of(group: brian2.NeuronGroup) -> Any:
    """What was given as ``refractory``: False, a time or a text."""
    return group._refractory


def target_of(poisson: brian2.PoissonInput) -> Any:
    """The group, or subgroup, that a PoissonInput enters."""
    return poisson._group


def is_stateless(function: Any) -> bool:
    """Whether a function gives the same value for the same arguments at any time."""
    return isinstance(function, brian2.Function) and bool(function.stateless)


def names_in(code: str, variables: Mapping[str, Any]) -> tuple[frozenset[str], set[str]]:
    """The names that statements define for themselves, and all other names in them; comments have none."""
    own, known, unknown = analyse_identifiers(code, variables)
    # Brian2 simplifies ``x = x + f(0*ms)`` before it looks for names.
    written = get_identifiers(re.sub("#.*", "", code)) - own
    return frozenset(own), known | unknown | written


def memory_is_on(owner: Any, device: Any) -> bool:
    """Whether the values of an object belong to a device."""
    variable = owner.variables["N" if "i" not in owner.variables else "i"]
    return getattr(variable, "device", device) is device  # the number of compartments is a constant


def record_spikes(monitor: brian2.EventMonitor, columns: Mapping[str, np.ndarray], counts: np.ndarray) -> None:
    """Appends spikes to a monitor.

    Args:
        monitor: a monitor of spikes.
        columns: values [K] by recorded variable.
        counts: spikes to add to every neuron's count.
    """
    monitor.variables["count"].get_value()[:] += counts.astype(np.int32)
    total = monitor.variables["N"]
    if monitor.record:
        old = int(total.get_value()[0])
        monitor.resize(old + len(columns["t"]))
        for name, values in columns.items():
            monitor.variables[name].get_value()[old:] = values
    total.set_value(int(total.get_value()[0]) + int(counts.sum()))


def record_states(monitor: brian2.StateMonitor, t: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    """Appends values [K, recorded neurons] at the times ``t`` [K] to a monitor."""
    old = int(monitor.variables["N"].get_value()[0])
    monitor.resize(old + len(t))
    monitor.variables["t"].get_value()[old:] = t
    for name, values in columns.items():
        monitor.variables[name].get_value()[old:] = values


def record_single_timestep_by(monitor: brian2.StateMonitor, function: Callable[[], None]) -> None:
    """What ``monitor.record_single_timestep()`` calls; without it, Brian2 answers that the network has not been run."""
    monitor.codeobj = function


def record_rates(monitor: brian2.PopulationRateMonitor, t: np.ndarray, rate: np.ndarray, more: float) -> None:
    """Appends rates in Hz [K] of the time steps that begin at ``t``, and adds ``more`` to the last one before."""
    old = int(monitor.variables["N"].get_value()[0])
    if old:
        monitor.variables["rate"].get_value()[old - 1] += more
    monitor.resize(old + len(t))
    monitor.variables["t"].get_value()[old:], monitor.variables["rate"].get_value()[old:] = t, rate
    monitor.variables["N"].set_value(old + len(t))


def set_time(network: brian2.Network, clocks: Sequence[brian2.Clock], t: float) -> None:
    """Puts a network and its clocks to ``t`` seconds."""
    network.t_ = t
    for clock in clocks:
        if "dt" not in clock.variables:  # an EventClock, from Brian2 2.10 on
            clock.set_interval(t * brian2.second, t * brian2.second)
            continue
        clock.variables["t"].set_value(t)
        clock.variables["timestep"].set_value(int(np.ceil(t / clock.dt_ - 1e-4)))


def restore_state(network: brian2.Network, name: str, filename: str | None, random: bool) -> dict[str, Any]:
    """`brian2.Network.restore` of the standard device; the state of its device that was stored with it."""
    import pickle

    brian2.Network.restore.original_function(network, name, filename, random)
    if filename is None:
        return dict(network._stored_state[name]["_random_generator_state"])
    with open(filename, "rb") as file:
        return dict(pickle.load(file)[name]["_random_generator_state"])


def store_state(network: brian2.Network, name: str, filename: str | None) -> None:
    """`brian2.Network.store` of the standard device, which asks the device for its state (``get_random_state``)."""
    brian2.Network.store.original_function(network, name, filename)


def stop_requested(network: brian2.Network) -> bool:
    """Whether ``stop()`` was called during this run."""
    return bool(network._stopped or brian2.Network._globally_stopped)


def begin_run(network: brian2.Network) -> None:
    """Takes back an earlier ``stop()``, and refuses objects that were run in another network."""
    network._stopped = brian2.Network._globally_stopped = False
    for part in network.sorted_objects:
        if part._network is None:
            part._network = network.id
        elif part._network != network.id:
            raise RuntimeError(
                f"'{part.name}' has already been run in the context of another network. Use add/remove to change the "
                "objects in a simulated network instead of creating a new one."
            )
