"""The record of a guarded session: one line an event, each bound to the one before, and signed every so often.

* A line is canonical JSON (RFC 8785) and holds ``n``, its number, and ``prev``, the SHA-256 of the line before it, byte for
  byte. So a line cannot be changed, left out or moved without the next one showing it.
* A checkpoint signs the chain so far with Ed25519; the closing record is one. Checkpoints may go to a second place too.
* An event's line is on the disk before any action that follows from it takes effect.

Content (what was said, what a tool was asked) stands in it as a keyed fingerprint (HMAC-SHA-256) unless it is kept.

What it cannot prove: that nothing was left out by whoever holds the signing key, or that the session which it describes
is the only one that ran. Checkpoints in a place that the writer cannot change narrow that down.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import rfc8785

from affectscope.errors import AffectscopeError
from affectscope.guarding.keys import Keys

FORMAT = "affectscope/evidence@1"
EVERY = 512
"""Lines between checkpoints."""
BEGINNING = "0" * 64
"""``prev`` of the first line."""


def canonical(values: Mapping[str, Any]) -> bytes:
    """The one form of ``values`` (RFC 8785). Keys are ASCII.

    Without fractions Python's own serialiser gives the same bytes, many times faster: see ``tests/guarding``.
    """
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(line: bytes) -> str:
    """SHA-256 of a line without its end, in hexadecimal."""
    return hashlib.sha256(line).hexdigest()


def signed_part(number: int, prev: str) -> bytes:
    """What a checkpoint's signature is of."""
    return f"{FORMAT}\n{number}\n{prev}".encode()


class Evidence:
    """A file of evidence being written. Not for several threads at once.

    Args:
        header: facts that decisions are replayed from (policy, thresholds, watch-list), and hashes of what ran.
        keep_content: write content itself instead of its fingerprint.
        second: a file that gets every checkpoint as well.

    Raises:
        AffectscopeError: the file exists, for evidence is never written over; or it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        keys: Keys,
        header: Mapping[str, Any],
        *,
        keep_content: bool = False,
        second: Path | None = None,
    ) -> None:
        self.path, self._keys, self._keep, self._second = Path(path), keys, keep_content, second
        self._number, self._prev, self._since = 0, BEGINNING, 0
        if self.path.exists():
            raise AffectscopeError(f"{path} exists, and evidence is never written over: choose another name")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("xb")
        except OSError as error:
            raise AffectscopeError(
                f"cannot write the evidence {path}: {error.strerror}; choose another place"
            ) from error
        self._put(
            {
                "kind": "header",
                "format": FORMAT,
                "public": keys.public,
                "content": "kept" if keep_content else "hmac",
                **header,
            },
            exact=True,
        )
        self.commit()

    def write(self, kind: str, body: Mapping[str, Any]) -> int:
        """Append a line and return its number. It is on the disk after :meth:`commit`.

        Raises:
            OSError: it could not be written.
        """
        number = self._put({"kind": kind, **body})
        self._since += 1
        if self._since >= EVERY:
            self.checkpoint()
        return number

    def content(self, text: str) -> str:
        """How content stands in the record."""
        if self._keep:
            return text
        return "hmac:" + hmac.new(self._keys.content, text.encode(), hashlib.sha256).hexdigest()

    def commit(self) -> None:
        """Wait until everything written is on the disk.

        Raises:
            OSError: it could not be written.
        """
        self._file.flush()
        os.fsync(self._file.fileno())

    def checkpoint(self, kind: str = "checkpoint", **more: Any) -> None:
        """Sign the chain so far, here and in the second place.

        Raises:
            OSError: it could not be written.
        """
        number, prev = self._number, self._prev
        signature = self._keys.signing.sign(signed_part(number, prev)).hex()
        self._put({"kind": kind, "signature": signature, **more})
        self._since = 0
        if self._second is not None:
            line = canonical({"evidence": self.path.name, "n": number, "prev": prev, "signature": signature})
            with self._second.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def close(self, reason: str) -> None:
        """Write the closing record, which is a checkpoint; without one, lines cut from the end would not show."""
        if not self._file.closed:
            self.checkpoint("close", reason=reason)
            self.commit()
            self._file.close()

    def abandon(self) -> None:
        """Let the file go as it is: it cannot be written any more."""
        with suppress(OSError):
            self._file.close()

    def _put(self, values: dict[str, Any], exact: bool = False) -> int:
        number = self._number
        values = {"n": number, "prev": self._prev, **values}
        line = rfc8785.dumps(values) if exact else canonical(values)
        self._file.write(line + b"\n")
        self._number, self._prev = number + 1, digest(line)
        return number
