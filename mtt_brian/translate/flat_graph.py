"""A NIR graph with its nested graphs expanded: names, edges and metadata, without recursion."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.translate.nir_files import Shape, declared_shape, not_read, shown, typed_shape

if TYPE_CHECKING:
    import nir

#: Nodes of a graph, those of nested graphs included.
MOST_NODES = 100_000
#: Largest depth of nested graphs.
MOST_LEVELS = 1_000

#: The names of the graphs around a node, and its own name.
_Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FlatGraph:
    """A graph with its nested graphs expanded.

    Attributes:
        nodes: by name; that of a nested graph's node is ``outer.inner``.
        edges: between them, every edge once.
        input, output: the names of the graph's own Input and Output nodes.
        metadata: of the graph and its nested graphs, by name ("" for the graph).
        not_read: further contents of its file, see `nir_files.not_read`.
    """

    nodes: dict[str, Any]
    edges: list[tuple[str, str]]
    input: str
    output: str
    metadata: dict[str, dict[str, Any]]
    not_read: tuple[str, ...] = ()

    @property
    def input_shape(self) -> Shape:
        """What the input node declares."""
        declared = typed_shape(self.nodes[self.input].input_type, "input")
        if declared is None:
            raise InputError(f"the input node {self.input!r} has no shape")
        return declared_shape(declared, f"the shape of the input node {self.input!r}")

    def without_inner_ends(self) -> FlatGraph:
        """The same without the Input and Output nodes of nested graphs, so that it can be a graph of its own.

        Raises:
            InputError: for two nodes that would have two edges, of which a graph keeps one.
        """
        import nir

        inner = [name for name, node in self.nodes.items() if isinstance(node, nir.Input | nir.Output)]
        inner = [name for name in inner if name not in (self.input, self.output)]
        edges = list(self.edges)
        for name in inner:
            before, after = ([e[k] for e in edges if e[1 - k] == name] for k in (0, 1))
            edges = [e for e in edges if name not in e] + list(itertools.product(before, after))
        for (a, b), times in Counter(edges).items():
            if times > 1:
                raise InputError(
                    f"{a!r} feeds {b!r} in {times} ways through nested graphs, and a graph without these keeps one; "
                    f"put a Scale of {times} between them instead"
                )
        kept = {name: node for name, node in self.nodes.items() if name not in inner}
        return replace(self, nodes=kept, edges=edges)


def flatten(graph: nir.NIRGraph) -> FlatGraph:
    """Expands nested graphs.

    The input (output) of a nested graph without an Input (Output) node is its only node without sources (targets), as
    in `nir`. Two nodes with equal names are distinguished by a slash: ``block/w`` is the node ``w`` of the nested graph
    ``block`` where a node ``block.w`` exists beside it.

    Raises:
        InputError: for edges from or to nodes that do not exist, and graphs without one Input and one Output node.
    """
    import nir

    nodes, graphs = _expanded(graph)
    edges = _edges_between(graphs)
    names = _names(list(nodes))
    return FlatGraph(
        nodes={names[key]: node for key, node in nodes.items()},
        # NIR's edges form a set: a repeated edge is one edge.
        edges=list(dict.fromkeys((names[a], names[b]) for a, b in edges)),
        input=_only(nir.Input, nodes, names),
        output=_only(nir.Output, nodes, names),
        metadata={
            ".".join(key): _metadata_of(inner, f"the graph {'.'.join(key)!r}" if key else "the graph")
            for key, inner in graphs
        },
        not_read=not_read(graph),
    )


def _expanded(graph: nir.NIRGraph) -> tuple[dict[_Key, Any], list[tuple[_Key, Any]]]:
    """All nodes that are no graphs; and all graphs, each after the one that it is nested in."""
    import nir

    nodes: dict[_Key, Any] = {}
    graphs: list[tuple[_Key, Any]] = [((), graph)]
    holders: dict[int, frozenset[int]] = {id(graph): frozenset([id(graph)])}
    for key, inner in graphs:  # which grows meanwhile
        for name, node in _nodes_of(inner, key):
            here = (*key, name)
            if len(here) > MOST_LEVELS:
                raise InputError(f"graphs are nested more than {MOST_LEVELS:,} deep, in {shown('.'.join(here))}")
            if isinstance(node, nir.NIRGraph):
                if id(node) in holders[id(inner)]:
                    raise InputError(f"the nested graph {'.'.join(here)!r} holds itself")
                holders[id(node)] = holders[id(inner)] | {id(node)}
                graphs.append((here, node))
            else:
                nodes[here] = node
            if len(nodes) + len(graphs) > MOST_NODES:
                raise InputError(f"the graph has more than {MOST_NODES:,} nodes, those of nested graphs included")
    return nodes, graphs


def _edges_between(graphs: Sequence[tuple[_Key, Any]]) -> list[tuple[_Key, _Key]]:
    """The edges of all graphs; one from or to a nested graph is one from or to its output or input node.

    Raises:
        InputError: for a nested graph without one input and one output.
    """
    import nir

    # From the innermost outwards: the input and output of each nested graph.
    enter: dict[_Key, _Key] = {}
    leave: dict[_Key, _Key] = {}
    edges: list[tuple[_Key, _Key]] = []
    for key, inner in reversed(graphs):
        own = _edges_of(inner, key)
        edges += [(leave.get((*key, a), (*key, a)), enter.get((*key, b), (*key, b))) for a, b in own]
        if not key:
            continue
        fed, feeding = {b for _, b in own}, {a for a, _ in own}
        for kind, ends, unconnected in (
            (nir.Input, enter, [n for n in inner.nodes if n not in fed]),
            (nir.Output, leave, [n for n in inner.nodes if n not in feeding]),
        ):
            found = [n for n, node in inner.nodes.items() if isinstance(node, kind)] or unconnected
            if len(found) != 1:
                raise InputError(f"the nested graph {'.'.join(key)!r} needs exactly one Input and one Output node")
            ends[key] = ends.get((*key, found[0]), (*key, found[0]))
    return edges


def _only(kind: type, nodes: Mapping[_Key, Any], names: Mapping[_Key, str]) -> str:
    """The name of the one node of this type in the graph itself, or in all graphs if it has none."""
    everywhere = [key for key, node in nodes.items() if isinstance(node, kind)]
    found = [names[key] for key in everywhere if len(key) == 1] or [names[key] for key in everywhere]
    if len(found) != 1:
        raise InputError(
            f"a graph needs exactly one {kind.__name__} node; this one has {shown(found) if found else 'none'}"
        )
    return found[0]


def _names(keys: list[_Key]) -> dict[_Key, str]:
    """A unique name for every node."""
    dotted = Counter(".".join(key) for key in keys)
    names = {key: ("." if dotted[".".join(key)] == 1 else "/").join(key) for key in keys}
    for name, times in Counter(names.values()).items():
        if times > 1:
            raise InputError(
                f"{times} nodes, some of them in nested graphs, have the name {name!r}; rename one of them"
            )
    return names


def _nodes_of(graph: Any, key: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not isinstance(graph.nodes, dict):
        raise InputError(f"the nodes{_of_nested(key)} must be a dictionary, not {type(graph.nodes).__name__}")
    for name, node in graph.nodes.items():
        if not isinstance(name, str):
            raise InputError(f"the node name {name!r}{_of_nested(key)} is not text")
        yield name, node


def _edges_of(graph: Any, key: tuple[str, ...]) -> list[tuple[str, str]]:
    edges = graph.edges
    if isinstance(edges, set | frozenset):
        edges = sorted(edges, key=repr)
    elif not isinstance(edges, list | tuple | dict | np.ndarray | Iterator):
        raise InputError(f"the edges{_of_nested(key)} must be a list of pairs of node names, not {shown(edges)}")
    pairs = [tuple(edge) if isinstance(edge, list | tuple | np.ndarray) else edge for edge in edges]
    for edge in pairs:
        if not (isinstance(edge, tuple) and len(edge) == 2 and all(isinstance(end, str) for end in edge)):
            raise InputError(f"the edge {shown(edge)}{_of_nested(key)} is no pair of node names")
        for end in edge:
            if end not in graph.nodes:
                raise InputError(
                    f"the edge {edge[0]!r} -> {edge[1]!r}{_of_nested(key)} names the node {end!r}, which does not exist"
                )
    return pairs


def _of_nested(key: tuple[str, ...]) -> str:
    return f" of the nested graph {'.'.join(key)!r}" if key else ""


def metadata_of(node: Any, name: str) -> dict[str, Any]:
    """A node's metadata; None stands for a missing entry."""
    return _metadata_of(node, f"node {name!r}")


def _metadata_of(node: Any, whose: str) -> dict[str, Any]:
    metadata = getattr(node, "metadata", None)
    if metadata is None or metadata is dict:  # nir's value for missing metadata
        return {}
    if not isinstance(metadata, dict):
        raise InputError(f"the metadata of {whose} must be a dictionary, not {shown(metadata)}")
    return {key: value for key, value in metadata.items() if value is not None}
