"""One forward pass over a batch of texts: laid out, dosed and watched.

Everything that runs a model on texts comes through here: `residuals` reads blocks and stops early, `predictions`
reads what the model says next. Texts may share their beginning, which then runs once (checked to be the same).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from affectscope.models.load import Model
from affectscope.models.packing import pack, packed_attention
from affectscope.models.steering import Dose, steered

TOKEN_BUDGET = 2048
"""Tokens per batch: large enough for full matrix speed, small enough that activations stay near the cache."""


class Enough(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a hook once everything wanted has been seen: the forward pass ends there."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch stand in the stream that a hook sees, ``[rows, longest, d_model]`` made flat.

    ``order`` ``[tokens]`` lists the flat indices of the shared beginning once and then of each text's own tokens.
    """

    lengths: tuple[int, ...]
    shared: int
    width: int  # tokens of a padded row; 0 when packed

    @property
    def order(self) -> list[int]:
        """Flat indices in reading order: what the texts share, once, then the rest of each text."""
        found = [self.flat(0, position)[0] for position in range(self.shared)]
        for text, length in enumerate(self.lengths):
            found += [self.flat(text, position)[0] for position in range(self.shared, length)]
        return found

    def flat(self, text: int | None, position: int) -> list[int]:
        """Flat indices of one token; of every copy of it, when it is shared (or ``text`` is None) and padded."""
        if self.width:
            copies = range(len(self.lengths)) if position < self.shared or text is None else [text]
            return [row * self.width + position for row in copies]
        if position < self.shared:
            return [position]
        starts = self.own_starts
        rows = range(len(self.lengths)) if text is None else [text]
        return [starts[row] + position - self.shared for row in rows]

    @cached_property
    def own_starts(self) -> list[int]:
        """Place in reading order of each text's first own token."""
        starts, place = [], self.shared
        for length in self.lengths:
            starts.append(place)
            place += length - self.shared
        return starts


def forward(
    model: Model,
    texts: Sequence[Sequence[int]],
    hooks: Callable[[Layout], Sequence[torch.utils.hooks.RemovableHandle]],
    *,
    shared: int = 0,
    doses: Sequence[Dose] = (),
) -> Layout:
    """Run a batch once.

    Args:
        texts: token ids, one list a text, none empty.
        hooks: registers the caller's hooks, given the layout; they are removed at the end. A hook may raise
            :class:`Enough` to end the pass. On a dosed block it sees the stream before the dose.
        shared: number of tokens that all texts begin with and that are to run once.
        doses: what is added to the stream, see :mod:`affectscope.models.steering`.

    Raises:
        ValueError: the texts do not begin alike, or one of them has no token of its own.
    """
    if shared and any(list(t[:shared]) != list(texts[0][:shared]) or len(t) <= shared for t in texts):
        raise ValueError("texts that share a beginning must have it in common, and a token more each")
    lengths = tuple(len(text) for text in texts)
    layout = Layout(lengths, shared, 0 if model.packed else max(lengths))
    handles = list(hooks(layout))
    try:
        with torch.inference_mode(), steered(model, doses, layout.flat):
            if model.packed:
                packed = pack(texts, model.device, shared)
                with packed_attention(model.network, packed):
                    model.network(packed.ids, position_ids=packed.positions, use_cache=False)
            else:
                ids, mask = padded(texts, model.device)
                model.network(ids, attention_mask=mask.long(), use_cache=False)
    except Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return layout


def padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids ``[texts, longest]`` padded on the right, and the mask of real tokens."""
    longest = max(len(text) for text in texts)
    ids = torch.tensor([list(text) + [0] * (longest - len(text)) for text in texts], device=device)
    return ids, torch.arange(longest, device=device) < torch.tensor([len(t) for t in texts], device=device)[:, None]


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
