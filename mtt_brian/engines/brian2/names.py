"""Names of Brian2 objects: of nodes whose names Brian2 does not accept, and without collisions of derived names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection

from mtt_brian.circuit.model import Circuit

#: Longest name of a node. Two of them and what Brian2 adds make the name of a file, which may have 143 to 255 bytes.
_LONGEST_NAME = 40

#: What Brian2 adds to the name of an object, behind a "_", to name a part of it: updaters, thresholds, resets and code
#: of groups; pathways (Brian2's own and those of `equations`), their queues and their code of synapses.
_PART = re.compile(
    r"(.*_)?(codeobject|thresholder|resetter|(spatial)?stateupdater|subexpression_update|run_regularly|custom_operation"
    r"|run_on_event|push_spikes|initialise_queue|clock|summed_variable_.+|synapses_create_.+"
    r"|pre|post|prepare|advance|deliver|close|restart)(_\d+)?(?<!_)"
)


def brian_names(circuit: Circuit) -> dict[str, str]:
    """A distinct, short name for every node, made of letters, digits and underscores only.

    No name, and no name that Brian2 derives from it, equals another one in any spelling of upper and lower case: Brian2
    names files after objects. Names that need no change stay as they are.
    """
    names: dict[str, str] = {}
    for name in (circuit.input, *(p.name for p in circuit.populations)):
        plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        names[name] = free_name(plain[:_LONGEST_NAME], names.values())
    return names


def free_name(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, or with underscores behind, so that neither it nor a part of it bears a name that is taken."""
    taken = {name.lower() for name in taken}
    endings = itertools.chain(("", "_", "__"), (f"_{k}_" for k in itertools.count(4)))
    return next(name for name in (wanted + ending for ending in endings) if _is_free(name.lower(), taken))


def numbered_name(wanted: str, taken: Collection[str]) -> str:
    """`free_name` for objects of which several may share a name: the second and later ones are numbered, from 2 on."""
    taken = {name.lower() for name in taken}
    numbered = itertools.chain((wanted,), (f"{wanted}_{k}" for k in itertools.count(2)))
    name = next(name for name in numbered if name.lower() not in taken)
    return free_name(name, taken)


def _is_free(name: str, taken: Collection[str]) -> bool:
    return name not in taken and not any(_is_part(name, other) or _is_part(other, name) for other in taken)


def _is_part(name: str, whole: str) -> bool:
    """Whether an object called ``name`` can be taken for a part of ``whole``."""
    return name.startswith(f"{whole}_") and _PART.fullmatch(name, len(whole) + 1) is not None
