"""OpenAI's objects: what a reply, a chunk and the list of models look like on the wire."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from affectscope.models.load import Model
from affectscope.monitoring.monitor import Reading
from affectscope.server.choices import Choice
from affectscope.server.deltas import tool_calls


class Shapes:
    """Objects of one answer: they share its id, its moment and its model."""

    def __init__(self, model: str, chat: bool, fingerprint: str) -> None:
        self.chat = chat
        self._head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid4().hex,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    @property
    def id(self) -> str:
        """The answer's."""
        return str(self._head["id"])

    def chunk(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """A piece of a stream."""
        return {**self._head, "object": "chat.completion.chunk" if self.chat else "text_completion", "choices": list(choices), **more}  # fmt: skip

    def whole(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """An answer at once."""
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head, "object": kind, "choices": list(choices), "usage": dict(usage), **more}

    def delta(self, index: int, text: str, logprobs: Any, first: bool) -> dict[str, Any]:
        """New text of one choice."""
        if not self.chat:
            return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}

    def end(self, index: int, choice: Choice, first: bool) -> dict[str, Any]:
        """The end of one choice in a stream."""
        made = choice.assembler
        if not self.chat:
            return {"index": index, "text": "", "logprobs": None, "finish_reason": made.reason}
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        if calls := tool_calls(made, streamed=True):
            delta["tool_calls"] = calls
        if made.refusal:
            delta["refusal"] = made.refusal
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": made.reason}

    def choice(self, index: int, choice: Choice, logprobs: Any) -> dict[str, Any]:
        """One choice of an answer at once."""
        made = choice.assembler
        if not self.chat:
            return {"index": index, "text": made.text, "logprobs": logprobs, "finish_reason": made.reason}
        calls = tool_calls(made, streamed=False)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if calls else made.text,
            "refusal": made.refusal or None,
        }
        if calls:
            message["tool_calls"] = calls
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": made.reason}


def usage(choices: Sequence[Choice]) -> dict[str, int]:
    """Tokens of all choices; those that were written and taken back count too, and a prompt that several share counts once."""
    prompts: dict[object, int] = {}
    for choice in choices:
        prompts.setdefault(choice.asked.messages, choice.asked.prompt)
    prompt, written = sum(prompts.values()), sum(choice.tokens for choice in choices)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def logprobs_of(model: Model, readings: Sequence[Reading], chat: bool, offset: int = 0) -> dict[str, Any] | None:
    """Log-probabilities of a piece's tokens, in the form of either route; None where they were not asked for.

    Args:
        offset: characters in front of the piece, for completions.
    """
    drawn = [(r.step, r.step.drawn) for r in readings if r.step.drawn is not None]
    if not drawn:
        return None
    if chat:
        return {
            "content": [
                {**_token(step.text, values.logprob),
                 "top_logprobs": [_token(_text(model, token), value) for token, value in values.likeliest]}
                for step, values in drawn
            ],
            "refusal": None,
        }  # fmt: skip
    offsets, at = [], offset
    for step, _ in drawn:
        offsets.append(at)
        at += len(step.text)
    return {
        "tokens": [step.text for step, _ in drawn],
        "token_logprobs": [values.logprob for _, values in drawn],
        "top_logprobs": [{_text(model, token): value for token, value in values.likeliest} for _, values in drawn],
        "text_offset": offsets,
    }


def models(name: str, made: float, more: Mapping[str, Any]) -> dict[str, Any]:
    """The one model that is served."""
    return {"id": name, "object": "model", "created": int(made), "owned_by": "affectscope", "affect": dict(more)}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}


def _text(model: Model, token: int) -> str:
    return str(model.tokenizer.decode([token]))
