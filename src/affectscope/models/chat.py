"""A conversation as tokens, each with the role and phase that it belongs to.

1. The model's own template is rendered with a placeholder in place of every message, so what is template and
   what is message is known by construction, not by searching the text.
2. The real messages are put in and the whole is tokenised; a token belongs to the message it starts in.
3. If a special token turns up inside a message, somebody wrote it there: the messages are then tokenised as
   plain text, so that user text cannot forge a role.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model

ROLES = ("text", "system", "user", "assistant", "tool")
"""Roles a baseline knows; ``text`` is plain text outside any conversation."""
TEMPLATE = "template"
"""Role of the tokens that the template itself put in; no baseline counts them."""
PHASES = ("none", "answer", "thinking", "tool_call")
"""Phases of assistant tokens; every other role has ``none``."""

_SLOT = "affectscopeslot{}end"
_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class ChatTokens:
    """Token ids of a conversation and, for each, its role and phase."""

    ids: list[int] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)


def tokenize(model: Model, messages: Sequence[Message], reply: bool = False) -> ChatTokens:
    """Tokens of a conversation through the model's chat template (plain ``Human:``/``Assistant:`` without one).

    Args:
        messages: turns in order; roles system, user, assistant, tool.
        reply: end where the assistant is about to speak, so that the last token is its first position.

    Raises:
        AffectscopeError: no message, an unknown role, or a template that drops messages.
    """
    if not messages:
        raise AffectscopeError("an empty conversation cannot be read: give at least one message")
    for message in messages:
        if message.role not in ROLES[1:]:
            raise AffectscopeError(f"unknown role {message.role!r}: use one of {', '.join(ROLES[1:])}")
    frame = _frame(model, messages, reply)
    spans: list[tuple[str, str, str]] = []  # (text, role, phase), in order
    for piece in re.split(r"(affectscopeslot\d+end)", frame):
        slot = re.fullmatch(r"affectscopeslot(\d+)end", piece)
        spans += _message_spans(messages[int(slot[1])]) if slot else [(piece, TEMPLATE, "none")]
    return _encode(model, [span for span in spans if span[0]])


def _frame(model: Model, messages: Sequence[Message], reply: bool) -> str:
    """The rendered template with a slot in place of each message's content."""
    slots = [Message(m.role, _SLOT.format(i)) for i, m in enumerate(messages)]
    if not getattr(model.tokenizer, "chat_template", None):
        return _plain_frame(slots, reply)
    for attempt in (slots, _folded(slots)):
        try:
            rendered: str = model.tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in attempt], tokenize=False, add_generation_prompt=reply
            )
        except Exception:
            continue
        if all(s.content in rendered for s in slots):
            return rendered
    raise AffectscopeError(f"the chat template of {model.name} drops messages of this conversation: simplify its roles")


def _folded(slots: Sequence[Message]) -> list[Message]:
    """For templates that know only user and assistant: system and tool text becomes user text, runs are merged."""
    folded: list[Message] = []
    for slot in slots:
        role = "assistant" if slot.role == "assistant" else "user"
        if folded and folded[-1].role == role:
            folded[-1] = replace(folded[-1], content=f"{folded[-1].content}\n\n{slot.content}")
        else:
            folded.append(Message(role, slot.content))
    return folded


def _plain_frame(slots: Sequence[Message], reply: bool) -> str:
    names = {"user": "Human: ", "assistant": "Assistant: ", "tool": "Tool: ", "system": ""}
    turns = [names[s.role] + s.content for s in slots]
    return "\n\n".join(turns + ["Assistant:"] * reply)


def _message_spans(message: Message) -> list[tuple[str, str, str]]:
    text = message.content
    if message.role != "assistant":
        return [(text, message.role, "none")]
    if text.lstrip().startswith("{") and text.rstrip().endswith("}"):
        return [(text, "assistant", "tool_call")]
    thought = _THINK.match(text)
    cut = thought.end() if thought else 0
    return [(text[:cut], "assistant", "thinking"), (text[cut:], "assistant", "answer")]


def _encode(model: Model, spans: list[tuple[str, str, str]]) -> ChatTokens:
    whole = "".join(text for text, _, _ in spans)
    encoded = model.tokenized(whole, add_special_tokens=False, return_offsets_mapping=True)
    ends, position = [], 0
    for text, _, _ in spans:
        position += len(text)
        ends.append(position)
    tokens, place = ChatTokens(), 0
    for token, (start, _stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        while place < len(spans) - 1 and start >= ends[place]:
            place += 1
        _, role, phase = spans[place]
        if token in model.special_ids and role != TEMPLATE:
            return _encode_apart(model, spans)
        _append(tokens, [token], role, phase)
    return tokens


def _encode_apart(model: Model, spans: list[tuple[str, str, str]]) -> ChatTokens:
    """Tokenise template and messages separately, the latter with special tokens read as ordinary text."""
    tokens = ChatTokens()
    for text, role, phase in spans:
        ids = model.tokenized(text, add_special_tokens=False, split_special_tokens=role != TEMPLATE)["input_ids"]
        _append(tokens, ids, role, phase)
    return tokens


def _append(tokens: ChatTokens, ids: list[int], role: str, phase: str) -> None:
    tokens.ids.extend(ids)
    tokens.roles.extend([role] * len(ids))
    tokens.phases.extend([phase] * len(ids))
