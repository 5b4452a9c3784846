"""The network that a command is given: a ``.nir`` file, or the folder of a training run."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtt_brian import translate
from mtt_brian.circuit.integers import MEMBRANE_BITS, WEIGHT_BITS, Integers
from mtt_brian.engines.engine_table import ENGINES, engine_info
from mtt_brian.errors import InputError
from mtt_brian.experiments.run_files import CONFIG, MODEL
from mtt_brian.files import as_path, read_regular
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.neuron import RESETS, SPIKES_PER_UPDATE
from mtt_brian.text import one_line, shown
from mtt_brian.translate.conventions import BIAS_RULES, CONVENTION_NAMES, INFER, TOOL_NAMES, Conventions
from mtt_brian.translate.nir_files import load_graph, naming

if TYPE_CHECKING:
    import nir

    from mtt_brian.translate import Circuit


@dataclass(frozen=True, eq=False)
class Network:
    """A network and where it is from.

    Attributes:
        path: of the ``.nir`` file.
        graph: what the file holds.
        circuit: the same for the engines.
        config: the settings of the run that trained it; empty where there is no run.
    """

    path: Path
    graph: nir.NIRGraph
    circuit: Circuit
    config: dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """A network, and the conventions of the tool that wrote it."""
    add_network(parser)
    foreign = parser.add_argument_group("networks of other tools")
    foreign.add_argument(
        "--tool",
        choices=TOOL_NAMES,
        help="the tool that wrote the file: sets the options below as its exporter needs them; those that are given "
        "take precedence",
    )
    add_rules(foreign)
    foreign.add_argument(
        "--spike-integral",
        type=_seconds_or_infer,
        metavar="SECONDS|infer",
        help="integral of one spike where it is one time step wide; infer: tau / r, 1 / r or tau_syn / w_in, if "
        "that is one number [that of --tool, or 1: a pulse]",
    )
    foreign.add_argument(
        "--loop-delay",
        type=float,
        metavar="SECONDS",
        help="of the file's time: delay of spikes in a loop that has none, one time step (snnTorch: 1e-4) [that of "
        "--tool, or such loops are refused]",
    )
    foreign.add_argument(
        "--bias",
        choices=BIAS_RULES,
        help="a constant current, or in every time step the same as a spike [that of --tool, or per-second]",
    )
    foreign.add_argument(
        "--time-per-step",
        type=float,
        metavar="SECONDS",
        help="of the recording per time step of the tool; results are in the recording's time [the file's own]",
    )
    foreign.add_argument(
        "--file-time-per-step",
        type=float,
        metavar="SECONDS",
        help="of the file's time per time step of the tool [that of --tool, or --spike-integral]",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """The network."""
    parser.add_argument("network", metavar="FILE.nir", help=f"a network, or the folder of a run, which has a {MODEL}")


def add_rules(group: argparse._ArgumentGroup, otherwise: str = "that of --tool, or ") -> None:
    """The rules of neurons that a file may lack; ``otherwise`` begins the name of a default in the help."""
    group.add_argument("--reset", choices=RESETS, help="for neurons without a reset in their metadata")
    group.add_argument(
        "--spikes",
        choices=SPIKES_PER_UPDATE,
        help="how many per update, for neurons without this in their metadata [many]",
    )
    group.add_argument(
        "--lower-bound",
        metavar="V",
        help="of firing neurons without one in their metadata: a potential, thresholds as in '-1 thresholds', or none "
        f"[{otherwise}none]",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The engine that runs a network event by event."""
    known = ", ".join(ENGINES)
    engine = parser.add_argument(
        "--engine", type=_engine, default="exact", metavar="NAME", help=f"all give the same spikes: {known} [exact]"
    )
    engine.names = tuple(ENGINES)  # type: ignore[attr-defined]  # for shell completion


def _engine(text: str) -> str:
    try:
        return engine_info(text).name
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_data_set(parser: argparse.ArgumentParser) -> None:
    """Options for the data set; by default it is that of the run."""
    parser.add_argument("--dataset", metavar="NAME", help="data set, or package.module:NAME [that of the run]")
    parser.add_argument("--data-root", metavar="DIR", help="folder that holds the data set [that of the run]")


