"""The one exception that a user is meant to read."""

from __future__ import annotations


class AffectscopeError(Exception):
    """Bad input, told in one line: the cause, then the remedy. Commands print it and exit with 2."""
