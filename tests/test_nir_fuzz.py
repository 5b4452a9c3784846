"""Damaged and malicious ``.nir`` files: each is read, or refused in one line that names the file and a reason."""

import io
import itertools
import time

import h5py
import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import hdf5_files, hdf5_tree
from mtt_brian.errors import InputError
from tests import reader


def graph():
    """Every kind of node, a nested graph, a loop with a delay, metadata of all kinds."""
    one, four = np.ones(1), np.ones(4)
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([4])),
            "w": nir.Affine(weight=np.eye(4), bias=np.zeros(4)),
            "output": nir.Output(np.array([4])),
        },
        [("input", "w"), ("w", "output")],
        type_check=False,
    )
    firing = {"reset": "subtract", "spikes": "many", "lower_bound": -1.0, "refractory": 0.001}
    nodes = {
        "input": nir.Input(np.array([1, 4, 4])),
        "conv": nir.Conv2d((4, 4), np.ones((2, 1, 3, 3)) / 8, 1, 1, 1, 1, np.zeros(2), metadata={"bias_per_step": 0.0}),
        "if": nir.IF(r=np.ones((2, 4, 4)), v_threshold=np.ones((2, 4, 4)), metadata=firing),
        "sum": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "avg": nir.AvgPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])),
        "flat": nir.Flatten(np.array([2, 1, 1]), start_dim=0),
        "dense": nir.Linear(weight=np.ones((4, 2))),
        "block": inner,
        "lif": nir.LIF(tau=four / 50, r=four / 50, v_leak=0 * four, v_threshold=four, metadata=firing | {"dt": 1e-3}),
        "loop": nir.Delay(np.full(4, 0.002)),
        "scale": nir.Scale(four / 2),
        "cuba": nir.CubaLIF(tau_syn=four / 99, tau_mem=four / 50, r=four, v_leak=0 * four, v_threshold=four),
        "fc": nir.Linear(weight=np.ones((1, 4))),
        "li": nir.LI(tau=one / 50, r=one, v_leak=0 * one),
        "output": nir.Output(np.array([1])),
    }
    chain = [
        "input",
        "conv",
        "if",
        "sum",
        "avg",
        "flat",
        "dense",
        "block",
        "lif",
        "scale",
        "cuba",
        "fc",
        "li",
        "output",
    ]
    edges = [*itertools.pairwise(chain), ("lif", "loop"), ("loop", "lif")]
    return nir.NIRGraph(nodes, edges, type_check=False, metadata={"duration": 0.1})


def attempt(path):
    """Reads a file; returns the reason of a refusal, or None."""
    begin = time.process_time()
    try:
        circuit = mb.translate.read_nir(path, reset="zero", loop_delay=1e-3)
        mb.Simulator(circuit, "exact", record="counts")
    except InputError as error:
        message = str(error)
        assert "\n" not in message
        _, name, reason = message.partition("m.nir")
        assert name, message
        assert len(reason.replace(" is not a readable NIR file", "").strip(": ")) > 10, message
        return message
    finally:
        assert time.process_time() - begin < 10
    return None


# ----- bytes


def with_changed_bytes(content, rng):
    """Bytes set, groups of bytes overwritten or moved, the end cut off."""
    changed = bytearray(content)
    kind = rng.integers(4)
    if kind == 3:
        return bytes(changed[: rng.integers(len(changed))])
    for _ in range(rng.integers(1, 9)):
        at = int(rng.integers(len(changed)))
        if kind == 0:
            changed[at] = rng.integers(256)
        elif kind == 1:
            changed[at : at + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, rng.bytes(8)])
        else:
            other, size = int(rng.integers(len(changed))), int(rng.integers(1, 64))
            changed[at : at + size] = changed[other : other + size]
    return bytes(changed)


def test_changed_bytes(tmp_path, own_process):
    fuzz_bytes(tmp_path, range(12))


@pytest.mark.slow
def test_changed_bytes_often(tmp_path, monkeypatch):
    found = fuzz_bytes(tmp_path, range(100, 2100))
    assert 200 < sum(message is None for message in found) < 1000
    reader.as_users_do(monkeypatch)
    assert fuzz_bytes(tmp_path, range(100, 130)) == found[:30]


def fuzz_bytes(folder, seeds):
    """What `attempt` returns for every file."""
    nir.write(folder / "good.nir", graph())
    content = (folder / "good.nir").read_bytes()
    found = []
    for seed in seeds:
        (folder / "m.nir").write_bytes(with_changed_bytes(content, np.random.default_rng(seed)))
        found.append(attempt(folder / "m.nir"))
    return found


# ----- structure

VALUES = [
    np.nan, np.inf, -np.inf, 0, -1, 1, 2.5, 3, 10**9, 2**63 - 1, 1e300, -1e-320, 1 + 1j, True, "text", b"\xff\xfe", "",
    "NIRGraph", "IF", "same", "subtract", [], [1], [1, 2], [1, 1, 1], [[1.0, 2.0]], [0, 0, 0], [10**5] * 3, [1, 10**9],
    [np.nan] * 4, [b"a", b"b"], np.float16(0.1), np.float32(1e-3), np.zeros((4, 4, 4, 4, 4)), np.zeros((0, 3)),
    [["input", "conv"]], [["nobody", "if"]], [["if", "if"]], np.ones((4, 1)), np.ones((1, 4)), np.ones(3) * 1j,
    h5py.Empty("f8"), np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
]  # fmt: skip


def change_structure(file, rng):
    """Changes one value, type, shape, group or link somewhere below ``node``."""
    places = []
    file["node"].visit(places.append)
    place = places[rng.integers(len(places))]
    holder, _, name = f"node/{place}".rpartition("/")
    group = file[holder]
    other = f"/node/{places[rng.integers(len(places))]}"
    match rng.integers(10):
        case 0:
            del group[name]
        case 1:
            group.move(name, f"{name}x")
        case 2:
            del group[name]
            group[name] = h5py.SoftLink(str(rng.choice([other, "/nowhere", f"/{holder}"])))
        case 3:
            del group[name]
            group[name] = h5py.ExternalLink("good.nir", other)
        case 4:
            target = file[other]
            if f"/{holder}/{name}" != other:
                del group[name]
                group[name] = target  # shared, or a group that holds itself
        case 5:
            group.create_group("new")
        case 6:
            del group[name]
            group.create_group(name)
        case 7:
            file.copy(file[other], group, f"{name} copy")
        case _:
            del group[name]
            group[name] = VALUES[rng.integers(len(VALUES))]


def read_here(path, kind, number):
    """As `hdf5_files._run`, without the other process: these files are sound HDF5."""
    out = io.BytesIO()
    hdf5_tree.write_content(path, 2**30, out)
    out.seek(0)
    return hdf5_tree.parse(out)


def test_changed_structure(tmp_path, monkeypatch):
    assert fuzz_structure(tmp_path, monkeypatch, range(20)) > 6


@pytest.mark.slow
def test_changed_structure_often(tmp_path, monkeypatch):
    assert fuzz_structure(tmp_path, monkeypatch, range(100, 2100)) > 1000


def fuzz_structure(folder, monkeypatch, seeds):
    """How many files were refused."""
    nir.write(folder / "good.nir", graph())
    assert attempt(folder / "good.nir") is None
    monkeypatch.setattr(hdf5_files, "_run", read_here)
    refused = 0
    for seed in seeds:
        (folder / "m.nir").write_bytes((folder / "good.nir").read_bytes())
        with h5py.File(folder / "m.nir", "r+") as file:
            change_structure(file, np.random.default_rng(seed))
        refused += attempt(folder / "m.nir") is not None
    return refused
