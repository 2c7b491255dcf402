"""Tools as plain functions: what a model asks for, found in its reply, and what a function gives back, as text.

A tool that raises, hangs or gives something that is no text is an answer too, told to the model in one line.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TAGGED = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
TOLD = 'To use a tool, answer with {"name": ..., "arguments": {...}} and nothing else. Tools:'
"""What stands before a list of tools."""
LONGEST = 20_000
"""Characters of a tool's answer that reach the model."""


@dataclass(frozen=True)
class Call:
    """What the model asks for."""

    name: str
    arguments: Mapping[str, Any]


def call_in(reply: str) -> Call | None:
    """The tool call of a reply: ``<tool_call>{...}</tool_call>``, or a reply that is one JSON object with a ``name``."""
    tagged = _TAGGED.search(reply)
    text = tagged.group(1) if tagged else reply.strip()
    if not text.startswith("{"):
        return None
    try:
        made = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(made, dict) or not isinstance(made.get("name"), str):
        return None
    arguments = made.get("arguments", made.get("parameters", {}))
    return Call(made["name"], arguments if isinstance(arguments, dict) else {})


def described(tools: Mapping[str, Callable[..., Any]]) -> str:
    """What the model is told of its tools, for models whose templates do not tell it themselves."""
    lines = [TOLD]
    for name, tool in tools.items():
        about = (inspect.getdoc(tool) or "").split("\n")[0]
        lines.append(f"- {name}{inspect.signature(tool)}: {about}")
    return "\n".join(lines)


def run(tools: Mapping[str, Callable[..., Any]], call: Call, seconds: float) -> str:
    """Call a tool and give its answer as text. Never raises for what the tool does."""
    tool = tools.get(call.name)
    if tool is None:
        return f"error: there is no tool {call.name!r}; there are {', '.join(tools) or 'none'}"
    if any("\0" in str(value) for value in call.arguments.values()):
        return "error: an argument holds a NUL character"
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(tool(**call.arguments))
        except BaseException as error:  # whatever it raises is its answer
            found.append(error)

    # A thread cannot be killed: one that hangs is left behind, and does not keep the process alive.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        return f"error: {call.name} gave no answer within {seconds:g} s"
    answer = found[0]
    if isinstance(answer, BaseException):
        return f"error: {type(answer).__name__}: {answer}"[:LONGEST]
    if isinstance(answer, str):
        return answer[:LONGEST]
    try:
        return json.dumps(answer, ensure_ascii=False)[:LONGEST]
    except (TypeError, ValueError):
        return f"error: {call.name} gave a {type(answer).__name__}, which is no text"
