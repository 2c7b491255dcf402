"""The one exception that a user is meant to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class AffectscopeError(Exception):
    """Bad input, told in one line: the cause, then the remedy. Commands print it and exit with 2."""


def first_problem(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """Where a validation failed first, and why. A misspelt key is an unknown one and a missing one: the unknown one is told."""
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    return first["loc"], first["msg"].removeprefix("Value error, ")


def dotted(place: tuple[int | str, ...]) -> str:
    """A place in a file, as ``rules.up.window``."""
    return ".".join(map(str, place))
