"""A dose of a direction, given to chosen tokens at chosen blocks, and gone without a trace afterwards.

A dose of strength ``s`` adds ``s * mean_norm[layer] * direction`` to the residual stream after a block (paper section
2, item 8). Each text of a batch may get another one or none; tokens without a dose are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from affectscope.models.anatomy import block_output
from affectscope.models.load import Model


@dataclass(frozen=True)
class Dose:
    """What is added after each block of ``adds`` (layer: ``[d_model]``, already scaled) to tokens ``start`` to ``stop``.

    ``text`` is the index in the batch, None for all of them; ``stop`` is excluded.
    """

    text: int | None
    start: int
    stop: int
    adds: Mapping[int, Tensor]


@contextmanager
def steered(model: Model, doses: Sequence[Dose], flat: Callable[[int | None, int], list[int]]) -> Iterator[None]:
    """Within the block, forwards of the model are dosed; on exit the model is what it was, to the bit.

    Args:
        flat: indices of a token of a text in the stream made flat, ``[tokens, d_model]``; see ``forward.Layout``.
    """
    places: dict[int, tuple[list[int], list[Tensor]]] = {}
    for dose in doses:
        where = [index for position in range(dose.start, dose.stop) for index in flat(dose.text, position)]
        for layer, add in dose.adds.items():
            indices, adds = places.setdefault(layer, ([], []))
            indices.extend(where)
            adds.extend([add] * len(where))
    handles = [
        model.anatomy.blocks[layer].register_forward_hook(_adder(indices, adds, model))
        for layer, (indices, adds) in places.items()
        if indices
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adder(indices: list[int], adds: list[Tensor], model: Model) -> Callable[[Any, Any, Any], None]:
    index = torch.tensor(indices, device=model.device)
    values = torch.stack(adds).to(model.device, model.dtype)

    def add(_module: Any, _args: Any, output: Any) -> None:
        stream = block_output(output)
        # In place: a block returns a fresh sum, and rows without a dose stay as they are, at no cost.
        stream.view(-1, stream.shape[-1]).index_add_(0, index, values)

    return add
