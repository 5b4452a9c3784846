"""A study's grid: resumable, and never mixed with results of other settings."""

import json

import pytest

from mtt_brian.errors import InputError
from mtt_brian.evaluate import Grid


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
    assert json.loads(path.read_text()) == {"settings": {"seed": 1}, "cells": cells}


def test_other_settings_are_refused_by_name(tmp_path):
    list(Grid(tmp_path / "grid.json", {"seed": 1, "runs": ("a",)}).fill("a", str, "study"))
    Grid(tmp_path / "grid.json", {"seed": 1, "runs": ("a",)})  # a tuple is a list in JSON
    with pytest.raises(InputError, match="seed was 1, is 2"):
        Grid(tmp_path / "grid.json", {"seed": 2, "runs": ("a",)})


@pytest.mark.parametrize("content", ["", "[]", '{"cells": {}}'])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "grid.json").write_text(content)
    with pytest.raises(InputError, match=r"grid\.json: not the results of a study"):
        Grid(tmp_path / "grid.json", {})
