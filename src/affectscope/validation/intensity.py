"""One number decides how things stand: does the reading follow it (section 3.4)?

Eighteen messages of our own; only the number changes. For each, the emotions whose sign any reader would agree on are
stated beforehand. The control puts the same numbers where they do not matter: a reaction to numbers as such shows there.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from affectscope.concepts.items import Intensity, intensities
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, Verdict, register
from affectscope.validation.directions import random_directions
from affectscope.validation.prompts import cosine, read_last
from affectscope.validation.statistics import bootstrap_mean, cluster_interval
from affectscope.vectors.activations import Progress

PROBES = ("afraid", "calm", "happy", "sad")
RANDOM = 50


def run(subject: Subject, progress: Progress) -> Result:
    """Signed Spearman of each expected curve, for the message and for its control."""
    subject.require_chat()
    subject.require_concepts(PROBES)
    items = intensities()
    texts = [
        template.format(x=f"{x:g}") for item in items for template in (item.text, item.control) for x in item.values
    ]
    residual = read_last(subject, texts, "numerical intensity", progress)[0]
    vectors = subject.vectors.vectors[subject.vectors.place()][subject.vectors.select(PROBES)]
    real, control, rows = _curves(items, cosine(residual, vectors))
    template = np.array([row["template"] for row in rows])
    noise = [
        _curves(items, cosine(residual, random_directions(len(PROBES), residual.shape[1], seed)))[0].mean()
        for seed in range(RANDOM)
    ]
    gain = Measure("message minus control", *cluster_interval(real - control, template))
    effect = Measure("message: mean signed Spearman", *cluster_interval(real, template))
    low, high = np.percentile(noise, [2.5, 97.5])
    measures = (
        effect,
        Measure("message: curves with the expected sign", *bootstrap_mean((real > 0) * 100.0), " %"),
        Measure("control sentence: mean signed Spearman", *cluster_interval(control, template), control=True),
        Measure("control sentence: curves with that sign", *bootstrap_mean((control > 0) * 100.0), " %", control=True),
        Measure(
            "random directions: mean signed Spearman", float(np.mean(noise)), float(low), float(high), control=True
        ),
        gain,
    )
    verdict: Verdict = "not shown"
    if (effect.low or 0) > 0 and (gain.low or 0) > 0:
        verdict = "shown"
    elif (effect.high or 0) < 0:
        verdict = "contrary"
    how = {"shown": "follow", "not shown": "do not clearly follow", "contrary": "run against"}[verdict]
    return Result(
        name="intensity",
        question="When only a number changes and the number decides how things stand, does the reading follow it?",
        rule="shown if the mean signed Spearman over the curves expected beforehand is above zero and above that of the control "
        "sentences, both intervals over templates excluding zero",
        finding=f"Readings {how} the number: signed Spearman {effect.text()} over {len(rows)} expected curves, "
        f"{measures[2].text()} where the number does not matter",
        verdict=verdict,
        n=len(items),
        unit="templates",
        measures=measures,
        effect=effect.name,
        control=measures[2].name,
        paper="nearly all curves of six templates (section 3.4)",
        caveat="The signs expected are ours, stated before any reading; digits are read as tokens, which small models do poorly.",
        data={"rows": rows},
    )


def _curves(items: tuple[Intensity, ...], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[dict[str, object]]]:
    """Signed Spearman of every expected curve, of its control, and what it is. ``scores`` ``[texts, probes]``."""
    real, control, rows, start = [], [], [], 0
    for item in items:
        count = len(item.values)
        blocks = scores[start : start + count], scores[start + count : start + 2 * count]
        start += 2 * count
        for emotion, sign in item.expected.items():
            column = PROBES.index(emotion)
            rho = [sign * float(spearmanr(item.values, block[:, column]).statistic) for block in blocks]
            real.append(rho[0])
            control.append(rho[1])
            rows.append({
                "template": item.name, "emotion": emotion, "sign": sign, "rho": round(rho[0], 3), "control": round(rho[1], 3),
                "values": list(item.values), "cosine": blocks[0][:, column].round(4).tolist(),
            })  # fmt: skip
    return np.nan_to_num(np.array(real)), np.nan_to_num(np.array(control)), rows


def plot(result: Result) -> list[Figure]:
    """Each expected curve's signed Spearman, with its control."""
    rows = sorted(result.data["rows"], key=lambda row: row["rho"])
    names = [
        f"{row['template'].replace('_', ' ')}: {row['emotion']} {'up' if row['sign'] > 0 else 'down'}" for row in rows
    ]
    traces = []
    for key, label, symbol, meta in (
        ("control", "number does not matter", "diamond", "text"),
        ("rho", "number decides", "circle", "readers"),
    ):
        traces.append({
            "type": "scatter", "mode": "markers", "name": label, "meta": meta, "x": [row[key] for row in rows], "y": names,
            "marker": {"size": 9, "symbol": symbol}, "hovertemplate": "%{y}: %{x:.2f}<extra>" + label + "</extra>",
        })  # fmt: skip
    layout = {
        "xaxis": {
            "title": {"text": "Spearman's rho times the sign expected (1: as expected)"},
            "range": [-1.08, 1.08],
            "zeroline": True,
        },
        "yaxis": {"automargin": True},
        "height": 160 + 20 * len(rows),
    }
    return [{"title": result.finding, "data": traces, "layout": layout}]


EXPERIMENT = register(Experiment("intensity", run, plot, "One number changes"))
