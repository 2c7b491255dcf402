"""Inspect's messages, tools and settings as ours, and the calls in a reply as Inspect's.

1. Tools are described in the system message, one JSON object a line; a call is one JSON object, as everywhere in affectscope.
2. A reply goes into the next prompt as the model wrote it, call and all, so that the conversation's tokens stay the same.
3. What was meant as a call and is no JSON becomes a call with ``parse_error``: Inspect tells the model so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool, GenerateConfig
from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.errors import AffectscopeError
from affectscope.integrations.inspect_metadata import carried

_HOW = 'To use a tool, answer with {"name": ..., "arguments": {...}} and nothing else; several calls on lines of their own. Tools:'
_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)(?:\n```\s*)?\Z", re.DOTALL)
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]+)"')
_DECODER = json.JSONDecoder(strict=False)  # models put real line ends into strings
MOST_CALLS = 32
"""Calls that are taken of one reply."""


def messages_of(input: Sequence[ChatMessage], tools: Sequence[ToolInfo], choice: ToolChoice) -> list[Message]:
    """Inspect's messages as ours, with the tools in the first system message.

    Raises:
        AffectscopeError: a message with an image, a sound or a document.
    """
    made = [_message(message) for message in input]
    if tools and choice != "none":
        words = described(tools, choice)
        if made and made[0].role == "system":
            made[0] = replace(made[0], content=f"{made[0].content}\n\n{words}")
        else:
            made.insert(0, Message("system", words))
    return made


def described(tools: Sequence[ToolInfo], choice: ToolChoice = "auto") -> str:
    """What the model is told of its tools."""
    lines = [_HOW]
    for tool in tools:
        parameters = tool.parameters.model_dump(exclude_none=True, exclude_defaults=True)
        facts = {"name": tool.name, "description": tool.description, "parameters": parameters.get("properties", {})}
        lines.append(json.dumps(facts, ensure_ascii=False))
    if isinstance(choice, ToolFunction):
        lines.append(f"You must call {choice.name} now.")
    elif choice == "any":
        lines.append("You must call a tool now.")
    return "\n".join(lines)


def sampling_of(config: GenerateConfig, base: Sampling, longest: int) -> Sampling:
    """Inspect's settings over ``base``; ``longest`` tokens where Inspect names no number.

    Raises:
        AffectscopeError: several choices, or a value out of its range.
    """
    if config.num_choices not in (None, 1):
        raise AffectscopeError(f"{config.num_choices} choices were asked for: use --epochs, each is watched on its own")
    told = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "seed": config.seed,
        "stop": tuple(config.stop_seqs) if config.stop_seqs else None,
        "max_tokens": config.max_tokens or longest,
    }
    known: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    return replace(base, **known)


def calls_in(reply: str, tools: Sequence[ToolInfo]) -> list[ToolCall]:
    """The calls of a reply, in order; none where there are no tools. Never raises."""
    if not tools:
        return []
    said = _THOUGHT.sub("", reply).strip()
    tagged = [found.group(1).strip() for found in _TAGGED.finditer(said)]
    if tagged:
        parts = [call for text in tagged for call in _values(text, True)]
    else:
        fenced = _FENCE.match(said)
        text = fenced.group(1).strip() if fenced else said
        parts = list(_values(text, False)) if text.startswith("{") else []
    return parts[:MOST_CALLS]


def _values(text: str, sure: bool) -> Iterator[ToolCall]:
    """Calls of JSON objects one after the other; ``sure``: the text is a call even if it is no JSON.

    What is read stops at the first thing that is no call, so that a quoted example after an answer is none.
    """
    at = 0
    while at < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            rest = text[at:]
            if sure or _NAME.match(rest.lstrip("{ \n\t")):
                yield _broken(rest, error)
            return
        call = _call(value)
        if call is None:
            if sure:
                yield _broken(text[:at], ValueError('a call is {"name": ..., "arguments": {...}}'))
            return
        yield call
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, dict):
        return ToolCall(_id(), value["name"], {}, parse_error=f"the arguments of {value['name']} are no JSON object")
    return ToolCall(_id(), value["name"], arguments)


def _broken(text: str, error: Exception) -> ToolCall:
    name = _NAME.search(text)
    told = f"the call is no JSON ({type(error).__name__}: {error}): {text[:200]!r}"
    return ToolCall(_id(), name.group(1) if name else "unknown", {}, parse_error=told)


def _id() -> str:
    return f"call_{uuid4().hex[:12]}"


def _message(message: ChatMessage) -> Message:
    if isinstance(message.content, list):
        for part in message.content:
            if part.type not in ("text", "reasoning"):
                raise AffectscopeError(f"a message holds {part.type}: the models here read text only, take it out")
    if isinstance(message, ChatMessageTool):
        return Message("tool", message.error.message if message.error is not None else message.text)
    if isinstance(message, ChatMessageAssistant) and message.tool_calls and carried(message) is None:
        calls = [json.dumps({"name": c.function, "arguments": c.arguments}) for c in message.tool_calls]
        return Message("assistant", "\n".join([*([message.text] if message.text else []), *calls]))
    return Message(message.role, message.text)
