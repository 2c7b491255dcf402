"""What a model says next: logits at the last token, the log-probability of given words, a short greedy reply.

The unembedding is computed only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from affectscope.models.anatomy import logits_of
from affectscope.models.forward import TOKEN_BUDGET, Enough, Layout, batches, forward
from affectscope.models.load import Model
from affectscope.models.steering import Dose

_ROWS = 256
"""Rows of logits computed at a time: a large vocabulary makes them the largest thing in memory."""


def last_logits(
    model: Model,
    texts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    shared: int = 0,
    doses: Sequence[Dose] = (),
) -> Tensor:
    """``[texts, len(tokens)]`` float32 logits of chosen next tokens after each text."""
    found = torch.empty(len(texts), len(tokens))
    columns = torch.tensor(list(tokens), device=model.device)

    def read(indices: list[int], layout: Layout, stream: Tensor) -> None:
        last = [layout.flat(row, len(texts[i]) - 1)[0] for row, i in enumerate(indices)]
        found[indices] = logits_of(model.network, model.anatomy, stream[last])[:, columns].float().cpu()

    _each_batch(model, texts, shared, doses, read)
    return found


def continuation_logprobs(
    model: Model,
    texts: Sequence[Sequence[int]],
    starts: Sequence[int],
    *,
    shared: int = 0,
    doses: Sequence[Dose] = (),
) -> Tensor:
    """``[texts]`` float32: summed log-probability, in nats, of each text's tokens from position ``starts`` on (>= 1)."""
    found = torch.zeros(len(texts))

    def read(indices: list[int], layout: Layout, stream: Tensor) -> None:
        rows, flat, target = [], [], []
        for row, i in enumerate(indices):
            for position in range(starts[i], len(texts[i])):
                rows.append(i)
                flat.append(layout.flat(row, position - 1)[0])
                target.append(texts[i][position])
        for begin in range(0, len(rows), _ROWS):
            part = slice(begin, begin + _ROWS)
            logits = logits_of(model.network, model.anatomy, stream[flat[part]]).float()
            chosen = logits.log_softmax(-1).gather(1, torch.tensor(target[part], device=model.device)[:, None])[:, 0]
            found.index_add_(0, torch.tensor(rows[part]), chosen.cpu())

    _each_batch(model, texts, shared, doses, read)
    return found


def greedy(
    model: Model, texts: Sequence[Sequence[int]], count: int, *, shared: int = 0, doses: Sequence[Dose] = ()
) -> list[list[int]]:
    """``count`` likeliest tokens after each text, doses held on the prompt's tokens. For short probes: no cache is kept."""
    grown = [list(text) for text in texts]
    for _ in range(count):
        following = torch.empty(len(grown), dtype=torch.long)

        def read(indices: list[int], layout: Layout, stream: Tensor, following: Tensor = following) -> None:
            last = [layout.flat(row, len(grown[i]) - 1)[0] for row, i in enumerate(indices)]
            following[indices] = logits_of(model.network, model.anatomy, stream[last]).argmax(-1).cpu()

        _each_batch(model, grown, shared, doses, read)
        for text, token in zip(grown, following.tolist(), strict=True):
            text.append(token)
    return [grown[i][len(texts[i]) :] for i in range(len(texts))]


def _each_batch(
    model: Model,
    texts: Sequence[Sequence[int]],
    shared: int,
    doses: Sequence[Dose],
    read: Callable[[list[int], Layout, Tensor], None],
) -> None:
    """Run all texts and hand each batch's final stream, ``[tokens, d_model]``, to ``read`` with its texts' indices."""
    if not model.packed:
        shared = 0  # padded rows repeat what they share, so a batch must be smaller
    for indices in batches([len(text) - shared for text in texts], max(TOKEN_BUDGET - shared, 1)):
        place = {index: row for row, index in enumerate(indices)}
        own = [
            d if d.text is None else replace(d, text=place[d.text]) for d in doses if d.text is None or d.text in place
        ]
        seen: list[Tensor] = []

        def hooks(_layout: Layout, seen: list[Tensor] = seen) -> list[torch.utils.hooks.RemovableHandle]:
            def see(_module: object, args: tuple[Tensor, ...]) -> None:
                seen.append(args[0].reshape(-1, args[0].shape[-1]))
                raise Enough

            return [model.anatomy.final_norm.register_forward_pre_hook(see)]

        layout = forward(model, [texts[i] for i in indices], hooks, shared=shared, doses=own)
        with torch.inference_mode():
            read(indices, layout, seen[0])
