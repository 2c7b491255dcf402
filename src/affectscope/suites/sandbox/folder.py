"""The folder that a guest fills: measured while it runs and removed when it is over, however deep the guest nested it."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DEEPEST = 64
"""Folders in folders; Python's own walks end in a RecursionError long after it, and the kernel's paths too."""
_LEAST = 512
"""Bytes that a file counts for at least, so that their number is bounded too."""


@contextmanager
def work_folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="affectscope-box-"))
    try:
        yield place
    finally:
        remove(place)


def remove(folder: Path) -> None:
    """Remove a folder that a guest wrote; what Python cannot descend into is left to programs that can."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], check=False, capture_output=True)


def size(folder: Path) -> float:
    """Bytes of all that is under ``folder``. Infinite when it is deeper than :data:`DEEPEST` or closed to the host: what
    cannot be measured is too much. What vanishes meanwhile counts nothing."""
    total, waiting = 0, [(os.fspath(folder), 0)]
    while waiting:
        place, depth = waiting.pop()
        if depth > DEEPEST:
            return math.inf
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        total += max(entry.stat(follow_symlinks=False).st_blocks * 512, _LEAST)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, depth + 1))
        except PermissionError:
            return math.inf
        except OSError:
            continue
    return total
