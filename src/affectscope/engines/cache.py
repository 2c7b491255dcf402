"""Keys and values of many episodes, and attention that finds each token's own.

A forward pass gets one row ``[1, tokens]`` in which every episode has a segment: a piece of its prompt, or one token.
Matrix products see all tokens at once; attention alone looks up the episode's slot. Slots stand side by side,
``[slots, kv_heads, room, head_dim]`` a layer, so that a batch of single tokens attends in one call without copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectscope.models.packing import attend, replaced_attention

_NAME = "affectscope_cached"
_ROOM = 256  # tokens a slot has at first; doubled when one grows out of it


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``start`` to ``stop`` of the episode in ``slot``; earlier ones are in the cache."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True)
class _Plan:
    """Where a forward pass writes and how it attends, the same for every layer."""

    cache: Cache
    segments: Sequence[Segment]
    slots: Tensor  # [tokens]
    positions: Tensor  # [tokens]
    single: bool  # every segment is one token
    compact: bool  # slots 0..n-1 in order: the cache is used as it lies
    longest: int
    seen: Tensor | None  # [segments, longest] which keys a single token sees; None when all


_plan: ContextVar[_Plan | None] = ContextVar("plan", default=None)


class Cache:
    """Keys and values by layer, made when the first forward pass shows their shapes."""

    def __init__(self, slots: int) -> None:
        self._slots, self._room = slots, _ROOM
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def write(self, layer: int, key: Tensor, value: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
        """Store ``key``, ``value`` ``[1, kv_heads, tokens, head_dim]``; returns the whole layer."""
        if layer not in self._layers:
            self._layers[layer] = (self._empty(key), self._empty(value))
        keys, values = self._layers[layer]
        if len(plan.segments) == 1:  # a slice is written faster than scattered places
            (s,) = plan.segments
            keys[s.slot, :, s.start : s.stop] = key[0]
            values[s.slot, :, s.start : s.stop] = value[0]
        else:
            keys[plan.slots, :, plan.positions] = key[0].transpose(0, 1)
            values[plan.slots, :, plan.positions] = value[0].transpose(0, 1)
        return keys, values

    @torch.inference_mode()
    def make_room(self, tokens: int) -> None:
        """Have every slot hold at least ``tokens``."""
        if tokens <= self._room:
            return
        while self._room < tokens:
            self._room *= 2
        for layer, pair in self._layers.items():
            grown = tuple(self._empty(old) for old in pair)
            for new, old in zip(grown, pair, strict=True):
                new[:, :, : old.shape[2]] = old
            self._layers[layer] = (grown[0], grown[1])

    @torch.inference_mode()
    def copy(self, source: int, target: int, tokens: int) -> None:
        """Make ``target`` begin as ``source`` does."""
        for pair in self._layers.values():
            for tensor in pair:
                tensor[target, :, :tokens] = tensor[source, :, :tokens]

    @torch.inference_mode()
    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange what two slots begin with."""
        for pair in self._layers.values():
            for tensor in pair:
                kept = tensor[one, :, :tokens].clone()
                tensor[one, :, :tokens] = tensor[other, :, :tokens]
                tensor[other, :, :tokens] = kept

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_zeros(self._slots, like.shape[1], self._room, like.shape[3])


@contextmanager
def cached_attention(network: nn.Module, cache: Cache, segments: Sequence[Segment]) -> Iterator[Tensor]:
    """Within the block the network's attention reads and writes ``cache``; gives the position ids ``[1, tokens]``."""
    device = next(network.parameters()).device
    longest = max(s.stop for s in segments)
    cache.make_room(longest)
    positions = torch.tensor([p for s in segments for p in range(s.start, s.stop)], device=device)
    slots = torch.tensor([s.slot for s in segments for _ in range(s.start, s.stop)], device=device)
    single = all(s.stop - s.start == 1 for s in segments)
    uneven = single and any(s.stop != longest for s in segments)
    seen = torch.arange(longest, device=device) <= positions[:, None] if uneven else None
    compact = [s.slot for s in segments] == list(range(len(segments)))
    token = _plan.set(_Plan(cache, segments, slots, positions, single, compact, longest, seen))
    try:
        with replaced_attention(network, _NAME, _attention):
            yield positions[None]
    finally:
        _plan.reset(token)


def _attention(
    module: Any,
    query: Tensor,  # [1, heads, tokens, head_dim]
    key: Tensor,  # [1, kv_heads, tokens, head_dim]
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each segment to its episode; the signature is transformers' attention interface."""
    plan = _plan.get()
    assert plan is not None
    keys, values = plan.cache.write(module.layer_idx, key, value, plan)
    if plan.single:
        return _single(plan, query, keys, values, scaling, sliding_window), None
    parts, begin = [], 0
    for s in plan.segments:
        own = query[:, :, begin : begin + s.stop - s.start]
        k, v = (t[s.slot, :, : s.stop][None] for t in (keys, values))
        parts.append(attend(own, k, v, scaling, sliding_window)[0].transpose(0, 1))
        begin += s.stop - s.start
    return torch.cat(parts)[None], None


def _single(
    plan: _Plan, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """One token an episode: heads that share a key stand as its queries, so that no key is repeated in memory."""
    count, heads, kv_heads = query.shape[2], query.shape[1], keys.shape[1]
    if plan.compact:
        k, v = keys[:count, :, : plan.longest], values[:count, :, : plan.longest]
    else:
        k, v = keys[plan.slots, :, : plan.longest], values[plan.slots, :, : plan.longest]
    q = query[0].transpose(0, 1).reshape(count, kv_heads, heads // kv_heads, query.shape[3])
    seen = plan.seen
    if window is not None and plan.longest > window:
        place = torch.arange(plan.longest, device=query.device)
        near = place > plan.positions[:, None] - window
        seen = near & (place <= plan.positions[:, None])
    mask = None if seen is None else seen[:, None, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    return out.reshape(1, count, heads, query.shape[3])
