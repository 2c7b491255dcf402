"""What a sweep found, as a page; and two models' sweeps of the same texts, compared.

1. Passages must be the same: their texts are hashed in order, and other texts are refused.
2. Each concept: Spearman's rho of the two models' passage scores, and the mean of their differences.
3. Its interval draws whole records again, since passages of one record are not independent evidence. A shift is
   called clear only beyond the interval that holds for all concepts at once (max-t), for there are many concepts.

Scores are z against each model's own baseline. A shift says how far the same texts stand out from ordinary text in one
model compared with the other; it is no difference of one common scale.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing
from affectscope.models.load import Model
from affectscope.monitoring.passages import passages
from affectscope.monitoring.sweep import FORMAT, RESULT, SCORES
from affectscope.report.page import embedded, part
from affectscope.validation.statistics import correlation

DRAWS, GROUPS = 2000, 2000
"""Bootstrap draws, and the most groups that records are put in (at random) before they are drawn."""
SHOWN = 5
"""Passages shown of each concept at either end of the differences."""

_TEXT = {"type": "object", "required": ["file", "record", "part", "tokens"]}
_TOP = {"type": "array", "items": {"type": "object", "required": ["text", "score", "z"]}}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "affectscope sweep",
    "type": "object",
    "required": [
        *("format", "key", "model", "layer", "options", "files", "concepts", "passages", "short", "tokens"),
        *("passages_sha256", "quantiles", "texts", "top"),
    ],
    "properties": {
        "format": {"const": FORMAT},
        "key": {"type": "string"},
        "model": {"type": "object"},
        "layer": {"type": "integer"},
        "options": {"type": "object", "required": ["passage", "keep", "column"]},
        "files": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "concepts": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "passages": {"type": "integer", "minimum": 1},
        "short": {"type": "integer", "minimum": 0},
        "tokens": {"type": "integer", "minimum": 1},
        "passages_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "quantiles": {"type": "object", "required": ["percent", "z"]},
        "texts": {"type": "object", "additionalProperties": _TEXT},
        "top": {"type": "object", "additionalProperties": _TOP},
        "against": {"type": "object", "required": ["model", "passages", "groups", "concepts"]},
    },
}
"""JSON Schema of ``sweep.json``."""


def write_sweep(found: dict[str, Any], out: Path) -> Path:
    """Write ``sweep.json`` (with ``against``, when there is one) and ``sweep.html`` into ``out``; returns the page.

    Raises:
        AffectscopeError: the disk is full or not writable.
    """
    with replacing(out / RESULT) as temporary:
        temporary.write_text(json_text(found), encoding="utf-8")
    with replacing(out / "sweep.html") as temporary:
        temporary.write_text(render_sweep(found), encoding="utf-8")
    return out / "sweep.html"


def render_sweep(found: dict[str, Any]) -> str:
    """The page of a sweep, self-contained."""
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(str(part("sweep.html")))
    return page.render(sweep=found, data=embedded(found), style=part("report.css"), script=part("heat.js", "sweep.js"))


def read_sweep(path: Path) -> dict[str, Any]:
    """A finished sweep's JSON.

    Raises:
        AffectscopeError: missing, damaged, or of another format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AffectscopeError(f"cannot read {path}: {error.strerror}; name the sweep.json of another sweep") from error
    except ValueError as error:
        raise AffectscopeError(f"{path} is damaged: run that sweep again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise AffectscopeError(f"{path} is no {FORMAT} file: name the sweep.json of another sweep")
    return found


def compare(model: Model, files: Sequence[Path], out: Path, previous: Path) -> dict[str, Any]:
    """Compare the sweep in ``out`` with that of another model on the same texts.

    Args:
        model, files: as swept, to read the text of the passages that differ most.
        out: folder of this sweep. previous: the ``sweep.json`` of the other one, with its ``scores.parquet`` beside it.

    Returns:
        ``concepts``: for each in both, highest |shift| first, ``rho``, ``shift`` (this less previous, mean z), ``low`` and
        ``high`` (95 %), ``clear``, and the passages that rose and fell most. ``texts`` holds their tokens as text.

    Raises:
        AffectscopeError: other texts, no concept in common, or scores that are missing.
    """
    this, other = read_sweep(out / RESULT), read_sweep(previous)
    if this["passages_sha256"] != other["passages_sha256"]:
        raise AffectscopeError(
            f"{previous} was made of other passages: sweep the same files, in order, with the same --passage "
            "(tokenizers that cut them otherwise cannot be compared)"
        )
    common = [c for c in this["concepts"] if c in other["concepts"]]
    if not common:
        raise AffectscopeError(f"{previous} has no concept in common with these vectors")
    at, pair = _columns(out / SCORES, ["file", "record", "part"]), (out / SCORES, previous.parent / SCORES)
    group = _groups(at)
    count = int(group.max()) + 1
    picks = np.random.default_rng(0).integers(0, count, (DRAWS, count))  # the same draws for every concept
    rows, draws = [], np.zeros((len(common), DRAWS))
    for i, concept in enumerate(common):
        now, before = (_columns(path, [f"z.{concept}"])[0].astype(np.float64) for path in pair)
        if len(now) != len(before):
            raise AffectscopeError(f"{pair[1]} does not belong to {previous}: run that sweep again")
        change = now - before
        draws[i] = _bootstrap(change, group, picks)
        order = np.argsort(-change, kind="stable")
        rows.append(
            {
                "concept": concept,
                "rho": _spearman(now, before),
                "shift": round(float(change.mean()), 4),
                "rose": [_row(n, at, now, before) for n in order[:SHOWN] if change[n] > 0],
                "fell": [_row(n, at, now, before) for n in order[::-1][:SHOWN] if change[n] < 0],
            }
        )
    for row, (low, high), clear in zip(rows, np.percentile(draws, [2.5, 97.5], axis=1).T, _clear(draws), strict=True):
        row |= {"low": round(float(low), 4), "high": round(float(high), 4), "clear": bool(clear)}
    wanted = {tuple(p["at"]) for row in rows for p in (*row["rose"], *row["fell"])}
    return {
        "model": other["model"],
        "passages": len(at[0]),
        "groups": count,
        "concepts": sorted(rows, key=lambda row: -abs(row["shift"])),
        "texts": _texts(model, files, this["options"], wanted),
    }


def _columns(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """One column or a few at a time: all concepts of a large corpus would not fit in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(names))
        return [table[name].to_numpy() for name in names]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise AffectscopeError(f"cannot read the scores {path}: keep it beside its sweep.json") from error


def _groups(at: Sequence[np.ndarray]) -> np.ndarray:
    """For each passage the group its record is drawn with; records fall into at most ``GROUPS`` groups at random."""
    record = np.cumsum(np.append(False, (np.diff(at[0]) != 0) | (np.diff(at[1]) != 0)))
    count = int(record[-1]) + 1
    labels = np.random.default_rng(0).permutation(count) % min(count, GROUPS)
    found: np.ndarray = labels[record]
    return found


def _bootstrap(values: np.ndarray, group: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Means ``[draws]`` of ``values`` over groups drawn again, ``picks`` ``[draws, groups]``."""
    sums, sizes = np.bincount(group, values), np.bincount(group)
    means: np.ndarray = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    return means


def _clear(draws: np.ndarray) -> np.ndarray:
    """Which concepts' shifts exclude 0 when all are judged at once, ``draws`` ``[concepts, draws]``."""
    centre, spread = draws.mean(axis=1, keepdims=True), draws.std(axis=1, keepdims=True)
    t = np.abs(draws - centre) / np.where(spread > 0, spread, np.inf)
    beyond = (np.abs(centre) > np.percentile(t.max(axis=0), 95) * spread) & (spread > 0)
    found: np.ndarray = beyond[:, 0]
    return found


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import rankdata

    return round(correlation(rankdata(x), rankdata(y)), 4)


def _row(number: int, at: Sequence[np.ndarray], now: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    return {
        "at": [int(part[number]) for part in at],
        "now": round(float(now[number]), 3),
        "before": round(float(before[number]), 3),
    }


def _texts(
    model: Model, files: Sequence[Path], options: dict[str, Any], wanted: set[tuple[int, ...]]
) -> dict[str, str]:
    """The text of passages, found again in the files: the scores hold no text."""
    in_records = {at[:2] for at in wanted}
    found = passages(model, files, options["passage"], options["column"], lambda *at: at in in_records)
    return {"-".join(map(str, p[:3])): p.text for p in found if p[:3] in wanted}
