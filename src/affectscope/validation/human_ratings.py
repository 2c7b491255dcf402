"""Do the main components follow what people say of valence and arousal? (Paper section 3.6: .81 and .66.)

Two hypotheses are stated in advance, the paper's: the first component follows valence, the second arousal. The
rest of the table (four components, two ratings, two sources) is shown as exploration. Components are found
without ratings and their signs by a rule that looks at none, so |r| is what counts; its null is drawn the same way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from affectscope.concepts.ratings import SOURCES, load_ratings
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.statistics import bootstrap_r, correlation, permutation_p
from affectscope.vectors.activations import Progress
from affectscope.vectors.geometry import principal_components

COMPONENTS = 4
PERMUTATIONS = 4000
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)


def run(subject: Subject, progress: Progress) -> Result:
    """|r| of components with human ratings, bootstrap intervals over words, permutation p; and a cross-validated probe."""
    concepts = subject.vectors.concepts
    vectors = subject.vectors.vectors[subject.vectors.place()].astype(np.float64)
    scores = principal_components(vectors, COMPONENTS).scores
    table: list[dict[str, Any]] = []
    measures: list[Measure] = []
    points: dict[str, dict[str, list[float]]] = {}
    for source, ratings in load_ratings().items():
        words = [i for i, name in enumerate(concepts) if name in ratings]
        if len(words) < 10:
            continue
        for what in ("valence", "arousal"):
            human = np.array([getattr(ratings[concepts[i]], what) for i in words])
            for component in range(min(COMPONENTS, scores.shape[1])):
                row = _row(scores[words, component], human)
                table.append({"source": source, "rating": what, "component": component + 1, "n": len(words), **row})
            probe = cross_validated(vectors[words], human)
            r = correlation(probe, human)
            measures.append(Measure(f"{what} from held-out words ({source}): r", r, *bootstrap_r(probe, human)))
        points[source] = {
            concepts[i]: [getattr(ratings[concepts[i]], w) for w in ("valence", "arousal")] for i in words
        }
        progress("human ratings", len(points), len(SOURCES))
    stated: dict[tuple[str, str], dict[str, Any]] = {}
    for what, component in (("valence", 1), ("arousal", 2)):
        for source in points:
            row = next(r for r in table if (r["source"], r["rating"], r["component"]) == (source, what, component))
            stated[source, what] = row
            measures.append(Measure(f"PC{component} and {what} ({source}): |r|", row["r"], row["low"], row["high"]))
            measures.append(Measure(f"PC{component} and {what} ({source}): permutation p", row["p"]))
            measures.append(
                Measure(
                    f"PC{component} and {what} ({source}): |r| of permuted ratings, 95th percentile",
                    row["null"],
                    control=True,
                )
            )
    return _conclude(concepts, table, measures, stated, points, scores)


def _conclude(concepts: tuple[str, ...], table: list[dict[str, Any]], measures: list[Measure], stated: dict[tuple[str, str], dict[str, Any]], points: dict[str, dict[str, list[float]]], scores: np.ndarray) -> Result:  # fmt: skip
    if not stated:
        return Result(
            "human_ratings",
            "Do components follow human ratings?",
            "needs rated words",
            "No rated word is among the concepts",
            "not shown",
            0,
            "words",
            (),
        )
    source = "RM77" if ("RM77", "valence") in stated else next(iter(points))
    valence, arousal = stated[source, "valence"], stated[source, "arousal"]
    met = [bool(r["p"] < 0.01) for r in (valence, arousal)]
    strongest = {
        w: max((r for r in table if r["rating"] == w and r["source"] == source), key=lambda r: float(r["r"]))
        for w in ("valence", "arousal")
    }
    return Result(
        name="human_ratings",
        question="Does the first component follow human valence, and the second arousal?",
        rule=f"shown if PC1 with valence and PC2 with arousal both have permutation p < 0.01 ({SOURCES[source]})",
        finding=f"|r| of PC1 with human valence is {valence['r']:.2f} and of PC2 with arousal {arousal['r']:.2f} (paper: .81 and .66); "
        f"valence is strongest in PC{strongest['valence']['component']}, arousal in PC{strongest['arousal']['component']}",
        verdict="shown" if all(met) else "not shown",
        n=int(valence["n"]),
        unit="rated words",
        measures=tuple(measures),
        caveat="People agree with people at about .95 on valence and only .64 to .83 on arousal. Components beyond the two stated ones are exploration.",
        effect=f"PC1 and valence ({source}): |r|",
        control=f"PC1 and valence ({source}): |r| of permuted ratings, 95th percentile",
        paper="PC1 with valence .81, PC2 with arousal .66 (section 3.6)",
        data={
            "table": table,
            "points": points,
            "scores": {n: [round(float(x), 4) for x in scores[i]] for i, n in enumerate(concepts)},
            "strongest": {w: r["component"] for w, r in strongest.items()},
        },
    )


def _row(component: np.ndarray, human: np.ndarray) -> dict[str, float]:
    rng = np.random.default_rng(0)
    observed = abs(correlation(component, human))
    null = np.array([abs(correlation(component, rng.permutation(human))) for _ in range(PERMUTATIONS)])
    low, high = bootstrap_r(component, human, absolute=True)
    return {
        "r": observed,
        "low": low,
        "high": high,
        "p": permutation_p(observed, null),
        "null": float(np.percentile(null, 95)),
    }


def cross_validated(vectors: np.ndarray, human: np.ndarray, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Ratings predicted for words that the fit did not see; the ridge penalty is chosen inside each fold."""
    order = np.random.default_rng(seed).permutation(len(human))
    predicted = np.zeros(len(human))
    for fold in range(folds):
        test = order[fold::folds]
        train = np.setdiff1d(order, test)
        penalty = min(PENALTIES, key=lambda a: _inner_error(vectors[train], human[train], a))
        predicted[test] = Ridge(penalty).fit(vectors[train], human[train]).predict(vectors[test])
    return predicted


