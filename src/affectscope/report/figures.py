"""The two pictures that belong to the report and to no single experiment: the map, and the valence/arousal plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.manifold import TSNE

from affectscope.concepts.emotions import EMOTIONS, cluster_of
from affectscope.validation.base import Result
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.geometry import cosines


def emotion_map(vectors: ConceptVectors, results: dict[str, Result]) -> dict[str, Any]:
    """Places of the concepts on a plane where near vectors lie near (t-SNE of cosine distance, fixed seed)."""
    directions = vectors.vectors[vectors.place()].astype(np.float64)
    count = len(directions)
    if count < 10:
        return {}
    distance = np.maximum(1 - cosines(directions), 0)
    np.fill_diagonal(distance, 0)
    tsne = TSNE(metric="precomputed", init="random", perplexity=min(15, (count - 1) / 3), random_state=0)
    places = tsne.fit_transform(distance)
    clusters = [cluster_of(name) if name in EMOTIONS else "other" for name in vectors.concepts]
    neighbours = np.argsort(distance, axis=1)[:, 1:6]
    same = np.mean([[clusters[j] == clusters[i] for j in row] for i, row in enumerate(neighbours)])
    sizes = {c: clusters.count(c) for c in set(clusters)}
    chance = float(np.mean([(sizes[c] - 1) / (count - 1) for c in clusters]))
    return {
        "title": f"Of an emotion's five nearest vectors, {100 * same:.0f} % belong to its cluster in the paper (chance {100 * chance:.0f} %)",
        "names": list(vectors.concepts),
        "x": np.round(places[:, 0], 3).tolist(),
        "y": np.round(places[:, 1], 3).tolist(),
        "clusters": clusters,
        "order": [c for c in _BY_VALENCE if c in sizes] + sorted(set(clusters) - set(_BY_VALENCE)),
    }


_BY_VALENCE = (
    "Exuberant Joy", "Peaceful Contentment", "Compassionate Gratitude", "Competitive Pride", "Playful Amusement",
    "Depleted Disengagement", "Vigilant Suspicion", "Hostile Anger", "Fear and Overwhelm", "Despair and Shame",
)  # fmt: skip


def valence_arousal_plane(results: dict[str, Result]) -> dict[str, Any]:
    """The components that follow valence and arousal most as axes; rated words carry people's own valence as colour.

    Axes are turned so that pleasant is right and aroused is up (a display choice; every statistic uses |r|).
    """
    result = results.get("human_ratings")
    if result is None or not result.n:
        return {}
    strongest, scores = result.data["strongest"], result.data["scores"]
    source, rated = next(iter(result.data["points"].items()))
    names = list(scores)
    axes, notes = [], []
    for index, what in enumerate(("valence", "arousal")):
        component = int(strongest[what])
        row = next(
            r for r in result.data["table"] if (r["source"], r["rating"], r["component"]) == (source, what, component)
        )
        values = np.array([scores[n][component - 1] for n in names])
        human = np.array([rated[n][index] for n in names if n in rated])
        mine = np.array([scores[n][component - 1] for n in names if n in rated])
        axes.append(values * (1 if np.corrcoef(mine, human)[0, 1] >= 0 else -1))
        notes.append(f"PC{component} against human {what}: |r| = {row['r']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
    return {
        "title": f"{notes[0]}; {notes[1]} ({result.n} rated words)",
        "names": names,
        "x": np.round(axes[0], 4).tolist(),
        "y": np.round(axes[1], 4).tolist(),
        "human": [rated.get(n, [None])[0] for n in names],
        "x_title": f"PC{strongest['valence']} (pleasant to the right)",
        "y_title": f"PC{strongest['arousal']} (aroused upwards)",
    }
