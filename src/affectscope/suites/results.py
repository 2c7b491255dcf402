"""The file of a run's episodes: JSON Lines, one an episode, that an interrupt may have cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785

from affectscope.errors import AffectscopeError
from affectscope.suites.episode import FORMAT


def digest(settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of settings: equal for equal ones."""
    return hashlib.sha256(rfc8785.dumps(dict(settings))).hexdigest()[:12]


def read_results(path: Path, suite: str, settings: str | None = None, version: str = FORMAT) -> list[dict[str, Any]]:
    """Episodes of a results file; a last line that an interrupt cut is left out.

    Args:
        settings: digest that every line must have; any when None.
        version: format that every line must have.

    Raises:
        AffectscopeError: results of another suite, version or settings, or a line in the middle that is no JSON.
    """
    whole, end, rest = path.read_bytes().rpartition(b"\n")
    found = [_checked(path, number, line, suite, settings, version) for number, line in enumerate(whole.split(b"\n"), 1) if line.strip()]  # fmt: skip
    if rest.strip():  # without its line's end; what is appended would join it
        try:
            json.loads(rest)
        except ValueError:
            pass
        else:  # nobody else's file is cut
            _checked(path, len(found) + 1, rest, suite, settings, version)
        path.write_bytes(whole + end)
    return found


def _checked(path: Path, number: int, line: bytes, suite: str, settings: str | None, version: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise AffectscopeError(f"{path} line {number} is no JSON: restore the file, or choose another --out") from error
    if value.get("format") != version or value.get("suite") != suite:
        raise AffectscopeError(
            f"{path} line {number} is no result of the suite {suite} in this version: choose another --out"
        )
    if settings is not None and value.get("settings") != settings:
        raise AffectscopeError(f"{path} holds results of other settings (model, vectors, lengths, factors): choose another --out")  # fmt: skip
    return value
