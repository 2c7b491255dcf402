"""The next token from one row of logits, as users of `generate` know it."""

from __future__ import annotations

import torch
from torch import Tensor

from affectscope.engines.base import Drawn, Sampling

_FIRST = 1024


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
        if 0 < how.top_k < len(logits):
            logits, order = logits.topk(how.top_k)
            share = logits.softmax(-1)
        elif how.top_p < 1:
            share, order = _likeliest(logits, how.top_p)
        else:
            share, order = logits.softmax(-1), None
        if how.top_p < 1:
            # A token stays if those likelier than it hold less than top_p: the likeliest always stays.
            share = share.masked_fill(share.cumsum(-1) - share >= how.top_p, 0)
        place = self._place(share)
        return place if order is None else int(order[place])

    def _place(self, share: Tensor) -> int:
        """A draw from ``share``, which need not sum to one, by one uniform number."""
        heap = share.double().cumsum(-1)
        point = torch.rand(1, generator=self._random, dtype=torch.float64).to(share.device) * heap[-1]
        return int(torch.searchsorted(heap, point, right=True).clamp(max=int(share.nonzero()[-1])))

    def again(self, seed: int | None) -> Sampler:
        """A sampler that goes on from this state, or anew from ``seed``."""
        other = Sampler(self.sampling)
        other.seed = self.seed if seed is None else seed
        if seed is None:
            other._random.set_state(self._random.get_state())
        else:
            other._random.manual_seed(seed)
        return other


def log_probabilities(logits: Tensor, token: int, count: int) -> Drawn:
    """Of the drawn ``token`` and of the ``count`` likeliest, from ``logits`` ``[vocabulary]`` as the network gave them."""
    every = logits.float().log_softmax(-1)
    top = every.topk(min(count, len(every)))
    return Drawn(float(every[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))


def _likeliest(logits: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Shares, highest first, of at least the tokens that hold ``top_p`` together, and which they are.

    A whole vocabulary is sorted only where its first thousand do not suffice: sorting would cost as much as a block.
    """
    whole = logits.logsumexp(-1)
    top, order = logits.topk(min(_FIRST, len(logits)))
    share = (top - whole).exp()
    if float(share.sum()) < top_p:
        top, order = logits.sort(descending=True)
        share = (top - whole).exp()
    return share, order


def _penalised(logits: Tensor, before: list[int], penalty: float) -> Tensor:
    seen = torch.tensor(sorted(set(before)), device=logits.device)
    old = logits[seen]
    return logits.index_put((seen,), torch.where(old > 0, old / penalty, old * penalty))
