"""Registries of named objects (engines, data sets, file formats), open to users and installed packages."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from mtt_brian.errors import InputError
from mtt_brian.text import shown

Part = TypeVar("Part")


class Registry(Mapping[str, Part], Generic[Part]):
    """Objects by name: those of this package, those added by `add`, and those that installed packages offer.

    An installed package offers an object by an entry point of the group. It is imported at the first access to the
    object. A name that is in use is refused. If two packages offer the same name, the first one found is used. An added
    object has priority over an offered one.

    Args:
        what: the kind of the objects, for messages.
        group: name of the entry point group.
        given: the objects of this package; other objects cannot use their names.
    """

    def __init__(self, what: str, group: str, given: Mapping[str, Part]) -> None:
        self._what, self._group = what, group
        self._given, self._added = dict(given), dict[str, Part]()
        self._found: dict[str, EntryPoint] | None = None

    def add(self, name: str, part: Part, replace: bool = False) -> None:
        """Adds an object.

        Args:
            name: its name.
            part: the object.
            replace: replace an object that was added before.

        Raises:
            InputError: for a name that is not a word, or that is in use.
        """
        if not isinstance(name, str) or not name or not name.isprintable() or set(name) & set(" :/\\,"):
            raise InputError(
                f"the name of {self._what} must be a text without spaces, commas, colons and slashes, not {shown(name)}"
            )
        if name in self._given or (name in self._added and not replace):
            remedy = "choose another name" if name in self._given else "choose another name, or pass replace=True"
            raise InputError(f"there is already {self._what} named {name!r}: {remedy}")
        self._added[name] = part

    def discard(self, name: str) -> None:
        """Removes an added object, if there is one."""
        self._added.pop(name, None)

    def at_hand(self) -> list[str]:
        """Names of the objects that need no import of an installed package."""
        return [*self._given, *self._added]

    def __getitem__(self, name: str) -> Part:
        """The object of this name.

        Raises:
            InputError: for an unknown name, and for an object of an installed package that cannot be imported.
        """
        for parts in (self._given, self._added):
            if isinstance(name, str) and name in parts:
                return parts[name]
        if name not in self:
            raise InputError(f"unknown {self._what.partition(' ')[2]} {shown(name)}; known: {', '.join(self)}")
        entry = self._entries()[name]
        offered = f"{self._what} {name!r} of the installed package {entry.dist.name if entry.dist else entry.value!r}"
        try:
            part = self._taken(name, entry.load())
        except InputError as error:
            raise InputError(f"{offered} cannot be used: {error}") from None
        except Exception as error:  # another package can raise any exception
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"{offered} cannot be used ({reason})") from error
        self._added.setdefault(name, part)
        return part

    def _taken(self, name: str, loaded: Any) -> Part:
        """The object of an entry point, which refers to the object or to the module that added it."""
        if name in self._added:  # by importing its module
            return self._added[name]
        self.check(loaded)
        if (own := getattr(loaded, "name", name)) != name:
            raise InputError(f"its name is {own!r}")
        part: Part = loaded
        return part

    def check(self, part: Any) -> None:
        """Refuses other objects than those of the registry.

        Raises:
            InputError: names what was given.
        """
        raise InputError(f"{shown(part)} registers no {self._what.partition(' ')[2]} of this name")

    def _entries(self) -> dict[str, EntryPoint]:
        if self._found is None:
            self._found = {}
            for entry in entry_points(group=self._group):
                self._found.setdefault(entry.name, entry)
        return self._found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._given or name in self._added or name in self._entries())

    def __iter__(self) -> Iterator[str]:
        """Names; those of installed packages without importing them."""
        yield from dict.fromkeys([*self._given, *self._added, *self._entries()])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def import_object(reference: str) -> Any:
    """What ``package.module:NAME`` refers to; a module in the working folder is found, too.

    Raises:
        InputError: names the reference, and what of it does not exist or cannot be imported.
    """
    module, _, name = reference.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"{shown(reference)} must have the form package.module:NAME")
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.append(here)  # last, so that it hides no installed module
    try:
        found = importlib.import_module(module)
    except Exception as error:  # a module can raise any exception
        raise InputError(
            f"{reference}: the module {module!r} cannot be imported ({type(error).__name__}: "
            f"{' '.join(str(error).split())})"
        ) from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    if not hasattr(found, name):
        raise InputError(f"{reference}: the module {module!r} has no {name!r}")
    return getattr(found, name)
