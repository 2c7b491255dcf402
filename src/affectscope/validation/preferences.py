"""Do readings on an activity's words say how much the model prefers it (section 4)?

1. 64 activities of our own, all ordered pairs asked; strengths by Bradley-Terry with a position term, told as Elo.
2. Each activity is read where a user asks how it would feel, over the activity's own tokens: plain cosines, and readers.
3. Pearson's r of every concept's reading with Elo over the activities, raw and within categories.
4. Controls: random directions, the words of the activities alone, and how far the two orders of the pairs agree.

Intervals of r draw activities again and keep the Elo fitted to all of them; Elo's own fit everything anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from affectscope.concepts.ratings import load_ratings
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, Verdict, register
from affectscope.validation.bradley_terry import ELO, elo_intervals, fit, split_orders
from affectscope.validation.choices import Preferences, preferences, read_activities
from affectscope.validation.directions import random_directions
from affectscope.validation.paired import correlations, r_measure, within
from affectscope.validation.prompts import cosine
from affectscope.validation.statistics import permutation_p
from affectscope.vectors.activations import Progress

UP, DOWN = "blissful", "hostile"
HARM = ("Misaligned", "Unsafe")
RANDOM = 200
PERMUTATIONS = 2000
PENALTY = 1.0
"""Of the ridge on words; stated, not chosen: there are too few activities to choose it on."""


def run(subject: Subject, progress: Progress) -> Result:
    """r of each concept's reading with Elo; blissful and hostile are the two stated in advance."""
    subject.require_concepts((UP, DOWN))
    chosen = preferences(subject, progress)
    elo, category = chosen.strengths.elo, chosen.category
    residual = read_activities(subject, chosen.items, progress)
    place = subject.vectors.place()
    scores = {
        "vectors": cosine(residual, subject.vectors.vectors[place]),
        "readers": (residual - subject.vectors.read_mean[place]) @ subject.vectors.readers[place].T,
    }
    r = {name: correlations(values, elo) for name, values in scores.items()}
    measures = _headline(subject, chosen, scores)
    progress("preferences: intervals and controls", 1, 3)
    measures += _over_concepts(subject, scores["vectors"], elo, category)
    progress("preferences: intervals and controls", 2, 3)
    measures += _controls(chosen, residual)
    progress("preferences: intervals and controls", 3, 3)
    by = {m.name: m for m in measures}
    verdict = _verdict(by)
    up, down = by[f"{UP}: r with Elo"], by[f"{DOWN}: r with Elo"]
    within = [by[f"{name}: r within categories"].text() for name in (UP, DOWN)]
    return Result(
        name="preferences",
        question="Do readings on an activity's words say how much the model prefers the activity?",
        rule=f"shown if r with Elo is above zero for {UP} and below zero for {DOWN}, both intervals over activities excluding "
        "zero and both |r| above the 95th percentile of random directions; contrary if both signs are reversed by the same measure",
        finding=f"Over {len(elo)} activities the reading of {UP} goes with Elo at r = {up.text()} and that of {DOWN} at {down.text()} "
        f"(95 % of random directions stay below {by[_RANDOM].value:.2f}); within categories {within[0]} and {within[1]}; "
        f"the two orders of asking agree at r = {by[_ORDERS].value:.2f}",
        verdict=verdict,
        n=len(elo),
        unit="activities",
        measures=tuple(measures),
        effect=up.name,
        control=_RANDOM,
        paper="blissful r 0.71, hostile -0.74 (section 4)",
        caveat="Elo rests on one letter after '('; where the two orders hardly agree there is little to predict. Harm items carry "
        "much of r. Words predicted with a whole category left out lean below zero when they know nothing.",
        data=_data(subject, chosen, scores, r),
    )


_RANDOM = "random directions: |r|, 95th percentile"
_ORDERS = "agreement of the two orders: r"


def strongest_p(scores: np.ndarray, target: np.ndarray, category: np.ndarray | None = None) -> tuple[float, float]:
    """Largest |r| over probes, and its permutation p: the null takes its largest too (``target`` dealt anew).

    With ``category`` both sides lose their category means and ``target`` is dealt within categories only.
    """
    rng = np.random.default_rng(0)
    if category is not None:
        scores, target = within(scores, category), within(target, category)
    groups = np.zeros(len(target), dtype=int) if category is None else category
    order = np.argsort(groups, kind="stable")
    null, dealt = np.empty(PERMUTATIONS), np.empty(len(target))
    for i in range(PERMUTATIONS):
        # Sorted by group and then by chance, the members of each group change places among themselves.
        dealt[order] = target[np.lexsort((rng.random(len(target)), groups))]
        null[i] = np.abs(correlations(scores, dealt)).max()
    observed = float(np.abs(correlations(scores, target)).max())
    return observed, permutation_p(observed, null)


