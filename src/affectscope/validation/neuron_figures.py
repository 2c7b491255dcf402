"""Figures of the experiment on neurons, and the tables behind them: ablation, AUC by emotion, share by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affectscope.validation.base import Figure, Result
from affectscope.validation.statistics import cluster_interval
from affectscope.vectors.neurons import Best


def shares_by_layer(best: Best, layers: Sequence[int]) -> dict[str, list[float]]:
    """``share`` (%) of the neurons kept that lie in each layer, ``low`` and ``high`` over concepts; lists ``[layers]``."""
    by_concept = np.stack([(best.layer == layer).sum(axis=1) for layer in layers]) * 100.0 / best.k
    rows = [cluster_interval(values, np.arange(len(values))) for values in by_concept]
    return {name: [round(row[i], 2) for row in rows] for i, name in enumerate(("share", "low", "high"))}


def share_in_common(best: Best) -> float:
    """Mean share (0 to 1) of a concept's neurons that are also those of the concept half the list further on."""
    sets = [set(zip(*pair, strict=True)) for pair in zip(best.layer.tolist(), best.index.tolist(), strict=True)]
    shared = [len(one & sets[(i + len(sets) // 2) % len(sets)]) / best.k for i, one in enumerate(sets)]
    return round(float(np.mean(shared)), 3)


def auc_table(names: Sequence[str], aucs: np.ndarray, shuffled: np.ndarray) -> dict[str, list[float]]:
    """Concept to AUC, low, high (over topics) and the AUC by shuffled labels, from ``[topics, concepts]``."""
    table = {}
    for c, name in enumerate(names):
        values = aucs[:, c][np.isfinite(aucs[:, c])]
        row = (*cluster_interval(values, np.arange(len(values)), draws=1000), float(np.nanmean(shuffled[:, c])))
        table[name] = [round(float(x), 3) for x in row]
    return table


def plot(result: Result) -> list[Figure]:
    """What ablation changes, emotion by emotion; how well one neuron tells each emotion; where the neurons lie."""
    return [_ablation_figure(result), _auc_figure(result), _layer_figure(result)]


def _ablation_figure(result: Result) -> Figure:
    table = result.data["ablation"]
    traces: list[Figure] = []
    order = np.argsort(table["own"]["z"])[::-1]
    kinds = (
        ("random", "random neurons of the same layers", "diamond", "text", "random neurons ablated"),
        ("other", "another emotion's neurons", "square", "vectors", "another emotion's neurons ablated"),
        ("own", "the emotion's own neurons", "circle", "readers", "own neurons ablated"),
    )
    for kind, label, symbol, meta, measure in kinds:
        mean = result.measure(f"{measure}: change of z")
        gap: list[float] = [0.0] * len(order)
        up, down = (mean.high or mean.value) - mean.value, mean.value - (mean.low or mean.value)
        traces.append({
            "type": "scatter", "mode": "markers", "name": label, "meta": meta, "marker": {"size": 9, "symbol": symbol},
            "x": [*(table[kind]["z"][i] for i in order), round(mean.value, 4)],
            "y": [*(str(table["emotions"][i]) for i in order), "mean"],
            "error_x": {"type": "data", "array": [*gap, up], "arrayminus": [*gap, down]},
            "hovertemplate": "%{y}: %{x:.2f}<extra>" + label + "</extra>",
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "change of the true emotion's z (s.d. over stories)"}, "zeroline": True},
        "yaxis": {"automargin": True},
        "height": 180 + 24 * len(order),
    }
    return {"title": result.finding, "data": traces, "layout": layout}


def _auc_figure(result: Result) -> Figure:
    rows = sorted(result.data["auc"].items(), key=lambda item: item[1][0])
    names, values = [name for name, _ in rows], np.array([row for _, row in rows])
    place = list(range(1, len(rows) + 1))
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": "shuffled labels", "meta": "text", "x": place, "y": values[:, 3].tolist(),
            "text": names, "marker": {"size": 4, "symbol": "diamond"}, "hovertemplate": "%{text}: %{y:.2f}<extra>shuffled labels</extra>",
        },
        {
            "type": "scatter", "mode": "markers", "name": "best neuron", "meta": "readers", "x": place, "y": values[:, 0].tolist(),
            "text": names, "marker": {"size": 6}, "hovertemplate": "%{text}: %{y:.2f}<extra>best neuron</extra>",
            "error_y": {"type": "data", "thickness": 0.8, "width": 0, "array": (values[:, 2] - values[:, 0]).tolist(),
                        "arrayminus": (values[:, 0] - values[:, 1]).tolist()},
        },
    ]  # fmt: skip
    best, shuffled = (
        result.measure("best neuron: AUC on held-out topics"),
        result.measure("best neuron of shuffled labels: AUC"),
    )
    return {
        "title": f"One neuron tells an emotion from the rest with a mean AUC of {best.text()}, one chosen by shuffled labels with {shuffled.text()}",
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": f"{rows[0][0]} to {rows[-1][0]}: emotions in order of AUC"}},
            "yaxis": {"title": {"text": "AUC on held-out topics (chance 0.5)"}, "range": [-0.02, 1.02]},
        },
    }


def _layer_figure(result: Result) -> Figure:
    layers, traces = result.data["layers"], []
    kinds = (("writers", "writers", "vectors"), ("separators", "separators", "readers"))
    for kind, label, meta in kinds:
        row = result.data["by_layer"][kind]
        traces.append({
            "type": "bar", "name": label, "meta": meta, "x": layers, "y": row["share"],
            "error_y": {"type": "data", "thickness": 1, "array": [h - s for h, s in zip(row["high"], row["share"], strict=True)],
                        "arrayminus": [s - lo for s, lo in zip(row["share"], row["low"], strict=True)]},
            "hovertemplate": "layer %{x}: %{y:.1f} %<extra>" + label + "</extra>",
        })  # fmt: skip
    most = {kind: layers[int(np.argmax(result.data["by_layer"][kind]["share"]))] for kind, _, _ in kinds}
    return {
        "title": f"Most writers lie in block {most['writers']}, most separators in block {most['separators']} (even spread: {100 / len(layers):.1f} % a block)",
        "data": traces,
        "layout": {
            "barmode": "group",
            "xaxis": {"title": {"text": "block"}},
            "yaxis": {"title": {"text": "share of the listed neurons (%)"}},
        },
    }
