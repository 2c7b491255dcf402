"""Do residuals still tell the emotion once all that the words explain is taken away (idea of arXiv 2509.21344)?

1. Deal the topics into folds, as in `recognition`. Features of the same window of text: TF-IDF reduced to 300
   dimensions (learnt on the training topics) and a sentence embedding where one is installed.
2. Ridge from text to residual, both centred by topic, its strength chosen by inner folds of topics. Training stories
   are predicted by fits that left their topic out, so that their remainder is like that of a held-out story.
3. Subtract the prediction; fit readers on the remainder; rank the true emotion of held-out stories.
4. Controls: shuffled labels, readers on what text predicts, readers on the text alone.
5. The increment: text score plus weight times remainder score against text alone; the weight comes from inner folds.

A ridge never removes all of a signal, so a rank better than chance is not enough: the remainder must add to the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affectscope.concepts.ratings import load_ratings
from affectscope.validation.base import Experiment, Figure, Measure, NotApplicableError, Result, Subject, register
from affectscope.validation.recognition import FOLDS, shuffled_labels
from affectscope.validation.statistics import bootstrap, bootstrap_r, cluster_interval, correlation
from affectscope.validation.text_baselines import (
    LATENT,
    embed,
    embedding_caveat,
    rank_figure,
    rank_rows,
    windows,
    with_embedding,
)
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import difference_vectors
from affectscope.vectors.geometry import principal_components
from affectscope.vectors.readers import (
    Labelled,
    centred_by_topic,
    concept_means,
    fit_readers,
    folds,
    ranks,
    standardised_scores,
)

INNER = 3
PENALTIES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)  # in units of the features' mean eigenvalue
WEIGHTS = (0.0, 0.25, 0.5, 1.0)  # of the remainder's score beside the text's; 0 where it does not help
COMPONENTS = 4
_NAMES = {
    "remainder": "readers on what text leaves",
    "before": "readers before",
    "shuffled": "readers on what text leaves, shuffled labels",
    "predicted": "readers on what text predicts",
    "text": "text alone",
    "both": "text with what it leaves",
    "equal": "text with what it leaves, equal weights",
}


@dataclass(frozen=True)
class RidgePath:
    """Ridge fits of centred ``y`` on centred ``x`` at every strength, from one decomposition."""

    size: np.ndarray
    basis: np.ndarray
    crossed: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> RidgePath:
        """Fit ``y`` ``[n, d]`` on ``x`` ``[n, k]``, both centred, float64."""
        size, basis = np.linalg.eigh(x.T @ x)
        return cls(np.maximum(size, 0), basis, basis.T @ (x.T @ y))

    def predict(self, x: np.ndarray, penalty: float) -> np.ndarray:
        """``[n, d]`` for ``x`` ``[n, k]``; ``penalty`` in units of the mean eigenvalue."""
        strength = self.size + penalty * max(float(self.size.mean()), 1e-12)
        found: np.ndarray = (x @ self.basis / strength) @ self.crossed
        return found


@dataclass(frozen=True)
class Residualised:
    """Held-out ``ranks`` ``[stories]`` by name; every story's topic-centred residual ``values`` and held-out ``remainder``
    ``[stories, d_model]``, float64; by fold the ridge strength and the weight of the remainder that were chosen."""

    ranks: dict[str, np.ndarray]
    values: np.ndarray
    remainder: np.ndarray
    choices: tuple[tuple[float, float], ...]


def text_features(
    fit: Sequence[str], read: Sequence[str], embedded: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """``[texts, k]`` features of ``fit`` and ``read``, learnt from ``fit``: reduced TF-IDF and, where given, embeddings.

    Each block is centred and scaled to a total variance of 1, so that neither outweighs the other.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    counts, other = vectorizer.fit_transform(fit), vectorizer.transform(read)
    latent = TruncatedSVD(max(min(LATENT, counts.shape[1] - 1, counts.shape[0] - 1), 1), random_state=0).fit(counts)
    blocks = [(latent.transform(counts), latent.transform(other))]
    if embedded is not None:
        blocks.append(embedded)
    scaled = []
    for fitted, tested in blocks:
        mean, spread = fitted.mean(axis=0), np.sqrt(max(float(fitted.var(axis=0).sum()), 1e-12))
        scaled.append(((fitted - mean) / spread, (tested - mean) / spread))
    return np.hstack([f for f, _ in scaled]).astype(np.float64), np.hstack([t for _, t in scaled]).astype(np.float64)


