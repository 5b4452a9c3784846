"""Changes of docstrings before they are rendered (an extension of Griffe, named in mkdocs.yml).

In a docstring `Name` in single backticks is a name of the package and ``code`` in double ones is not. Names become
links if the reference contains them. The section "Shape:", which Griffe does not support, becomes a paragraph instead
of a box, and an entry for two names becomes two. The fields of `TrainConfig`, whose help texts are data, get a section.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import griffe

_NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)")
_SETTING = "_setting"
#: ``Shape:`` and all that is indented below it.
_SHAPE = re.compile(r"^Shape:\n((?: {4}.*\n?|\n(?= {4}))+)", re.MULTILINE)
#: The two colons before an indented block, which Markdown does not use.
_COLONS = re.compile(r"::$", re.MULTILINE)
#: An entry of a section with several names, and its text down to the next entry.
_SHARED = re.compile(r"^    (\w+(?:, \w+)+)(:.*(?:\n {5,}.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites docstrings once the whole package has been read, so that names can be looked up."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **options: Any) -> None:
        if obj.docstring is None:
            return
        text = obj.docstring.value
        text = _SHAPE.sub(lambda shape: "**Shape:**\n\n" + re.sub(r"(?m)^ {4}", "", shape[1]), text)
        text = _SHARED.sub(lambda entry: "\n".join(f"    {name}{entry[2]}" for name in entry[1].split(", ")), text)
        text = _COLONS.sub(":", re.sub(r"(?m)^ *::\n", "", text))
        if settings := list(_settings(obj)):
            text += "\n\nAttributes:\n" + "\n".join(settings)
        obj.docstring.value = _NAME.sub(lambda name: _link(obj, name[1]), text)


def _link(obj: griffe.Object, name: str) -> str:
    """The name as a link to its full path; without effect if the reference has no such path."""
    first, dot, rest = name.partition(".")
    try:
        path = obj.resolve(first) + dot + rest
    except griffe.NameResolutionError:
        path = name
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'


def _settings(obj: griffe.Object) -> Iterator[str]:
    """``"    name: help; default"`` of every field that is made by `mtt_brian.mtt.config._setting`."""
    for name, member in obj.members.items():
        if isinstance(member, griffe.Attribute) and str(member.value).startswith(f"{_SETTING}("):
            call = ast.parse(str(member.value), mode="eval").body
            assert isinstance(call, ast.Call)
            default, text, *_ = map(ast.literal_eval, call.args)
            yield f"    {name}: {text}; by default ``{default}``"
