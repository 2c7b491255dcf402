"""A few words changed in the middle of a message: does the reading follow, and only from there on (arXiv 2606.30449)?

Each item has one beginning and one end around a gap that is filled in three ways: ``high`` evokes the emotion, ``low``
does not, ``neutral`` varies ``low`` by as many words without changing a feeling.

1. Before the gap the three are the same text, so the readings must be the same: a probe reads the situation so far.
2. After it (mean over the common end, and the assistant's first position) each probe is standardised over all texts;
   the effect is high minus low of the item's own emotion, paired.
3. Controls: neutral minus low, other emotions' probes, random directions, and readers of the words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from affectscope.concepts.items import MinimalPair, minimal_pairs
from affectscope.models.residuals import Span
from affectscope.validation.base import (
    Experiment,
    Figure,
    Measure,
    NotApplicableError,
    Result,
    Subject,
    Verdict,
    register,
)
from affectscope.validation.directions import random_directions
from affectscope.validation.prompts import ask, common_head, common_tail, cosine, message_end, standardise
from affectscope.validation.residualised import text_features
from affectscope.validation.statistics import bootstrap_mean, wilson
from affectscope.validation.text_baselines import embed, with_embedding
from affectscope.vectors.activations import Progress
from affectscope.vectors.readers import Labelled, fit_readers

VERSIONS = ("high", "low", "neutral")
BEFORE = 5
"""Tokens before the gap whose mean is compared."""
SAME, SAME_HALF = 1e-3, 3e-2
"""Largest difference before the gap, as a share of the residual's norm, that rounding accounts for: float32, and less."""
RANDOM_DRAWS = 200
FIRST, END = "assistant's first position", "common end"
_HEADLINE = f"vectors, {FIRST}"


def run(subject: Subject, progress: Progress) -> Result:
    """High minus low and neutral minus low by vectors and readers at two places; text and random directions beside them."""
    subject.require_chat()
    pairs = tuple(p for p in minimal_pairs() if p.emotion in subject.vectors.concepts)
    if len(pairs) < 4:
        raise NotApplicableError("fewer than four pairs have an emotion that is among the concepts")
    emotions = list(dict.fromkeys(p.emotion for p in pairs))
    own = np.array([emotions.index(p.emotion) for p in pairs])
    before, places = read_versions(subject, pairs, progress)
    chosen, at = subject.vectors.select(emotions), subject.vectors.place()
    vectors = subject.vectors.vectors[at][chosen]
    changes: dict[str, np.ndarray] = {}
    for place, residual in places.items():
        changes[f"vectors, {place}"] = change(cosine(residual, vectors))
        linear = (residual - subject.vectors.read_mean[at]) @ subject.vectors.readers[at][chosen].T
        changes[f"readers, {place}"] = change(linear)
    changes["text alone"] = change(text_scores(subject, pairs, emotions))
    measures = [m for name, found in changes.items() for m in _measures(name, found, own)]
    headline = changes[_HEADLINE]
    measures += [*_specific(headline, own), _random(places[FIRST], own, len(emotions))]
    gap = foresight(before)
    reading = float(np.abs(np.diff(cosine(before.reshape(-1, before.shape[-1]), vectors).reshape(3, -1), axis=0)).max())
    measures += [
        Measure("before the gap: largest difference of residuals", gap * 100, unit=" % of the norm", control=True),
        Measure("before the gap: largest difference of cosines", reading, control=True),
    ]
    same = gap < (SAME if subject.model.identity["dtype"] == "float32" else SAME_HALF)
    return _conclude(pairs, measures, changes, own, same)


