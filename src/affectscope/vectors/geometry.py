"""How concept vectors lie to each other: cosines, clusters, principal components (paper section 3.6).

Pure functions of ``vectors`` ``[concepts, d_model]``, unit rows. Rows are scaled to unit norm before components are
taken: separation in raw components follows the length of a vector, not its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans


def cosines(vectors: np.ndarray) -> np.ndarray:
    """``[concepts, concepts]`` cosine of every pair."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found: np.ndarray = np.clip(unit @ unit.T, -1, 1)
    return found


def neighbours(
    table: np.ndarray, index: int, near: int, far: int
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """The nearest concepts of one, nearest first, and the farthest, farthest first, each with its cosine.

    ``table`` is what :func:`cosines` gives; the concept itself is not among the nearest.
    """
    order = np.argsort(-table[index])
    pairs = [(int(i), float(table[index, i])) for i in order]
    return pairs[1 : near + 1], pairs[::-1][:far]


def clustered_order(vectors: np.ndarray) -> np.ndarray:
    """Order of concepts in which near ones stand together (average linkage, optimal leaf order)."""
    distance = 1 - cosines(vectors)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    order: np.ndarray = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    return order


def kmeans_labels(vectors: np.ndarray, k: int = 10, seed: int = 0) -> np.ndarray:
    """Cluster of each concept, k-means with 20 starts (the paper's k = 10)."""
    labels: np.ndarray = KMeans(k, n_init=20, random_state=seed).fit_predict(vectors)
    return labels


@dataclass(frozen=True)
class Components:
    """Principal components of the concepts: ``scores`` ``[concepts, k]`` and the share of variance of each."""

    scores: np.ndarray
    explained: np.ndarray


def principal_components(vectors: np.ndarray, k: int = 10) -> Components:
    """Components of unit vectors about their mean.

    The sign of each is fixed by a rule that looks at no rating: the concept with the largest absolute score is
    positive.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    left, singular, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    k = min(k, len(singular))
    scores = left[:, :k] * singular[:k]
    scores = scores * np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(k)])
    return Components(scores, singular[:k] ** 2 / (singular**2).sum())