def _inner_error(vectors: np.ndarray, human: np.ndarray, penalty: float, folds: int = 4) -> float:
    rows = np.arange(len(human)) % folds
    errors = []
    for fold in range(folds):
        fit = Ridge(penalty).fit(vectors[rows != fold], human[rows != fold])
        errors.append(((fit.predict(vectors[rows == fold]) - human[rows == fold]) ** 2).sum())
    return float(np.sum(errors))


def plot(result: Result) -> list[Figure]:
    """Each component against the rating it follows most, RM77 words named."""
    figures = []
    for what, index in (("valence", 0), ("arousal", 1)):
        for component in sorted({1 if what == "valence" else 2, int(result.data["strongest"][what])}):
            figures.append(_scatter(result, what, index, component))
    return figures


def _scatter(result: Result, what: str, index: int, component: int) -> Figure:
    traces, source = [], next(iter(result.data["points"]))
    row = next(
        r for r in result.data["table"] if (r["source"], r["rating"], r["component"]) == (source, what, component)
    )
    words = result.data["points"][source]
    scores = [result.data["scores"][w][component - 1] for w in words]
    human = [v[index] for v in words.values()]
    slope, offset = np.polyfit(human, scores, 1)
    ends = [min(human), max(human)]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": ends,
            "y": [slope * e + offset for e in ends],
            "hoverinfo": "skip",
            "showlegend": False,
            "meta": "fit",
        }
    )
    traces.append({
        "type": "scatter", "mode": "markers+text", "text": list(words), "textposition": "top center", "textfont": {"size": 9},
        "x": human, "y": scores, "meta": "readers", "showlegend": False, "hovertemplate": "%{text}: rated %{x}, component %{y:.2f}<extra></extra>",
    })  # fmt: skip
    title = f"PC{component} and human {what}: |r| = {row['r']:.2f} [{row['low']:.2f}, {row['high']:.2f}], p = {row['p']:.2g}, {row['n']} words"
    layout = {
        "xaxis": {"title": {"text": f"human {what} ({SOURCES[source]})"}},
        "yaxis": {"title": {"text": f"PC{component} of the vectors"}},
        "height": 460,
    }
    return {"title": title, "data": traces, "layout": layout}


EXPERIMENT = register(Experiment("human_ratings", run, plot, "Human ratings"))
