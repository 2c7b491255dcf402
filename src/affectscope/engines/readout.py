"""What is read at a block, as one matrix product inside the forward pass; only scores leave the device.

Columns stand probe by probe, concept by concept. The linear probes are of ``h - read_mean``; ``vectors`` is the plain
dot product, which becomes the paper's cosine when divided by the residual's norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from affectscope.errors import AffectscopeError
from affectscope.models.anatomy import Anatomy, block_output
from affectscope.vectors.artefact import PROBES, ConceptVectors


@dataclass(frozen=True)
class Readout:
    """Which concepts, by which probes, at which layers.

    ``weights`` float32 ``[layer, d_model, probe * concept]`` and ``offsets`` ``[layer, probe * concept]``: a score is
    ``h @ weights - offsets``.
    """

    layers: tuple[int, ...]
    probes: tuple[str, ...]
    concepts: tuple[str, ...]
    weights: np.ndarray
    offsets: np.ndarray

    @cached_property
    def on_cpu(self) -> tuple[Tensor, Tensor]:
        """The arrays as tensors."""
        return torch.from_numpy(self.weights), torch.from_numpy(self.offsets)


def readout(
    vectors: ConceptVectors,
    concepts: Sequence[str] = (),
    layers: Sequence[int] = (),
    probes: Sequence[str] = ("readers", "readers_heldout"),
) -> Readout:
    """A read-out of ``vectors``.

    Args:
        concepts: all when empty.
        layers: the artefact's read layer when empty.
        probes: of ``readers`` (detection), ``readers_heldout`` (the judge of an action) and ``vectors`` (the paper's).

    Raises:
        AffectscopeError: an unknown concept, layer or probe.
    """
    if unknown := [p for p in probes if p not in PROBES]:
        raise AffectscopeError(f"unknown probe {unknown[0]!r}: use some of {', '.join(PROBES)}")
    chosen = vectors.select(list(concepts)) if concepts else list(range(len(vectors.concepts)))
    wanted = tuple(layers) or (vectors.read_layer,)
    weights, offsets = [], []
    for layer in wanted:
        place = vectors.place(layer)
        rows = np.concatenate([getattr(vectors, probe)[place][chosen] for probe in probes])
        linear = np.repeat([probe != "vectors" for probe in probes], len(chosen))
        weights.append(np.ascontiguousarray(rows.T, dtype=np.float32))
        offsets.append(np.where(linear, rows @ vectors.read_mean[place], 0).astype(np.float32))
    names = tuple(vectors.concepts[i] for i in chosen)
    return Readout(wanted, tuple(probes), names, np.stack(weights), np.stack(offsets))


class Reader:
    """A read-out on the device of one model's blocks. Between ``with`` blocks nothing of it is left on the model."""

    def __init__(self, anatomy: Anatomy, read: Readout) -> None:
        self._anatomy, self.read = anatomy, read
        device = next(anatomy.blocks.parameters()).device
        weights, offsets = read.on_cpu
        # A row a score, which is how one token's product runs fastest; much of watching's cost is reading this matrix.
        self._weights = weights.transpose(1, 2).contiguous().to(device)
        self._offsets = -offsets.to(device)
        self._found: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Within the block, each forward pass leaves its scores; see :meth:`take`."""
        blocks = self._anatomy.blocks
        handles = [
            blocks[layer].register_forward_hook(self._hook(layer, place))
            for place, layer in enumerate(self.read.layers)
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """``{layer: (scores [tokens, probes, concepts], norms [tokens])}`` of the last forward pass, once."""
        found, self._found = self._found, {}
        shape = (-1, len(self.read.probes), len(self.read.concepts))
        return {
            layer: (scores.cpu().numpy().reshape(shape), norms.cpu().numpy())
            for layer, (scores, norms) in found.items()
        }

    def _hook(self, layer: int, place: int) -> Callable[[object, object, object], None]:
        weights, offsets = self._weights[place], self._offsets[place]

        def see(_module: object, _args: object, output: object) -> None:
            stream = block_output(output)
            flat = stream.reshape(-1, stream.shape[-1]).float()
            scores = (
                torch.addmv(offsets, weights, flat[0])[None]
                if len(flat) == 1
                else torch.nn.functional.linear(flat, weights, offsets)
            )
            self._found[layer] = scores, torch.linalg.vector_norm(flat, dim=-1)

        return see
