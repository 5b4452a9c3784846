"""How commands end: in one line and with a status, whatever the machine does."""

import errno
import io
import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from mtt_brian import cli, files
from mtt_brian.cli import exit_status
from mtt_brian.errors import Diverged, InputError
from tests import commands

MISMATCH = "Error(s) in loading state_dict for Model:\n\tsize mismatch for a: 3\n\tsize mismatch for b: 4"


def raises(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("no such key"), "no such key"),
        (
            InputError(MISMATCH),
            "Error(s) in loading state_dict for Model: size mismatch for a: 3; size mismatch for b: 4",
        ),
        (InputError("a\tname \x1b[2J"), r"a name \x1b[2J"),
        (InputError(""), "InputError"),
        (Diverged("epoch 1"), "epoch 1"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: Permission denied"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "b: Invalid cross-device link"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("Can't write data"), "Can't write data"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file or directory"),
        (
            ValueError("Key backend: 'x' is not a valid value for backend; supported values are ['agg']"),
            "matplotlib: Key backend: 'x' is not a valid value for backend; supported values are ['agg']; set "
            "MPLBACKEND to one of them, or unset it",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
        (ValueError("embedded null byte"), "a path holds a NUL character, which no file name can have"),
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 8 TiB"), "not enough memory: Unable to allocate 8 TiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory:\nyou tried"), None),
        (BrokenProcessPool("A process in the process pool was terminated abruptly"), None),
        (RecursionError("maximum recursion depth exceeded"), None),
        (UnicodeEncodeError("utf-8", "a\ud800", 1, 2, "surrogates not allowed"), None),
    ],
)
def test_what_a_user_can_correct_is_one_line(error, line, capsys):
    assert exit_status.run(raises(error)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.err.isascii()
    assert line is None or said.err == f"error: {line}\n"


def test_a_mistake_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status.run(raises(ZeroDivisionError()))


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_stop_a_command_as_ctrl_c_does(number, status, capsys):
    before = signal.getsignal(getattr(signal, number))

    def command():
        os.kill(os.getpid(), getattr(signal, number))
        raise AssertionError("it goes on")

    assert exit_status.run(command, "what is done is kept") == status
    assert capsys.readouterr().err == f"\nstopped by {number}; what is done is kept\n"
    assert signal.getsignal(getattr(signal, number)) == before


def test_ctrl_c(capsys):
    assert exit_status.run(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_an_ignored_signal_is_still_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert exit_status.run(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_characters_that_stdout_lacks_are_escaped(monkeypatch):
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii"))
    assert exit_status.run(lambda: print("98.0 ± 1.2")) == 0
    assert bytes_out.getvalue() == b"98.0 \\xb1 1.2\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_command_ends_without_a_word_where_nobody_reads_its_output(lines, monkeypatch, capsys):
    """As other commands in front of ``head``, which SIGPIPE ends; at the end of its output, or within it."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdout", open(writer, "w"))  # noqa: SIM115 - closed by no one, as stdout
    os.close(reader)
    assert exit_status.run(lambda: print("\n".join(["a line"] * lines))) == 141
    assert capsys.readouterr().err == ""


def test_a_full_stdout_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115 - closed by no one, as stdout
    assert exit_status.run(lambda: print("results")) == 2
    assert capsys.readouterr().err == "error: stdout: No space left on device\n"


def test_warnings_about_caches_are_one_line(capsys):
    assert exit_status.run(lambda: files.warn("cache/a.nbc: damaged\n(cut)")) == 0
    assert capsys.readouterr().err == "warning: cache/a.nbc: damaged; (cut)\n"


@pytest.mark.parametrize("option", ["--config", "--data-root", "--init", "--resume"])
def test_impossible_paths_of_training(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for value in ("a\0b", "a" * 300, "\ud800"):
        assert cli.main("train", ["--dataset", "nmnist", option, value]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "content"), [("deep.json", "{}"), ("deep.toml", "epochs = {}")])
def test_lists_within_lists_within_lists(name, content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content.format("[" * 10000 + "]" * 10000))
    assert cli.main("train", ["--config", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_script_of_a_study_ends_like_a_command(tmp_path):
    done = commands.call("studies/time_step_sweep.py", "a" * 300, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_current_folder_that_was_removed(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_status.run(os.getcwd) == 2
    assert capsys.readouterr().err == "error: the current folder does not exist any more; change to another one\n"


def test_streams_that_the_shell_has_closed(tmp_path):
    """Messages go nowhere, not to stdout, and no file of results is in the place of stderr."""
    program = (
        "import sys; from mtt_brian.cli import exit_status; from mtt_brian.errors import InputError\n"
        "def command():\n"
        "    with open('results', 'w') as file: print(file.fileno() > 2)\n"
        "    raise InputError('a message')\n"
        "sys.exit(exit_status.run(command))\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for closed in ("2>&-", "<&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'"$0" program.py {closed}', sys.executable],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, b"True\n")
