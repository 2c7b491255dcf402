"""Which passages of a large text represent each concept most (paper, section 3.1), in one pass and bounded memory.

1. Cut each record (paragraph, JSON line, Parquet row) into passages of at most 128 tokens; below 8 they are left out.
2. Read each token's z at the read layer, as `scan` does, a batch of passages at a time and in reading order.
3. A passage's score is the mean z of its highest quarter of tokens, of 8 at least. A single spike is noise, so it
   cannot win; a share and not a number of tokens, so that a long passage is not favoured for its length.
4. Keep the best passages of each concept (an exact repetition once), a histogram of token z, and all scores on disk.

A batch changes the state by one assignment, so that an interruption anywhere leaves it whole; it is saved every few
thousand passages and when anything stops the run.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing
from affectscope.models.chat import TEMPLATE, ChatTokens
from affectscope.models.forward import TOKEN_BUDGET
from affectscope.models.load import Model
from affectscope.models.pieces import pieces
from affectscope.models.residuals import visit
from affectscope.monitoring.passages import Passage, batches, check_files, passages
from affectscope.monitoring.scan import baseline_of
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.baseline import SINK_NORM

FORMAT = "affectscope/sweep@1"
RESULT, SCORES, _STATE, _PARTS = "sweep.json", "scores.parquet", "sweep.state.json", "scores.parts"
SHORTEST, SHARE = 8, 0.25
SAVE_EVERY = 2000
"""Passages between two saved states: what a killed process loses at most (an interruption loses one batch)."""
EDGES = np.linspace(-16, 16, 641)
"""Bins of the histogram of token z, 0.05 wide; what lies outside counts at the ends."""
PERCENT = (*range(1, 100), 99.5, 99.9)


class Kept(NamedTuple):
    """A passage among the best of a concept: score, number among those read, and z of each token."""

    score: float
    number: int
    passage: Passage
    z: tuple[float, ...]


@dataclass(frozen=True)
class State:
    """All that a sweep knows after a batch; never changed, only replaced. ``pending`` are scores not yet on disk."""

    bins: np.ndarray  # int64 [concepts, bins]
    top: tuple[tuple[Kept, ...], ...]
    at: tuple[int, int, int] = (0, 0, -1)  # the last passage seen
    passages: int = 0
    short: int = 0
    tokens: int = 0
    digest: str = ""
    parts: int = 0
    pending: tuple[tuple[tuple[int, int, int], np.ndarray], ...] = ()


def sweep(
    model: Model,
    vectors: ConceptVectors,
    files: Sequence[Path],
    out: Path,
    *,
    passage: int = 128,
    keep: int = 20,
    column: str = "text",
    budget: int = TOKEN_BUDGET,
    every: int = SAVE_EVERY,
    again: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Sweep files; leaves ``sweep.json`` and ``scores.parquet`` in ``out`` and returns what the first holds.

    The same call goes on where an interrupted one stopped. Progress counts bytes of the files.

    Args:
        passage: most tokens of a passage; keep: passages kept a concept; column: of JSON Lines and Parquet.
        budget: tokens a batch. every: passages between saved states. again: forget what lies in ``out``.
        tell: called with a line when a sweep goes on or was finished before.

    Raises:
        AffectscopeError: vectors of another model, input that cannot be read, or another sweep in ``out``.
    """
    vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
    if not 2 * SHORTEST <= passage <= model.longest or keep < 1:
        raise AffectscopeError(f"--passage must lie in {2 * SHORTEST} to {model.longest}, --top be 1 or more")
    check_files(files, column)
    key = _key(model, vectors, files, passage, keep, column)
    if again:
        for name in (RESULT, _STATE):
            (out / name).unlink(missing_ok=True)
    if finished := _left(out / RESULT, key):
        tell(f"{out / RESULT} is finished: {finished['passages']} passages; --again starts anew")
        finished.pop("against", None)  # belongs to the call that asked for it
        return finished
    empty = State(np.zeros((len(vectors.concepts), len(EDGES) + 1), np.int64), ((),) * len(vectors.concepts))
    left = _left(out / _STATE, key)
    state = _loaded(left) if left else empty
    if state.passages:
        tell(f"goes on after {state.passages} passages")
    total = sum(path.stat().st_size for path in files)
    found = passages(model, files, passage, column, lambda *at: at >= state.at[:2])
    try:
        for group in batches((p for p in found if p[:3] > state.at), budget):
            state = _advance(state, group, model, vectors, keep)
            progress("sweep", min(group[-1].read, total), total)
            if len(state.pending) >= every:
                state = _save(state, out, key)
    finally:
        state = _save(state, out, key)
    if not state.passages:
        raise AffectscopeError(f"no passage has {SHORTEST} tokens: give longer texts")
    options = {"passage": passage, "keep": keep, "column": column}
    facts = {"format": FORMAT, "key": key, "model": vectors.model, "layer": vectors.read_layer, "options": options}
    facts |= {"files": [str(path) for path in files], "concepts": list(vectors.concepts)}
    return _finish(facts | _content(state, model, vectors.concepts), state, out)


