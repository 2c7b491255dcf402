"""Do the directions recognise an emotion on a topic that they never saw?

1. Deal the topics into folds. For each fold fit everything on the other topics: neutral components, vectors,
   readers, shrinkage, the spread of each score.
2. Score the held-out stories, centred on their own topic; rank the true emotion among all.
3. Compare with chance, with random directions, with labels shuffled before the fit, and (`text_baselines`) with
   what the words alone give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.statistics import cluster_interval
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import StoryActivations, difference_vectors, unit
from affectscope.vectors.readers import (
    Labelled,
    centred_by_topic,
    fit_readers,
    folds,
    ranks,
    standardised_scores,
)

FOLDS = 6


@dataclass(frozen=True)
class HeldOut:
    """Rank of the true concept for every story, read by directions fitted on other topics. Arrays ``[stories]``."""

    vectors: np.ndarray
    readers: np.ndarray
    random: np.ndarray
    shuffled: np.ndarray
    topic: np.ndarray
    shrinkages: tuple[float, ...]


def held_out_ranks(read: StoryActivations, layer: int, count: int = FOLDS, controls: bool = True) -> HeldOut:
    """Ranks at one layer by leaving topics out; nothing in a fold is fitted on its held-out topics.

    Held-out stories are centred by the mean of their own topic, which a scan of a single text cannot do.

    Raises:
        AffectscopeError: too few topics to leave any out.
    """
    stories, concepts, components = read.stories(layer), len(read.corpus.emotions), read.components(layer)
    rng = np.random.default_rng(0)
    found = {name: np.zeros(len(stories.topic)) for name in ("vectors", "readers", "random", "shuffled")}
    shrinkages = []
    for held in folds(stories.topic, count):
        train, test = stories.where(~held), stories.where(held)
        if len(np.unique(train.concept)) < concepts:
            raise AffectscopeError("leaving topics out leaves some emotion without a story: more topics are needed")
        fitted, tested = centred_by_topic(train), centred_by_topic(test)
        readers, shrinkage = fit_readers(train, concepts)
        shrinkages.append(shrinkage)
        directions = {"vectors": difference_vectors(train, concepts, components), "readers": readers}
        if controls:
            directions["random"] = unit(rng.standard_normal(readers.shape))
            directions["shuffled"] = fit_readers(shuffled_labels(train, rng), concepts, shrinkage)[0]
        for name, direction in directions.items():
            found[name][held] = ranks(standardised_scores(direction, fitted, tested), test.concept)
    return HeldOut(**found, topic=stories.topic, shrinkages=tuple(shrinkages))


def run(subject: Subject, progress: Progress) -> Result:
    """Top-1, top-5 and mean rank on held-out topics at the read layer, vectors and readers, with controls."""
    held = held_out_ranks(subject.read, subject.layer)
    progress("recognition", 1, 1)
    concepts = len(subject.corpus.emotions)
    chance = (concepts + 1) / 2
    measures = []
    for name in ("readers", "vectors"):
        found = getattr(held, name)
        measures.append(Measure(f"{name}: mean rank", *cluster_interval(found, held.topic)))
        for top in (1, 5):
            value, low, high = cluster_interval((found <= top) * 100.0, held.topic)
            measures.append(Measure(f"{name}: top-{top}", value, low, high, " %"))
    for name, label in (("random", "random directions"), ("shuffled", "readers of shuffled labels")):
        measures.append(
            Measure(f"{label}: mean rank", *cluster_interval(getattr(held, name), held.topic), control=True)
        )
    measures.append(Measure("chance: mean rank", chance, control=True))
    worst = measures[0].high or chance
    measures += _outside_the_choice(subject, held)
    best_control = min(m.low or chance for m in measures if m.control)
    readers, vectors = measures[0], measures[3]
    return Result(
        name="recognition",
        question="Do the directions recognise an emotion in stories on topics that they were not fitted on?",
        rule="shown if the readers' mean rank lies below chance and below every control, intervals apart",
        finding=f"On unseen topics the true emotion ranks {readers.value:.1f} of {concepts} on average by the readers and "
        f"{vectors.value:.1f} by the plain vectors (chance {chance:.0f})",
        verdict="shown" if worst < min(chance, best_control) else "not shown",
        n=len(held.topic),
        unit="stories",
        measures=tuple(measures),
        caveat="In our corpus every topic had a writer of its own, so leaving topics out leaves writers out; all wrote to one brief, "
        "whose habits may help (see the other style).",
        effect="readers: mean rank",
        control="readers of shuffled labels: mean rank",
        paper="",
        data={
            "by_topic": {
                topic: {n: float(getattr(held, n)[held.topic == i].mean()) for n in ("vectors", "readers")}
                for i, topic in enumerate(subject.corpus.topics)
            },
            "by_emotion": _by_emotion(subject, held),
            "shrinkages": list(held.shrinkages),
            "ranks": {name: _histogram(getattr(held, name), concepts) for name in ("readers", "vectors", "random")},
        },
    )


def plot(result: Result) -> list[Figure]:
    """Share of stories whose true emotion ranks within k, against k."""
    names = {"readers": "readers", "vectors": "plain vectors", "random": "random directions"}
    traces = []
    for key, counts in result.data["ranks"].items():
        share = np.cumsum(counts) / max(sum(counts), 1) * 100
        traces.append({
            "type": "scatter", "mode": "lines", "name": names[key], "x": list(range(1, len(counts) + 1)),
            "y": [round(float(s), 2) for s in share], "meta": key,
            "hovertemplate": "within the first %{x}: %{y:.1f} %<extra>" + names[key] + "</extra>",
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "k (rank among all concepts, logarithmic)"}, "type": "log"},
        "yaxis": {"title": {"text": "stories with the true emotion among the first k (%)"}, "range": [0, 101]},
    }
    return [{"title": result.finding, "data": traces, "layout": layout}]


def _outside_the_choice(subject: Subject, held: HeldOut) -> list[Measure]:
    """The readers' mean rank on the topics that did not choose the layer; nothing when no topic did."""
    chose = subject.vectors.recipe["layer_choice"].get("topics", [])
    rows = np.array([subject.corpus.topics[t] not in chose for t in held.topic])
    if not chose or not rows.any():
        return []
    return [
        Measure(
            "readers: mean rank on topics that did not choose the layer",
            *cluster_interval(held.readers[rows], held.topic[rows]),
        )
    ]


def _by_emotion(subject: Subject, held: HeldOut) -> dict[str, float]:
    concept = subject.read.stories(subject.layer).concept
    return {name: float(held.readers[concept == i].mean()) for i, name in enumerate(subject.corpus.emotions)}


def _histogram(found: np.ndarray, concepts: int) -> list[int]:
    counts: list[int] = np.bincount(np.ceil(found).astype(int), minlength=concepts + 1)[1:].tolist()
    return counts


def shuffled_labels(data: Labelled, rng: np.random.Generator) -> Labelled:
    """Labels dealt anew within each topic, so that the crossing stays."""
    concept = data.concept.copy()
    for topic in np.unique(data.topic):
        rows = np.flatnonzero(data.topic == topic)
        concept[rows] = concept[rng.permutation(rows)]
    return Labelled(data.values, concept, data.topic)


EXPERIMENT = register(Experiment("recognition", run, plot, "Recognition on unseen topics"))
