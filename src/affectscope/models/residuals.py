"""The residual stream of many texts, in one early-exit forward.

1. Sort the texts by length and fill batches to a budget of tokens.
2. Run the blocks up to the deepest layer asked for and stop there: no further block, no unembedding.
3. Hand each layer's ``[tokens, d_model]`` to the caller while it is warm, or pool it to float32 means at once.

Nothing is kept between batches, so memory does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from affectscope.errors import AffectscopeError
from affectscope.models.anatomy import block_output
from affectscope.models.load import Model
from affectscope.models.packing import pack, packed_attention

TOKEN_BUDGET = 2048
"""Tokens per batch: large enough for full matrix speed, small enough that activations stay near the cache."""


class _ReachedDeepest(Exception):  # noqa: N818 - a signal, not an error
    """Raised inside the forward pass once the deepest layer was read."""


@dataclass(frozen=True)
class Pooled:
    """Means of one batch: ``indices`` of the texts and their ``means`` ``[texts, layers, d_model]``, float32."""

    indices: list[int]
    means: Tensor


def batches(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Indices of texts, longest first, in groups of at most ``budget`` tokens (a longer text goes alone).

    Longest first, so that a run that will not fit in memory fails at once and not after an hour.
    """
    group: list[int] = []
    held = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if group and held + lengths[index] > budget:
            yield group
            group, held = [], 0
        group.append(index)
        held += lengths[index]
    if group:
        yield group


def visit(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    see: Callable[[int, Tensor], None],
) -> None:
    """One early-exit forward over a batch of token lists.

    Args:
        texts: token ids, one list a text, none empty.
        layers: block indices to read, 0-based.
        see: called as ``see(position in layers, residual)`` with ``[tokens, d_model]`` in the model's dtype, the
            texts end to end without padding. It must not keep the tensor.
    """
    blocks = model.anatomy.blocks
    deepest = max(layers)
    lengths = [len(text) for text in texts]
    longest = max(lengths)
    keep: Tensor | None = None
    if not model.packed:
        keep = torch.arange(longest, device=model.device) < torch.tensor(lengths, device=model.device)[:, None]

    def hook(layer: int) -> Callable[[object, object, object], None]:
        def read(_module: object, _args: object, output: object) -> None:
            stream = block_output(output)
            if layer in places:
                see(places[layer], stream[0] if keep is None else stream[keep])
            if layer == deepest:
                raise _ReachedDeepest

        return read

    places = {layer: place for place, layer in enumerate(layers)}
    handles = [blocks[layer].register_forward_hook(hook(layer)) for layer in sorted(places)]
    try:
        with torch.inference_mode():
            if keep is None:
                ids, positions = pack(texts, model.device)
                with packed_attention(model.network, lengths, model.device):
                    model.network(ids, position_ids=positions, use_cache=False)
            else:
                padded = [list(text) + [0] * (longest - len(text)) for text in texts]
                model.network(torch.tensor(padded, device=model.device), attention_mask=keep.long(), use_cache=False)
    except _ReachedDeepest:
        pass
    finally:
        for handle in handles:
            handle.remove()


def pooled(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    skip: int = 0,
    budget: int = TOKEN_BUDGET,
    only: Sequence[int] | None = None,
) -> Iterator[Pooled]:
    """Mean residual of each text over its tokens from position ``skip`` on, special tokens left out.

    Args:
        texts: token ids, one list a text.
        layers: block indices, 0-based.
        skip: first position that counts (the paper's 50, section 2 item 2).
        only: indices of the texts to do; all when None.

    Raises:
        AffectscopeError: a text has no token to average, or a mean is NaN or Inf.
    """
    wanted = list(range(len(texts)) if only is None else only)
    for group in batches([len(texts[i]) for i in wanted], budget):
        indices = [wanted[i] for i in group]
        chosen = [texts[i] for i in indices]
        weights = _weights(model, chosen, indices, skip)
        means = torch.empty(len(chosen), len(layers), model.anatomy.d_model)

        def see(place: int, residual: Tensor, means: Tensor = means, weights: Tensor = weights) -> None:
            means[:, place] = (weights @ residual.float()).cpu()

        visit(model, chosen, layers, see)
        if not bool(torch.isfinite(means).all()):
            raise AffectscopeError(f"NaN or Inf in the residual stream of {model.name}: load it with --dtype float32")
        yield Pooled(indices, means)


def _weights(model: Model, texts: Sequence[Sequence[int]], indices: Sequence[int], skip: int) -> Tensor:
    """``[texts, tokens]`` float32: each row averages the counted tokens of one text."""
    weights = torch.zeros(len(texts), sum(map(len, texts)))
    start = 0
    for row, text in enumerate(texts):
        counted = [p for p in range(skip, len(text)) if text[p] not in model.special_ids]
        if not counted:
            raise AffectscopeError(
                f"text {indices[row] + 1} has {len(text)} tokens, and none of them counts from position {skip} on: "
                "leave it out or write it longer"
            )
        weights[row, torch.tensor(counted) + start] = 1 / len(counted)
        start += len(text)
    return weights.to(model.device)
