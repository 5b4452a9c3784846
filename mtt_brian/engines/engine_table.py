"""The engines by name. An engine is imported when it is first built."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mtt_brian.circuit.model import Circuit
from mtt_brian.engines.base import Engine, EngineFactory, EngineInfo, Order, Record
from mtt_brian.engines.brian2.memory import estimate
from mtt_brian.errors import InputError
from mtt_brian.registry import Registry
from mtt_brian.text import shown
from mtt_brian.translate.conventions import CONVENTION_NAMES

#: Entry point group. An entry point names the module that calls `register_engine`, and has the engine's name.
GROUP = "mtt_brian.engines"


def _exact(circuit: Circuit, **options: Any) -> Engine:
    from mtt_brian.engines.exact import ExactEngine

    return ExactEngine(circuit, **options)


def _exact_memory(circuit: Circuit, order: Order) -> int:
    from mtt_brian.engines.lowered.arrays import lower_circuit

    return sum(array.nbytes for array in lower_circuit(circuit, frozenset(), one_spike=order == "fifo"))


def _brian2(circuit: Circuit, **options: Any) -> Engine:
    from mtt_brian.engines.brian2.runtime import RuntimeEngine

    return RuntimeEngine(circuit, **options)


def _brian2_cpp(circuit: Circuit, **options: Any) -> Engine:
    from mtt_brian.engines.brian2.standalone import CppEngine

    return CppEngine(circuit, **options)


def _brian2_cpp_missing() -> list[str]:
    from mtt_brian.engines.brian2.compilers import missing_for_projects

    return missing_for_projects()


def _brian2_cuda(circuit: Circuit, **options: Any) -> Engine:
    from mtt_brian.engines.brian2.cuda import CudaEngine

    return CudaEngine(circuit, **options)


def _brian2_cuda_missing() -> list[str]:
    from mtt_brian.engines.brian2.cuda import Cuda

    return Cuda.find().missing()


def _brian2_memory(circuit: Circuit, order: Order) -> int:
    return estimate(circuit).bytes


def _exact_cuda(circuit: Circuit, **options: Any) -> Engine:
    from mtt_brian.engines.exact_cuda import ExactCudaEngine

    return ExactCudaEngine(circuit, **options)


def _exact_cuda_missing() -> list[str]:
    from mtt_brian.engines.exact_cuda.gpu import missing

    return missing()


class _Registered(NamedTuple):
    info: EngineInfo
    factory: EngineFactory


_GIVEN = (
    _Registered(
        EngineInfo(
            name="exact",
            about="event queue in continuous time, compiled by numba",
            orders=("sum", "fifo"),
            crossings=True,
            delays=True,
            saturation=True,
            options=("threads", "max_rate"),
            memory=_exact_memory,
        ),
        _exact,
    ),
    _Registered(
        EngineInfo(
            name="brian2",
            about="Brian2's runtime (Cython or numpy)",
            options=("batch_size", "target"),
            batches=True,
            crossings=True,
            delays=True,
            memory=_brian2_memory,
            # Its import sets a signal handler.
            imports=("brian2",),
        ),
        _brian2,
    ),
    _Registered(
        EngineInfo(
            name="brian2-cpp",
            about="Brian2's C++ project",
            options=("batch_size", "flags"),
            crossings=True,
            delays=True,
            memory=_brian2_memory,
            imports=("brian2",),
            needs="g++ and make",
            missing=_brian2_cpp_missing,
        ),
        _brian2_cpp,
    ),
    _Registered(
        EngineInfo(
            name="brian2-cuda",
            about="brian2cuda, on a GPU",
            options=("batch_size",),
            batches=True,
            crossings=True,
            delays=True,
            memory=_brian2_memory,
            imports=("brian2",),
            needs="brian2cuda, nvcc and an NVIDIA GPU",
            missing=_brian2_cuda_missing,
        ),
        _brian2_cuda,
    ),
    _Registered(
        EngineInfo(
            name="exact-cuda",
            about="the event queue of exact on a GPU, many recordings at once",
            orders=("sum", "fifo"),
            saturation=True,
            options=("batch_size",),
            batches=True,
            memory=_exact_memory,
            needs="CuPy and an NVIDIA GPU",
            missing=_exact_cuda_missing,
        ),
        _exact_cuda,
    ),
)
_REGISTRY = Registry[_Registered]("an engine", GROUP, {engine.info.name: engine for engine in _GIVEN})


class _Infos(Mapping[str, EngineInfo]):
    """The registered engines; an installed package is imported when its engine is looked up."""

    def __getitem__(self, name: str) -> EngineInfo:
        return _REGISTRY[name].info

    def __contains__(self, name: object) -> bool:
        return name in _REGISTRY

    def __iter__(self) -> Iterator[str]:
        return iter(_REGISTRY)

    def __len__(self) -> int:
        return len(_REGISTRY)


#: Name -> `EngineInfo` of every engine, read only; `register_engine` adds one.
ENGINES: Mapping[str, EngineInfo] = _Infos()


def register_engine(info: EngineInfo, factory: EngineFactory, *, replace: bool = False) -> None:
    """Adds an engine, which `Simulator`, the commands and the evaluation then accept by its name.

    An installed package registers its engine through an entry point of the group ``mtt_brian.engines``: the engine's
    name = the module that calls this function.

    Args:
        info: its name, its options and what it can run.
        factory: ``factory(circuit, order=..., record=..., **options)`` gives an `Engine`. It raises `InputError` for a
            circuit that the engine cannot run.
        replace: whether it replaces an engine that was registered before under the same name.

    Raises:
        InputError: for a name that is in use, and for arguments of another kind.
    """
    if not isinstance(info, EngineInfo):
        raise InputError(f"register_engine takes an EngineInfo and a factory, not {shown(info)}")
    if not callable(factory):
        raise InputError(f"the factory of the engine {info.name!r} must be callable, not {shown(factory)}")
    _REGISTRY.add(info.name, _Registered(info, factory), replace)


def unregister_engine(name: str) -> None:
    """Removes an engine that was registered; does nothing if there is none of that name."""
    _REGISTRY.discard(name)


def engine_info(name: str) -> EngineInfo:
    """The `EngineInfo` of an engine.

    Raises:
        InputError: for an unknown name, and for an engine of an installed package that cannot be imported.
    """
    return _REGISTRY[name].info


def engines_with(order: Order) -> list[str]:
    """Names of the engines that offer an order; engines of installed packages only after their first use."""
    return [name for name in _REGISTRY.at_hand() if order in _REGISTRY[name].info.orders]


def checked_options(name: str, order: Order, options: dict[str, Any]) -> dict[str, Any]:
    """The options with their current names, if the engine supports them and the order.

    Raises:
        InputError: for the first unsupported option.
    """
    info = engine_info(name)
    options = _with_new_names(info, options)
    if order not in info.orders:
        others = " or ".join(f"engine={other!r}" for other in engines_with(order))
        raise InputError(
            f"order={order!r} needs {others}; engine={name!r} takes {' and '.join(f'order={o!r}' for o in info.orders)}"
        )
    for option in options:
        if option not in info.options:
            accepted = ", ".join(info.options) or "none"
            raise InputError(
                f"engine={name!r} takes no option {option!r}; its options: {accepted}; options for graphs: "
                f"{', '.join(CONVENTION_NAMES)}"
            )
    return options


def build_engine(name: str, circuit: Circuit, order: Order, record: Record, options: Mapping[str, Any]) -> Engine:
    """An engine for a circuit; order and options are those that `checked_options` returned.

    Raises:
        InputError: if the engine cannot run the circuit.
    """
    info, factory = _REGISTRY[name]
    engine = factory(circuit, order=order, record=record, **options)
    _check_circuit(info, circuit)  # last: the messages of the engine's own refusals are more precise
    return engine


def _with_new_names(info: EngineInfo, options: dict[str, Any]) -> dict[str, Any]:
    """Options with the old name ``lanes`` replaced by ``batch_size``."""
    if "lanes" not in options or "lanes" in info.options or "batch_size" not in info.options:
        return options
    if "batch_size" in options:
        raise InputError("lanes is the old name of batch_size; pass batch_size only")
    warnings.warn("lanes= is now called batch_size=", DeprecationWarning, stacklevel=4)
    return {"batch_size" if option == "lanes" else option: value for option, value in options.items()}


def _check_circuit(info: EngineInfo, circuit: Circuit) -> None:
    """Refuses circuits that an engine cannot run according to its `EngineInfo`."""
    if not info.crossings:
        for population in circuit.populations:
            if population.rule.crosses:
                raise InputError(
                    f"population {population.name!r} can come up to its threshold between arrivals (bias, leak, "
                    f"synaptic current or a rule of its own), which engine={info.name!r} does not compute; use "
                    "engine='exact'"
                )
    if not info.saturation:
        for population in circuit.populations:
            if population.rule.upper_bound is not None:
                raise InputError(
                    f"population {population.name!r} has an upper bound (membrane_bits), which "
                    f"engine={info.name!r} does not follow; use engine='exact'"
                )
    if not info.delays:
        for connection in circuit.connections:
            if connection.delayed:
                raise InputError(
                    f"the connection {connection.source!r} -> {connection.target!r} has a delay, which "
                    f"engine={info.name!r} does not compute; use engine='exact'"
                )
