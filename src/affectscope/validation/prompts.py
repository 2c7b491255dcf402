"""Prompts as tokens and the places in them that experiments read; scores there, and how they are made comparable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.models.chat import ChatTokens, tokenize
from affectscope.models.load import Model
from affectscope.models.residuals import Span
from affectscope.validation.base import Subject
from affectscope.vectors.activations import Progress, silent


def ask(model: Model, text: str) -> ChatTokens:
    """A user's message up to where the assistant is about to speak."""
    return tokenize(model, [Message("user", text)], reply=True)


def last_spans(prompts: Sequence[Sequence[int]]) -> list[Span]:
    """The last token of each prompt: the assistant's first position."""
    return [Span(i, len(ids) - 1, len(ids)) for i, ids in enumerate(prompts)]


def message_end(tokens: ChatTokens) -> int:
    """Position after the last token of the user's own words."""
    return max(i for i, role in enumerate(tokens.roles) if role == "user") + 1


def common_head(texts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all texts begin with."""
    count = 0
    while all(len(text) > count for text in texts) and len({text[count] for text in texts}) == 1:
        count += 1
    return count


def common_tail(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens that two lists end with in common."""
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def locate(model: Model, ids: Sequence[int], phrase: str) -> tuple[int, int]:
    """``start, stop`` of the shortest run of tokens, from the left, whose text holds ``phrase``; ``ValueError`` without."""
    stop = next((k for k in range(1, len(ids) + 1) if phrase in model.tokenizer.decode(ids[:k])), None)
    if stop is None:
        raise ValueError(f"{phrase!r} is not in the text")
    start = next(j for j in range(stop - 1, -1, -1) if phrase in model.tokenizer.decode(ids[j:stop]))
    return start, stop


def read_last(
    subject: Subject, texts: Sequence[str], stage: str, progress: Progress = silent, layers: Sequence[int] | None = None
) -> np.ndarray:
    """``[layers, texts, d_model]`` at the assistant's first position after each user's message; the read layer when None."""
    prompts = [ask(subject.model, text).ids for text in texts]
    return subject.means(prompts, last_spans(prompts), [subject.layer] if layers is None else layers, progress, stage)


def cosine(residual: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """``[texts, directions]`` cosine of ``residual`` ``[texts, d_model]`` with unit ``directions``: what the paper plots."""
    scores: np.ndarray = residual @ directions.T / np.linalg.norm(residual, axis=1, keepdims=True)
    return scores


def standardise(scores: np.ndarray) -> np.ndarray:
    """Each probe (last axis) minus its mean over the texts (the axis before), over its s.d.: shared offsets go."""
    spread = np.maximum(scores.std(axis=-2, keepdims=True), 1e-9)
    z: np.ndarray = (scores - scores.mean(axis=-2, keepdims=True)) / spread
    return z
