"""How a command ends: in one line about what a user can correct, and with an exit status."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from typing import Any, TextIO

from mtt_brian import files
from mtt_brian.errors import Diverged, InputError
from mtt_brian.progress import LOGGER
from mtt_brian.text import printable

#: The exit status for bad input, and for a machine that does not do what is asked of it.
REFUSED = 2
#: The name of stdout in messages.
_STDOUT = "stdout"
#: Signals that end a command as Ctrl-C does; there are fewer on some systems.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal other than that of Ctrl-C.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def status(stop: KeyboardInterrupt) -> int:
    """The exit status that shells expect of a process which a signal has stopped: 130 for Ctrl-C."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def stopped(stop: KeyboardInterrupt) -> str:
    """``"stopped"``, and by which signal if it was not Ctrl-C."""
    return f"stopped by {signal.Signals(stop.number).name}" if isinstance(stop, Stopped) else "stopped"


def run(command: Callable[[], int | None], kept: str = "") -> int:
    """Call a command; returns the exit status. Messages that the package logs go to stderr.

    What a user can correct is one line on stderr, and 2: `InputError`, `Diverged`, whatever the system refuses
    (`OSError`), too little memory. SIGTERM and SIGHUP raise `Stopped` in the command. Characters that stdout cannot
    show are written as escapes. Where nothing reads stdout any more (``| head``) the command ends without a word.

    Args:
        command: without arguments.
        kept: printed when a signal stops unfinished work.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        _escape(stream)
    try:
        with _stoppable(), _log_to_stderr(), files.warnings_to(lambda text: _print(f"warning: {one_line(text)}")):
            try:
                left = command() or 0
            except SystemExit:
                _flush()
                raise
            _flush()
            return left
    except KeyboardInterrupt as stop:
        _print(f"\n{stopped(stop)}" + (f"; {kept}" if kept else ""))
        return status(stop)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_of_stdout(error):
            with contextlib.suppress(OSError):
                _flush()
            return 128 + signal.SIGPIPE
        text = explained(error)
        if text is None:
            raise
        with contextlib.suppress(OSError):
            _flush()
        _print(f"error: {text}")
        return REFUSED


def explained(error: Exception) -> str | None:
    """One line for a user; None for what only a traceback explains."""
    text = _text(error)
    return None if text is None else one_line(text) or type(error).__name__


def _text(error: Exception) -> str | None:
    if isinstance(error, InputError | Diverged):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_current_folder():
        return "the current folder does not exist any more; change to another one"
    if isinstance(error, OSError):
        return files.reason(error)
    if isinstance(error, ValueError) and str(error).startswith("Key backend: "):
        return f"matplotlib: {error}; set MPLBACKEND to one of them, or unset it"
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} cannot be written in {error.encoding}: {error.reason}"
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} text: {error}"
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):
        return "a path holds a NUL character, which no file name can have"
    if isinstance(error, RecursionError):
        return f"the input is nested too deeply ({error})"
    if isinstance(error, MemoryError) or _is_of_torch_memory(error):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, BrokenExecutor):
        return "a worker process was killed, most likely for lack of memory; fewer workers or jobs need less"
    return None


def _is_of_torch_memory(error: Exception) -> bool:
    """torch runs out of memory with a `RuntimeError`."""
    message = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in message or "out of memory" in message)


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _open_closed_streams() -> None:
    """Opens a null device for standard streams that the shell has closed.

    Otherwise a file of results would get the number 2, to which libraries write their messages, and messages of this
    package would be printed to stdout.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as long as the process


def one_line(text: str) -> str:
    """Lines joined by semicolons where they have no punctuation of their own, as `printable` text."""
    joined = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        joined += f"{'' if not joined else ' ' if joined[-1] in ':;,.' else '; '}{line}"
    return printable(joined.replace("\t", " "))


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed
        print(line, file=sys.stderr, flush=True)


def _escape(stream: TextIO | None) -> None:
    """What is printed at the end of hours must not fail at a character: ``±`` has no place in ASCII."""
    if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _flush() -> None:
    """Flush the output, so that an error in it is reported as the command's.

    Raises:
        OSError: if stdout is closed, or the disk is full.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        # Otherwise the interpreter would try again when it ends.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if error.filename is None:
            error.filename = _STDOUT
        raise


def _is_of_stdout(error: BrokenPipeError) -> bool:
    """Whether nothing reads stdout any more. Pipes between processes break with the same error."""
    if error.filename is not None or sys.stdout is None:
        return error.filename == _STDOUT
    try:
        number = sys.stdout.fileno()
    except OSError:  # a stream in memory
        return False
    ends = select.poll()
    ends.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))


class _ToStderr(logging.Handler):
    """Prints messages as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        _print(record.getMessage())


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Within it, what the package logs is printed on stderr."""
    logger, handler, before = LOGGER, _ToStderr(), LOGGER.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within it, `SIGNALS` raise `Stopped`, unless they are handled or ignored already (nohup does that)."""

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
