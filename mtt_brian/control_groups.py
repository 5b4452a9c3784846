"""Limits of Linux control groups (containers, batch systems, systemd), in both versions of their interface.

A process belongs to a group of each hierarchy, and every group above it in the hierarchy limits it, too. Libraries that
read limits (psutil: none; dask, joblib: the files at the top of ``/sys/fs/cgroup``) do not see those of nested groups.
Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: The root of the file system; tests have another one.
ROOT = Path("/")


def memory_left(root: Path = ROOT) -> int | None:
    """Bytes that this process may still fill, in the group with the least; None without a limit.

    Pages of files that were not read again lately (``inactive_file``) count as free: the kernel drops them first.

    Args:
        root: folder with ``proc`` and ``sys``.
    """
    left = []
    for group in _groups(root, None):
        limits = (_number(group / "memory.max"), _number(group / "memory.high"))
        left += [_left(group, limit, "memory.current", "inactive_file") for limit in limits if limit is not None]
    for number, group in enumerate(_groups(root, "memory")):
        if number and _number(group / "memory.use_hierarchy") == 0:
            continue  # the group counts its own processes only
        if (limit := _number(group / "memory.limit_in_bytes")) is not None:
            left.append(_left(group, limit, "memory.usage_in_bytes", "total_inactive_file"))
    return min(left, default=None)


def cores(root: Path = ROOT) -> int | None:
    """Cores whose whole time this process may use, rounded up, in the group with the least; None without a limit.

    Args:
        root: folder with ``proc`` and ``sys``.
    """
    found = []
    for group in _groups(root, None):
        found.append(_text(group / "cpu.max").split())
    for group in _groups(root, "cpu"):
        found.append([_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    shares = [tuple(map(int, each)) for each in found if len(each) == 2 and all(map(str.isdecimal, each))]
    return min((max(1, math.ceil(quota / period)) for quota, period in shares if period), default=None)


def _left(group: Path, limit: int, usage: str, inactive: str) -> int:
    used = _number(group / usage) or 0
    for line in _text(group / "memory.stat").splitlines():
        name, _, number = line.partition(" ")
        if name == inactive and number.isdecimal():
            used -= int(number)
    return max(0, limit - max(0, used))


def _groups(root: Path, controller: str | None) -> Iterator[Path]:
    """The folders of this process's group and of all groups above it that are mounted.

    Args:
        root: folder with ``proc`` and ``sys``.
        controller: of version 1; None: version 2.
    """
    own = _own_group(root, controller)
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, behind = line.partition(" - ")
        where, what = before.split(), behind.split()
        if len(where) < 5 or len(what) < 3 or own is None:
            continue
        if what[0] != ("cgroup2" if controller is None else "cgroup"):
            continue
        if controller is not None and controller not in what[2].split(","):
            continue
        inside, mounted = (PurePosixPath(_unescaped(text)) for text in where[3:5])
        top = root / mounted.relative_to("/")
        # In a container the group may be named as it is outside, where only a part of the tree is mounted.
        place = own.relative_to(inside) if own.is_relative_to(inside) and ".." not in own.parts else PurePosixPath()
        yield from (top / part for part in (place, *place.parents))
        return


def _own_group(root: Path, controller: str | None) -> PurePosixPath | None:
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0" and not controllers) if controller is None else controller in controllers.split(","):
            return PurePosixPath(path)
    return None


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which a space is ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _number(path: Path) -> int | None:
    """The number in a file; None for ``max``, and where there is no file."""
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
