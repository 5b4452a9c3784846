"""Brian2 engines on machines without compilers, and with what a stopped compiler has left."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import brian2
import nir
import numpy as np
import pytest
from brian2.codegen.runtime.cython_rt.extension_manager import (
    CythonExtensionManager,
    cython_extension_manager,
    get_cython_extensions,
)

import mtt_brian as mb
from mtt_brian.cli import doctor
from mtt_brian.engines.brian2 import compilers, standalone
from mtt_brian.errors import CacheWarning, InputError
from tests.engines import FLAGS

RECORDING = np.array([(1000, 0), (2000, 0), (3000, 0)], dtype=[("t", np.int64), ("x", np.int64)])


def graph():
    """One neuron: weight 0.75, threshold 1."""
    nodes = {
        "input": nir.Input(input_type=np.array([1])),
        "weight": nir.Linear(weight=np.array([[0.75]])),
        "neuron": nir.IF(r=np.ones(1), v_threshold=np.ones(1), metadata={"reset": "subtract"}),
        "output": nir.Output(output_type=np.array([1])),
    }
    return nir.NIRGraph(nodes, list(zip(list(nodes)[:-1], list(nodes)[1:], strict=True)), type_check=False)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A search path with the programs that a test puts there, and no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("sh", "rm"):
        (folder / program).symlink_to(shutil.which(program))
    monkeypatch.setenv("PATH", str(folder))
    compilers.warn_of_numpy.cache_clear()
    return folder


def failing(path, *programs):
    """Compilers that are there, but fail."""
    for program in programs:
        (path / program).write_text("#!/bin/sh\necho 'x.cpp: error: no Python.h' >&2\nexit 1\n")
        (path / program).chmod(0o755)


@pytest.mark.parametrize(("there", "missing"), [((), r"make and g\+\+"), (("make",), r"g\+\+"), (("g++",), "make")])
def test_a_project_without_its_programs_is_one_line(there, missing, path):
    for program in there:
        (path / program).write_text("#!/bin/sh\n")
        (path / program).chmod(0o755)
    with pytest.raises(InputError, match=rf"^engine='brian2-cpp' needs {missing}, not found: install .*engine='exact'"):
        mb.simulate(graph(), RECORDING, "brian2-cpp")


def test_a_project_that_cannot_be_compiled_is_one_line(path, monkeypatch):
    failing(path, "make", "g++")
    monkeypatch.setattr("brian2.codegen.cpp_prefs.has_flag", lambda compiler, flag: True)
    with pytest.raises(InputError) as error:
        mb.simulate(graph(), RECORDING, "brian2-cpp")
    assert str(error.value).startswith("engine='brian2-cpp': compiling failed with status 1: x.cpp: error: no Python.h")


def test_without_a_compiler_numpy_is_used_with_one_log_line(path, caplog):
    for _ in range(2):
        result = mb.simulate(graph(), RECORDING, "brian2")
        assert result.spikes["neuron"].t.tolist() == [0.002, 0.003]
    assert caplog.text.count("Cython cannot be used") == 1


def test_missing_cython_is_one_line_and_a_finding_of_the_doctor(path, capsys):
    with pytest.raises(InputError, match=r"target='cython' needs .* not found: install .*target='numpy'"):
        mb.simulate(graph(), RECORDING, "brian2", target="cython")
    (check,) = [check for check in doctor.CHECKS if check.name == "engine brian2, cython"]
    assert doctor.examine([check]) == [check]
    refused = "--    engine brian2, cython    optional: engine='brian2' with target='cython' needs"
    assert refused in capsys.readouterr().out


@pytest.mark.slow
def test_a_compiler_that_fails_is_no_reason_to_stop(path, monkeypatch, tmp_path, capfd, caplog):
    """Brian2 tests Cython by a file that may have been compiled at another time."""
    cc, cxx = (compilers.missing_for_cython() * 2)[:2]
    failing(path, cc, cxx)
    monkeypatch.setitem(brian2.prefs, "codegen.runtime.cython.cache_dir", str(tmp_path / "cython"))
    monkeypatch.setattr("brian2.codegen.cpp_prefs.has_flag", lambda compiler, flag: True)
    monkeypatch.setattr(cython_extension_manager, "_code_cache", {})
    monkeypatch.setattr(compilers.internals, "automatic_target", lambda: "cython")
    result = mb.simulate(graph(), RECORDING, "brian2")
    assert result.spikes["neuron"].t.tolist() == [0.002, 0.003]
    assert "Cython cannot be used" in caplog.text
    assert "failed with" in caplog.text
    assert "never included in a network" not in capfd.readouterr().err
    with pytest.raises(InputError, match=r"target='cython': compiling failed .*target='numpy' or engine='exact'"):
        mb.simulate(graph(), RECORDING, "brian2", target="cython")


# ------------------------------------------------------------------------------------------------ Brian2's Cython cache


class Loads:
    """In place of the loader of extensions: a file is good if it is whole, and compiling makes one."""

    def __init__(self, content):
        self.content, self.compiled = content, 0

    def __call__(self, manager, module_path, **options):
        if not os.path.exists(module_path):
            self.compiled += 1
            with open(module_path, "wb") as file:
                file.write(self.content)
        with open(module_path, "rb") as file:
            if file.read() != self.content:
                raise ImportError(f"{module_path}: invalid ELF header")
        return "module"


ELF = open(sys.executable, "rb").read() if sys.platform.startswith("linux") else b""  # noqa: SIM115


@pytest.mark.skipif(not ELF, reason="the loader of Linux")
@pytest.mark.parametrize(
    "damaged", [b"", b"\x7fELF", ELF[:5000], ELF[:-1], os.urandom(5000), b"\0" * 5000, ELF[:2000] + b"x" + ELF[2001:]]
)
def test_an_extension_that_was_cut_off_is_compiled_again(damaged, tmp_path, monkeypatch):
    loads = Loads(ELF)
    monkeypatch.setattr(CythonExtensionManager, "_load_module", lambda *a, **o: loads(*a, **o))
    file = tmp_path / "_cython_magic_1.so"
    file.write_bytes(damaged)
    with compilers.whole_extensions():
        with pytest.warns(CacheWarning, match=f"{file.name}: damaged"):
            assert cython_extension_manager._load_module(str(file)) == "module"
        assert cython_extension_manager._load_module(str(file)) == "module"
    assert loads.compiled == 1
    assert "_load_module" not in vars(cython_extension_manager)


@pytest.mark.skipif(not ELF, reason="the loader of Linux")
@pytest.mark.parametrize(
    "damage",
    {
        "a zeroed page": lambda so, other: so.write_bytes(ELF[:4096] + bytes(4096) + ELF[8192:]),
        "a zeroed half": lambda so, other: so.write_bytes(ELF[: len(ELF) // 2] + bytes(len(ELF) - len(ELF) // 2)),
        "of another name": lambda so, other: so.write_bytes(other.read_bytes()),
        "with its digest": lambda so, other: [
            so.with_name(so.name + end).write_bytes(other.with_name(other.name + end).read_bytes())
            for end in ("", ".sha256.lib")
        ],
        "digest cut off": lambda so, other: os.truncate(f"{so}.sha256.lib", 10),
        "digest is no text": lambda so, other: Path(f"{so}.sha256.lib").write_bytes(b"\xff" * 64),
    }.values(),
)
def test_an_extension_that_is_not_what_was_compiled_is_not_loaded(damage, tmp_path, monkeypatch):
    """The loader would map a zeroed page, and the process would end by a signal."""
    compiled, loaded = [], []

    def load(manager, module_path, **options):
        path = Path(module_path)
        if not path.exists():
            compiled.append(path.name)
            path.write_bytes(ELF + path.name.encode())
        loaded.append(path.read_bytes())
        return "module"

    monkeypatch.setattr(CythonExtensionManager, "_load_module", load)
    so, other = tmp_path / "_cython_magic_1.so", tmp_path / "_cython_magic_2.so"
    with compilers.whole_extensions():
        for path in (so, other, so):
            cython_extension_manager._load_module(str(path))
        assert compiled == [so.name, other.name]
        damage(so, other)
        with pytest.warns(CacheWarning, match=f"{so.name}: damaged"):
            cython_extension_manager._load_module(str(so))
        cython_extension_manager._load_module(str(so))
    assert compiled == [so.name, other.name, so.name]
    assert set(loaded) == {ELF + so.name.encode(), ELF + other.name.encode()}
    for path in tmp_path.iterdir():  # as `brian2.clear_cache` looks at them
        assert path.suffix in get_cython_extensions()


def test_code_that_cython_refuses_is_not_left_out(tmp_path, monkeypatch):
    """Brian2 gives None then, and would run the network without it."""
    monkeypatch.setattr(CythonExtensionManager, "_load_module", lambda *a, **o: None)
    with pytest.raises(InputError, match="Cython cannot translate"), compilers.compiling():
        cython_extension_manager._load_module(str(tmp_path / "a.so"))


def test_a_real_extension_is_valid_until_it_is_truncated(tmp_path):
    file = tmp_path / "python"
    file.write_bytes(ELF)
    assert compilers._is_whole(file)
    file.write_bytes(ELF[:-1])
    assert not compilers._is_whole(file)


@pytest.mark.slow
def test_damaged_extensions_of_a_network(tmp_path):
    """Emptied, cut, another one's content, and ending in zeros; the others are loaded as they are."""
    code = (
        "from mtt_brian.cli import doctor; from mtt_brian.engines.brian2 import runtime;"
        f"runtime.EXACT_FLAGS = {FLAGS};"
        "print(doctor.one_neuron('brian2', target='cython'))"
    )

    def runs():
        environment = {**os.environ, "CYTHON_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert "right spikes" in done.stdout, done.stderr
        return {file: file.read_bytes() for file in sorted(tmp_path.rglob("*.so"))}

    whole = runs()
    first, second, third, fourth, fifth, *_ = whole
    os.truncate(first, 0)
    os.truncate(second, len(whole[second]) // 2)
    third.write_bytes(whole[fifth])
    half = len(whole[fourth]) // 2
    fourth.write_bytes(whole[fourth][:half] + bytes(len(whole[fourth]) - half))
    damaged = {file: file.read_bytes() for file in whole}
    mended = runs()
    assert {file for file in whole if mended[file] != damaged[file]} == {first, second, third, fourth}


# ------------------------------------------------------------------------------------------------------ short results


@pytest.mark.parametrize("keep", [0, 8])
def test_results_that_a_full_disk_cut_off_are_no_spikes(keep, path, monkeypatch):
    """The compiled network goes on where a disk is full; here a script writes in its place."""
    (path / "make").write_text("#!/bin/sh\n")
    (path / "g++").write_text("#!/bin/sh\n")
    for program in ("make", "g++"):
        (path / program).chmod(0o755)
    monkeypatch.setattr("brian2.codegen.cpp_prefs.has_flag", lambda compiler, flag: True)

    def main(command, **options):
        if command[0] == "./main":
            folder = command[2]
            for files in projects[0]._files.values():
                for name, (file, dtype) in files.items():
                    count = np.array([2], dtype) if name == "N" else np.zeros(2, dtype)
                    content = count.tobytes()
                    with open(folder + file, "wb") as out:
                        out.write(content if name == "N" and keep else content[:keep])
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    projects = []
    init = standalone.Project.__init__
    monkeypatch.setattr(standalone.Project, "__init__", lambda self, *a: (init(self, *a), projects.append(self))[0])
    monkeypatch.setattr(standalone.subprocess, "run", main)
    with pytest.raises(InputError, match=r"values are there of what the compiled network wrote; is the disk full"):
        mb.simulate(graph(), RECORDING, "brian2-cpp")


def test_a_network_that_the_system_ends_is_one_line(path, monkeypatch):
    for program in ("make", "g++"):
        (path / program).write_text("#!/bin/sh\n")
        (path / program).chmod(0o755)
    monkeypatch.setattr("brian2.codegen.cpp_prefs.has_flag", lambda compiler, flag: True)
    monkeypatch.setattr(
        standalone.subprocess,
        "run",
        lambda command, **_: SimpleNamespace(returncode=-9 if command[0] == "./main" else 0, stderr="", stdout=""),
    )
    with pytest.raises(InputError, match=r"SIGKILL has ended the compiled network \(often: too little memory\)"):
        mb.simulate(graph(), RECORDING, "brian2-cpp")
