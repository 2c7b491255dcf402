"""What is kept of one episode: its readings, what happened in it, and under which settings.

A z is kept as a whole number of eighths of a standard deviation. It is made so *before* any detector sees it, so that
a trace read back gives every decision again, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEP = 0.125
"""One unit of a quantised z. The error is at most half of it, 0.0625 s.d., within the range below."""
LIMIT = 127
"""Largest quantised value: readings beyond 15.875 s.d. are kept as that."""
RELEASED = "released"
"""``dose`` of an action event that tells the end of one."""
MISSING = -128
"""A reading that could not be taken."""


def quantise(z: np.ndarray) -> np.ndarray:
    """int8 units of ``STEP``; NaN and Inf become ``MISSING``. Any shape."""
    units = np.clip(np.rint(np.nan_to_num(z, nan=0, posinf=0, neginf=0) / STEP), -LIMIT, LIMIT).astype(np.int8)
    return np.where(np.isfinite(z), units, np.int8(MISSING)).astype(np.int8)


def restore(units: np.ndarray) -> np.ndarray:
    """float32 z of quantised readings; NaN where one is missing."""
    return np.where(units == MISSING, np.float32(np.nan), units.astype(np.float32) * np.float32(STEP))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a token: ``kind`` is ``alarm`` or ``fault``; ``detail`` holds plain values.

    An alarm's detail: ``rule``, ``statistic``, ``threshold``, ``alpha``, ``stratum``, and ``promised``: whether it fell
    within the tokens that the promise covers. A fault's: ``fault``, ``cause``.
    """

    position: int
    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """All of one episode.

    ``z`` int8 ``[probes, tokens, concepts]`` (see :func:`quantise`) in the order of ``probes`` and ``concepts``; the
    other arrays have one entry a token. ``texts`` and ``tokens`` are the content, None where content is not kept.
    ``settings`` holds plain values: model and vectors by fingerprint, layer, calibration, sampling, engine.
    """

    id: str
    started: float  # seconds since the epoch
    ended: float
    finished: str
    concepts: tuple[str, ...]
    probes: tuple[str, ...]
    z: np.ndarray
    positions: np.ndarray  # int32
    roles: tuple[str, ...]
    phases: tuple[str, ...]
    generated: np.ndarray  # bool
    events: tuple[Event, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] | None = None
    tokens: np.ndarray | None = None  # int32

    def __len__(self) -> int:
        return len(self.roles)