def readings(
    model: Model, vectors: ConceptVectors, texts: Sequence[Sequence[int]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each text z ``[tokens, concepts]`` float32, as `scan` gives, and bool ``[tokens]``: no special, no sink.

    Raises:
        AffectscopeError: NaN or Inf in the residual stream.
    """
    place, seen = vectors.place(), list[torch.Tensor]()
    visit(model, texts, [vectors.read_layer], lambda _place, h: seen.append(h.float().cpu()))
    residual = seen[0].numpy()
    if not np.isfinite(residual).all():
        raise AffectscopeError(f"NaN or Inf in the residual stream of {model.name}: load it with --dtype float32")
    score = (residual - vectors.read_mean[place]) @ vectors.readers[place].T
    norms, found, start = np.linalg.norm(residual, axis=1), [], 0
    for ids in texts:
        rows = slice(start, start := start + len(ids))
        roles = [TEMPLATE if i in model.special_ids else "text" for i in ids]
        mean, std = baseline_of(vectors, place, ChatTokens(list(ids), roles, ["none"] * len(ids)))
        z = ((score[rows] - mean) / std).astype(np.float32)
        sink = norms[rows] > SINK_NORM * np.median(norms[rows])
        z[sink] = 0
        found.append((z, ~sink & np.array([role != TEMPLATE for role in roles])))
    return found


def passage_score(z: np.ndarray) -> np.ndarray:
    """Mean ``[concepts]`` of the highest quarter (8 at least) of ``z`` ``[tokens, concepts]``, concept by concept."""
    count = min(len(z), max(SHORTEST, math.ceil(SHARE * len(z))))
    mean: np.ndarray = np.sort(z, axis=0)[len(z) - count :].mean(axis=0)
    return mean


def quantiles(bins: np.ndarray) -> np.ndarray:
    """z ``[concepts, percents]`` at ``PERCENT`` of a histogram ``[concepts, bins]``."""
    below = np.cumsum(bins, axis=1)[:, :-1] / np.maximum(bins.sum(axis=1, keepdims=True), 1)
    return np.array([np.interp(np.array(PERCENT) / 100, row, EDGES) for row in below])


def _advance(state: State, group: list[Passage], model: Model, vectors: ConceptVectors, keep: int) -> State:
    long = [p for p in group if sum(i not in model.special_ids for i in p.ids) >= SHORTEST]
    bins, top, pending = state.bins.copy(), list(state.top), list(state.pending)
    digest, tokens = state.digest, state.tokens
    read = readings(model, vectors, [p.ids for p in long]) if long else []
    for number, (passage, (z, counted)) in enumerate(zip(long, read, strict=True), state.passages):
        score = passage_score(z[counted])
        for c in range(len(top)):
            if len(top[c]) < keep or score[c] > top[c][-1].score:
                of_tokens = tuple(round(float(v), 2) for v in z[:, c])
                top[c] = _insert(top[c], Kept(float(score[c]), number, passage, of_tokens), keep)
        pending.append((passage[:3], score.astype(np.float16)))
        digest = hashlib.sha256((digest + passage.text).encode()).hexdigest()
        tokens += int(counted.sum())
    if read:
        z = np.concatenate([z[counted] for z, counted in read])
        place = np.searchsorted(EDGES, z, side="right") + np.arange(len(bins)) * bins.shape[1]
        bins += np.bincount(place.ravel(), minlength=bins.size).reshape(bins.shape)
    return replace(
        state, bins=bins, top=tuple(top), pending=tuple(pending), digest=digest, tokens=tokens, at=group[-1][:3],
        passages=state.passages + len(long), short=state.short + len(group) - len(long),
    )  # fmt: skip


def _insert(kept: tuple[Kept, ...], new: Kept, keep: int) -> tuple[Kept, ...]:
    if any(k.passage.ids == new.passage.ids for k in kept):
        return kept
    return tuple(sorted((*kept, new), key=lambda k: (-k.score, k.number))[:keep])


def _key(model: Model, vectors: ConceptVectors, files: Sequence[Path], passage: int, keep: int, column: str) -> str:
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([model.identity, vectors.fingerprint, stats, passage, keep, column]).encode())
    for array in (vectors.baseline_mean, vectors.baseline_std, vectors.read_mean):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _left(path: Path, key: str) -> dict[str, Any] | None:
    """What an earlier run left at ``path``; another sweep's work is refused, never overwritten."""
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = found["key"] == key
    except (ValueError, KeyError, TypeError) as error:
        raise AffectscopeError(f"{path} is damaged: delete it, or start anew with --again") from error
    if not same:
        raise AffectscopeError(f"{path} is of other files, vectors or options: choose another --out, or --again")
    return found


def _save(state: State, out: Path, key: str) -> State:
    """Scores first, then the state that counts them: a part that no state counts is written over."""
    if not state.pending:
        return state
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = np.array([where for where, _ in state.pending])
    columns = {name: pa.array(at[:, i], pa.int64()) for i, name in enumerate(("file", "record", "part"))}
    scores = np.stack([score for _, score in state.pending])
    columns |= {f"z.{c}": pa.array(np.ascontiguousarray(scores[:, c])) for c in range(scores.shape[1])}
    with replacing(out / _PARTS / f"{state.parts:06}.parquet") as temporary:
        pq.write_table(pa.table(columns), temporary)
    saved = replace(state, pending=(), parts=state.parts + 1)
    best = {k.number: k.passage for kept in state.top for k in kept}
    value = {name: getattr(saved, name) for name in ("at", "passages", "short", "tokens", "digest", "parts")}
    value |= {
        "key": key,
        "bins": state.bins.tolist(),
        "best": {number: [p[:3], p.ids] for number, p in best.items()},
        "top": [[[k.score, k.number, k.z] for k in kept] for kept in state.top],
    }
    with replacing(out / _STATE) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")
    return saved


def _loaded(value: dict[str, Any]) -> State:
    best = {int(number): Passage(at[0], at[1], at[2], tuple(ids)) for number, (at, ids) in value["best"].items()}
    return State(
        bins=np.array(value["bins"], np.int64),
        top=tuple(tuple(Kept(score, n, best[n], tuple(z)) for score, n, z in kept) for kept in value["top"]),
        at=tuple(value["at"]),
        **{name: value[name] for name in ("passages", "short", "tokens", "digest", "parts")},
    )


def _content(state: State, model: Model, concepts: Sequence[str]) -> dict[str, Any]:
    best = {k.number: k.passage for kept in state.top for k in kept}
    at = quantiles(state.bins)
    return {
        "passages": state.passages,
        "short": state.short,
        "tokens": state.tokens,
        "passages_sha256": state.digest,
        "quantiles": {
            "percent": list(PERCENT),
            "z": {c: np.round(row, 2).tolist() for c, row in zip(concepts, at, strict=True)},
        },
        "texts": {
            str(n): {"file": p.file, "record": p.record, "part": p.part, "tokens": pieces(model, p.ids)}
            for n, p in sorted(best.items())
        },
        "top": {
            concept: [{"text": k.number, "score": round(k.score, 3), "z": k.z} for k in kept]
            for concept, kept in zip(concepts, state.top, strict=True)
        },
    }


def _finish(content: dict[str, Any], state: State, out: Path) -> dict[str, Any]:
    """Join the parts of the scores, write the result, and only then drop what the run left on its way."""
    import pyarrow.parquet as pq

    parts = [out / _PARTS / f"{n:06}.parquet" for n in range(state.parts)]
    names = ["file", "record", "part", *(f"z.{concept}" for concept in content["concepts"])]
    with replacing(out / SCORES) as temporary:
        tables = (pq.read_table(part).rename_columns(names) for part in parts)
        first = next(tables)
        with pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
    text = json_text(content)
    with replacing(out / RESULT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    (out / _STATE).unlink()
    shutil.rmtree(out / _PARTS)
    found: dict[str, Any] = json.loads(text)
    return found
