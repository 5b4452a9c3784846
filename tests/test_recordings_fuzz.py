"""Damaged files of recordings: one line that names the file and a reason, or events; never a crash, never no end."""

import gzip
import time

import h5py
import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.circuit.spikes import input_spikes
from mtt_brian.cli.recording_files import open_recording
from mtt_brian.errors import InputError
from tests.test_events_datasets import aedat2, aedat3, five_bytes

RECORDING = events.make_recording(np.arange(0, 3000, 100), x=np.arange(30), y=np.arange(30)[::-1], p=np.arange(30) % 2)


def npy(path):
    np.save(path, RECORDING)


def npz(path):
    np.savez(path, **{name: RECORDING[name] for name in RECORDING.dtype.names})


def text():
    return "t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in RECORDING.tolist())


def hdf5(path):
    with h5py.File(path, "w") as file:
        for name in RECORDING.dtype.names:
            file.create_dataset(f"events/{name}", data=RECORDING[name], chunks=(16,), compression="gzip")


KINDS = {
    "recording.h5": hdf5,
    "recording.csv.gz": lambda path: path.write_bytes(gzip.compress(text().encode())),
    "recording.bin": lambda path: path.write_bytes(five_bytes(RECORDING)),
    "recording.npy": npy,
    "recording.npz": npz,
    "recording.csv": lambda path: path.write_text(text()),
    "dvs128.aedat": lambda path: path.write_bytes(aedat2(RECORDING)),
    "gesture.aedat": lambda path: path.write_bytes(aedat3((1, RECORDING[:9]), (0, RECORDING[:2]), (1, RECORDING[9:]))),
}


def mutated(content, rng):
    """Some bytes changed, cut off, put in, exchanged, or a number of four bytes replaced by an extreme one."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) + 1))
        match rng.integers(7):
            case 0:
                data[at : at + 1] = bytes([rng.integers(256)])
            case 1:
                data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << int(rng.integers(8))])
            case 2:
                del data[at:]
            case 3:
                del data[at : at + int(rng.integers(1, 40))]
            case 4:
                data[at:at] = rng.bytes(int(rng.integers(1, 40)))
            case 5:
                data[at:at] = data[: int(rng.integers(200))]
            case 6:
                extreme = [0, 1, 2**31 - 1, 2**31, 2**32 - 1][rng.integers(5)]
                data[at : at + 4] = extreme.to_bytes(4, ["big", "little"][rng.integers(2)])
    return bytes(data)


def outcome(path):
    """Reads the file as the command line does; events, or the message."""
    try:
        recording = open_recording(str(path), None, {}).events
        input_spikes(recording, (2, 34, 34), 1.0, str(path))
    except InputError as error:
        return str(error)
    return recording


@pytest.mark.parametrize("name", KINDS)
def test_undamaged_files_are_read(name, tmp_path):
    KINDS[name](tmp_path / name)
    assert outcome(tmp_path / name).tolist() == RECORDING.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_end_in_one_line(name, tmp_path):
    path = tmp_path / name
    KINDS[name](path)
    content = path.read_bytes()
    refused = 0
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        path.write_bytes(mutated(content, rng))
        started = time.process_time()
        found = outcome(path)
        assert time.process_time() - started < 10, seed
        if isinstance(found, str):
            refused += 1
            assert found.startswith(str(path)), (seed, found)
            reason = found.removeprefix(str(path)).lstrip(": ")
            assert len(reason) > 10, (seed, found)
            assert not reason.endswith(": "), (seed, found)
            assert "\n" not in found, (seed, found)
    assert refused > 500
