"""Who did what to the server's sessions: one chained line for each control call, on the disk before the call takes effect.

Each line is canonical JSON with ``prev``, the SHA-256 of the line before it, so that none can be changed or taken out in the
middle unseen. What is cut from the end does not show: ship the file elsewhere. No text of a conversation stands in it.
"""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from affectscope.errors import AffectscopeError
from affectscope.guarding.evidence import BEGINNING, canonical, digest

FORMAT = "affectscope/control@1"


class ControlLog:
    """The file of one server, gone on with at each start. For many threads.

    Args:
        path: None keeps no log.

    Raises:
        AffectscopeError: the file cannot be written, or its last line is damaged.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self._lock = path, threading.Lock()
        self._number, self._prev = 0, BEGINNING
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                for line in file:
                    if not line.endswith(b"\n"):
                        raise AffectscopeError(f"{path} ends in the middle of a line: move it away, a new one is begun")
                    self._number, self._prev = self._number + 1, digest(line[:-1])
        except OSError as error:
            raise AffectscopeError(f"cannot write the log of control calls {path}: {error.strerror}; choose another with --control-log") from error  # fmt: skip

    def write(self, what: str, who: str, tenant: str, **facts: str | int) -> None:
        """Append a line; it is on the disk when this returns.

        Raises:
            OSError: it is not.
        """
        if self.path is None:
            return
        with self._lock:
            when = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = canonical({"n": self._number, "prev": self._prev, "format": FORMAT, "at": when, "what": what, "who": who, "tenant": tenant, **facts})  # fmt: skip
            with self.path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._number, self._prev = self._number + 1, digest(line)


def is_control_log(path: Path) -> bool:
    """Whether a file begins as one."""
    try:
        with path.open("rb") as file:
            return bool(json.loads(file.readline(65_536)).get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def verify_control_log(path: Path) -> tuple[int, int | None]:
    """Lines that hold, and the number (from 1) of the first that does not, or None.

    Raises:
        AffectscopeError: the file cannot be read.
    """
    prev, number = BEGINNING, 0
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    values = json.loads(line)
                    held = line == canonical(values) + b"\n" and values["n"] == number and values["prev"] == prev
                except (ValueError, KeyError, TypeError):
                    held = False
                if not held:
                    return number, number + 1
                number, prev = number + 1, digest(line[:-1])
    except OSError as error:
        raise AffectscopeError(f"cannot read {path}: {error.strerror}; check the path") from error
    return number, None
