"""Kept parts of an evaluation: what is read is what was written, or is computed again."""

import json
import os

import pytest

from mtt_brian.errors import CacheWarning
from mtt_brian.experiments.finished import Finished, sealed

SETTINGS = {"digest": "1f", "grids": (1, 2)}
PART = {"time_stepped": {"right": {1: [0, 1]}}, "seconds": 0.25}
AS_READ = json.loads(json.dumps(PART))


def test_a_part_comes_back(tmp_path):
    finished = Finished(tmp_path / "shards")
    assert finished.get(SETTINGS) is None
    finished.keep(SETTINGS, PART)
    assert finished.get(SETTINGS) == AS_READ
    assert finished.get(SETTINGS | {"grids": (1,)}) is None
    finished.discard()
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: "",
        lambda kept: json.dumps(kept)[:-5],
        lambda kept: "null",
        lambda kept: "{}",
        lambda kept: "[1]",
        lambda kept: "[" * 100_000,
        lambda kept: json.dumps(kept | {"part": {}}),
        lambda kept: json.dumps(kept | {"part": None}),
        lambda kept: sealed({"settings": kept["settings"], "part": 5}),
        lambda kept: json.dumps(kept | {"part": AS_READ | {"seconds": 0.5}}),
        lambda kept: json.dumps({"settings": kept["settings"], "part": kept["part"]}),
        lambda kept: json.dumps(kept | {"more": 1}),
        lambda kept: "\udcff",
    ],
)
def test_a_damaged_one_is_told_and_removed(change, tmp_path):
    finished = Finished(tmp_path)
    finished.keep(SETTINGS, PART)
    (path,) = tmp_path.iterdir()
    path.write_bytes(change(json.loads(path.read_text())).encode(errors="surrogateescape"))
    with pytest.warns(CacheWarning, match=f"{path.name}: damaged"):
        assert finished.get(SETTINGS) is None
    assert not path.exists()
    finished.keep(SETTINGS, PART)
    assert finished.get(SETTINGS) == AS_READ


def test_the_part_of_other_settings_is_not_taken(tmp_path):
    finished = Finished(tmp_path)
    finished.keep(SETTINGS, PART)
    (kept,) = tmp_path.iterdir()
    other = SETTINGS | {"digest": "2f"}
    finished.keep(other, PART | {"seconds": 0.5})
    (path,) = set(tmp_path.iterdir()) - {kept}
    path.write_bytes(kept.read_bytes())
    with pytest.warns(CacheWarning, match=rf"{path.name}: damaged \(the part of other settings\)"):
        assert finished.get(other) is None
    assert finished.get(SETTINGS) == AS_READ


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_no_part(tmp_path):
    finished = Finished(tmp_path)
    finished.keep(SETTINGS, PART)
    (path,) = tmp_path.iterdir()
    path.unlink()
    os.mkfifo(path)
    with pytest.warns(CacheWarning, match="is a pipe or a device, not a file"):
        assert finished.get(SETTINGS) is None
    finished.keep(SETTINGS, PART)
    assert finished.get(SETTINGS) == AS_READ


def test_a_part_of_numbers_that_are_none_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Finished(tmp_path).keep(SETTINGS, {"seconds": float("nan")})