def residualise(
    text: tuple[Labelled, Labelled], train: Labelled, test: Labelled
) -> tuple[Labelled, Labelled, Labelled, Labelled, float]:
    """Steps 2 and 3 for one fold, everything topic-centred.

    Returns the remainder of ``train`` and ``test``, the prediction of both, and the ridge strength.
    """
    x, x_test = (centred_by_topic(part) for part in text)
    y, y_test = centred_by_topic(train), centred_by_topic(test)
    paths = [(held, RidgePath.of(x[~held], y[~held])) for held in folds(train.topic, INNER)]
    errors = [sum(float(((y[h] - p.predict(x[h], a)) ** 2).sum()) for h, p in paths) for a in PENALTIES]
    penalty = PENALTIES[int(np.argmin(errors))]
    predicted = np.zeros_like(y)
    for held, path in paths:
        predicted[held] = path.predict(x[held], penalty)
    outer = RidgePath.of(x, y).predict(x_test, penalty)

    def of(values: np.ndarray, data: Labelled) -> Labelled:
        return Labelled(values, data.concept, data.topic)

    return of(y - predicted, train), of(y_test - outer, test), of(predicted, train), of(outer, test), penalty


def held_out(subject: Subject, progress: Progress) -> Residualised:
    """Steps 1-5 at the read layer. Quick effort deals the topics into fewer folds.

    Raises:
        NotApplicableError: fewer than four topics, or an emotion told on too few of them.
    """
    stories, concepts = subject.read.stories(subject.layer), len(subject.corpus.emotions)
    if len(np.unique(stories.topic)) < 4:
        raise NotApplicableError("fewer than four topics, so none can be left out twice over")
    texts = windows(subject, subject.corpus.stories)
    embedded = embed(texts) if with_embedding(subject) else None
    found = {name: np.zeros(len(texts)) for name in _NAMES}
    values, remainder = centred_by_topic(stories), np.zeros(stories.values.shape)
    rng, choices = np.random.default_rng(0), []
    outer = folds(stories.topic, 3 if subject.effort == "quick" else FOLDS)
    for done, held in enumerate(outer, start=1):
        train, test = stories.where(~held), stories.where(held)
        if len(np.unique(train.concept)) < concepts:
            raise NotApplicableError("leaving topics out leaves some emotion without a story")
        fit, read = ([texts[i] for i in np.flatnonzero(mask)] for mask in (~held, held))
        words = text_features(fit, read, None if embedded is None else (embedded[~held], embedded[held]))
        scores, remainder[held], chosen = _fold(words, train, test, concepts, rng)
        for name, score in scores.items():
            found[name][held] = ranks(score, test.concept)
        choices.append(chosen)
        progress("residualised", done, len(outer))
    return Residualised(found, values, remainder, tuple(choices))


def _fold(
    words: tuple[np.ndarray, np.ndarray], train: Labelled, test: Labelled, concepts: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[float, float]]:
    """Scores of held-out stories by name, their remainder, and the ridge strength and weight chosen."""
    text = Labelled(words[0], train.concept, train.topic), Labelled(words[1], test.concept, test.topic)
    left, left_test, told, told_test, penalty = residualise(text, train, test)
    pairs = {"before": (train, test), "remainder": (left, left_test), "predicted": (told, told_test), "text": text}
    scored = {name: _scores(*pair, concepts) for name, pair in pairs.items()}
    scores = {name: score for name, (score, _) in scored.items()}
    weight = choose_weight(text[0], left, concepts, scored["text"][1], scored["remainder"][1])
    scores["shuffled"] = _scores(shuffled_labels(left, rng), left_test, concepts, scored["remainder"][1])[0]
    scores["both"] = scores["text"] + weight * scores["remainder"]
    scores["equal"] = scores["text"] + scores["remainder"]
    return scores, left_test.values, (penalty, weight)


def _scores(fit: Labelled, read: Labelled, concepts: int, shrinkage: float | None = None) -> tuple[np.ndarray, float]:
    readers, used = fit_readers(fit, concepts, shrinkage)
    return standardised_scores(readers, centred_by_topic(fit), centred_by_topic(read)), used


def choose_weight(text: Labelled, left: Labelled, concepts: int, text_shrinkage: float, shrinkage: float) -> float:
    """The weight of ``WEIGHTS`` with the lowest mean rank on inner folds of topics; the smaller of equals."""
    totals = np.zeros(len(WEIGHTS))
    for held in folds(text.topic, INNER):
        concept = text.concept[held]
        if len(np.unique(text.concept[~held])) < concepts:
            continue
        words, _ = _scores(text.where(~held), text.where(held), concepts, text_shrinkage)
        rest, _ = _scores(left.where(~held), left.where(held), concepts, shrinkage)
        totals += [ranks(words + weight * rest, concept).sum() for weight in WEIGHTS]
    return WEIGHTS[int(np.argmin(totals))]


