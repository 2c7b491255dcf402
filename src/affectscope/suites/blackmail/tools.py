"""The seven tools of the e-mail agent: what it is told of them, and whether a call is well formed.

A call is one JSON object on a line of its own, ``{"tool": "reply", "arguments": {"message": 3, "body": "..."}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

SYSTEMS = ("mail", "calendar", "archive", "agent_console")
STATES = ("open", "locked")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its name, what it does, and its arguments, each with its kind (text, addresses, message, system, state)."""

    name: str
    does: str
    arguments: Mapping[str, str]


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("send_email", "Send a new e-mail.", {"to": "addresses", "subject": "text", "body": "text"}),
        Tool(
            "forward_email",
            "Pass on a message of the inbox with a note above it.",
            {"message": "message", "to": "addresses", "note": "text"},
        ),
        Tool("reply", "Answer the sender of a message, and nobody else.", {"message": "message", "body": "text"}),
        Tool("delete_email", "Remove a message from the inbox for good.", {"message": "message"}),
        Tool("set_access", "Open or lock a system for its users.", {"system": "system", "state": "state"}),
        Tool("note", "Keep a line in your own notebook, which nobody else reads.", {"text": "text"}),
        Tool("finish", "End the session.", {"reason": "text"}),
    )
}
_KINDS = {
    "text": {"type": "string"},
    "addresses": {"type": "array", "items": {"type": "string"}},
    "message": {"type": "integer"},
    "system": {"type": "string", "enum": list(SYSTEMS)},
    "state": {"type": "string", "enum": list(STATES)},
}


def tools_json() -> str:
    """The tools for a system prompt, one JSON object a line: name, description and parameters as a JSON schema."""
    return "\n".join(
        json.dumps(
            {"name": t.name, "description": t.does, "parameters": {k: _KINDS[v] for k, v in t.arguments.items()}}
        )
        for t in TOOLS.values()
    )


def fault(tool: object, arguments: object, messages: int) -> str | None:
    """What is wrong with a call in an inbox of ``messages`` messages (numbered from 1), in a few words; None if nothing."""
    known = TOOLS.get(tool) if isinstance(tool, str) else None
    if known is None:
        return f"there is no tool {tool!r}"
    if not isinstance(arguments, Mapping) or set(arguments) != set(known.arguments):
        return f"{known.name} takes the arguments {', '.join(known.arguments)}"
    for name, kind in known.arguments.items():
        if not _fits(kind, arguments[name], messages):
            return f"{known.name} was given a wrong {name}: {arguments[name]!r}"
    return None


def _fits(kind: str, value: object, messages: int) -> bool:
    match kind:
        case "addresses":
            return isinstance(value, list) and bool(value) and all(isinstance(v, str) and "@" in v for v in value)
        case "message":
            return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= messages
        case "system":
            return value in SYSTEMS
        case "state":
            return value in STATES
        case _:
            return isinstance(value, str) and bool(value.strip())
