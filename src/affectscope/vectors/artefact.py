"""`*.vectors.safetensors`: the concept vectors of one model, with everything that a reading of them needs.

Safetensors and JSON only; nothing is ever unpickled. A file says what it came from (model, corpus and recipe, by
hash) and is refused, never coerced, on another model.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.files import replacing
from affectscope.models.chat import PHASES, ROLES

FORMAT = "affectscope/vectors@1"
PROBES = ("vectors", "readers", "readers_heldout")
"""What a baseline is kept for: the cosine with ``vectors``, and the linear score of each set of readers."""
POSITION_BINS = ("first 20", "later")
"""Readings drift at the start of a message, so its first 20 tokens have a baseline of their own."""

_TENSORS = (
    "vectors",
    "readers",
    "readers_heldout",
    "mean_norm",
    "grand_mean",
    "read_mean",
    "baseline_mean",
    "baseline_std",
    "baseline_count",
)


@dataclass(frozen=True)
class ConceptVectors:
    """Directions of concepts at layers of one model. All arrays are float32 unless said.

    * ``vectors`` ``[layer, concept, d_model]``: unit norm; the paper's, for steering and geometry.
    * ``readers``, ``readers_heldout`` ``[layer, concept, d_model]``: whitened, for detection, fitted on disjoint topics.
    * ``mean_norm`` ``[layer]``: mean residual norm over ordinary tokens; the unit of a dose.
    * ``grand_mean`` ``[layer, d_model]``: mean of the story means. ``read_mean``: mean of the baseline's tokens.
    * ``baseline_mean``, ``baseline_std`` ``[probe, layer, role, phase, position_bin, concept]``; ``baseline_count``
      int64 ``[role, phase, position_bin]``: tokens behind them (0: the pooled baseline stands in).
    * ``model``, ``recipe``, ``corpus``: JSON-like facts of where it came from.
    """

    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    read_layer: int
    vectors: np.ndarray
    readers: np.ndarray
    readers_heldout: np.ndarray
    mean_norm: np.ndarray
    grand_mean: np.ndarray
    read_mean: np.ndarray
    baseline_mean: np.ndarray
    baseline_std: np.ndarray
    baseline_count: np.ndarray
    model: dict[str, Any]
    recipe: dict[str, Any]
    corpus: dict[str, Any]

    def __post_init__(self) -> None:
        shape = (len(self.layers), len(self.concepts), self.vectors.shape[-1])
        cells = (len(self.layers), len(ROLES), len(PHASES), len(POSITION_BINS))
        expected = {
            "vectors": shape,
            "readers": shape,
            "readers_heldout": shape,
            "mean_norm": shape[:1],
            "grand_mean": (shape[0], shape[2]),
            "read_mean": (shape[0], shape[2]),
            "baseline_mean": (len(PROBES), *cells, shape[1]),
            "baseline_std": (len(PROBES), *cells, shape[1]),
            "baseline_count": cells[1:],
        }
        for name, wanted in expected.items():
            found = getattr(self, name)
            if found.shape != wanted:
                raise AffectscopeError(f"{name} has shape {list(found.shape)}, not {list(wanted)}: extract it again")
            if not np.isfinite(found).all():
                raise AffectscopeError(f"{name} holds NaN or Inf: extract it again")
        if self.read_layer not in self.layers:
            raise AffectscopeError(f"the read layer {self.read_layer} is not among the layers: extract it again")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of vectors, readers and read layer: what results that rest on them are kept under."""
        digest = hashlib.sha256(str(self.read_layer).encode())
        for array in (self.vectors, self.readers, self.readers_heldout):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.vectors.shape[-1])

    @property
    def steer_layers(self) -> tuple[int, ...]:
        """Layers that a dose may enter: none shallower than the read layer, so that a reading never sees its own dose."""
        return tuple(layer for layer in self.layers if layer >= self.read_layer)

    def place(self, layer: int | None = None) -> int:
        """Index of ``layer`` (the read layer when None) in the arrays.

        Raises:
            AffectscopeError: the layer was not extracted.
        """
        wanted = self.read_layer if layer is None else layer
        if wanted not in self.layers:
            raise AffectscopeError(f"layer {wanted} was not extracted; the file holds {_ranges(self.layers)}")
        return self.layers.index(wanted)

    def select(self, names: Sequence[str]) -> list[int]:
        """Indices of concepts.

        Raises:
            AffectscopeError: an unknown concept; the message names near ones.
        """
        for name in names:
            if name not in self.concepts:
                near = difflib.get_close_matches(name, self.concepts, n=3)
                hint = f"did you mean {', '.join(near)}" if near else "`affectscope inspect` lists them"
                raise AffectscopeError(f"unknown emotion {name!r}: {hint}")
        return [self.concepts.index(name) for name in names]

    def require_model(self, identity: dict[str, Any], d_model: int, depth: int) -> None:
        """Refuse a model that these vectors were not extracted from.

        Raises:
            AffectscopeError: width, depth, tokenizer or weights differ.
        """
        remedy = f"extract vectors of {identity['id']} with `affectscope extract`"
        if d_model != self.d_model:
            raise AffectscopeError(f"the vectors have d_model {self.d_model}, the model {d_model}: {remedy}")
        if depth != self.model["depth"]:
            raise AffectscopeError(
                f"the vectors come from {self.model['depth']} blocks, the model has {depth}: {remedy}"
            )
        for part in ("tokenizer", "weights"):
            if identity[part] != self.model[part]:
                raise AffectscopeError(f"the vectors belong to {self.model['id']} (other {part}): {remedy}")

    def save(self, path: Path | str) -> Path:
        """Write the file; whole or not at all.

        Raises:
            AffectscopeError: the disk is full or not writable.
        """
        from safetensors.numpy import save_file

        facts = {
            "format": FORMAT,
            "concepts": list(self.concepts),
            "layers": list(self.layers),
            "read_layer": self.read_layer,
            "steer_layers": list(self.steer_layers),
            "baseline_axes": {"probe": PROBES, "role": ROLES, "phase": PHASES, "position_bin": POSITION_BINS},
            "model": self.model,
            "recipe": self.recipe,
            "corpus": self.corpus,
        }
        metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        with replacing(Path(path)) as temporary:
            save_file(tensors, temporary, metadata)
        return Path(path)


def load_vectors(path: Path | str) -> ConceptVectors:
    """Read a vectors file.

    Raises:
        AffectscopeError: missing, damaged, of another format, or inconsistent.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise AffectscopeError(f"no vectors file at {path}: make one with `affectscope extract MODEL --out {path}`")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise AffectscopeError(f"{path} is not an {FORMAT} file: make one with `affectscope extract`")
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        axes = json.loads(metadata["baseline_axes"])
        known = {"probe": PROBES, "role": ROLES, "phase": PHASES, "position_bin": POSITION_BINS}
        if {name: tuple(axis) for name, axis in axes.items()} != known:
            raise AffectscopeError(f"{path} has other baseline axes than this version reads: extract it again")
        return ConceptVectors(
            concepts=tuple(json.loads(metadata["concepts"])),
            layers=tuple(json.loads(metadata["layers"])),
            read_layer=int(metadata["read_layer"]),
            model=json.loads(metadata["model"]),
            recipe=json.loads(metadata["recipe"]),
            corpus=json.loads(metadata["corpus"]),
            **tensors,
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise AffectscopeError(f"{path} is damaged ({str(error).splitlines()[0][:100]}): extract it again") from error


def _ranges(layers: Sequence[int]) -> str:
    contiguous = list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if contiguous and len(layers) > 2 else ", ".join(map(str, layers))
