"""Mean residuals of texts, kept on disk as they come, so that an interrupted run goes on where it stopped.

One folder a combination of model, texts and layers: ``means.f32`` ``[layers, texts, d_model]``, layer by layer,
``done.u8`` (one byte a text), ``key.json`` (what it belongs to). Memory holds one layer at a time.
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
from affectscope.models.load import Model
from affectscope.models.residuals import TOKEN_BUDGET, pooled

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """A :data:`Progress` that shows nothing."""


@dataclass(frozen=True)
class Activations:
    """Mean residuals of ``texts`` texts at ``layers``, on disk."""

    folder: Path
    layers: tuple[int, ...]
    texts: int
    d_model: int

    def layer(self, layer: int) -> np.ndarray:
        """``[texts, d_model]`` float32 of one block; ``ValueError`` for a layer that was not read."""
        place = self.layers.index(layer)
        count = self.texts * self.d_model
        values = np.fromfile(self.folder / "means.f32", np.float32, count, offset=place * count * 4)
        return values.reshape(self.texts, self.d_model)


def mean_activations(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    skip: int,
    stage: str = "reading",
    progress: Progress = silent,
    budget: int = TOKEN_BUDGET,
) -> Activations:
    """Mean residual of each text from position ``skip`` on, at ``layers``; texts already on disk are not read again.

    Args:
        texts: token ids, one list a text.
        layers: block indices, 0-based.
        skip: first token position that counts.

    Raises:
        AffectscopeError: a text too short, NaN or Inf, or a full disk.
    """
    key = {
        "format": 1,
        "weights": model.identity["weights"],
        "dtype": model.identity["dtype"],
        "layers": list(layers),
        "skip": skip,
        "texts": hashlib.sha256(json.dumps([list(t) for t in texts]).encode()).hexdigest(),
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    store = Activations(cache_dir() / "activations" / name, tuple(layers), len(texts), model.anatomy.d_model)
    with disk_errors(store.folder):
        done = _open(store, key)
        missing = [i for i in range(len(texts)) if not done[i]]
        progress(stage, len(texts) - len(missing), len(texts))
        if missing:
            _fill(store, done, model, texts, skip, budget, missing, stage, progress)
    return store


def forget_activations() -> None:
    """Delete every stored activation (converted models stay)."""
    shutil.rmtree(cache_dir() / "activations", ignore_errors=True)


def _open(store: Activations, key: dict[str, object]) -> np.ndarray:
    """Which texts are done; the folder is made, or made anew if its size is wrong."""
    store.folder.mkdir(parents=True, exist_ok=True)
    means, done = store.folder / "means.f32", store.folder / "done.u8"
    size = len(store.layers) * store.texts * store.d_model * 4
    if not done.is_file() or done.stat().st_size != store.texts or not means.is_file() or means.stat().st_size != size:
        with means.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found now, not in an hour
        done.write_bytes(bytes(store.texts))
        (store.folder / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")
    return np.fromfile(done, np.uint8)


def _fill(
    store: Activations,
    done: np.ndarray,
    model: Model,
    texts: Sequence[Sequence[int]],
    skip: int,
    budget: int,
    missing: list[int],
    stage: str,
    progress: Progress,
) -> None:
    with (
        (store.folder / "means.f32").open("r+b", buffering=0) as means,
        (store.folder / "done.u8").open("r+b") as marks,
    ):
        for batch in pooled(model, texts, store.layers, skip=skip, budget=budget, only=missing):
            values = batch.means.numpy()
            for row, index in enumerate(batch.indices):
                for place in range(len(store.layers)):
                    offset = (place * store.texts + index) * store.d_model * 4
                    os.pwrite(means.fileno(), values[row, place].tobytes(), offset)
            # Marked only after the values are out of our hands: an interrupt here costs one batch, never a wrong value.
            for index in batch.indices:
                os.pwrite(marks.fileno(), b"\1", index)
                done[index] = 1
            progress(stage, int(done.sum()), store.texts)
