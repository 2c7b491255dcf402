"""Who did what to the server's sessions: one chained line for each control call, on the disk before the call takes effect.

Each line is canonical JSON with ``prev``, the SHA-256 of the line before it, so that none can be changed or taken out in the
middle unseen. What is cut from the end does not show: ship the file elsewhere. No text of a conversation stands in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

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
        self._file: IO[bytes]
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.seek(0)
            for line in self._file:
                if not line.endswith(b"\n"):
                    self._file.close()
                    raise AffectscopeError(f"{path} ends in the middle of a line: move it away, a new one is begun")
                self._number, self._prev = self._number + 1, digest(line[:-1])
        except BlockingIOError as error:
            self._file.close()
            raise AffectscopeError(f"another server writes {path}, and one chain has one writer: give each its own --control-log") from error  # fmt: skip
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
            size = os.fstat(self._file.fileno()).st_size
            try:
                self._file.write(line + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError:
                os.ftruncate(self._file.fileno(), size)  # half a line would break the chain for good
                raise
            self._number, self._prev = self._number + 1, digest(line)

    def close(self) -> None:
        """Let the file go to another."""
        if self.path is not None:
            self._file.close()


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