def _conclude(
    pairs: Sequence[MinimalPair], measures: list[Measure], changes: dict[str, np.ndarray], own: np.ndarray, same: bool
) -> Result:
    by = {m.name: m for m in measures}
    effect, over = by[f"{_HEADLINE}: high minus low"], by[f"{_HEADLINE}: high minus neutral"]
    share, neutral = by[f"{_HEADLINE}: pairs ordered right"], by[f"{_HEADLINE}: neutral above low"]
    text = by["text alone: pairs ordered right"]
    noise = by["random directions: high minus low"]
    clear = effect.value > (noise.high or 0)
    verdict: Verdict = "not shown"
    if (effect.low or 0) > 0 and (over.low or 0) > 0 and clear and same:
        verdict = "shown"
    elif (effect.high or 0) < 0:
        verdict = "contrary"
    how = {"shown": "follow", "not shown": "do not clearly follow", "contrary": "run against"}[verdict]
    beyond = ("above" if clear else "not above") + f" random directions' band {noise.text()}"
    return Result(
        name="minimal_pairs",
        question="When a few words in the middle of a message change the situation, do the readings follow from there on?",
        rule="shown if the own emotion's reading by the vectors at the assistant's first position is higher after the evoking words "
        "than after the plain ones and than after the neutral edit, both paired intervals excluding zero, above the "
        "random directions' 95 % band, and the residuals before the words differ by no more than rounding",
        finding=f"Readings {how} the words that matter: {share.text()} of pairs are ordered right ({neutral.text()} by a neutral edit, "
        f"{text.text()} by text alone), high minus low {effect.text()}, {beyond}",
        verdict=verdict,
        n=len(pairs),
        unit="pairs",
        measures=tuple(measures),
        effect=share.name,
        control=neutral.name,
        caveat="The words changed can tell by themselves, so text alone is the bar for more than words; written by one hand.",
        data={
            "emotions": [p.emotion for p in pairs],
            "words": [[p.high, p.low, p.neutral] for p in pairs],
            "high": {n: _own(c[0], own).round(3).tolist() for n, c in changes.items()},
            "neutral": {n: _own(c[1], own).round(3).tolist() for n, c in changes.items()},
        },
    )


def text_of(pair: MinimalPair, version: str) -> str:
    """The whole message with one of ``VERSIONS`` in its gap."""
    return f"{pair.prefix}{getattr(pair, version)}{pair.suffix}"


def spans_of(ids: Sequence[Sequence[int]], ends: Sequence[int]) -> list[tuple[tuple[int, int], ...]]:
    """For each version of one item: the tokens before the gap, those of the common end, and the last token.

    Args:
        ids: token ids of the versions.
        ends: position after the user's last token in each.
    """
    first = common_head(ids)
    tail = min(common_tail(ids[0], other) for other in ids[1:])
    tail = min(tail, *(len(version) - first for version in ids))
    return [
        ((max(first - BEFORE, 0), first), (min(len(v) - tail, end - 1), end), (len(v) - 1, len(v)))
        for v, end in zip(ids, ends, strict=True)
    ]


