"""A study's grid: resumable, and never mixed with results of other settings."""

import json
import math
import os

import pytest

from mtt_brian.errors import CacheWarning, InputError
from mtt_brian.experiments.finished import sealed
from mtt_brian.experiments.grid import Grid


def test_a_stopped_study_computes_only_what_is_missing(tmp_path):
    def stops_at_b(name):
        if name == "b":
            raise KeyboardInterrupt
        return {"value": (1, 2)}

    path = tmp_path / "grid.json"
    with pytest.raises(KeyboardInterrupt):
        list(Grid(path, {"seed": 1}).fill("abc", stops_at_b, "study"))
    computed = []
    resumed = Grid(path, {"seed": 1})
    cells = dict(resumed.fill("abc", lambda name: computed.append(name) or name, "study"))
    assert computed == ["b", "c"]
    assert cells == {"a": {"value": [1, 2]}, "b": "b", "c": "c"}
    content = json.loads(path.read_text())
    assert len(content.pop("sha256")) == 64
    assert content == {"settings": {"seed": 1}, "cells": cells}


def test_other_settings_are_refused_by_name(tmp_path):
    list(Grid(tmp_path / "grid.json", {"seed": 1, "runs": ("a",)}).fill("a", str, "study"))
    Grid(tmp_path / "grid.json", {"seed": 1, "runs": ("a",)})  # a tuple is a list in JSON
    with pytest.raises(InputError, match="seed was 1, is 2"):
        Grid(tmp_path / "grid.json", {"seed": 2, "runs": ("a",)})


def nothing(text):
    return ""


def half(text):
    return text[: len(text) // 2]


def a_list(text):
    return "[]"


def without_cells(text):
    return '{"settings": {}}'


def deep(text):
    return "[" * 100_000


def other_cells(text):
    return json.dumps(json.loads(text) | {"cells": {"a": {}}})


def a_changed_number(text):
    return text.replace("0.25", "0.75")


def settings_that_are_none(text):
    return sealed({"settings": 5, "cells": {}})


def a_list_of_cells(text):
    return sealed({"settings": {"seed": 1, "runs": ["a"]}, "cells": []})


def not_text(text):
    return "\udcff"


@pytest.mark.parametrize(
    "damage",
    [
        nothing,
        half,
        a_list,
        without_cells,
        deep,
        other_cells,
        a_changed_number,
        settings_that_are_none,
        a_list_of_cells,
        not_text,
    ],
)
def test_a_damaged_file_is_moved_aside_and_its_cells_are_computed_again(damage, tmp_path):
    path = tmp_path / "grid.json"
    settings = {"seed": 1, "runs": ("a",)}
    cells = dict(Grid(path, settings).fill("ab", lambda name: {"value": (0.25, name)}, "study"))
    damaged = damage(path.read_text()).encode(errors="surrogateescape")
    path.write_bytes(damaged)
    with pytest.warns(CacheWarning, match=r"grid\.json: not the results of a study .*; moved to .*damaged-1"):
        grid = Grid(path, settings)
    assert grid.cells == {}
    assert (tmp_path / "grid.json.damaged-1").read_bytes() == damaged
    assert dict(grid.fill("ab", lambda name: {"value": (0.25, name)}, "study")) == cells
    assert Grid(path, settings).cells == cells


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_moved_aside(make, tmp_path):
    make(tmp_path / "grid.json")
    with pytest.warns(CacheWarning, match=r"is a .*, not a file.*moved to .*damaged-1"):
        grid = Grid(tmp_path / "grid.json", {})
    assert dict(grid.fill("a", lambda name: 1, "study")) == {"a": 1}


def test_numbers_that_json_lacks_come_back(tmp_path):
    path = tmp_path / "grid.json"
    list(Grid(path, {}).fill("a", lambda name: math.inf, "study"))
    assert Grid(path, {}).cells == {"a": math.inf}