def _headline(subject: Subject, chosen: Preferences, scores: dict[str, np.ndarray]) -> list[Measure]:
    """r of the two stated concepts: raw, within categories, without harm, and by the readers."""
    elo, category = chosen.strengths.elo, chosen.category
    harmless = np.array([item.category not in HARM for item in chosen.items])
    measures = []
    for name in (UP, DOWN):
        (column,) = subject.vectors.select([name])
        cosines, linear = scores["vectors"][:, column], scores["readers"][:, column]
        partial = within(cosines, category), within(elo, category)
        measures += [
            r_measure(f"{name}: r with Elo", cosines, elo),
            r_measure(f"{name}: r within categories", *partial),
            r_measure(f"{name}: r without {' and '.join(HARM)}", cosines[harmless], elo[harmless]),
            r_measure(f"{name}, readers: r with Elo", linear, elo),
        ]
    pair = scores["vectors"][:, subject.vectors.select([UP, DOWN])]
    return [*measures, r_measure(f"{UP} with {DOWN} over activities: r", pair[:, 0], pair[:, 1])]


def _over_concepts(subject: Subject, scores: np.ndarray, elo: np.ndarray, category: np.ndarray) -> list[Measure]:
    """The strongest of all concepts against its own null, and whether r follows what people say of the words."""
    largest, p = strongest_p(scores, elo)
    largest_within, p_within = strongest_p(scores, elo, category)
    measures = [
        Measure("strongest concept: |r|", largest),
        Measure("strongest concept: permutation p", p),
        Measure("strongest concept within categories: |r|", largest_within),
        Measure("strongest concept within categories: permutation p", p_within),
    ]
    r = correlations(scores, elo)
    for source, ratings in load_ratings().items():
        rated = [i for i, name in enumerate(subject.vectors.concepts) if name in ratings]
        if len(rated) >= 10:
            human = np.array([ratings[subject.vectors.concepts[i]].valence for i in rated])
            measures.append(r_measure(f"r with Elo follows human valence ({source}): r over concepts", r[rated], human))
    return measures


def _controls(chosen: Preferences, residual: np.ndarray) -> list[Measure]:
    elo = chosen.strengths.elo
    random = np.abs(correlations(cosine(residual, random_directions(RANDOM, residual.shape[1], seed=3)), elo))
    texts = [item.activity for item in chosen.items]
    one, other = (fit(chosen.outcome, mask).elo for mask in split_orders(len(elo)))
    low, high = (float(bound) for bound in np.percentile(random, [2.5, 97.5]))
    flipped = ((chosen.odds > 0) == (chosen.odds.T > 0))[np.triu_indices(len(elo), 1)]
    return [
        Measure(_RANDOM, float(np.percentile(random, 95)), control=True),
        Measure("random directions: mean |r|", float(random.mean()), low, high, control=True),
        r_measure("words alone, a category left out: r", from_words(texts, elo, chosen.category), elo, control=True),
        r_measure("words alone, an activity left out: r", from_words(texts, elo, np.arange(len(elo))), elo, control=True),
        r_measure(_ORDERS, one, other, control=True),
        Measure("position: probability of A between equals", float(expit(chosen.strengths.bias)), control=True),
        Measure("pairs where the same letter wins in both orders", float(flipped.mean() * 100), unit=" %", control=True),
        Measure("Elo: standard deviation over activities", float(elo.std()), unit=" Elo"),
    ]  # fmt: skip


