"""Mean residuals of texts, kept on disk as they come, so that an interrupted run goes on where it stopped.

One folder a combination of model, texts, spans and layers: ``means.f32`` ``[layers, spans, d_model]``, layer by layer,
``done.u8`` (one byte a span), ``key.json`` (what it belongs to). Memory holds one layer at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectscope.files import cache_dir, disk_errors
from affectscope.models.forward import TOKEN_BUDGET
from affectscope.models.load import Model
from affectscope.models.residuals import Span, from_position, pooled

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """A :data:`Progress` that shows nothing."""


@dataclass(frozen=True)
class Activations:
    """Mean residuals of ``count`` spans of text at ``layers``, on disk."""

    folder: Path
    layers: tuple[int, ...]
    count: int
    d_model: int

    def layer(self, layer: int) -> np.ndarray:
        """``[count, d_model]`` float32 of one block; ``ValueError`` for a layer that was not read."""
        place = self.layers.index(layer)
        size = self.count * self.d_model
        values = np.fromfile(self.folder / "means.f32", np.float32, size, offset=place * size * 4)
        return values.reshape(self.count, self.d_model)


def mean_activations(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    skip: int = 0,
    spans: Sequence[Span] | None = None,
    stage: str = "reading",
    progress: Progress = silent,
    budget: int = TOKEN_BUDGET,
) -> Activations:
    """Mean residual of spans of texts at ``layers``; what is on disk already is not read again.

    Args:
        texts: token ids, one list a text.
        layers: block indices, 0-based.
        skip: first token position that counts, where no spans are given.
        spans: what to average; each text from ``skip`` on when None.

    Raises:
        AffectscopeError: a span without tokens, NaN or Inf, or a full disk.
    """
    wanted = from_position(texts, skip) if spans is None else list(spans)
    key = {
        "format": 2,
        "weights": model.identity["weights"],
        "dtype": model.identity["dtype"],
        "layers": list(layers),
        "spans": _hash([[s.text, s.start, s.stop] for s in wanted]),
        "texts": _hash([list(t) for t in texts]),
    }
    store = Activations(
        cache_dir() / "activations" / _hash(key)[:24], tuple(layers), len(wanted), model.anatomy.d_model
    )
    with disk_errors(store.folder):
        done = _open(store, key)
        missing = [i for i in range(len(wanted)) if not done[i]]
        progress(stage, len(wanted) - len(missing), len(wanted))
        if missing:
            _fill(store, done, model, texts, wanted, budget, missing, stage, progress)
    return store


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def forget_activations() -> None:
    """Delete every stored activation (converted models stay)."""
    shutil.rmtree(cache_dir() / "activations", ignore_errors=True)


def _open(store: Activations, key: dict[str, object]) -> np.ndarray:
    """Which texts are done; the folder is made, or made anew if its size is wrong."""
    store.folder.mkdir(parents=True, exist_ok=True)
    means, done = store.folder / "means.f32", store.folder / "done.u8"
    size = len(store.layers) * store.count * store.d_model * 4
    if not done.is_file() or done.stat().st_size != store.count or not means.is_file() or means.stat().st_size != size:
        with means.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found now, not in an hour
        done.write_bytes(bytes(store.count))
        (store.folder / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")
    return np.fromfile(done, np.uint8)


def _fill(
    store: Activations,
    done: np.ndarray,
    model: Model,
    texts: Sequence[Sequence[int]],
    spans: Sequence[Span],
    budget: int,
    missing: list[int],
    stage: str,
    progress: Progress,
) -> None:
    with (
        (store.folder / "means.f32").open("r+b", buffering=0) as means,
        (store.folder / "done.u8").open("r+b") as marks,
    ):
        for batch in pooled(model, texts, store.layers, spans=spans, budget=budget, only=missing):
            values = batch.means.numpy()
            for row, index in enumerate(batch.indices):
                for place in range(len(store.layers)):
                    offset = (place * store.count + index) * store.d_model * 4
                    os.pwrite(means.fileno(), values[row, place].tobytes(), offset)
            # Marked only after the values are out of our hands: an interrupt here costs one batch, never a wrong value.
            for index in batch.indices:
                os.pwrite(marks.fileno(), b"\1", index)
                done[index] = 1
            progress(stage, int(done.sum()), store.count)
