"""Write a network so that another tool's NIR importer reads it.

mtt-brian convert model.nir spikingjelly --out for_spikingjelly.nir --allow reset spikes lower_bound
mtt-brian convert runs/digits-mtt-0-001 snntorch --step 0.01 --out digits.nir --allow reset spikes lower_bound

The network is one of this package, or another one in NIR's own units; a file with the units of a tool (mtt-brian info
--tool) cannot be converted. The tool then runs the network on time steps of --step seconds of a recording. Properties
that the tool cannot represent are refused, unless --allow names them; then they are listed. In a file for SpikingJelly
and snnTorch a step is 1e-4 s, in one for Norse 1e-3 s, which their importers take by default.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtt_brian import cli, files
from mtt_brian.cli import network_options
from mtt_brian.text import printable
from mtt_brian.translate import for_tool
from mtt_brian.translate.nir_files import write_graph
from mtt_brian.translate.to_tool import IMPORTERS, LOSSES


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    given = network_options.conventions_from(options)
    path = network_options.network_path(options)
    graph, lost = for_tool(path, options.for_tool, step=options.step, allow=tuple(options.allow), conventions=given)
    out = files.as_path(options.out, "--out")
    files.check_replaceable(out.parent, [out.name], [path])
    write_graph(out, graph)
    print(printable(f"{out}: {len(graph.nodes)} nodes for {options.for_tool}"))
    for sentence in lost:
        print(printable(sentence))


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "convert")
    network_options.add_network(parser)
    network_options.add_rules(parser.add_argument_group("neurons without these in their metadata"), otherwise="")
    parser.add_argument("for_tool", metavar="TOOL", choices=(*IMPORTERS, "nir"), help=", ".join((*IMPORTERS, "nir")))
    parser.add_argument("--out", metavar="FILE.nir", required=True, help="the file to write")
    parser.add_argument(
        "--step",
        type=float,
        metavar="SECONDS",
        help="of a recording per time step; needed for neurons with a leak or a bias",
    )
    parser.add_argument("--allow", nargs="+", choices=LOSSES, default=[], help="what may be lost [nothing]")
    return parser
