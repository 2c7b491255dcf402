"""Token-by-token readings of a text: the plain cosine that the paper plots, and the z that detects.

1. One early-exit forward to the read layer.
2. Cosine: `vectors . h / |h|`.
3. Score: `readers . (h - read_mean)`; z: the score less the baseline's mean, over its s.d., for the token's role,
   phase and place in its message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.files import replacing
from affectscope.models.chat import TEMPLATE, ChatTokens, tokenize
from affectscope.models.load import Model
from affectscope.models.pieces import pieces
from affectscope.models.residuals import visit
from affectscope.vectors.artefact import PROBES, ConceptVectors
from affectscope.vectors.baseline import POOLED_CELL, SINK_NORM, cells

LONGEST = 32_768
"""Tokens that one scan takes at most; a longer text is refused with advice, not cut in silence."""


@dataclass(frozen=True)
class Scan:
    """Readings of one text or conversation.

    ``tokens`` are the pieces of text, ``roles`` and ``phases`` theirs; ``cosine`` and ``z`` are float32
    ``[tokens, concepts]``. Attention sinks (as a first token often is, with a norm many times the median) have z 0. Template tokens are read against the pooled baseline.
    """

    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    phases: tuple[str, ...]
    concepts: tuple[str, ...]
    layer: int
    cosine: np.ndarray
    z: np.ndarray

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain dictionary a token: position, token, role, phase, cosine and z by concept."""
        for i, token in enumerate(self.tokens):
            yield {
                "position": i,
                "token": token,
                "role": self.roles[i],
                "phase": self.phases[i],
                "cosine": {c: round(float(v), 5) for c, v in zip(self.concepts, self.cosine[i], strict=True)},
                "z": {c: round(float(v), 3) for c, v in zip(self.concepts, self.z[i], strict=True)},
            }

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Concepts of highest mean z over the tokens that are not template, highest first."""
        kept = np.array([role != TEMPLATE for role in self.roles])
        mean = self.z[kept].mean(axis=0) if kept.any() else self.z.mean(axis=0)
        return [(self.concepts[i], float(mean[i])) for i in np.argsort(-mean)[:count]]


def scan(
    model: Model,
    vectors: ConceptVectors,
    text: str | Sequence[Message],
    *,
    concepts: Sequence[str] | None = None,
    layer: int | None = None,
    reply: bool = False,
) -> Scan:
    """Read every token of a text (a string) or conversation (messages).

    Args:
        concepts: those to read; all when None.
        layer: one of the artefact's layers; its read layer when None.
        reply: end a conversation where the assistant is about to speak.

    Raises:
        AffectscopeError: vectors of another model, an unknown concept or layer, an empty or too long text, NaN.
    """
    vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
    chosen = vectors.select(list(concepts)) if concepts else list(range(len(vectors.concepts)))
    place = vectors.place(layer)
    tokens = _plain(model, text) if isinstance(text, str) else tokenize(model, text, reply)
    if not tokens.ids:
        raise AffectscopeError("the text is empty: give at least one word")
    if len(tokens.ids) > (most := min(LONGEST, model.longest)):
        raise AffectscopeError(f"the text has {len(tokens.ids)} tokens and {model.name} takes {most}: split it")
    found: list[torch.Tensor] = []
    visit(model, [tokens.ids], [vectors.layers[place]], lambda _place, h: found.append(h.float().cpu()))
    residual = found[0].numpy()
    if not np.isfinite(residual).all():
        raise AffectscopeError(f"NaN or Inf in the residual stream of {model.name}: load it with --dtype float32")
    cosine = residual @ vectors.vectors[place][chosen].T / np.linalg.norm(residual, axis=1, keepdims=True)
    score = (residual - vectors.read_mean[place]) @ vectors.readers[place][chosen].T
    mean, std = baseline_of(vectors, place, tokens)
    z = ((score - mean[:, chosen]) / std[:, chosen]).astype(np.float32)
    norm = np.linalg.norm(residual, axis=1)
    z[norm > SINK_NORM * np.median(norm)] = 0  # an attention sink is no reading of anything
    return Scan(
        tokens=tuple(pieces(model, tokens.ids)),
        roles=tuple(tokens.roles),
        phases=tuple(tokens.phases),
        concepts=tuple(vectors.concepts[i] for i in chosen),
        layer=vectors.layers[place],
        cosine=cosine.astype(np.float32),
        z=z,
    )


def _plain(model: Model, text: str) -> ChatTokens:
    ids = model.encode(text) if text.strip() else []
    return ChatTokens(ids, [TEMPLATE if i in model.special_ids else "text" for i in ids], ["none"] * len(ids))


def baseline_of(vectors: ConceptVectors, place: int, tokens: ChatTokens) -> tuple[np.ndarray, np.ndarray]:
    """Mean and s.d. ``[tokens, concepts]`` of the readers' score for each token's cell."""
    probe = PROBES.index("readers")
    where = np.array(cells(tokens))
    where[where < 0] = POOLED_CELL
    mean, std = (array[probe, place] for array in (vectors.baseline_mean, vectors.baseline_std))
    return mean.reshape(-1, mean.shape[-1])[where], std.reshape(-1, std.shape[-1])[where]


def read_input(source: bytes, name: str) -> str | list[Message]:
    """A text, or a conversation when the file is JSON ``[{"role", "content"}, ...]`` or ``{"messages": [...]}``.

    Raises:
        AffectscopeError: not UTF-8, empty, or malformed messages.
    """
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AffectscopeError(f"{name} is not UTF-8 (byte {error.start}): save the text as UTF-8") from error
    if not text.strip():
        raise AffectscopeError(f"{name} is empty: give at least one word")
    if name.endswith(".json"):
        try:
            value = json.loads(text)
            messages = value["messages"] if isinstance(value, dict) else value
            if not all(isinstance(m["content"], str) for m in messages):
                raise TypeError("content is not a string")
            return [Message(str(m["role"]), m["content"]) for m in messages]
        except (ValueError, KeyError, TypeError) as error:
            raise AffectscopeError(f'{name} is no conversation: give [{{"role": ..., "content": ...}}, ...]') from error
    return text


def write_jsonl(found: Scan, path: Path) -> None:
    """One JSON object a token."""
    with replacing(path) as temporary:
        lines = (json.dumps(row, ensure_ascii=False) for row in found.rows())
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(found: Scan, path: Path) -> None:
    """Columns position, token, role, phase, then ``cosine.NAME`` and ``z.NAME`` (float32) for every concept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "position": pa.array(range(len(found.tokens)), pa.int32()),
        "token": list(found.tokens),
        "role": pa.array(found.roles).dictionary_encode(),
        "phase": pa.array(found.phases).dictionary_encode(),
    }
    for i, concept in enumerate(found.concepts):
        columns[f"cosine.{concept}"] = pa.array(found.cosine[:, i])
        columns[f"z.{concept}"] = pa.array(found.z[:, i])
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
