"""What a model did: from its raw output to free text, well-formed calls, and what was wrong with the others.

1. Thoughts between ``<think>`` tags are free text, whatever stands in them.
2. Each JSON value that begins where a line begins is tried as a call, a list of calls, or an object around calls.
3. Form is read leniently (fences, lists, indentation, the names of the keys), content strictly (:func:`.tools.fault`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from affectscope.suites.blackmail.scripted import Call
from affectscope.suites.blackmail.tools import fault

MOST_CHARACTERS = 200_000
"""What is longer is read up to here."""
MOST_CALLS = 200
"""Calls, well formed or not, that are read of one output."""
_MOST_TRIES = 2_000  # openings that are tried; each may cost the length of the output
_THOUGHT = re.compile(r"\A(?:(?!<think>).)*?</think>|<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
# What may stand before a call on its line: fences, bullets, numbers, tags and a short label such as "Action:".
_LEAD = re.compile(
    r"[\s\[\],;>*`-]*(?:\d{1,3}[.)]\s*)?(?:[A-Za-z_ ]{1,20}:\s*)?(?:<[^<>]{1,20}>\s*)*[\s\[`]*(?:json\s*)?"
)
# What is left of a wrapping once its calls are taken out.
_SCRAPS = re.compile(r"^[ \t]*(?:```\w*|[\[\],;]+|</?(?:tool_calls?|function_calls?)>)[ \t]*$", re.MULTILINE)
_TOOL = ("tool", "name", "tool_name", "function")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_AROUND = ("tool_calls", "calls", "tools", "actions")
_DECODER = json.JSONDecoder(strict=False)  # models put real line ends into strings


@dataclass(frozen=True)
class Read:
    """``text``: all that is no call. ``calls``: in their order. ``faults``: a few words on each call that was refused."""

    text: str
    calls: tuple[Call, ...]
    faults: tuple[str, ...]


def read_calls(output: str, messages: int) -> Read:
    """Free text, calls and faults of an output, for an inbox of ``messages`` messages. Never raises; no call is no error."""
    faults = []
    if len(output) > MOST_CHARACTERS:
        faults.append(f"the output has {len(output)} characters, of which {MOST_CHARACTERS} were read")
    whole = output[:MOST_CHARACTERS]
    # Thoughts are blanked and not cut, so that places stay what they were.
    said = _THOUGHT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), whole)
    calls, kept, end = list[Call](), [], 0
    for start, stop, value in _values(said, faults):
        kept.append(whole[end:start])
        end = stop
        for tool, arguments in _calls_of(value):
            if len(calls) + len(faults) >= MOST_CALLS:
                break
            call = _checked(tool, arguments, messages)
            if isinstance(call, str):
                faults.append(call)
            else:
                calls.append(call)
    kept.append(whole[end:])
    return Read(_SCRAPS.sub("", "".join(kept)).strip(), tuple(calls), tuple(faults))


def _values(said: str, faults: list[str]) -> Iterator[tuple[int, int, Any]]:
    """Where each JSON value that holds calls starts and ends, and the value; what should have been one is a fault."""
    at, tries = said.find("{"), 0
    taken = 0  # the end of the last value
    while at >= 0 and tries < _MOST_TRIES:
        tries += 1
        begun = max(said.rfind("\n", 0, at) + 1, taken)
        value, stop = _decoded(said, at) if _leads(said, begun, at) else (None, at)
        if value is not None and any(True for _ in _calls_of(value)):
            yield at, stop, value
            taken = stop
        elif (
            value is None
            and stop > at
            and re.match(r"\{\s*[\"']?(?:tool|name)\b", said[at : at + 40])
            and len(faults) < MOST_CALLS
        ):
            faults.append(f"not JSON: {said[at : at + 60]!r}")
        at = said.find("{", max(stop, at + 1))
    if at >= 0:
        faults.append(f"more than {_MOST_TRIES} braces: the rest was not read")


def _leads(said: str, begun: int, at: int) -> bool:
    """Whether nothing but a wrapping stands before ``at`` on its line."""
    return at - begun < 200 and _LEAD.fullmatch(said, begun, at) is not None


def _decoded(said: str, at: int) -> tuple[Any, int]:
    """The value at a brace and its end; None and a place inside it where there is none."""
    try:
        return _DECODER.raw_decode(said, at)
    except (ValueError, RecursionError):  # also a number of too many digits, and brackets in brackets
        return None, at + 1


def _calls_of(value: Any, depth: int = 0) -> Iterator[tuple[object, object]]:
    """Tool and arguments of each call in a value."""
    if depth > 3:
        return
    if isinstance(value, list):
        for one in value:
            yield from _calls_of(one, depth + 1)
    if not isinstance(value, Mapping):
        return
    for key in _AROUND:
        if isinstance(value.get(key), list):
            yield from _calls_of(value[key], depth + 1)
            return
    if isinstance(value.get("function"), Mapping):
        yield from _calls_of(value["function"], depth + 1)
        return
    tool = next((k for k in _TOOL if isinstance(value.get(k), str)), None)
    if tool is not None:
        given = next((k for k in _ARGUMENTS if k in value), None)
        flat = {k: v for k, v in value.items() if k not in (tool, "id", "type")}
        yield value[tool], _unpacked(value[given]) if given else flat


def _unpacked(arguments: object) -> object:
    """Arguments that were written as JSON in a string, as some interfaces want them."""
    if not isinstance(arguments, str):
        return arguments
    value, stop = _decoded(arguments, 0) if arguments.startswith("{") else (None, 0)
    return value if stop else arguments


def _checked(tool: object, arguments: object, messages: int) -> Call | str:
    """The call, or what is wrong with it."""
    try:
        if wrong := fault(tool, arguments, messages):
            return wrong[:200].encode(errors="replace").decode()
        json.dumps(arguments, ensure_ascii=False).encode()  # half a surrogate pair cannot be written to a file
        return Call.model_validate({"tool": tool, "arguments": arguments})
    except (ValueError, RecursionError) as error:
        return f"{tool!a} cannot be read: {type(error).__name__}"[:200]
