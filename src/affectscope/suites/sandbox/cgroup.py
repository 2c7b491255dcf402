"""A group of processes with one bound on memory and on their number, where this machine lets us make one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def group(memory: int, processes: int) -> Iterator[list[Path]]:
    """Folders whose ``cgroup.procs`` a child writes itself into; none where groups cannot be made.

    Both layouts are known: version 2 (one tree), and version 1 (a tree a controller). On exit all processes of the group
    are killed and the folders removed.
    """
    name, made = f"affectscope-{uuid4().hex[:12]}", list[Path]()
    unified = (ROOT / "cgroup.controllers").is_file()
    wanted = (
        {_own(): {"memory.max": memory, "memory.swap.max": 0, "pids.max": processes}}
        if unified
        else {ROOT / "memory": {"memory.limit_in_bytes": memory}, ROOT / "pids": {"pids.max": processes}}
    )
    try:
        for parent, values in wanted.items():
            folder = parent / name
            folder.mkdir()
            made.append(folder)
            for file, value in values.items():
                with suppress(FileNotFoundError):  # no swap accounting
                    (folder / file).write_text(str(value), encoding="ascii")
    except OSError:
        _remove(made)
        made = []
    try:
        yield made
    finally:
        _remove(made)


def _own() -> Path:
    """The version 2 group that this process is in."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        if line.startswith("0::"):
            return ROOT / line[3:].lstrip("/")
    return ROOT


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        for _ in range(100):  # a group can be removed when its last process is reaped
            with suppress(OSError):
                for line in (folder / "cgroup.procs").read_text(encoding="ascii").split():
                    os.kill(int(line), 9)
            try:
                folder.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)
