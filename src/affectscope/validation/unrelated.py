"""Would any concept's direction do? Emotion vectors beside eight concepts without feeling, learnt by the same recipe.

1. Cosines between emotion vectors and unrelated ones, against pairs of random directions.
2. For each fold of topics fit emotion vectors, and unrelated vectors on their own stories. Score the held-out emotion
   stories along them, and along directions that stay the same in every fold: random mixtures of the stories, which
   vary as the stories do (variance-matched), and random directions.
3. How much of a score does the emotion's label explain? Omega squared, which chance does not lift above zero.
4. Situations: argmax right when random mixtures of the unrelated vectors, or random directions, stand in for the twelve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from affectscope.concepts.items import unrelated
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
from affectscope.validation.directions import random_directions, unrelated_stories
from affectscope.validation.prompts import cosine, read_last, standardise
from affectscope.validation.recognition import FOLDS
from affectscope.validation.situations import known_situations
from affectscope.validation.statistics import bootstrap, cluster_interval, half_samples, permutation_p
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import difference_vectors, project_out, unit
from affectscope.vectors.readers import Labelled, centred_by_topic, folds, ranks, standardised_scores

DRAWS = 1000
KINDS = {
    "emotion": "emotion vectors",
    "unrelated": "unrelated concepts",
    "matched": "random mixtures of stories (variance-matched)",
    "random": "random directions",
}


@dataclass(frozen=True)
class Scored:
    """Held-out ``scores`` ``[stories, directions]`` of emotion stories by kind, and the ``rank`` of unrelated stories'
    own concept ``[unrelated stories]`` with their ``topic``."""

    scores: dict[str, np.ndarray]
    rank: np.ndarray
    topic: np.ndarray


def held_out_scores(subject: Subject, names: tuple[str, ...], other: Labelled, progress: Progress) -> Scored:
    """Step 2. Unrelated directions leave the held-out topics out too, where they share them.

    Raises:
        NotApplicableError: an emotion is told on too few topics.
    """
    stories, concepts = subject.read.stories(subject.layer), len(subject.corpus.emotions)
    components = subject.read.components(subject.layer)
    # Directions that say nothing must be the same in every fold: scores along changing ones agree on nothing.
    fixed = {
        "matched": variance_matched(stories, concepts, components),
        "random": random_directions(concepts, stories.values.shape[1]),
    }
    columns = {"emotion": concepts, "unrelated": len(names), "matched": concepts, "random": concepts}
    scores = {kind: np.zeros((len(stories.topic), count)) for kind, count in columns.items()}
    rank, topics = np.full(len(other.topic), np.nan), unrelated().topics
    for done, held in enumerate(outer := folds(stories.topic, FOLDS), start=1):
        train, test = stories.where(~held), stories.where(held)
        if len(np.unique(train.concept)) < concepts:
            raise NotApplicableError("leaving topics out leaves some emotion without a story")
        left_out = {subject.corpus.topics[t] for t in np.unique(test.topic)}
        out = np.array([topics[t] in left_out for t in other.topic])
        known = other.where(~out)
        directions = {
            "emotion": difference_vectors(train, concepts, components),
            "unrelated": difference_vectors(known, len(names), components),
        } | fixed
        fitted, read = centred_by_topic(train), centred_by_topic(test)
        for kind, direction in directions.items():
            scores[kind][held] = standardised_scores(direction, fitted, read)
        if out.any():
            own = standardised_scores(
                directions["unrelated"], centred_by_topic(known), centred_by_topic(other.where(out))
            )
            rank[out] = ranks(own, other.concept[out])
        progress("unrelated concepts", done, len(outer))
    read_ = np.isfinite(rank)
    return Scored(scores, rank[read_], other.topic[read_])


def variance_matched(stories: Labelled, count: int, components: np.ndarray, seed: int = 0) -> np.ndarray:
    """``[count, d_model]`` unit directions drawn with the covariance of topic-centred stories, denoised as vectors are.

    Each is a mixture of all stories with weights that know no label.
    """
    weights = np.random.default_rng(seed).standard_normal((count, len(stories.topic)))
    return unit(project_out(weights @ centred_by_topic(stories), components))


def omega_squared(scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    """``[directions]`` share of the variance of ``scores`` ``[n, directions]`` that ``group`` explains, less chance's.

    0 on average when the group says nothing, whatever the number of groups; 0 where a score does not vary.
    """
    labels, place = np.unique(group, return_inverse=True)
    centred = scores - scores.mean(axis=0)
    sums = np.zeros((len(labels), scores.shape[1]))
    np.add.at(sums, place, centred)
    total, between = (centred**2).sum(axis=0), (sums**2 / np.bincount(place)[:, None]).sum(axis=0)
    freedom = max(len(scores) - len(labels), 1)
    within = (total - between) / freedom
    found: np.ndarray = (between - (len(labels) - 1) * within) / np.maximum(total + within, 1e-12)
    return np.where(total > 1e-9, found, 0.0)


def run(subject: Subject, progress: Progress) -> Result:
    """Cosines, variance that the emotion's label explains along each kind of direction, and situations."""
    stories = subject.read.stories(subject.layer)
    topics = np.unique(stories.topic)
    if len(topics) < 4:
        raise NotApplicableError("fewer than four topics, so halves of them say nothing of an emotion's spread")
    names, other = unrelated_stories(subject.model, subject.layer, subject.read.recipe.skip_tokens, progress)
    scored = held_out_scores(subject, names, other, progress)

    def among(statistic: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
        """A statistic of rows of stories, with its interval from random halves of the topics."""
        pick = [np.flatnonzero(stories.topic == t) for t in topics]
        low, high = half_samples(lambda t: statistic(np.concatenate([pick[i] for i in t])), len(topics), draws=300)
        return statistic(np.concatenate(pick)), low, high

    def mean(kind: str) -> Callable[[np.ndarray], float]:
        return lambda rows: float(omega_squared(scored.scores[kind][rows], stories.concept[rows]).mean())

    table = [
        Measure(
            f"{label}: variance of held-out scores that the emotion explains",
            *among(mean(kind)),
            control=kind != "emotion",
        )
        for kind, label in KINDS.items()
    ]

    def more(kind: str) -> Callable[[np.ndarray], float]:
        return lambda rows: mean("emotion")(rows) - mean(kind)(rows)

    gains = [Measure(f"emotion vectors over {KINDS[k]}", *among(more(k))) for k in ("unrelated", "matched")]
    directions = difference_vectors(other, len(names), subject.read.components(subject.layer))
    measures = [*table, *gains, *near_orthogonal(subject, directions)]
    if len(scored.rank):
        own = cluster_interval(scored.rank, scored.topic)
        measures.append(
            Measure(f"unrelated stories: mean rank of their own concept among {len(names)}", *own, control=True)
        )
    measures += in_situations(subject, directions, progress)
    return _conclude(measures, gains, table, len(stories.topic), (scored, stories, names, subject.corpus.emotions))


def _conclude(
    measures: list[Measure],
    gains: list[Measure],
    table: list[Measure],
    count: int,
    found: tuple[Scored, Labelled, tuple[str, ...], tuple[str, ...]],
) -> Result:
    scored, stories, names, emotions = found
    verdict: Verdict = "not shown"
    if all((gain.low or 0) > 0 for gain in gains):
        verdict = "shown"
    elif all((gain.high or 0) < 0 for gain in gains):
        verdict = "contrary"
    how = {"shown": "more", "not shown": "not clearly more", "contrary": "less"}[verdict]
    by = {kind: omega_squared(values, stories.concept).round(4).tolist() for kind, values in scored.scores.items()}
    return Result(
        name="unrelated",
        question="Do emotion vectors tell emotions apart better than directions of concepts without feeling do?",
        rule="shown if the emotion's label explains more of held-out stories' scores along emotion vectors than along unrelated "
        "concepts and than along variance-matched directions, both paired intervals over topics excluding zero",
        finding=f"The emotion explains {how} of held-out scores along emotion vectors ({table[0].text()}) than along unrelated concepts "
        f"({table[1].text()}) or variance-matched directions ({table[2].text()})",
        verdict=verdict,
        n=count,
        unit="stories",
        measures=tuple(measures),
        effect=table[0].name,
        control=table[1].name,
        caveat="Any direction that stories of different emotions differ along explains something; eight concepts are few.",
        data={"omega": by, "unrelated": list(names), "emotions": list(emotions)},
    )


def near_orthogonal(subject: Subject, directions: np.ndarray) -> list[Measure]:
    """Mean and largest |cosine| of emotion vectors with unrelated ones (interval over unrelated concepts), and of chance."""
    vectors = subject.vectors.vectors[subject.vectors.place()]
    found = np.abs(vectors @ directions.T)
    noise = np.abs(vectors @ random_directions(DRAWS, vectors.shape[1]).T)
    low, high = np.percentile(noise.mean(axis=0), [2.5, 97.5])
    rows = found.mean(axis=0)
    interval = bootstrap(lambda picks: float(rows[picks].mean()), len(rows))
    return [
        Measure("emotion and unrelated vectors: mean |cosine|", float(found.mean()), *interval),
        Measure("emotion and unrelated vectors: largest |cosine|", float(found.max())),
        Measure(
            "emotion and random directions: mean |cosine|", float(noise.mean()), float(low), float(high), control=True
        ),
    ]


def in_situations(subject: Subject, directions: np.ndarray, progress: Progress) -> list[Measure]:
    """Argmax right by the emotion vectors, and by directions that stand in for them at random; [] where not applicable."""
    try:
        subject.require_chat()
        items, emotions = known_situations(subject)
    except NotApplicableError:
        return []
    truth = np.array([emotions.index(s.emotion) for s in items])
    residual = read_last(subject, [s.text for s in items], "situations", progress)[0]
    vectors = subject.vectors.vectors[subject.vectors.place()][subject.vectors.select(emotions)]

    def right(along: np.ndarray) -> float:
        return float((standardise(cosine(residual, along)).argmax(axis=1) == truth).mean() * 100)

    rng, observed, measures = np.random.default_rng(0), right(vectors), []
    measures.append(Measure("situations, emotion vectors: argmax right", observed, unit=" %"))
    kinds: dict[str, Callable[[int], np.ndarray]] = {
        "mixtures of unrelated concepts": lambda _: unit(
            rng.standard_normal((len(emotions), len(directions))) @ directions
        ),
        "random directions": lambda seed: random_directions(len(emotions), vectors.shape[1], seed),
    }
    for name, draw in kinds.items():
        null = np.array([right(draw(seed)) for seed in range(DRAWS)])
        low, high = np.percentile(null, [2.5, 97.5])
        measures += [
            Measure(
                f"situations, {name}: argmax right", float(null.mean()), float(low), float(high), " %", control=True
            ),
            Measure(f"situations, p against {name}", permutation_p(observed, null)),
        ]
    return measures


def plot(result: Result) -> list[Figure]:
    """Variance that the emotion explains along every direction, kind by kind."""
    names = {"emotion": result.data["emotions"], "unrelated": result.data["unrelated"]}
    traces: list[dict[str, Any]] = []
    for (kind, label), meta in zip(KINDS.items(), ("readers", "text", "vectors", "random"), strict=True):
        values = result.data["omega"][kind]
        traces.append({
            "type": "box", "name": label, "meta": meta, "y": values, "boxpoints": "all", "jitter": 0.5, "pointpos": 0,
            "text": names.get(kind, [""] * len(values)), "hovertemplate": "%{text} %{y:.3f}<extra>" + label + "</extra>",
            "showlegend": False,
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "kind of direction (a point: one direction)"}},
        "yaxis": {"title": {"text": "variance that the emotion explains (omega²)"}},
        "height": 440,
    }
    return [{"title": result.finding, "data": traces, "layout": layout}]


EXPERIMENT = register(Experiment("unrelated", run, plot, "Unrelated concepts"))
