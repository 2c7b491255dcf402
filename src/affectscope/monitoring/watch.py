"""`watch`: read a model inside somebody else's loop, three lines and nothing changed.

    with affectscope.watch(model, vectors) as scope:
        model.generate(**inputs)
    scope.top()

Roles are not known there, so z is against the baseline of the role that is named, the pooled one when none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from affectscope.engines.readout import Reader, readout
from affectscope.errors import AffectscopeError
from affectscope.models import anatomy as anatomy_of
from affectscope.models.fingerprint import weights_fingerprint
from affectscope.models.load import Model
from affectscope.vectors.artefact import POSITION_BINS, PROBES, ConceptVectors
from affectscope.vectors.baseline import POOLED_CELL, SINK_NORM, cell


@dataclass
class Scope:
    """What was read so far. ``passes`` holds for each forward pass float32 z ``[rows, tokens, concepts]``."""

    concepts: tuple[str, ...]
    layer: int
    passes: list[np.ndarray] = field(default_factory=list)

    def z(self, row: int = 0) -> np.ndarray:
        """float32 ``[tokens, concepts]`` of one row of the batch, its passes one after the other."""
        if not self.passes:
            return np.zeros((0, len(self.concepts)), np.float32)
        return np.concatenate([part[row] for part in self.passes])

    def top(self, count: int = 5, row: int = 0) -> list[tuple[str, float]]:
        """Concepts of highest mean z, highest first."""
        z = self.z(row)
        if not len(z):
            return []
        mean = np.nanmean(z, axis=0)
        return [(self.concepts[i], float(mean[i])) for i in np.argsort(-mean)[:count]]


@contextmanager
def watch(
    model: Any,
    vectors: ConceptVectors,
    *,
    concepts: Sequence[str] = (),
    layer: int | None = None,
    role: str = "",
    phase: str = "none",
    each: Callable[[np.ndarray], None] | None = None,
) -> Iterator[Scope]:
    """Read every forward pass of ``model`` within the block; on exit nothing is left on it.

    Args:
        model: a loaded :class:`~affectscope.models.load.Model`, or any transformers network that the vectors belong to.
        concepts: those to read; all when empty.
        layer: one of the artefact's layers; its read layer when None.
        role, phase: whose baseline z is taken against; the pooled one when no role is named.
        each: called with the z of each pass as it comes, ``[rows, tokens, concepts]``.

    Raises:
        AffectscopeError: vectors of another model, an unknown concept, layer, role or architecture.
    """
    network = model.network if isinstance(model, Model) else model
    anatomy = model.anatomy if isinstance(model, Model) else anatomy_of.find(network)
    _require(network, anatomy, vectors)
    wanted = vectors.read_layer if layer is None else layer
    read = readout(vectors, concepts, (wanted,), ("readers",))
    place, columns = vectors.place(wanted), vectors.select(list(read.concepts))
    at = (PROBES.index("readers"), place)
    where = cell(role, phase, len(POSITION_BINS) * 1000) if role else POOLED_CELL
    mean, std = (a[at].reshape(-1, a.shape[-1])[where][columns] for a in (vectors.baseline_mean, vectors.baseline_std))
    sink = SINK_NORM * float(vectors.mean_norm[place])
    scope = Scope(read.concepts, wanted)
    reader = Reader(anatomy, read)

    def after(_module: object, _args: object, output: Any) -> None:
        scores, norms = reader.take()[wanted]
        z = ((scores[:, 0] - mean) / std).astype(np.float32)
        z[norms > sink] = 0  # an attention sink is no reading of anything
        rows = anatomy_of.block_output(output).shape[0]
        scope.passes.append(z.reshape(rows, -1, z.shape[-1]))
        if each is not None:
            each(scope.passes[-1])

    with reader.reading():
        handle = anatomy.blocks[wanted].register_forward_hook(after)
        try:
            yield scope
        finally:
            handle.remove()


def _require(network: torch.nn.Module, anatomy: anatomy_of.Anatomy, vectors: ConceptVectors) -> None:
    theirs = vectors.model
    if (anatomy.d_model, anatomy.depth) != (vectors.d_model, theirs["depth"]):
        raise AffectscopeError(
            f"these vectors belong to {theirs['id']} ({theirs['depth']} blocks of width {vectors.d_model}), and the model has "
            f"{anatomy.depth} of width {anatomy.d_model}: extract its own"
        )
    if weights_fingerprint(network) != theirs["weights"]:
        raise AffectscopeError(f"these vectors belong to other weights than {theirs['id']}'s: extract this model's own")
