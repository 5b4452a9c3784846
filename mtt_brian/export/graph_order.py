"""The sequential order of the nodes of a NIR graph, with residual connections."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import nir

from mtt_brian.errors import InputError

Path: TypeAlias = list[str]


class Fork(NamedTuple):
    """Two paths from one node that meet in the next population; the shorter one may be empty, an edge."""

    body: Path
    shortcut: Path


def sequential_order(graph: nir.NIRGraph) -> tuple[str, list[str | Fork], str]:
    """The Input node, the nodes between in order, with forks where there are two paths, and the Output node.

    Raises:
        InputError: for a graph of another form, naming the place.
    """
    before: dict[str, Path] = {name: [] for name in graph.nodes}
    after: dict[str, Path] = {name: [] for name in graph.nodes}
    for source, target in dict.fromkeys(graph.edges):
        if source not in after or target not in before:
            raise InputError(f"the edge {source!r} -> {target!r} leads from or to a node that does not exist")
        after[source].append(target)
        before[target].append(source)
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1 or before[starts[0]]:
        raise InputError(
            f"a sequential graph has exactly one Input node, without sources; this graph has {starts or 'none'}"
        )

    def walk(name: str) -> tuple[Path, str | None]:
        """The nodes from ``name`` on with one source each, and the next node if it has several sources."""
        path: Path = []
        while len(before[name]) == 1:
            path.append(name)
            if len(after[name]) != 1:
                return path, None
            name = after[name][0]
        return path, name

    first = last = starts[0]
    order: list[str | Fork] = []
    while after[last]:
        match [walk(name) for name in after[last]]:
            case [(path, _)] if path:
                order += path
                last = path[-1]
            case [(one, meeting), (other, same)] if (
                meeting is not None
                and meeting == same
                and len(before[meeting]) == 2
                and isinstance(graph.nodes[meeting], nir.IF | nir.LIF)
            ):
                shortcut, body = sorted((one, other), key=len)
                order += [Fork(body, shortcut), meeting]
                last = meeting
            case _:
                raise InputError(
                    f"the graph branches or joins behind {last!r} as no torch network here can; accepted are "
                    f"sequential graphs, and in them two paths from one node that meet in the next IF or LIF node"
                )
    found = [first]
    for part in order:
        found += [*part.body, *part.shortcut] if isinstance(part, Fork) else [part]
    if set(found) != set(graph.nodes) or not isinstance(graph.nodes[last], nir.Output):
        raise InputError(
            f"the nodes must form one sequence from Input to Output; the sequence found is {' -> '.join(found)}"
        )
    return first, order[:-1], last
