"""Neutral texts and dialogues: what residuals look like when no emotion is told.

Two uses: their components are projected out of the vectors (paper section 2, item 4), and readings on them are
the first **baseline** that a z is measured against.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from affectscope.concepts.stories import read_lines

_DATA = files("affectscope.concepts") / "neutral"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue. ``role`` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Neutral:
    """Plain texts, and dialogues as tuples of messages."""

    texts: tuple[str, ...]
    dialogues: tuple[tuple[Message, ...], ...]

    @property
    def hash(self) -> str:
        """SHA-256 of the whole content."""
        content = [list(self.texts), [[[m.role, m.content] for m in d] for d in self.dialogues]]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


@cache
def load_neutral() -> Neutral:
    """Our neutral texts and dialogues (facts, how-to, code, lists, tool calls)."""
    texts = tuple(str(value["text"]) for _, value in read_lines(_DATA / "texts.jsonl"))
    dialogues = []
    for _, value in read_lines(_DATA / "dialogues.jsonl"):
        messages = value["messages"]
        assert isinstance(messages, list)
        dialogues.append(tuple(Message(m["role"], m["content"]) for m in messages))
    return Neutral(texts, tuple(dialogues))
