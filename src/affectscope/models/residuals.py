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
from affectscope.models.forward import TOKEN_BUDGET, Enough, Layout, batches, forward
from affectscope.models.load import Model
from affectscope.models.steering import Dose


@dataclass(frozen=True)
class Span:
    """Tokens ``start`` to ``stop`` (excluded) of one text, whose mean is wanted."""

    text: int
    start: int
    stop: int


@dataclass(frozen=True)
class Pooled:
    """Means of one batch: ``indices`` of the spans and their ``means`` ``[spans, layers, d_model]``, float32."""

    indices: list[int]
    means: Tensor


def from_position(texts: Sequence[Sequence[int]], skip: int) -> list[Span]:
    """One span a text, from position ``skip`` to its end (the paper's 50, section 2 item 2)."""
    return [Span(i, skip, max(len(text), skip)) for i, text in enumerate(texts)]


def visit(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    see: Callable[[int, Tensor], None],
    *,
    shared: int = 0,
    doses: Sequence[Dose] = (),
) -> Layout:
    """One early-exit forward over a batch of token lists.

    Args:
        texts: token ids, one list a text, none empty.
        layers: block indices to read, 0-based.
        see: called as ``see(position in layers, residual)`` with ``[tokens, d_model]`` in the model's dtype, in the
            layout's reading order (the texts end to end without padding), before any dose at that layer. It must not
            keep the tensor.
        shared, doses: see :func:`affectscope.models.forward.forward`.
    """
    deepest = max(layers)
    places = {layer: place for place, layer in enumerate(layers)}

    def hooks(layout: Layout) -> list[torch.utils.hooks.RemovableHandle]:
        order = None if model.packed else torch.tensor(layout.order, device=model.device)

        def hook(layer: int) -> Callable[[object, object, object], None]:
            def read(_module: object, _args: object, output: object) -> None:
                stream = block_output(output)
                flat = stream.reshape(-1, stream.shape[-1])
                see(places[layer], flat if order is None else flat[order])
                if layer == deepest:
                    raise Enough

            return read

        return [model.anatomy.blocks[layer].register_forward_hook(hook(layer)) for layer in sorted(places)]

    return forward(model, texts, hooks, shared=shared, doses=doses)


def pooled(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    skip: int = 0,
    spans: Sequence[Span] | None = None,
    budget: int = TOKEN_BUDGET,
    only: Sequence[int] | None = None,
) -> Iterator[Pooled]:
    """Mean residual over spans of texts, special tokens left out (unless a span has no other). Each text runs once.

    Args:
        texts: token ids, one list a text.
        layers: block indices, 0-based.
        skip: first position that counts, where no spans are given.
        spans: what to average; each text from ``skip`` on when None.
        only: indices of the spans to do; all when None.

    Raises:
        AffectscopeError: a span has no token, or a mean is NaN or Inf.
    """
    spans = from_position(texts, skip) if spans is None else spans
    for chosen, indices, weights in span_batches(model, texts, spans, budget, only):
        means = torch.empty(len(indices), len(layers), model.anatomy.d_model)

        def see(place: int, residual: Tensor, means: Tensor = means, weights: Tensor = weights) -> None:
            means[:, place] = (weights @ residual.float()).cpu()

        visit(model, [texts[i] for i in chosen], layers, see)
        if not bool(torch.isfinite(means).all()):
            raise AffectscopeError(f"NaN or Inf in the residual stream of {model.name}: load it with --dtype float32")
        yield Pooled(indices, means)


def span_batches(
    model: Model,
    texts: Sequence[Sequence[int]],
    spans: Sequence[Span],
    budget: int = TOKEN_BUDGET,
    only: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], list[int], Tensor]]:
    """Texts in batches with the spans that lie in them, each text once.

    Yields the indices of the texts, those of the spans, and ``[spans, tokens]`` weights that average each span over the
    texts end to end.

    Raises:
        AffectscopeError: a span has no token.
    """
    by_text: dict[int, list[int]] = {}
    for index in range(len(spans)) if only is None else only:
        by_text.setdefault(spans[index].text, []).append(index)
    order = list(by_text)
    for group in batches([len(texts[i]) for i in order], budget):
        chosen = [order[i] for i in group]
        indices = [index for text in chosen for index in by_text[text]]
        yield chosen, indices, _weights(model, texts, chosen, [spans[i] for i in indices])


def _weights(model: Model, texts: Sequence[Sequence[int]], chosen: Sequence[int], spans: Sequence[Span]) -> Tensor:
    """``[spans, tokens]`` float32: each row averages the counted tokens of one span over the texts end to end."""
    starts, total = {}, 0
    for index in chosen:
        starts[index] = total
        total += len(texts[index])
    weights = torch.zeros(len(spans), total)
    for row, span in enumerate(spans):
        text = texts[span.text]
        inside = range(span.start, min(span.stop, len(text)))
        counted = [p for p in inside if text[p] not in model.special_ids] or list(inside)
        if not counted:
            raise AffectscopeError(
                f"text {span.text + 1} has {len(text)} tokens, and none of them counts from position {span.start} on: "
                "leave it out or write it longer"
            )
        weights[row, torch.tensor(counted) + starts[span.text]] = 1 / len(counted)
    return weights.to(model.device)
