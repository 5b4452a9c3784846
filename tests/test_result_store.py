"""Results kept on disk: resumable, never mixed with results of other settings, and read only as they were written."""

import errno
import gc
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtt_brian.errors import CacheWarning, InputError
from mtt_brian.experiments.result_store import ResultStore, _sealed

SETTINGS = {"seed": 1, "runs": ("a",)}
KEYS = [("a", 1), ("b", 2)]


def compute(name, number):
    return {"value": (0.25 * number, name)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


@pytest.fixture
def results(path):
    return ResultStore(path, SETTINGS).fill(KEYS, compute, "study")


def test_a_stopped_study_computes_only_what_is_missing(path):
    def stops_at_b(name):
        if name == "b":
            raise KeyboardInterrupt
        return {"value": (1, 2)}

    keys = [(name,) for name in "abc"]
    with pytest.raises(KeyboardInterrupt):
        ResultStore(path, {"seed": 1}).fill(keys, stops_at_b, "study")
    computed = []
    results = ResultStore(path, {"seed": 1}).fill(keys, lambda name: computed.append(name) or name, "study")
    assert computed == ["b", "c"]
    assert results == {("a",): {"value": [1, 2]}, ("b",): "b", ("c",): "c"}
    settings, *entries = map(json.loads, path.read_text().splitlines())
    assert settings["settings"] == {"seed": 1}
    assert [entry["key"] for entry in entries] == [["a"], ["b"], ["c"]]


def test_a_result_costs_one_line_however_many_there_are(path):
    store = ResultStore(path, {})
    sizes = []
    for number in range(5):
        store.keep((number,), "x")
        sizes.append(path.stat().st_size)
    assert len({after - before for before, after in itertools.pairwise(sizes)}) == 1


def test_keys_come_back_as_they_were(path):
    key = ("mtt-0", ("no bound", "8 bit"), 0.5, None)
    ResultStore(path, {}).keep(key, 1)
    assert dict(ResultStore(path, {})) == {key: 1}


def test_a_fresh_result_is_what_a_resumed_study_reads(path, results):
    assert results == dict(ResultStore(path, SETTINGS)) == {k: {"value": [0.25 * k[1], k[0]]} for k in KEYS}


def test_numbers_that_json_lacks_come_back(path):
    ResultStore(path, {}).keep(("a",), math.inf)
    assert ResultStore(path, {})["a",] == math.inf


def test_other_settings_are_refused_by_name(path, results):
    ResultStore(path, SETTINGS)  # a tuple is a list in JSON
    with pytest.raises(InputError, match=r"results of other settings: seed was 1, is 2\. Give another --out"):
        ResultStore(path, SETTINGS | {"seed": 2})
    with pytest.raises(InputError, match=r"more was None, is 'x'"):
        ResultStore(path, SETTINGS | {"more": "x"})


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_process_that_was_killed_while_it_wrote_loses_that_result_only(kept, path, results, recwarn):
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: -len(last)] + last[:kept])
    store = ResultStore(path, SETTINGS)
    assert list(store) == KEYS[:1]
    assert store.fill(KEYS, compute, "study") == results
    assert path.read_bytes() == whole
    assert not recwarn


def a_changed_number(line):
    return line.replace("0.25", "0.75")


def other_result(line):
    return json.dumps(json.loads(line) | {"result": {}})


def one_more_entry(line):
    return json.dumps(json.loads(line) | {"more": 1})


def half(line):
    return line[: len(line) // 2]


def no_key(line):
    return _sealed({"key": "a", "result": 1}).strip()


def not_text(line):
    return "\udcff"


def deep(line):
    return "[" * 100_000


@pytest.mark.parametrize("damage", [a_changed_number, other_result, one_more_entry, half, no_key, not_text, deep])
def test_a_damaged_line_is_computed_again_and_the_file_is_moved_aside(damage, path, results):
    settings, first, second = path.read_text().splitlines()
    damaged = "\n".join([settings, damage(first), second, ""]).encode(errors="surrogateescape")
    path.write_bytes(damaged)
    with pytest.warns(CacheWarning, match=r"results\.jsonl: line 2 is damaged .*; moved to .*damaged-1"):
        store = ResultStore(path, SETTINGS)
    assert list(store) == KEYS[1:]
    assert path.with_name("results.jsonl.damaged-1").read_bytes() == damaged
    assert store.fill(KEYS, compute, "study") == results
    assert dict(ResultStore(path, SETTINGS)) == results


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]\n",
        b'{"settings": {}}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        _sealed({"settings": 5}).encode(),
        _sealed({"settings": {}}).encode()[:-1],
    ],
)
def test_a_file_without_its_settings_is_moved_aside(content, path):
    path.write_bytes(content)
    with pytest.warns(CacheWarning, match=r"results\.jsonl: not the results of a study .*; moved to .*damaged-1"):
        store = ResultStore(path, SETTINGS)
    assert path.with_name("results.jsonl.damaged-1").read_bytes() == content
    assert not store
    store.keep(("a",), 1)
    assert dict(ResultStore(path, SETTINGS)) == {("a",): 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_moved_aside(make, path):
    make(path)
    with pytest.warns(CacheWarning, match=r"is a .*, not a file.*moved to .*damaged-1"):
        store = ResultStore(path, {})
    assert store.fill([("a",)], lambda name: 1, "study") == {("a",): 1}


def test_a_read_only_folder_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nowhere/results\.jsonl"):
        ResultStore(tmp_path / "nowhere" / "results.jsonl", {}).keep(("a",), 1)


def test_removed(path, results):
    ResultStore(path, SETTINGS).remove()
    assert not path.exists()


def test_one_process_at_a_time(path):
    """Another one is refused as long as a store of the folder is there; several of one process share the folder."""
    stores = [ResultStore(path, {}), ResultStore(path.with_name("others.jsonl"), {})]
    script = (
        "import sys, pathlib; from mtt_brian.experiments.result_store import ResultStore;"
        "ResultStore(pathlib.Path(sys.argv[1]), {}).keep(('other',), 1)"
    )

    def elsewhere():
        command = [sys.executable, "-c", script, str(path.with_name("more.jsonl"))]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])

    while stores:
        message = f"InputError: {path.parent}: another process writes its results there; wait for its end, or give"
        assert message in elsewhere().stderr
        assert not path.with_name("more.jsonl").exists()
        stores.pop()
        gc.collect()
    assert elsewhere().returncode == 0
    assert path.with_name("more.jsonl").exists()


def test_a_folder_that_cannot_be_locked(path, monkeypatch):
    """Not every file system of a network can do it."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert ResultStore(path, {}).keep(("a",), 1) == 1


def test_a_full_disk_leaves_no_half_a_line(path, monkeypatch):
    """What is kept after it would follow on the same line, and both would be lost."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ResultStore(path, {})
    for key in ("a", "b"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left") as error:
                store.keep((f"lost {key}",), 1)
        assert error.value.filename == str(path)
        store.keep((key,), 1)
    assert list(ResultStore(path, {})) == [("a",), ("b",)]
    assert not list(path.parent.glob("*damaged*"))