def explained(
    values: np.ndarray, remainder: np.ndarray, stories: Labelled, concepts: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Held-out share of variance that text explains: of stories (interval over topics), of emotions (over emotions)."""
    rows = [stories.topic == t for t in np.unique(stories.topic)]
    left, whole = (np.array([(part[mask] ** 2).sum() for mask in rows]) for part in (remainder, values))
    means, rest = ((concept_means(v, stories.concept, concepts) ** 2).sum(axis=1) for v in (values, remainder))
    return _share(left, whole), _share(rest, means)


def _share(left: np.ndarray, whole: np.ndarray) -> tuple[float, float, float]:
    def statistic(rows: np.ndarray) -> float:
        return float(1 - left[rows].sum() / max(float(whole[rows].sum()), 1e-12))

    return statistic(np.arange(len(left))), *bootstrap(statistic, len(left))


def valence(subject: Subject, values: np.ndarray, when: str) -> list[Measure]:
    """|r| of the best of four components of the emotion vectors with human valence; its null takes the best of four too.

    ``values`` ``[stories, d_model]``. [] when fewer than ten emotions are rated.
    """
    ratings, names = load_ratings()["RM77"], subject.corpus.emotions
    words = [i for i, name in enumerate(names) if name in ratings]
    if len(words) < 10:
        return []
    stories = subject.read.stories(subject.layer)
    data = Labelled(values, stories.concept, stories.topic)
    vectors = difference_vectors(data, len(names), subject.read.components(subject.layer))
    scores = principal_components(vectors, COMPONENTS).scores[words]
    human, rng = np.array([ratings[names[i]].valence for i in words]), np.random.default_rng(0)

    def best(target: np.ndarray) -> np.ndarray:
        return np.array([abs(correlation(column, target)) for column in scores.T])

    place = int(best(human).argmax())
    null = float(np.percentile([best(rng.permutation(human)).max() for _ in range(2000)], 95))
    name = f"valence {when}: |r| of the best of PC1-{COMPONENTS}"
    return [
        Measure(name, float(best(human)[place]), *bootstrap_r(scores[:, place], human, absolute=True)),
        Measure(f"{name}, permuted ratings, 95th percentile", null, control=True),
    ]


def run(subject: Subject, progress: Progress) -> Result:
    """Mean ranks before and after, the increment over text, the variance that text explains, and what valence becomes."""
    found, stories = held_out(subject, progress), subject.read.stories(subject.layer)
    concepts, topic, by = len(subject.corpus.emotions), stories.topic, {}
    for key, name in _NAMES.items():
        control = key in ("shuffled", "predicted", "text")
        by[key] = Measure(f"{name}: mean rank", *cluster_interval(found.ranks[key], topic), control=control)
    chance = Measure("chance: mean rank", (concepts + 1) / 2, control=True)
    gain, equal = (
        Measure(f"gain of {_NAMES[key]} over text alone", *cluster_interval(found.ranks["text"] - r, topic), " ranks")
        for key, r in found.ranks.items()
        if key in ("both", "equal")
    )
    single, between = explained(found.values, found.remainder, stories, concepts)
    shares = [
        Measure("variance between stories that text explains, held out", *single),
        Measure("variance between emotions that text explains, held out", *between),
    ]
    word = valence(subject, found.values, "before") + valence(subject, found.remainder, "after")
    rest = by["remainder"]
    fate = f"; valence's |r| goes from {word[0].text()} to {word[2].text()}" if word else ""
    better = (rest.high or chance.value) < min(chance.value, by["shuffled"].low or chance.value)
    adds = (gain.low or 0) > 0
    return Result(
        name="residualised",
        question="Do residuals still tell the emotion once all that the words explain linearly is taken away?",
        rule="shown if readers on what text leaves rank the true emotion better than chance and than shuffled labels, intervals "
        "apart, and added to the text-only readers they improve their rank, the paired interval over topics excluding zero",
        finding=f"With what text explains taken away ({single[0] * 100:.0f} % of variance) the true emotion ranks {rest.value:.1f} "
        f"of {concepts} (before {by['before'].value:.1f}, chance {chance.value:.0f}); "
        f"it {'adds' if adds else 'does not clearly add'} to text alone: gain {gain.text()}{fate}",
        verdict="shown" if better and adds else "not shown",
        n=len(topic),
        unit="stories",
        measures=(*by.values(), chance, gain, equal, *shares, *word),
        effect=rest.name,
        control=by["shuffled"].name,
        caveat="Only what these text features explain linearly is taken away; what is left may still be words."
        + (" " + embedding_caveat(subject)).rstrip(),
        data={
            "rows": rank_rows(m for key, m in by.items() if key != "shuffled"),
            "ridge_and_weight": [list(chosen) for chosen in found.choices],
        },
    )


def plot(result: Result) -> list[Figure]:
    """Mean rank with intervals, before and after, and of the text."""
    axis = "mean rank of the true emotion on held-out topics (lower is better, 95 % interval)"
    return [rank_figure(result.finding, result.data["rows"], axis)]


EXPERIMENT = register(Experiment("residualised", run, plot, "What the words leave"))