def add_time_step(parser: argparse.ArgumentParser) -> None:
    """Options for the length of a time step, or the number of steps."""
    stepped = parser.add_mutually_exclusive_group()
    stepped.add_argument(
        "--step", type=float, metavar="SECONDS", help="length of a time step [of the tool, or of the run's training]"
    )
    stepped.add_argument("--time-steps", type=int, metavar="T", help="so many steps per recording instead")


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """What the network is run on."""
    target = parser.add_argument_group("integer chips")
    target.add_argument(
        "--bits", type=int, metavar="N", help=f"weights of so many bits, sign included (Speck: {WEIGHT_BITS}) [real]"
    )
    target.add_argument(
        "--membrane-bits",
        type=int,
        metavar="N",
        help=f"thresholds and saturating membranes of so many bits [{MEMBRANE_BITS}, with --bits]",
    )


def integers_from(options: argparse.Namespace) -> Integers | None:
    """The integers that the options of `add_target_options` give.

    Raises:
        InputError: for numbers of bits that make no sense, and for membranes without weights.
    """
    if options.bits is None:
        if options.membrane_bits is not None:
            raise InputError("--membrane-bits goes with --bits: weights are integers, too")
        return None
    return Integers(options.bits, MEMBRANE_BITS if options.membrane_bits is None else options.membrane_bits)


def _seconds_or_infer(text: str) -> float | str:
    return text if text == INFER else float(text)


_seconds_or_infer.__name__ = "seconds"


def conventions_from(options: argparse.Namespace) -> Conventions:
    """The conventions that the options of `add_options`, or of `add_rules` alone, give."""
    return Conventions(**{name: getattr(options, name, None) for name in CONVENTION_NAMES})


def network_path(options: argparse.Namespace) -> Path:
    """The ``.nir`` file that the options of `add_options` name.

    Raises:
        InputError: for a folder without a network.
    """
    path = as_path(options.network, "the network")
    if path.is_dir():
        path /= MODEL
        if not path.is_file():
            raise InputError(f"{path.parent}: no {MODEL}; a finished training run has one, or name a .nir file")
    return path


def open_network(options: argparse.Namespace) -> Network:
    """The network that the options of `add_options` name.

    Raises:
        InputError: for a folder without a network, and as `translate.read_nir`.
    """
    path = network_path(options)
    graph = load_graph(path)
    with naming(path):
        circuit = translate.read_nir(graph, conventions_from(options))
    return Network(path, graph, circuit, _config(path))


def _config(path: Path) -> dict[str, Any]:
    """The settings beside the network of a run."""
    file = path.with_name(CONFIG)
    if path.name != MODEL or not os.path.lexists(file):
        return {}
    try:
        config = json.loads(read_regular(file, _MOST_BYTES).decode())
    except RecursionError:
        raise InputError(f"{file}: lists or objects that are nested too deeply; a setting is a plain value") from None
    except ValueError as error:
        raise InputError(f"{file}: not readable as JSON: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise InputError(f"{file}: expected settings by name, found {type(config).__name__}")
    for key, (is_accepted, accepted) in _USED.items():
        value = config.get(key)
        if value is not None and not is_accepted(value):
            raise InputError(f"{file}: {key} must be {accepted}, not {shown(value)}")
    return config


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


#: The settings that a command takes from a run; `mtt.config.read_config` checks all, but imports torch.
_USED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (_is_path, "the name of a data set"),
    "data_root": (_is_path, "a folder, or null"),
    "resolution": (
        lambda value: type(value) is int and 1 <= value < 2**15,
        f"a whole number of pixels from 1 to {2**15 - 1}, or null",
    ),
    "time_steps": (
        lambda value: type(value) is int and 1 <= value <= MOST_TIME_STEPS,
        f"a whole number from 1 to {MOST_TIME_STEPS:,}",
    ),
}
#: Of a config file; a longer one is something else.
_MOST_BYTES = 1_000_000