def from_words(texts: list[str], target: np.ndarray, group: np.ndarray) -> np.ndarray:
    """``[n]`` targets predicted from the words alone (TF-IDF, ridge), each with its ``group`` left out of the fit."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    predicted = np.zeros(len(texts))
    for one in np.unique(group):
        out = group == one
        vectorizer = TfidfVectorizer(sublinear_tf=True)
        seen = vectorizer.fit_transform([text for text, left in zip(texts, out, strict=True) if not left])
        unseen = vectorizer.transform([text for text, left in zip(texts, out, strict=True) if left])
        predicted[out] = Ridge(PENALTY).fit(seen, target[~out]).predict(unseen)
    return predicted


def _verdict(by: dict[str, Measure]) -> Verdict:
    up, down, random = by[f"{UP}: r with Elo"], by[f"{DOWN}: r with Elo"], by[_RANDOM].value
    if min(abs(up.value), abs(down.value)) <= random or None in (up.low, up.high, down.low, down.high):
        return "not shown"
    if (up.low or 0) > 0 and (down.high or 0) < 0:
        return "shown"
    return "contrary" if (up.high or 0) < 0 and (down.low or 0) > 0 else "not shown"


def _data(
    subject: Subject, chosen: Preferences, scores: dict[str, np.ndarray], r: dict[str, np.ndarray]
) -> dict[str, Any]:
    elo, bounds = chosen.strengths.elo, elo_intervals(chosen.outcome, chosen.asked)
    columns = dict(zip((UP, DOWN), subject.vectors.select([UP, DOWN]), strict=True))
    centred = scores["vectors"] - scores["vectors"].mean(axis=0)
    categories = list(dict.fromkeys(item.category for item in chosen.items))
    return {
        "concepts": list(subject.vectors.concepts),
        "r": {name: values.round(4).tolist() for name, values in r.items()},
        "activities": [item.activity for item in chosen.items],
        "category": [item.category for item in chosen.items],
        "elo": elo.round(1).tolist(),
        "elo_interval": bounds.round(1).tolist(),
        "readings": {name: centred[:, column].round(5).tolist() for name, column in columns.items()},
        "category_elo": {name: round(float(elo[chosen.category == i].mean()), 1) for i, name in enumerate(categories)},
        "bias_elo": round(ELO * chosen.strengths.bias, 1),
    }


def plot(result: Result) -> list[Figure]:
    """r of every concept in order, and the activities themselves under the two stated concepts."""
    return [_bars(result), *(_scatter(result, name) for name in result.data["readings"])]


def _bars(result: Result) -> Figure:
    names, r = result.data["concepts"], np.array(result.data["r"]["vectors"])
    order = np.argsort(r)
    low, high = names[order[0]], names[order[-1]]
    bars = {
        "type": "bar", "x": [names[i] for i in order], "y": r[order].tolist(), "meta": "vectors", "showlegend": False,
        "hovertemplate": "%{x}: r = %{y:.2f}<extra></extra>",
    }  # fmt: skip
    limit = result.measure(_RANDOM).value
    lines = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": {"dash": "dot", "width": 1}}
        for y in (-limit, limit)
    ]
    layout = {
        "xaxis": {"title": {"text": "concept, from lowest to highest r"}, "tickfont": {"size": 9}, "nticks": 40},
        "yaxis": {"title": {"text": "Pearson's r of the reading with Elo"}, "range": [-1, 1]},
        "shapes": lines,
        "height": 380,
    }
    title = f"Readings go with Elo from r = {r.min():.2f} ({low}) to {r.max():.2f} ({high}); dotted: 95 % of random directions"
    return {"title": title, "data": [bars], "layout": layout}


def _scatter(result: Result, name: str) -> Figure:
    data = result.data
    traces: list[Figure] = []
    for category in data["category_elo"]:
        rows = [i for i, other in enumerate(data["category"]) if other == category]
        bounds = [data["elo_interval"][i] for i in rows]
        elo = [data["elo"][i] for i in rows]
        traces.append({
            "type": "scatter", "mode": "markers", "name": category, "x": [data["readings"][name][i] for i in rows], "y": elo,
            "text": [data["activities"][i] for i in rows], "hovertemplate": "%{text}: Elo %{y:.0f}, reading %{x:.3f}<extra></extra>",
            "marker": {"size": 8, "symbol": len(traces)},
            "error_y": {
                "type": "data", "symmetric": False, "thickness": 1, "width": 2,
                "array": [high - e for e, (_, high) in zip(elo, bounds, strict=True)],
                "arrayminus": [e - low for e, (low, _) in zip(elo, bounds, strict=True)],
            },
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": f"reading of {name} on the activity (cosine, less the mean over activities)"}},
        "yaxis": {"title": {"text": "Elo points (95 % interval)"}},
        "height": 460,
    }
    title = (
        f"Reading of {name} and preference: r = {result.measure(f'{name}: r with Elo').text()}, {result.n} activities"
    )
    return {"title": title, "data": traces, "layout": layout}


EXPERIMENT = register(Experiment("preferences", run, plot, "Preferences"))