def read_versions(
    subject: Subject, pairs: Sequence[MinimalPair], progress: Progress
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """``[3, pairs, d_model]`` before the gap, and ``[3 * pairs, d_model]`` at each place after it, version by version."""
    prompts: list[list[int]] = []
    spans: list[Span] = []
    for pair in pairs:
        tokens = [ask(subject.model, text_of(pair, version)) for version in VERSIONS]
        places = spans_of([t.ids for t in tokens], [message_end(t) for t in tokens])
        for version, places_ in zip(tokens, places, strict=True):
            spans += [Span(len(prompts), *place) for place in places_]
            prompts.append(version.ids)
    means = subject.means(prompts, spans, [subject.layer], progress, "minimal pairs")[0]
    before, end, last = means.reshape(len(pairs), len(VERSIONS), 3, -1).transpose(2, 1, 0, 3)
    width = means.shape[-1]
    return before, {FIRST: last.reshape(-1, width), END: end.reshape(-1, width)}


def foresight(before: np.ndarray) -> float:
    """Largest difference between versions ``[3, pairs, d_model]`` as a share of the residual's norm; 0 for a causal model."""
    size = np.maximum(np.linalg.norm(before[0], axis=-1), 1e-12)
    return float(max((np.linalg.norm(other - before[0], axis=-1) / size).max() for other in before[1:]))


def change(scores: np.ndarray) -> np.ndarray:
    """``[2, pairs, probes]``: high minus low and neutral minus low of ``scores`` ``[3 * pairs, probes]``, in s.d. over texts."""
    high, low, neutral = standardise(scores).reshape(len(VERSIONS), -1, scores.shape[-1])
    return np.stack([high - low, neutral - low])


def text_scores(subject: Subject, pairs: Sequence[MinimalPair], emotions: Sequence[str]) -> np.ndarray:
    """``[3 * pairs, emotions]``: readers fitted on the words of our stories, applied to the messages' words."""
    stories, read = [s.text for s in subject.corpus.stories], [text_of(p, v) for v in VERSIONS for p in pairs]
    embedded = (embed(stories), embed(read)) if with_embedding(subject) else None
    fitted, tested = text_features(stories, read, embedded)
    names, topics = subject.corpus.emotions, subject.corpus.topics
    concept = np.array([names.index(s.emotion) for s in subject.corpus.stories])
    data = Labelled(fitted, concept, np.array([topics.index(s.topic) for s in subject.corpus.stories]))
    readers, _ = fit_readers(data, len(names))
    scores: np.ndarray = tested @ readers[[names.index(e) for e in emotions]].T
    return scores


def _own(change_: np.ndarray, own: np.ndarray) -> np.ndarray:
    mine: np.ndarray = change_[np.arange(len(own)), own]
    return mine


def _measures(name: str, found: np.ndarray, own: np.ndarray) -> list[Measure]:
    high, neutral = _own(found[0], own), _own(found[1], own)
    text = name == "text alone"
    return [
        Measure(f"{name}: high minus low", *bootstrap_mean(high), " s.d.", text),
        Measure(f"{name}: neutral minus low", *bootstrap_mean(neutral), " s.d.", True),
        Measure(f"{name}: high minus neutral", *bootstrap_mean(high - neutral), " s.d.", text),
        Measure(f"{name}: pairs ordered right", *wilson(int((high > 0).sum()), len(own)), " %", text),
        Measure(f"{name}: neutral above low", *wilson(int((neutral > 0).sum()), len(own)), " %", True),
    ]


def _specific(found: np.ndarray, own: np.ndarray) -> list[Measure]:
    """The own emotion's change against that of an edit of equal size regardless of sign, and against other emotions'."""
    high, neutral = _own(found[0], own), _own(found[1], own)
    others = (found[0].sum(axis=1) - high) / max(found.shape[2] - 1, 1)
    return [
        Measure(
            "high minus low, less the size of the neutral change", *bootstrap_mean(high - np.abs(neutral)), " s.d."
        ),
        Measure("other emotions' probes: high minus low", *bootstrap_mean(others), " s.d.", True),
        Measure("own emotion's change over other emotions'", *bootstrap_mean(high - others), " s.d."),
    ]


def _random(residual: np.ndarray, own: np.ndarray, emotions: int) -> Measure:
    """Mean change along random directions, one assigned to each emotion, with the 95 % band of draws."""
    draws = [
        float(_own(change(cosine(residual, random_directions(emotions, residual.shape[1], seed)))[0], own).mean())
        for seed in range(RANDOM_DRAWS)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Measure("random directions: high minus low", float(np.mean(draws)), float(low), float(high), " s.d.", True)


def plot(result: Result) -> list[Figure]:
    """Every pair's change by the words that matter and by the neutral edit."""
    high, neutral = result.data["high"][_HEADLINE], result.data["neutral"][_HEADLINE]
    order = np.argsort(high)
    words, emotions = result.data["words"], result.data["emotions"]
    names = [f"{emotions[i]}: {words[i][0]}" for i in order]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "markers", "name": label, "meta": meta, "x": [values[i] for i in order], "y": names,
            "marker": {"size": 8, "symbol": symbol}, "hovertemplate": "%{y}: %{x:.2f}<extra>" + label + "</extra>",
        }
        for values, label, meta, symbol in (
            (neutral, "neutral edit less plain", "text", "diamond"), (high, "evoking words less plain", "readers", "circle"),
        )
    ]  # fmt: skip
    axis = {
        "title": {"text": f"change of the own emotion's reading at the {FIRST} (s.d. over texts)"},
        "zeroline": True,
    }
    height = 160 + 15 * len(names)
    layout = {"xaxis": axis, "yaxis": {"automargin": True, "tickfont": {"size": 10}}, "height": height}
    return [{"title": result.finding, "data": traces, "layout": layout}]


EXPERIMENT = register(Experiment("minimal_pairs", run, plot, "Minimal pairs"))
