"""What another engine's JSON says, as text for a reader: conversations as messages, and replies as one text each.

A thought stands in think marks in front of the answer, and a tool call is JSON, as in conversations that the reader was
calibrated on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from affectscope.concepts.neutral import Message

_ROLES = {"developer": "system", "function": "tool"}
_THINK, _NO_THINK = "<think>\n", "\n</think>\n\n"


class Said:
    """One reply's words as they come.

    Args:
        skip: characters at its beginning that are not its own, where a completion repeats its prompt.
    """

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._thinking = self._began = False
        self._call: Any = None

    def push(self, part: Mapping[str, Any]) -> str:
        """What a choice's ``delta`` or ``message``, or the choice of a completion, adds to the text."""
        text = ""
        thought = part.get("reasoning_content") or part.get("reasoning")
        if isinstance(thought, str) and thought:
            text += ("" if self._thinking else _THINK) + thought
            self._thinking = self._began = True
        for name in ("content", "text", "refusal"):
            if words := text_in(part.get(name)):
                text += self._answer() + words
        calls = part.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, Mapping):
                text += self._called(call, place)
        self._began = self._began or bool(text)
        skipped, self._skip = text[self._skip :], max(0, self._skip - len(text))
        return skipped

    def end(self) -> str:
        """What closes the text."""
        return self._close_call()

    def _answer(self) -> str:
        closed, self._thinking = (_NO_THINK if self._thinking else ""), False
        return closed

    def _called(self, call: Mapping[str, Any], place: int) -> str:
        function = call.get("function")
        if not isinstance(function, Mapping):
            return ""
        text, index = self._answer(), call.get("index", place)
        if index != self._call:
            text += self._close_call() + ("\n" if self._began and not text else "")
            text += f'{{"name": {json.dumps(function.get("name"), ensure_ascii=False)}, "arguments": '
            self._call, self._began = index, True
        arguments = function.get("arguments")
        return text + (arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else "")

    def _close_call(self) -> str:
        closed, self._call = ("" if self._call is None else "}"), None
        return closed


def conversation(given: object) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """A request's messages, and the kinds of their parts that are no text. What is no list of messages is no conversation."""
    messages, others = list[Message](), set[str]()
    for one in given if isinstance(given, list) else ():
        if not isinstance(one, Mapping):
            return (), ()
        content = one.get("content")
        if isinstance(content, list):
            others |= {str(p.get("type"))[:32] for p in content if isinstance(p, Mapping) and "text" not in p}
        text, said = text_in(content), Said()
        if calls := said.push({"tool_calls": one.get("tool_calls")}) + said.end():
            text = f"{text}\n{calls}" if text else calls
        role = str(one.get("role"))
        messages.append(Message(_ROLES.get(role, role), text))
    return tuple(messages), tuple(sorted(others))


def prompts(given: object) -> Sequence[str]:
    """A completion's prompts; what is no text (token ids, of another vocabulary) is empty."""
    some = given if isinstance(given, list) and not all(isinstance(one, int) for one in given) else [given]
    return [one if isinstance(one, str) else "" for one in some]


def text_in(content: object) -> str:
    """The text of a content, which is a text or a list of parts."""
    if isinstance(content, list):
        return "".join(text_in(part.get("text")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
