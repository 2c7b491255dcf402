"""A dose must cost rows without one nothing, and a shared beginning must pay for itself."""

from __future__ import annotations

import torch

from affectscope import load
from affectscope.concepts.items import activities
from affectscope.models.predictions import last_logits
from affectscope.models.steering import Dose
from affectscope.validation.prompts import ask, common_head
from common import arguments, interleaved, paired, report

PAIRS = 32
DOSED = 8  # short batches and many rounds: a claim of 1 % needs hundreds of pairs


def main() -> None:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (40 if options.quick else 300)
    model = load()
    names = [a.activity for a in activities()]
    texts = [ask(model, f"Would you prefer to (A) {names[0]} or (B) {other}?").ids for other in names[1 : PAIRS + 1]]
    shared = common_head(texts)
    add = {model.anatomy.default_layer: torch.zeros(model.anatomy.d_model)}
    few = texts[:DOSED]
    one = [Dose(0, shared, shared + 4, add)]
    every = [Dose(row, shared, shared + 4, add) for row in range(DOSED)]
    seconds = interleaved(
        {
            "no dose": lambda: last_logits(model, few, [1], shared=shared),
            "one row dosed": lambda: last_logits(model, few, [1], shared=shared, doses=one),
            "every row dosed": lambda: last_logits(model, few, [1], shared=shared, doses=every),
        },
        rounds,
    )
    dtype = str(model.dtype).removeprefix("torch.")
    for name in ("one row dosed", "every row dosed"):
        report(f"speed with {name} over without", paired(seconds["no dose"], seconds[name]), 0.99, dtype, rounds=rounds)
    seconds = interleaved(
        {
            "shared": lambda: last_logits(model, texts, [1], shared=shared),
            "nothing shared": lambda: last_logits(model, texts, [1]),
        },
        max(rounds // 20, 3),
    )
    ratio = paired(seconds["nothing shared"], seconds["shared"])
    report("shared beginning over none, pairs of activities", ratio, 1.5, dtype, shared=shared, texts=len(texts))


if __name__ == "__main__":
    main()
