"""Do the vectors fall into the groups that the paper found? Cosines, k-means with k = 10 (paper section 3.6)."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from affectscope.concepts.emotions import EMOTIONS, cluster_of
from affectscope.errors import AffectscopeError
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.statistics import half_samples, permutation_p
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import unit
from affectscope.vectors.geometry import clustered_order, cosines, kmeans_labels, principal_components

NULL_DRAWS = 2000
SEEDS = 5


def run(subject: Subject, progress: Progress) -> Result:
    """Adjusted Rand index of our clusters against the paper's, with a permutation null and random vectors."""
    concepts = subject.vectors.concepts
    vectors = subject.vectors.vectors[subject.vectors.place()].astype(np.float64)
    known = np.array([i for i, name in enumerate(concepts) if name in EMOTIONS], dtype=int)
    paper = np.array([cluster_of(concepts[i]) for i in known])
    partitions = [kmeans_labels(vectors, min(10, len(vectors)), seed)[known] for seed in range(SEEDS)]
    scores = [float(adjusted_rand_score(paper, labels)) for labels in partitions]
    rng = np.random.default_rng(0)

    def agreement(rows: np.ndarray) -> float:
        return float(np.mean([adjusted_rand_score(paper[rows], labels[rows]) for labels in partitions]))

    null = np.array([adjusted_rand_score(rng.permutation(paper), partitions[0]) for _ in range(NULL_DRAWS)])
    noise = unit(rng.standard_normal(vectors.shape))
    flat = float(adjusted_rand_score(paper, kmeans_labels(noise, min(10, len(vectors)))[known])) if len(known) else 0.0
    progress("geometry", 1, 1)
    low, high = half_samples(agreement, len(known)) if len(known) else (0.0, 0.0)
    value, p = float(np.mean(scores)), permutation_p(float(np.mean(scores)), null)
    components = principal_components(vectors)
    matrix, order = cosines(vectors), clustered_order(vectors)
    same = paper[:, None] == paper[None, :]
    off = ~np.eye(len(known), dtype=bool)
    if not (same & off).any() or same.all():
        raise AffectscopeError("too few of the paper's emotions are among the concepts to compare clusters")
    inside = float(matrix[np.ix_(known, known)][same & off].mean())
    outside = float(matrix[np.ix_(known, known)][~same].mean())
    return Result(
        name="geometry",
        question="Do the vectors group as the paper's did?",
        rule="shown if the adjusted Rand index against the paper's ten clusters exceeds its permutation null at p < 0.01",
        finding=f"Ten clusters of our vectors agree with the paper's at an adjusted Rand index of {value:.2f} "
        f"(0 is chance, p = {p:.2g}); emotions of one paper cluster have a mean cosine of {inside:.2f}, others {outside:.2f}",
        verdict="shown" if p < 0.01 else "not shown",
        n=len(known),
        unit="emotions",
        measures=(
            Measure("adjusted Rand index", value, low, high),
            Measure("permutation p", p),
            Measure("mean cosine within paper clusters", inside),
            Measure("mean cosine between paper clusters", outside),
            Measure("adjusted Rand index, random vectors", flat, control=True),
            Measure("adjusted Rand index, permuted (95th percentile)", float(np.percentile(null, 95)), control=True),
        ),
        caveat="k-means starts differ: the index is the mean over "
        f"{SEEDS} seeds, which range from {min(scores):.2f} to {max(scores):.2f}. The interval is over random halves of the emotions.",
        effect="adjusted Rand index",
        control="adjusted Rand index, permuted (95th percentile)",
        paper="ten clusters, no figure of agreement (section 3.6)",
        data={
            "matrix": np.round(matrix[np.ix_(order, order)], 3).tolist(),
            "order": [concepts[i] for i in order],
            "cluster": {concepts[i]: int(c) for i, c in zip(known, partitions[0], strict=True)},
            "paper": {concepts[i]: str(c) for i, c in zip(known, paper, strict=True)},
            "explained": [round(float(x), 4) for x in components.explained],
            "components": {
                name: [round(float(x), 4) for x in components.scores[i, :4]] for i, name in enumerate(concepts)
            },
        },
    )


def plot(result: Result) -> list[Figure]:
    """Cosine of every pair, near emotions side by side; and the share of variance of each component."""
    names = result.data["order"]
    heat = {
        "type": "heatmap", "z": result.data["matrix"], "x": names, "y": names, "zmin": -1, "zmax": 1, "meta": "diverging",
        "colorbar": {"title": {"text": "cosine"}, "thickness": 12},
        "hovertemplate": "%{y} · %{x}: %{z:.2f}<extra></extra>",
    }  # fmt: skip
    axis = {"showticklabels": True, "tickfont": {"size": 8}, "nticks": 44, "automargin": True}
    square = {"xaxis": {**axis, "tickangle": 90}, "yaxis": {**axis, "autorange": "reversed"}, "height": 760}
    share = [100 * x for x in result.data["explained"]]
    bars = {
        "type": "bar",
        "x": [f"PC{i + 1}" for i in range(len(share))],
        "y": share,
        "meta": "readers",
        "hovertemplate": "%{x}: %{y:.1f} %<extra></extra>",
    }
    return [
        {"title": result.finding, "data": [heat], "layout": square},
        {
            "title": f"The first two components hold {share[0]:.0f} % and {share[1]:.0f} % of the variance (paper: 26 % and 15 %)",
            "data": [bars],
            "layout": {
                "xaxis": {"title": {"text": "principal component of the concept vectors"}},
                "yaxis": {"title": {"text": "share of variance (%)"}},
                "height": 320,
                "showlegend": False,
            },
        },
    ]


EXPERIMENT = register(Experiment("geometry", run, plot, "Geometry"))
