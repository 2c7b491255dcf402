"""The file of a run's episodes: JSON Lines, one an episode, that an interrupt may have cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
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
    text, found = path.read_bytes().decode("utf-8", errors="replace"), []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if number == len(lines):  # without its end; what is appended would join it
                raise ValueError("cut")
            value = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                _cut(path, lines[: number - 1])
                break
            raise AffectscopeError(f"{path} line {number} is no JSON: restore the file, or choose another --out") from error  # fmt: skip
        if value.get("format") != version or value.get("suite") != suite:
            raise AffectscopeError(
                f"{path} line {number} is no result of the suite {suite} in this version: choose another --out"
            )
        if settings is not None and value.get("settings") != settings:
            raise AffectscopeError(f"{path} holds results of other settings (model, vectors, lengths, factors): choose another --out")  # fmt: skip
        found.append(value)
    return found


def _cut(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
