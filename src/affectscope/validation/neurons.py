"""Do single neurons write an emotion's direction, and does its reading need them?

1. Read every neuron's mean activation on stories of some topics, in blocks up to the read layer.
2. For each emotion: the neurons that write along its vector, and those that separate it, chosen on half of the topics
   and tested on the other half (then the halves change places), against a choice by shuffled labels.
3. Set the few neurons that write most of an emotion's difference to their mean, in stories on topics that chose
   nothing, and read again: against random neurons of the same layers and the neurons of another emotion.
4. Group the emotions by their neurons and compare with the groups of their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affectscope.concepts.emotions import TWELVE
from affectscope.errors import AffectscopeError
from affectscope.models.neurons import neuron_count, norm_scales, written
from affectscope.validation.base import Experiment, Measure, NotApplicableError, Result, Subject, Verdict, register
from affectscope.validation.neuron_figures import auc_table, plot, share_in_common, shares_by_layer
from affectscope.validation.statistics import cluster_interval, half_samples, permutation_p
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import difference_vectors, unit
from affectscope.vectors.geometry import kmeans_labels
from affectscope.vectors.neurons import (
    Ablated,
    Best,
    NeuronRead,
    ablate,
    like_it,
    neuron_means,
    profile_scores,
    rand_index,
    separation,
)
from affectscope.vectors.readers import concept_means

EMOTIONS = tuple(sorted(TWELVE))
TOPICS = {"quick": 4, "normal": 6, "full": 10_000}
SHARE, FEWEST = 0.0015, 10
"""The neurons ablated: their share of those considered, and how many at least."""
LISTED = 8


@dataclass(frozen=True)
class _Survey:
    """All neurons looked at once. ``C`` concepts, ``T`` topics read.

    ``aucs`` and ``shuffled`` ``[T, C]`` are of the one best neuron that the other half of the topics chose. ``grams``
    ``[C, C]`` are inner products of the emotions' profiles on the choosing half, with true and with shuffled labels.
    """

    writers: Best
    random_writers: Best
    separators: Best
    top: Best
    aucs: np.ndarray
    shuffled: np.ndarray
    grams: tuple[np.ndarray, np.ndarray]


def run(subject: Subject, progress: Progress) -> Result:
    """Writers, separators, clusters and ablation, on the read layer and those below it."""
    emotions = [e for e in EMOTIONS if e in subject.corpus.emotions and e in subject.vectors.concepts]
    emotions = emotions[::2] if subject.effort == "quick" else emotions
    if len(emotions) < 3:
        raise NotApplicableError(f"fewer than three of {', '.join(EMOTIONS)} are among the concepts")
    subject.require_concepts(subject.corpus.emotions)
    texts = [subject.model.encode(story.text) for story in subject.corpus.stories]
    read = _read(subject, texts, progress)
    considered = len(read.layers) * read.means.shape[2]
    k = max(FEWEST, round(SHARE * considered))
    survey = _survey(subject, read, [texts[row] for row in read.rows[:8]], emotions, k, progress)
    chosen = _chosen(subject, survey.top, emotions, read.means.shape[2])
    stories = subject.read.stories(subject.layer)
    done = ablate(subject.model, texts, stories, subject.layer, read, chosen, subject.read.recipe.skip_tokens, progress)
    return _result(subject, read, survey, done, k)


def _read(subject: Subject, texts: list[list[int]], progress: Progress) -> NeuronRead:
    """Neurons on stories of topics spread over the corpus; every second of those topics chooses."""
    layers = tuple(range(subject.layer, -1, -3 if subject.effort == "quick" else -1))[::-1]
    try:
        neuron_count(subject.model, layers)
    except AffectscopeError as error:
        raise NotApplicableError(str(error)) from error
    stories, total = subject.read.stories(subject.layer), len(subject.corpus.topics)
    topics = np.unique(np.linspace(0, total - 1, min(TOPICS[subject.effort], total)).round().astype(int))
    rows = np.flatnonzero(np.isin(stories.topic, topics))
    concept, topic = stories.concept[rows], stories.topic[rows]
    fit = np.isin(topic, topics[::2])
    for half in (fit, ~fit):
        if len(np.unique(topic[half])) < 2 or len(np.unique(concept[half])) < len(subject.corpus.emotions):
            raise NotApplicableError("neurons are chosen and tested on two topics each that tell of every emotion")
    means = neuron_means(subject.model, [texts[row] for row in rows], layers, subject.read.recipe.skip_tokens, progress)
    return NeuronRead(layers, means, rows, concept, topic, fit)


def _survey(
    subject: Subject, read: NeuronRead, sample: list[list[int]], emotions: list[str], k: int, progress: Progress
) -> _Survey:
    count, rng = len(subject.corpus.emotions), np.random.default_rng(0)
    vectors = subject.vectors.vectors[subject.vectors.place()][subject.vectors.select(subject.corpus.emotions)]
    random = unit(rng.standard_normal(vectors.shape))
    numbers = [subject.corpus.emotions.index(e) for e in emotions]
    # The vectors of the file have seen every topic, so what is ablated is chosen by vectors without the held-out ones.
    own = _vectors_without(subject, np.unique(read.topic[~read.fit]))[numbers]
    labels = read.concept, read.shuffled(rng)
    halves = read.fit, ~read.fit
    writers, random_writers, top = Best(count, LISTED), Best(count, 1), Best(len(emotions), k)
    separators = [[Best(count, LISTED if half is read.fit else 1) for half in halves] for _ in labels]
    grams = [np.zeros((count, count)) for _ in labels]
    scales = norm_scales(subject.model, sample, read.layers)
    for place, layer in enumerate(read.layers):
        centred = read.centred(place)
        columns = written(subject.model, layer, scales[place]).cpu().numpy().astype(np.float64)
        size, spread = np.maximum(np.linalg.norm(columns, axis=1), 1e-12), centred.std(axis=0)
        along, noise = vectors @ columns.T, random @ columns.T
        cosine = along / size
        for label, found, gram in zip(labels, separators, grams, strict=True):
            for half, best in zip(halves, found, strict=True):
                effect = separation(centred[half], label[half], count)
                best.see(layer, np.abs(effect), effect=effect, cosine=cosine)
                if half is read.fit:
                    profile = concept_means(centred[half], label[half], count) / np.maximum(spread, 1e-12)
                    gram += profile @ profile.T
                    if label is read.concept:
                        # The sign of a neuron is a convention of its block: it may write a direction by falling silent.
                        writers.see(layer, np.abs(along) * spread, effect=effect, cosine=cosine)
        random_writers.see(layer, np.abs(noise) * spread, cosine=noise / size)
        top.see(layer, concept_means(centred[read.fit], read.concept[read.fit], count)[numbers] * (own @ columns.T))
        progress("comparing neurons", place + 1, len(read.layers))
    aucs, fakes = ([read.aucs(best, ~half) for half, best in zip(halves, f, strict=True)] for f in separators)
    return _Survey(
        writers,
        random_writers,
        separators[0][0],
        top,
        np.concatenate(aucs),
        np.concatenate(fakes),
        (grams[0], grams[1]),
    )


def _vectors_without(subject: Subject, topics: np.ndarray) -> np.ndarray:
    """``[concepts, d_model]`` unit vectors at the read layer of the stories on other topics than ``topics``."""
    stories = subject.read.stories(subject.layer)
    train = stories.where(~np.isin(stories.topic, topics))
    return difference_vectors(train, len(subject.corpus.emotions), subject.read.components(subject.layer))


def _chosen(
    subject: Subject, top: Best, emotions: list[str], width: int
) -> dict[str, list[dict[int, dict[int, np.ndarray]]]]:
    """Neurons to ablate in the stories of each emotion: its own, random ones of the same layers, another emotion's."""
    rng = np.random.default_rng(1)
    numbers = [subject.corpus.emotions.index(e) for e in emotions]
    own = {number: top.by_layer(i) for i, number in enumerate(numbers)}
    draws = 1 if subject.effort == "quick" else 3
    random = [{number: like_it(own[number], width, rng) for number in numbers} for _ in range(draws)]
    other = {number: own[numbers[(i + len(numbers) // 2) % len(numbers)]] for i, number in enumerate(numbers)}
    return {"own": [own], "random": random, "other": [other]}


def _clusters(subject: Subject, read: NeuronRead, survey: _Survey) -> list[Measure]:
    """Adjusted Rand of emotions grouped by neurons and by vectors, which come from other stories; with its nulls."""
    vectors = _vectors_without(subject, np.unique(read.topic[read.fit]))
    k = min(10, len(vectors) // 2)
    by_vector = kmeans_labels(vectors, k)
    by_neuron, by_noise = (kmeans_labels(profile_scores(gram), k) for gram in survey.grams)
    value = rand_index(by_vector, by_neuron)
    rng = np.random.default_rng(2)
    null = np.array([rand_index(by_vector, rng.permutation(by_neuron)) for _ in range(1000)])
    low, high = half_samples(lambda rows: rand_index(by_vector[rows], by_neuron[rows]), len(vectors))
    return [
        Measure("groups by neurons and by vectors: adjusted Rand index", value, low, high),
        Measure("groups by neurons and by vectors: permutation p", permutation_p(value, null)),
        Measure(
            "groups by neurons of shuffled labels: adjusted Rand index", rand_index(by_vector, by_noise), control=True
        ),
    ]


def _over_emotions(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and interval of one value an emotion."""
    return cluster_interval(values, np.arange(len(values)))


def _changes(done: Ablated) -> dict[str, np.ndarray]:
    """Kind of neurons to ``[emotions, 2]``: mean change of z and of rank over each emotion's stories."""
    return {
        kind: np.array([[change[done.concept == c].mean() for change in pair] for c in np.unique(done.concept)])
        for kind, pair in done.changes.items()
    }


def _ablation_measures(done: Ablated) -> list[Measure]:
    changes, measures = _changes(done), []
    for column, what in enumerate(("z", "rank")):
        own, random, other = (changes[kind][:, column] for kind in ("own", "random", "other"))
        measures += [
            Measure(f"own neurons ablated: change of {what}", *_over_emotions(own)),
            Measure(f"own minus random neurons: change of {what}", *_over_emotions(own - random)),
            Measure(f"own minus another emotion's neurons: change of {what}", *_over_emotions(own - other)),
            Measure(f"random neurons ablated: change of {what}", *_over_emotions(random), control=True),
            Measure(f"another emotion's neurons ablated: change of {what}", *_over_emotions(other), control=True),
        ]
    for what, values in (("z", done.z), ("rank", done.rank)):
        measures.append(Measure(f"before ablation: {what}", *cluster_interval(values, done.concept)))
    return measures


def _auc_measures(survey: _Survey) -> list[Measure]:
    topic = np.repeat(np.arange(len(survey.aucs)), survey.aucs.shape[1])
    both = survey.aucs.ravel(), survey.shuffled.ravel()
    true, fake = (values[np.isfinite(both[0])] for values in both)
    topic = topic[np.isfinite(both[0])]
    strongest, chance = (
        _over_emotions(np.abs(best.more["cosine"][:, 0])) for best in (survey.writers, survey.random_writers)
    )
    return [
        Measure("best neuron: AUC on held-out topics", *cluster_interval(true, topic)),
        Measure("best neuron minus that of shuffled labels: AUC", *cluster_interval(true - fake, topic)),
        Measure("best neuron of shuffled labels: AUC", *cluster_interval(fake, topic), control=True),
        Measure("best writer: cosine with the vector, absolute", *strongest),
        Measure("best writer of a random direction: cosine, absolute", *chance, control=True),
    ]


def _result(subject: Subject, read: NeuronRead, survey: _Survey, done: Ablated, k: int) -> Result:
    ablation, auc = _ablation_measures(done), _auc_measures(survey)
    own, difference, random = ablation[0], ablation[1], ablation[3]
    verdict: Verdict = "contrary" if (difference.low or 0) > 0 else "not shown"
    if (difference.high or 0) < 0 and (auc[1].low or 0) > 0:
        verdict = "shown"
    considered = len(read.layers) * read.means.shape[2]
    return Result(
        name="neurons",
        question="Do single neurons tell and write an emotion's direction, and does its reading need them?",
        rule="shown if setting an emotion's neurons to their mean lowers its z on held-out stories more than random neurons of "
        "the same layers do, the paired interval over emotions below zero, and the best single neuron's AUC on held-out "
        "topics exceeds that of shuffled labels, the interval over topics above zero",
        finding=f"Setting {k} of {considered} neurons to their mean changes the z of the emotion that they write by "
        f"{own.text()}, random neurons of the same layers by {random.text()}; its rank changes by {ablation[5].text()}; one neuron alone tells an emotion with "
        f"an AUC of {auc[0].text()} on unseen topics (shuffled labels: {auc[2].text()})",
        verdict=verdict,
        n=len(done.concept),
        unit="stories ablated",
        measures=(*ablation, *auc, *_clusters(subject, read, survey)),
        effect=difference.name,
        control=random.name,
        caveat="Neurons are chosen by what they write directly along the vector, so some fall of the reading is expected where "
        "any neuron writes along it; neurons of mixtures of experts are not read.",
        data={
            "layers": list(read.layers),
            "neurons_a_layer": int(read.means.shape[2]),
            "ablated": k,
            "topics": [subject.corpus.topics[t] for t in np.unique(read.topic)],
            "by_layer": {
                "writers": shares_by_layer(survey.writers, read.layers),
                "separators": shares_by_layer(survey.separators, read.layers),
                "ablated": shares_by_layer(survey.top, read.layers),
            },
            "shared_with_another": share_in_common(survey.top),
            "ablation": {
                "emotions": [subject.corpus.emotions[c] for c in np.unique(done.concept)],
                **{
                    kind: dict(zip(("z", "rank"), t.T.round(4).tolist(), strict=True))
                    for kind, t in _changes(done).items()
                },
            },
            "auc": auc_table(subject.corpus.emotions, survey.aucs, survey.shuffled),
            "columns": ["layer", "index", "cosine", "effect (s.d.)", "AUC on the other topics"],
            "emotions": _listed(subject, read, survey),
        },
    )


def _listed(subject: Subject, read: NeuronRead, survey: _Survey) -> dict[str, dict[str, list[list[float]]]]:
    """Emotion to its first writers and separators, rows as ``columns`` says.

    The AUC is on topics that chose no separator; the vectors that chose the writers have seen every topic.
    """
    found: dict[str, dict[str, list[list[float]]]] = {name: {} for name in subject.corpus.emotions}
    for kind, best in (("writers", survey.writers), ("separators", survey.separators)):
        aucs = np.stack([np.nanmean(read.aucs(best, ~read.fit, which), axis=0) for which in range(best.k)], axis=1)
        for c, name in enumerate(found):
            found[name][kind] = [
                [int(best.layer[c, i]), int(best.index[c, i]), round(float(best.more["cosine"][c, i]), 3),
                 round(float(best.more["effect"][c, i]), 2), round(float(aucs[c, i]), 3)]
                for i in range(best.k)
            ]  # fmt: skip
    return found


EXPERIMENT = register(Experiment("neurons", run, plot, "Single neurons"))
