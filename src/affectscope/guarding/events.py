"""What a guard is told, one thing at a time. Whatever happened is one of these, and evidence keeps them all.

A guard knows nothing else: not the model, not the clock, not the text. So the same events give the same decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from affectscope.errors import AffectscopeError

FAULTS = (
    "missing layer",
    "missing steps",
    "stale step",
    "wrong shape",
    "nan",
    "zeros",
    "no threshold",
    "heartbeat",
    "queue overflow",
    "hash mismatch",
    "probe error",
    "audit write",
    "action failed",
)
"""Every way in which a reading or a record can fail."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token's reading: int8 units of the watch-list under the policy's probe and under the held-out one."""

    position: int
    role: str
    phase: str
    generated: bool
    policy: tuple[int, ...]
    held_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What could not be read, written or done; one of ``FAULTS``."""

    fault: str
    cause: str


@dataclass(frozen=True, slots=True)
class Tool:
    """The model asks for a tool; it stands before the barrier."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's word on a request: ``approved``, ``denied`` or ``reset`` (of a latched stop)."""

    request: str
    answer: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the conversation begins."""

    index: int


@dataclass(frozen=True, slots=True)
class Time:
    """Milliseconds since the session began, by a clock that cannot jump."""

    now: int


Event = Token | Fault | Tool | Answer | Turn | Time
_KINDS: dict[str, type] = {
    "token": Token,
    "fault": Fault,
    "tool": Tool,
    "answer": Answer,
    "turn": Turn,
    "time": Time,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_json(event: Event) -> dict[str, Any]:
    """Plain values; whole numbers and texts only, so that their canonical form is one."""
    if isinstance(event, Token):
        return {
            "event": "token",
            "at": event.position,
            "role": event.role,
            "phase": event.phase,
            "own": event.generated,
            "z": list(event.policy),
            "held_out": list(event.held_out),
        }
    return {"event": _NAMES[type(event)]} | {name: getattr(event, name) for name in event.__slots__}


def from_json(values: Mapping[str, Any]) -> Event:
    """The event again.

    Raises:
        AffectscopeError: no event of ours.
    """
    kind = values.get("event")
    try:
        if kind == "token":
            return Token(
                values["at"],
                values["role"],
                values["phase"],
                values["own"],
                tuple(values["z"]),
                tuple(values["held_out"]),
            )
        made: Event = _KINDS[str(kind)](**{k: v for k, v in values.items() if k != "event"})
        return made
    except (KeyError, TypeError) as error:
        raise AffectscopeError(
            f"no event of ours: {dict(values)}; the file is of another version or damaged"
        ) from error
