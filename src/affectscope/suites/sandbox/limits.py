"""How much a guest may use, and what came of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Killed = Literal["", "time", "output", "disk"]
"""Why the parent ended a run: wall clock, too much output, too much written; empty when it ended by itself."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one run. Sizes in bytes, times in seconds.

    ``memory`` bounds each process by its address space, and all of them together where a cgroup can be made;
    ``file`` bounds one file, ``scratch`` all of the work folder together; ``output`` is what the parent reads of each stream
    before it ends the run.
    """

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory: int = 512 << 20
    processes: int = 32
    file: int = 16 << 20
    files: int = 64
    scratch: int = 64 << 20
    output: int = 256 << 10


@dataclass(frozen=True)
class Ran:
    """One run: exit ``code`` (negative: the signal that ended it), both streams cut to the bound, and wall ``seconds``."""

    code: int
    out: bytes
    err: bytes
    killed: Killed
    seconds: float
    tier: str
