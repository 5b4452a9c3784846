"""The network that a command is given: a ``.nir`` file, or the folder of a training run."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtt_brian import translate
from mtt_brian.errors import InputError
from mtt_brian.neuron import RESETS, SPIKES_PER_UPDATE
from mtt_brian.nir_files import load_graph, naming

if TYPE_CHECKING:
    import nir

    from mtt_brian.translate import Circuit

_MODEL = "model.nir"


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
    """A network, and what to say about one that another tool wrote."""
    parser.add_argument("network", metavar="FILE.nir", help=f"a network, or the folder of a run, which has a {_MODEL}")
    foreign = parser.add_argument_group("networks of other tools")
    foreign.add_argument("--reset", choices=RESETS, help="for neurons whose metadata do not say how they reset")
    foreign.add_argument(
        "--spikes", choices=SPIKES_PER_UPDATE, help="how many per update, where the metadata do not say it [many]"
    )
    foreign.add_argument(
        "--spike-integral",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="integral of one spike where it is one time step wide (snnTorch: 1e-4) [1: a pulse]",
    )
    foreign.add_argument(
        "--loop-delay",
        type=float,
        metavar="SECONDS",
        help="what spikes take round a loop that has no delay: one time step (snnTorch: 1e-4) [such loops are refused]",
    )
    foreign.add_argument(
        "--lower-bound", type=float, metavar="V", help="of firing neurons whose metadata do not say it [none]"
    )


def open_network(options: argparse.Namespace) -> Network:
    """The network that the options of `add_options` name.

    Raises:
        InputError: for a folder without a network, and as `translate.read_nir`.
    """
    path = Path(options.network)
    if path.is_dir():
        path /= _MODEL
        if not path.is_file():
            raise InputError(f"{path.parent}: no {_MODEL}; a finished training run has one, or name a .nir file")
    graph = load_graph(path)
    with naming(path):
        circuit = translate.read_nir(
            graph,
            reset=options.reset,
            spikes=options.spikes,
            spike_integral=options.spike_integral,
            loop_delay=options.loop_delay,
            lower_bound=options.lower_bound,
        )
    return Network(path, graph, circuit, _config(path))


def _config(path: Path) -> dict[str, Any]:
    """The settings beside the network of a run."""
    file = path.with_name("config.json")
    if path.name != _MODEL or not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not readable as JSON: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{file}: expected settings by name, found {type(config).__name__}")
    return config
