"""Spikes as files: whatever the populations are called, every array is there and no name leads out of a folder."""

import csv
import zipfile

import numpy as np
import pytest

from mtt_brian.cli.spike_files import array_keys, read_spikes, write_npz, write_spikes
from mtt_brian.errors import InputError
from tests import plots

EVIL = [
    "a", "a_t", "A", "", "populations", "../../x", "/etc/passwd", "C:\\x", "b\0c", "b\0d", "..",
    "line\nend", "car\rriage", "\udc80", "層", "n" * 300, "n" * 300 + "m", "a_2",
]  # fmt: skip


def run_of(names):
    """Population k fires k + 1 times."""
    spikes = {name: plots.train(np.arange(k + 1.0), np.zeros(k + 1)) for k, name in enumerate(names)}
    run = plots.result(spikes, {"input": (1,), **dict.fromkeys(names, (1,))})
    run.counts.update({name: np.array([len(train.t)]) for name, train in spikes.items()} | {"input": np.array([7])})
    return run


def test_ordinary_names_are_the_keys():
    names = ["spikes1", "layer1.0.spikes", "a b", "0", "n" * 200, "層", "_x-1", "(a+b)"]
    assert array_keys(names) == {name: name for name in names}


def test_no_array_is_lost(tmp_path):
    path = tmp_path / "spikes.npz"
    write_npz(path, run_of(EVIL), order="sum")
    members = zipfile.ZipFile(path).namelist()
    assert len({member.lower() for member in members}) == len(members)
    assert not [m for m in members if set(m) & set('/\\:\0\n\r"<>|') or ".." in m or len(m.encode()) > 255]
    with np.load(path, allow_pickle=False) as saved:
        keys = dict(saved["keys"].tolist())
        assert saved["populations"].tolist() == EVIL
        assert keys.keys() == {*EVIL, "input"}
        assert {name: len(saved[f"{keys[name]}_t"]) for name in EVIL} == {name: k + 1 for k, name in enumerate(EVIL)}
        assert {name: saved[f"{keys[name]}_counts"].item() for name in EVIL} == {n: k + 1 for k, n in enumerate(EVIL)}
        assert saved["input_counts"].tolist() == [7]
        assert (keys["a"], keys["a_t"], keys["A"]) == ("a", "a_t", "A_2")


@pytest.mark.parametrize("names", [EVIL, ["a", "b"]])
def test_lines_of_a_csv_file_keep_the_names(names, tmp_path):
    path = tmp_path / "spikes.csv"
    write_spikes(path, run_of(names))
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [row["population"] for row in rows] == [name for k, name in enumerate(names) for _ in range(k + 1)]
    assert {(row["i"], row["n"]) for row in rows} == {("0", "1")}


@pytest.mark.parametrize("missing", ["t", "i"])
def test_half_a_population_is_not_left_out(missing, tmp_path):
    arrays = {"a_t": np.zeros(1), "a_i": np.zeros(1, int), "b_t": np.zeros(1), "b_i": np.zeros(1, int)}
    np.savez(tmp_path / "spikes.npz", **arrays)
    assert list(read_spikes(tmp_path / "spikes.npz")) == ["a", "b"]
    del arrays[f"b_{missing}"]
    np.savez(tmp_path / "spikes.npz", **arrays)
    there = "i" if missing == "t" else "t"
    with pytest.raises(InputError, match=rf"spikes\.npz: 'b': spikes need b_t and b_i; there is only 'b_{there}'"):
        read_spikes(tmp_path / "spikes.npz")
