"""Two readings of each item, at every layer: which is higher, and in which layers. Shared by the layer experiments.

1. Read the item's two places (``high`` and ``low``), each a run of tokens in a text.
2. Standardise each probe over the items, place by place: what all items of a place share (a negation, a question mark,
   the assistant's turn) goes, so what is left is specific to the emotion.
3. The effect of an item is the mean over its probes of ``sign * (z_high - z_low)``.
4. Controls: items dealt to other items' emotions, and random directions in place of the probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from affectscope.models.residuals import Span
from affectscope.validation.base import Figure, Measure, Subject, Verdict
from affectscope.validation.directions import random_directions
from affectscope.validation.prompts import cosine, standardise
from affectscope.validation.statistics import bootstrap_mean, permutation_p
from affectscope.vectors.activations import Progress

PERMUTATIONS = 2000
RANDOM = 40


@dataclass(frozen=True)
class Place:
    """Tokens ``start`` to ``stop`` (excluded) of a text."""

    ids: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Pair:
    """An item: where its reading should be high, where low, and the sign of each concept's reading."""

    high: Place
    low: Place
    signs: dict[str, int]


@dataclass(frozen=True)
class Contrast:
    """``effect`` ``[layers, items]`` in standard deviations over items; 95 % bands of both controls ``[layers, 2]``."""

    layers: tuple[int, ...]
    effect: np.ndarray
    shuffled: np.ndarray
    random: np.ndarray
    p: np.ndarray

    def at(self, layer: int) -> tuple[float, float, float]:
        """Mean effect at a layer with its 95 % interval over items."""
        return bootstrap_mean(self.effect[self.layers.index(layer)])

    def curve(self) -> dict[str, Any]:
        """Plain values for a figure."""
        rows = [bootstrap_mean(row) for row in self.effect]
        return {
            "layers": list(self.layers),
            "value": [round(r[0], 4) for r in rows],
            "low": [round(r[1], 4) for r in rows],
            "high": [round(r[2], 4) for r in rows],
            "random_low": self.random[:, 0].round(4).tolist(),
            "random_high": self.random[:, 1].round(4).tolist(),
        }


def contrasts(
    subject: Subject, named: Mapping[str, Sequence[Pair]], stage: str, progress: Progress
) -> dict[str, Contrast]:
    """Steps 1-4 at every layer of the vectors, for one or more ways to place the pairs; each text runs once for all.

    Raises:
        NotApplicableError: the vectors lack a concept of the pairs.
    """
    read = _read(subject, [pair for pairs in named.values() for pair in pairs], stage, progress)
    found, start = {}, 0
    for name, pairs in named.items():
        found[name] = _contrast(subject, pairs, read[:, :, start : start + len(pairs)])
        start += len(pairs)
    return found


def _contrast(subject: Subject, pairs: Sequence[Pair], residual: np.ndarray) -> Contrast:
    """Steps 2-4 from ``residual`` ``[layers, 2, pairs, d_model]``."""
    names = sorted({name for pair in pairs for name in pair.signs})
    subject.require_concepts(names)
    chosen = subject.vectors.select(names)
    weights = np.array([[pair.signs.get(name, 0) for name in names] for pair in pairs], float)
    weights /= np.abs(weights).sum(1, keepdims=True)
    rng = np.random.default_rng(0)
    effects, shuffled, random, p = [], [], [], []
    for place, layer in enumerate(residual):
        change = _change(layer, subject.vectors.vectors[place][chosen])
        effects.append((weights * change).sum(1))
        null = np.array([(weights[rng.permutation(len(pairs))] * change).sum(1).mean() for _ in range(PERMUTATIONS)])
        shuffled.append(np.percentile(null, [2.5, 97.5]))
        p.append(permutation_p(float(effects[-1].mean()), null))
        noise = random_directions(RANDOM * len(names), layer.shape[-1], seed=1)
        changes = _change(layer, noise).reshape(len(pairs), RANDOM, len(names))
        random.append(np.percentile((weights[:, None] * changes).sum(2).mean(0), [2.5, 97.5]))
    return Contrast(subject.vectors.layers, np.array(effects), np.array(shuffled), np.array(random), np.array(p))


def _read(subject: Subject, pairs: Sequence[Pair], stage: str, progress: Progress) -> np.ndarray:
    texts: dict[tuple[int, ...], int] = {}
    spans = []
    for place in [pair.high for pair in pairs] + [pair.low for pair in pairs]:
        spans.append(Span(texts.setdefault(place.ids, len(texts)), place.start, place.stop))
    means = subject.means([list(t) for t in texts], spans, progress=progress, stage=stage)
    return means.reshape(len(means), 2, len(pairs), -1)


def _change(layer: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """``[items, directions]``: standardised reading at the high place minus that at the low place."""
    change: np.ndarray = standardise(cosine(layer[0], directions)) - standardise(cosine(layer[1], directions))
    return change


def measures(found: Contrast, layer: int, name: str) -> list[Measure]:
    """The effect at ``layer`` with its controls, named after the place read."""
    at = found.layers.index(layer)
    return [
        Measure(name, *found.at(layer), " s.d."),
        Measure(f"{name}: items in the expected direction", *bootstrap_mean((found.effect[at] > 0) * 100.0), " %"),
        Measure(f"{name}: permutation p", float(found.p[at])),
        _band(f"{name}: emotions of other items", found.shuffled[at]),
        _band(f"{name}: random directions", found.random[at]),
    ]


def _band(name: str, band: np.ndarray) -> Measure:
    low, high = map(float, band)
    return Measure(name, (low + high) / 2, low, high, " s.d.", control=True)


def verdict_at(found: Contrast, layer: int) -> Verdict:
    """Shown where the effect's interval excludes zero and its mean lies above both controls' 95 % bands; contrary where
    the interval lies below zero."""
    at = found.layers.index(layer)
    value, low, high = found.at(layer)
    if low > 0 and value > max(found.shuffled[at, 1], found.random[at, 1]):
        return "shown"
    return "contrary" if high < 0 else "not shown"


def curve_figure(title: str, curves: dict[str, dict[str, Any]], read_layer: int, axis: str) -> Figure:
    """Effect by layer, one line a place with its interval, and the band of random directions."""
    traces: list[dict[str, Any]] = []
    first = next(iter(curves.values()))
    traces.append({
        "type": "scatter", "mode": "lines", "x": first["layers"] + first["layers"][::-1], "meta": "random-band", "fill": "toself",
        "y": first["random_high"] + first["random_low"][::-1], "line": {"width": 0}, "name": "random directions (95 %)", "hoverinfo": "skip",
    })  # fmt: skip
    for (name, curve), meta in zip(curves.items(), ("readers", "vectors", "text"), strict=False):
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": name, "meta": meta, "x": curve["layers"], "y": curve["value"],
            "error_y": {
                "type": "data", "symmetric": False, "thickness": 1, "width": 0,
                "array": [h - v for v, h in zip(curve["value"], curve["high"], strict=True)],
                "arrayminus": [v - low for v, low in zip(curve["value"], curve["low"], strict=True)],
            },
            "hovertemplate": "layer %{x}: %{y:.2f}<extra>" + name + "</extra>",
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": f"layer (read layer: {read_layer}; bars: 95 % intervals)"}},
        "yaxis": {"title": {"text": axis}, "zeroline": True},
        "shapes": [{"type": "line", "x0": read_layer, "x1": read_layer, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot", "width": 1}}],
        "height": 380,
    }  # fmt: skip
    return {"title": title, "data": traces, "layout": layout}
