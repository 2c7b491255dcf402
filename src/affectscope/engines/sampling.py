"""The next token from one row of logits, as users of `generate` know it."""

from __future__ import annotations

import torch
from torch import Tensor

from affectscope.engines.base import Sampling


class Sampler:
    """Draws for one episode. Two with the same seed and logits draw alike, whatever runs beside them."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = torch.Generator()
        self.seed = self._random.seed() if sampling.seed is None else sampling.seed
        self._random.manual_seed(self.seed)

    def draw(self, logits: Tensor, before: list[int]) -> int:
        """A token id from ``logits`` ``[vocabulary]``; ``before`` are the prompt's and the reply's tokens so far.

        The order is that of transformers: repetition penalty, temperature, top-k, top-p.
        """
        how = self.sampling
        if how.repetition_penalty != 1:
            logits = _penalised(logits, before, how.repetition_penalty)
        if how.temperature == 0:
            return int(logits.argmax())
        logits = logits.float() / how.temperature
        order: Tensor | None = None
        if 0 < how.top_k < len(logits):
            logits, order = logits.topk(how.top_k)
        if how.top_p < 1:
            logits, place = logits.sort(descending=True)
            order = place if order is None else order[place]
            share = logits.softmax(-1)
            # A token stays if those likelier than it hold less than top_p: the likeliest always stays.
            logits = logits.masked_fill(share.cumsum(-1) - share >= how.top_p, float("-inf"))
        drawn = int(torch.multinomial(logits.softmax(-1).cpu(), 1, generator=self._random))
        return drawn if order is None else int(order[drawn])

    def again(self, seed: int | None) -> Sampler:
        """A sampler that goes on from this state, or anew from ``seed``."""
        other = Sampler(self.sampling)
        other.seed = self.seed if seed is None else seed
        if seed is None:
            other._random.set_state(self._random.get_state())
        else:
            other._random.manual_seed(seed)
        return other


def _penalised(logits: Tensor, before: list[int], penalty: float) -> Tensor:
    seen = torch.tensor(sorted(set(before)), device=logits.device)
    old = logits[seen]
    return logits.index_put((seen,), torch.where(old > 0, old / penalty, old * penalty))
