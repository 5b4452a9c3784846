"""Progress of long computations: bars in a terminal or notebook, lines in a log file; and notices before a wait."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

#: The package's logger: `notice` writes to it, and its level silences notices (above WARNING: none).
LOGGER = logging.getLogger("mtt_brian")
#: Seconds.
_LONGEST_WITHOUT_A_LINE = 60


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    description: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    lines: int = 10,
    leave: bool = True,
    show: bool = True,
) -> Any:
    """A bar of tqdm: a widget in a notebook, text in a terminal.

    If stderr is neither (a log file, CI), a line is printed for each tenth of the work, and at the first progress that
    comes a minute after the last line.

    Args:
        iterable: the items; None: the caller calls ``update``.
        description: in front of the bar.
        unit: name of what is counted.
        total: number of units; by default the length of ``iterable``.
        initial: units that were done before.
        lines: number of lines without a terminal.
        leave: keep the bar on the screen when it is full.
        show: False: print nothing.

    Returns:
        the bar, which is a context manager and, with an iterable, an iterable.
    """
    options: dict[str, Any] = {
        "iterable": iterable,
        "desc": description,
        "unit": unit,
        "total": total,
        "initial": initial,
        "leave": leave,
        "disable": not show,
    }
    if show and not _is_watched():
        return _lines_class()(lines, **options)
    return _bar_class()(**options)


def notice(text: str) -> None:
    """Prints what the program waits for.

    Uses `LOGGER`, which commands show on stderr. If no logging is set up, the text is printed if stderr is interactive.
    """
    if LOGGER.hasHandlers():
        LOGGER.info(text)
    elif LOGGER.isEnabledFor(logging.WARNING) and _is_watched():
        print(text, file=sys.stderr, flush=True)


def _is_watched() -> bool:
    """Whether stderr is shown now: in a terminal, or below a notebook's cell."""
    return "ipykernel.zmqshell" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


@cache
def _bar_class() -> Any:
    with warnings.catch_warnings():
        # Without ipywidgets tqdm draws its bar as text, which a notebook shows as well.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm

    return tqdm


@cache
def _lines_class() -> Any:
    from tqdm.std import tqdm

    class Lines(tqdm):
        """A bar that prints lines.

        One comes each time a further part of the work is done, after `_LONGEST_WITHOUT_A_LINE`, and when the last line
        changes.
        """

        def __init__(self, parts: int, **options: Any) -> None:
            # As in tqdm's own front ends: the base class counts, and `display` draws.
            # With gui=True the base class displays nothing while it is initialised.
            super().__init__(gui=True, mininterval=0, miniters=1, **options)
            self._parts = parts
            self._shown, self._shown_at = self._done(), time.monotonic()

        def _done(self) -> tuple[int, str | None]:
            """The number of parts that are done and, behind the last one, the postfix."""
            parts = self._parts * self.n // self.total if self.total else 0
            return parts, self.postfix if self.n == self.total else None

        def display(self, *arguments: Any, **options: Any) -> None:
            now = time.monotonic()
            late = self.n != self.total and now - self._shown_at >= _LONGEST_WITHOUT_A_LINE
            if late or self._done() != self._shown:
                self._shown, self._shown_at = self._done(), now
                more = f", {self.postfix}" if self.postfix else ""
                what = self.desc.removesuffix(": ")
                print(f"{what}: {self.n} of {self.total} {self.unit}{more}", file=sys.stderr, flush=True)

    return Lines
