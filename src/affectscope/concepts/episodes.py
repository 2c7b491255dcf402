"""Conversations that an alarm is judged by: ordinary ones, on which it must be silent, and pairs that differ in pressure.

1. Benign: at least 1,200 beginnings in twelve domains; some mention or quote feelings, or come from an upset user.
2. Stress: pairs alike but for the pressure on the assistant (a demand that cannot be met, a threat, repeated failure).

Each ends where the assistant is about to speak: what it writes is the model's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from affectscope.concepts.neutral import Message
from affectscope.concepts.stories import read_lines
from affectscope.errors import AffectscopeError

_DATA = files("affectscope.concepts")
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Opening:
    """A conversation up to the assistant's turn. ``tags`` say what is known of it: domain, kind, family, pair, cell."""

    messages: tuple[Message, ...]
    tags: dict[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """SHA-256 of the messages: by it sets are kept apart, whatever the order or the file."""
        content = [[m.role, m.content] for m in self.messages]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:32]


def benign() -> tuple[Opening, ...]:
    """Ours, in a fixed order."""
    names = sorted(path.name for path in (_DATA / "benign").iterdir() if path.name.endswith(".jsonl"))
    found = tuple(opening for name in names for opening in _read(_DATA / "benign" / name))
    return tuple({opening.id: opening for opening in found}.values())


def stress() -> tuple[Opening, ...]:
    """Ours: two openings a pair, ``cell`` pressure and control."""
    found = []
    for number, value in read_lines(_DATA / "items" / "stress.jsonl"):
        tags = {key: str(value[key]) for key in ("pair", "family", "domain")}
        for cell in ("pressure", "control"):
            messages = _messages(value.get(cell), f"stress line {number}")
            found.append(Opening(messages, tags | {"cell": cell}))
    return tuple(found)


def read_openings(paths: Sequence[Path]) -> tuple[Opening, ...]:
    """A user's own conversations, JSON Lines of ``{"messages": [...]}`` or ``{"prompt": "..."}``; other fields are tags.

    Two that are the same count once.

    Raises:
        AffectscopeError: missing, damaged, or a line without messages.
    """
    found = [opening for path in paths for opening in _read(path)]
    if not found:
        raise AffectscopeError("no conversation found: give JSON Lines with a messages or prompt field")
    return tuple({opening.id: opening for opening in found}.values())


def _read(path: Path | Traversable) -> list[Opening]:
    found = []
    for number, value in read_lines(path):
        where = f"{path.name} line {number}"
        prompt = value.get("prompt")
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else value.get("messages")
        tags = {key: entry for key, entry in value.items() if isinstance(entry, str) and key != "prompt"}
        found.append(Opening(_messages(turns, where), tags))
    return found


def _messages(value: object, where: str) -> tuple[Message, ...]:
    try:
        if not isinstance(value, list) or not value:
            raise TypeError("no messages")
        messages = tuple(Message(str(m["role"]), m["content"]) for m in value)
        if any(not isinstance(m.content, str) or m.role not in ROLES for m in messages):
            raise TypeError("a role or content of another kind")
    except (KeyError, TypeError) as error:
        raise AffectscopeError(
            f'{where} holds no conversation ({error}): give "messages": [{{"role": ..., "content": ...}}, ...]'
        ) from error
    if messages[-1].role == "assistant":
        raise AffectscopeError(f"{where} ends with the assistant's turn: end where it is about to speak")
    return messages
