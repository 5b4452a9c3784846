"""Sources, targets and types of the nodes of a graph."""

from __future__ import annotations

from mtt_brian.errors import InputError
from mtt_brian.translate.flat_graph import FlatGraph
from mtt_brian.translate.linear_nodes import LINEAR
from mtt_brian.translate.node_types import NEURONS, REFUSED


class Wiring:
    """Nodes and edges of one graph.

    Attributes:
        nodes: by name.
        input, output: names of the graph's own Input and Output nodes.
        sources, targets: of every node, in the order of the edges.

    Raises:
        InputError: for a node of an unknown type, and an edge into the input.
    """

    def __init__(self, graph: FlatGraph) -> None:
        self.nodes, self.input, self.output = graph.nodes, graph.input, graph.output
        self.sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        self.targets: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in graph.edges:
            self.sources[target].append(source)
            self.targets[source].append(target)
        if self.sources[self.input]:
            raise InputError(f"the edge {self.sources[self.input][0]!r} -> {self.input!r} leads into the input node")
        for name in self.nodes:
            if not (self.is_neuron(name) or self.is_wire(name) or self.kind(name) in LINEAR):
                raise InputError(
                    f"node {name!r} is a {self.kind(name)}, which cannot be simulated event by event; accepted are "
                    f"{', '.join(sorted([*NEURONS, *LINEAR, 'Input', 'Output']))}"
                    + (f" ({why})" if (why := REFUSED.get(self.kind(name))) else "")
                )

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def is_neuron(self, name: str) -> bool:
        return self.kind(name) in NEURONS

    def is_wire(self, name: str) -> bool:
        """Whether a node only forwards its input: inputs and outputs, also those of nested graphs."""
        return self.kind(name) in ("Input", "Output")

    def is_source(self, name: str) -> bool:
        """Whether paths of linear nodes start at a node: the input and neurons."""
        return name == self.input or self.is_neuron(name)

    def neurons(self) -> list[str]:
        return [name for name in self.nodes if self.is_neuron(name)]

    def called(self, name: str) -> str:
        return f"node {name!r} ({self.kind(name)})"

    def in_front_of(self, ends: list[str]) -> set[str]:
        """These nodes and all nodes with a path to one of them."""
        found, waiting = set(ends), list(ends)
        while waiting:
            new = set(self.sources[waiting.pop()]) - found
            found |= new
            waiting += new
        return found
