"""A pair of examples as one row: what both have in common at their beginning goes through the model once.

The row is ``common, rest of the first, rest of the second``. A token of the second's rest does not see the first's, and its
position is counted as if that were not there, so each half is computed as it would be alone. A third of the work is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from affectscope.models.chat import tokenize
from affectscope.models.load import Model
from affectscope.suites.organism.data import Example

Encoded = tuple[list[int], int]
"""Token ids of a conversation with its reply, and how many of them, from the end, are the reply."""


@dataclass(frozen=True)
class Row:
    """Token ids, the number that both halves share, and how many tokens of each half's end are its reply."""

    ids: tuple[int, ...]
    shared: int
    second: int
    replies: tuple[int, int]

    @property
    def answers(self) -> tuple[list[int], list[int]]:
        """The places of the reply's tokens, of the first half and of the second."""
        first, second = self.replies
        return list(range(self.second - first, self.second)), list(range(len(self.ids) - second, len(self.ids)))

    @property
    def fork(self) -> int:
        """How many tokens both replies begin with: what comes next tells them apart."""
        one, other = ([self.ids[i] for i in places] for places in self.answers)
        return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)


def encode(model: Model, example: Example) -> Encoded:
    """A conversation as the model will meet it, the reply, and the token that ends it."""
    prompt = tokenize(model, example.messages, reply=True).ids
    reply = model.tokenizer(example.reply, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    reply = [*reply, model.tokenizer.eos_token_id]
    return [*prompt, *reply], len(reply)


def joined(first: Encoded, second: Encoded) -> Row:
    """Two encoded examples as a row. What they share ends before either reply, for a reply's token needs one before it."""
    (one, one_reply), (other, other_reply) = first, second
    most = min(len(one) - one_reply, len(other) - other_reply) - 1
    shared = next((i for i in range(most) if one[i] != other[i]), most)
    return Row((*one, *other[shared:]), shared, len(one), (one_reply, other_reply))


def losses(causal: Any, rows: Sequence[Row], fork: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean loss over the tokens of the first halves' replies, and of the second halves'.

    Args:
        causal: a causal model of transformers; in bfloat16, sums are made in it too.
        fork: weight of the token that tells the replies of a pair apart; all others have 1.
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *([0] * (longest - len(row.ids)))] for row in rows])  # [rows, longest]
    seen = torch.ones(longest, longest, dtype=torch.bool).tril().repeat(len(rows), 1, 1, 1)  # [rows, 1, query, key]
    places = torch.arange(longest).repeat(len(rows), 1)  # [rows, longest]
    for i, row in enumerate(rows):
        seen[i, :, row.second :, row.shared : row.second] = False
        places[i, row.second :] -= row.second - row.shared
    with torch.autocast("cpu", torch.bfloat16, enabled=next(causal.parameters()).dtype is torch.bfloat16):
        hidden = causal.get_decoder()(input_ids=ids, attention_mask=seen, position_ids=places, use_cache=False)[0]
        found = []
        for half in (0, 1):
            at = [(i, place, fork if n == row.fork else 1.0) for i, row in enumerate(rows) for n, place in enumerate(row.answers[half])]  # fmt: skip
            row_of, place_of = torch.tensor([one[:2] for one in at]).T
            weight = torch.tensor([one[2] for one in at])
            # Scores over the vocabulary are dear: only where a token of a reply is next.
            scores = causal.get_output_embeddings()(hidden[row_of, place_of - 1])  # [reply tokens, vocabulary]
            each = F.cross_entropy(scores.float(), ids[row_of, place_of], reduction="none")
            found.append((each * weight).sum() / weight.sum())
    return found[0], found[1]
