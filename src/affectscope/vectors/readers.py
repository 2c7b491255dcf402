"""Directions for detection: the difference of means read through the shrunk within-emotion covariance.

Difference-of-means vectors steer well and detect badly: the loudest directions of the residual stream (style,
speech, length) drown them. A reader divides by how much stories of one and the same emotion vary:

    w_c = P^-1 (m_c - m),   P = (1 - a) S + a tr(S)/d I,   scaled so that w_c' P w_c = 1

with ``m_c`` the mean of concept ``c`` over topic-centred story means, ``m`` the mean over concepts and ``S`` the
within-concept covariance. Its score ``w_c . (h - mu)`` is linear in the residual and its unit is the spread of
stories of one emotion. The shrinkage ``a`` is chosen on topics that the fit does not see, under that score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

FEWEST_TOPICS = 6
SHRINKAGES = (0.2, 0.35, 0.5, 0.7, 0.85)


@dataclass(frozen=True)
class Labelled:
    """Story means of one layer: ``values`` ``[stories, d_model]``, integer ``concept`` and ``topic`` ``[stories]``."""

    values: np.ndarray
    concept: np.ndarray
    topic: np.ndarray

    def where(self, mask: np.ndarray) -> Labelled:
        """The stories that ``mask`` keeps."""
        return Labelled(self.values[mask], self.concept[mask], self.topic[mask])


def centred_by_topic(data: Labelled) -> np.ndarray:
    """``values`` minus the mean of each story's topic, float64: an uncrossed corpus is rescued, a crossed one kept."""
    values: np.ndarray = data.values.astype(np.float64)
    for topic in np.unique(data.topic):
        rows = data.topic == topic
        values[rows] -= values[rows].mean(axis=0)
    return values


def concept_means(values: np.ndarray, concept: np.ndarray, concepts: int) -> np.ndarray:
    """``[concepts, d_model]``: mean of each concept minus the mean over concepts (paper section 2, item 3).

    Raises ``ValueError`` when a concept has no story.
    """
    counts = np.bincount(concept, minlength=concepts).astype(np.float64)
    if (counts == 0).any():
        raise ValueError(f"concept {int(np.argmin(counts))} has no story")
    means = (np.eye(concepts)[concept] / counts[concept][:, None]).T @ values
    centred: np.ndarray = means - means.mean(axis=0)
    return centred


@dataclass(frozen=True)
class ReaderFit:
    """What a family of readers, one a shrinkage, is made from; computed once a split."""

    means: np.ndarray
    within: np.ndarray

    @classmethod
    def of(cls, data: Labelled, concepts: int) -> ReaderFit:
        """Means and within-concept covariance of topic-centred stories."""
        values = centred_by_topic(data)
        means = concept_means(values, data.concept, concepts)
        counts = np.bincount(data.concept, minlength=concepts)
        residual = values - values.mean(axis=0) - means[data.concept]
        freedom = max(len(values) - int((counts > 0).sum()), 1)
        return cls(means, residual.T @ residual / freedom)

    def readers(self, shrinkage: float) -> np.ndarray:
        """``[concepts, d_model]`` readers of unit within-concept spread at one shrinkage."""
        size = self.within.shape[0]
        scale = float(np.trace(self.within)) / size
        if scale < 1e-12:  # one story a concept: nothing is known of the spread, the plain differences remain
            plain: np.ndarray = self.means / np.maximum(np.linalg.norm(self.means, axis=1, keepdims=True), 1e-12)
            return plain
        shrunk = (1 - shrinkage) * self.within + shrinkage * scale * np.eye(size)
        directions = cho_solve(cho_factor(shrunk), self.means.T).T
        spread = np.sqrt(((directions @ shrunk) * directions).sum(axis=1))
        scaled: np.ndarray = directions / np.maximum(spread, 1e-12)[:, None]
        return scaled


def ranks(scores: np.ndarray, concept: np.ndarray) -> np.ndarray:
    """Rank of the true concept among all in each row of ``scores`` ``[stories, concepts]``: 1 is best, ties cost half."""
    true = scores[np.arange(len(concept)), concept][:, None]
    above: np.ndarray = (scores > true).sum(axis=1)
    level: np.ndarray = (scores == true).sum(axis=1) - 1
    found: np.ndarray = 1 + above + level / 2
    return found


def standardised_scores(directions: np.ndarray, fitted: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Scores of ``read`` ``[n, d_model]``, each concept's standardised by its scores on the stories it was ``fitted`` on."""
    reference = fitted @ directions.T
    scores: np.ndarray = (read @ directions.T - reference.mean(axis=0)) / np.maximum(reference.std(axis=0), 1e-12)
    return scores


def folds(topic: np.ndarray, count: int) -> list[np.ndarray]:
    """Masks of held-out stories: the topics dealt into ``count`` groups (fewer when there are fewer topics)."""
    topics = np.unique(topic)
    return [np.isin(topic, topics[start::count]) for start in range(min(count, len(topics)))]


def shrinkage_curve(data: Labelled, concepts: int, count: int = 3) -> dict[float, float]:
    """Mean rank on held-out topics for each of ``SHRINKAGES`` (lower is better).

    Folds whose training topics lack a concept are left out (an uncrossed corpus); {} when none is left.
    """
    totals = dict.fromkeys(SHRINKAGES, 0.0)
    scored = 0
    for held in folds(data.topic, count):
        train, test = data.where(~held), data.where(held)
        if len(np.unique(train.concept)) < concepts:
            continue
        scored += len(test.topic)
        fit, fitted, read = ReaderFit.of(train, concepts), centred_by_topic(train), centred_by_topic(test)
        for shrinkage in SHRINKAGES:
            scores = standardised_scores(fit.readers(shrinkage), fitted, read)
            totals[shrinkage] += float(ranks(scores, test.concept).sum())
    return {shrinkage: total / scored for shrinkage, total in totals.items()} if scored else {}


def choose_shrinkage(data: Labelled, concepts: int, count: int = 3) -> float:
    """The shrinkage of lowest mean rank on held-out topics; 0.5 when there are too few topics to learn it from."""
    curve = shrinkage_curve(data, concepts, count)
    return min(curve, key=lambda shrinkage: curve[shrinkage]) if curve else 0.5


def fit_readers(data: Labelled, concepts: int, shrinkage: float | None = None) -> tuple[np.ndarray, float]:
    """Readers ``[concepts, d_model]`` and the shrinkage used (chosen on held-out topics when None)."""
    used = choose_shrinkage(data, concepts) if shrinkage is None else shrinkage
    return ReaderFit.of(data, concepts).readers(used), used


def split_topics(topics: Sequence[int]) -> list[list[int]]:
    """Topics in three disjoint groups, about 1/2, 1/4, 1/4: for the readers, the held-out probe, and kept out of both.

    Spread within a concept needs two topics, so with fewer than ``FEWEST_TOPICS`` all go to the readers.
    """
    order = list(topics)
    if len(order) < FEWEST_TOPICS:
        return [order, [], []]
    quarter = max(len(order) // 4, 2)
    return [order[: len(order) - 2 * quarter], order[-2 * quarter : -quarter], order[-quarter:]]
