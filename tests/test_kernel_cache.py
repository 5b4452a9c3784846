"""Machine code of kernels on disk: damaged files are made again, and results never depend on them."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from mtt_brian import kernel_cache
from mtt_brian.errors import CacheWarning


def double(x):
    return 2 * x


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Compiles `double` as a new process would, and gives the dispatcher."""
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path))
    return lambda: kernel_cache.kept([Path(__file__)])(numba.njit(double))


def hits(dispatcher):
    return sum(dispatcher.stats.cache_hits.values())


def file_in(folder):
    (file,) = folder.rglob("*.nbc")
    return file


def test_the_second_process_does_not_compile(kernel, tmp_path):
    first, second = kernel(), kernel()
    assert first(3) == 6
    assert second(3) == 6
    assert (hits(first), hits(second)) == (0, 1)
    assert second(1.5) == 3.0  # another signature has another file
    assert len(list(tmp_path.rglob("*.nbc"))) == 2


def test_compiling_gives_one_notice_and_loading_none(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path))
    kernel_cache._notice_once.cache_clear()
    keep = kernel_cache.kept([Path(__file__)], "compiling, once")
    with caplog.at_level("INFO", "mtt_brian"):
        first, second = keep(numba.njit(double)), keep(numba.njit(double))
        assert (first(3), first(1.5)) == (6, 3.0)
        assert caplog.messages.count("compiling, once") == 1
        caplog.clear()
        kernel_cache._notice_once.cache_clear()
        assert second(3) == 6
        assert "compiling, once" not in caplog.messages
        assert second(2j) == 4j
        assert caplog.messages.count("compiling, once") == 1


def empty(content):
    return b""


def cut(content):
    return content[: len(content) // 2]


def noise(content):
    return os.urandom(len(content))


def one_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def of_another_content(content):
    import hashlib
    import pickle

    described, _ = pickle.loads(content[32:])
    other = pickle.dumps((described, ("not", "a", "kernel")))
    return hashlib.sha256(other).digest() + other


@pytest.mark.parametrize("damage", [empty, cut, noise, one_bit, of_another_content])
def test_a_damaged_file_gives_a_warning_and_is_made_again(damage, kernel, tmp_path):
    assert kernel()(3) == 6
    file = file_in(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    again = kernel()
    with pytest.warns(CacheWarning, match=rf"{file.name}: damaged"):
        assert again(3) == 6
    assert hits(again) == 0
    third = kernel()
    assert third(3) == 6
    assert hits(third) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_removed(make, kernel, tmp_path):
    kernel()(3)
    file = file_in(tmp_path)
    file.unlink()
    make(file)
    with pytest.warns(CacheWarning, match=rf"{file.name}: damaged \(is a .*, not a file\); removed"):
        assert kernel()(3) == 6
    again = kernel()
    assert again(3) == 6
    assert hits(again) == 1


def test_a_folder_with_files_is_kept(kernel, tmp_path):
    kernel()(3)
    file = file_in(tmp_path)
    file.unlink()
    (file / "mine").mkdir(parents=True)
    with pytest.warns(CacheWarning) as told:
        assert kernel()(3) == 6
    assert "cannot be removed" in str(told[0].message)
    assert (file / "mine").is_dir()


def test_a_file_for_another_key_is_not_taken(kernel, tmp_path):
    """Kernels of two kinds of processor differ in the key only."""
    integers, floats = kernel(), kernel()
    integers(3)
    of_integers = file_in(tmp_path)
    content = of_integers.read_bytes()
    of_integers.unlink()
    floats(3.0)
    file_in(tmp_path).write_bytes(content)
    again = kernel()
    assert again(3.5) == 7.0
    assert hits(again) == 0


def test_an_unwritable_cache_gives_one_warning(kernel, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "file" / "cache"))
    dispatcher = kernel()
    with pytest.warns(CacheWarning, match="every process will compile them again; set MTT_BRIAN_CACHE") as told:
        assert (dispatcher(3), dispatcher(1.5)) == (6, 3.0)
    assert len(told) == 1


def test_folders_below_an_unwritable_one_give_one_warning(tmp_path, monkeypatch):
    def refuse(folder):
        raise OSError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(kernel_cache, "check_writable", refuse)
    with pytest.warns(CacheWarning, match="Permission denied") as told:
        assert all(map(kernel_cache._unusable, [tmp_path / "a", tmp_path / "b"]))
    assert len(told) == 1


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    code = """
import numba, pathlib
from mtt_brian import kernel_cache
def add(x, y): return x + y
print(kernel_cache.kept([])(numba.njit(add))(1, 2))
"""
    (tmp_path / "script.py").write_text(code)
    environment = {**os.environ, "MTT_BRIAN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(tmp_path / "script.py")]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate() for process in both] == [("3\n", "")] * 2
    assert len(list((tmp_path / "cache").rglob("*"))) == 2  # a folder and a file


def _in_new_process(code, folder):
    """What a script prints in a process of its own, with the cache in ``folder``; from a file, as numba needs one."""
    (folder / "script.py").write_text(code)
    environment = {**os.environ, "MTT_BRIAN_CACHE": str(folder / "cache")}
    command = [sys.executable, str(folder / "script.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


#: Numba imports this module when it prepares its compiler, which takes 50 MB.
_PREPARED = "print('numba.np.linalg' in sys.modules)"


def test_a_kernel_without_runtime_is_loaded_without_the_compiler(tmp_path):
    code = f"""
import numba, sys
from mtt_brian.kernel_cache import WITHOUT_RUNTIME, kept
def total(x):
    s = x[0]
    for k in range(1, len(x)):
        s += x[k]
    return s
kernel = kept([])(numba.njit(**WITHOUT_RUNTIME)(total))
import numpy as np
print(kernel(np.arange(4)))
{_PREPARED}
"""
    assert _in_new_process(code, tmp_path) == ["6", "True"]
    # Another type is compiled after one was loaded; so is a kernel with the runtime.
    after = f"""
print(kernel(np.array([0.5, 1.0])), numba.njit(lambda n: np.arange(n).sum())(4))
{_PREPARED}
"""
    assert _in_new_process(code + after, tmp_path) == ["6", "False", "1.5", "6", "True"]


@pytest.mark.slow
def test_the_kernels_of_the_exact_engine_are_loaded_without_the_compiler(tmp_path):
    code = f"""
import sys
import numpy as np
import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Dense
from mtt_brian.neuron import IF, LIF
recording = mb.events.make_recording([0, 1, 2], x=[0, 1, 1])
for rule, order in ((IF(), "sum"), (LIF(tau=0.1), "sum"), (IF(), "fifo"), (IF(bias=9.0), "sum")):
    connection = Connection("input", "a", (Dense(np.full((1, 2), 0.6), (2,)),), (), 2)
    circuit = Circuit("input", (2,), (Population("a", (1,), rule),), (connection,), "a")
    (result,) = mb.engines.Simulator(circuit, order=order).run([recording], 0.5)
    print(result.counts["a"][0])
{_PREPARED}
"""
    compiled = _in_new_process(code, tmp_path)
    assert compiled[-1] == "True"
    assert _in_new_process(code, tmp_path) == [*compiled[:-1], "False"]
    stored = [path.read_bytes() for path in (tmp_path / "cache").rglob("*.nbc")]
    assert len(stored) > 10
    assert not any(b"NRT_" in content for content in stored)  # functions of numba's runtime
