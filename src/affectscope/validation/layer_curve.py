"""Where in the depth of the model emotion is legible: recognition on held-out topics at every layer.

The best layer of a curve looks better than it is when it is picked on the same stories. So for each topic the layer
that is best on all the other topics is taken, and that figure is reported beside the curve. (The other topics' ranks
come from fits that saw this topic, so the choice is left out by topic and not nested in full.)
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.recognition import HeldOut, held_out_ranks
from affectscope.validation.statistics import cluster_interval
from affectscope.vectors.activations import Progress

FOLDS = 3


def run(subject: Subject, progress: Progress) -> Result:
    """Mean rank of readers and vectors at each layer, and of the layer that a user would have chosen."""
    layers = subject.read.layers
    if subject.effort == "quick":
        layers = tuple(
            layer
            for i, layer in enumerate(layers)
            if i % 5 == 0 or layer in (subject.layer, subject.model.anatomy.default_layer)
        )
    held: dict[int, HeldOut] = {}

    def one(layer: int) -> tuple[int, HeldOut]:
        return layer, held_out_ranks(subject.read, layer, FOLDS, controls=False)

    with ThreadPoolExecutor(2) as pool:  # the solver releases the interpreter; two layers at a time fill two cores
        for layer, found in pool.map(one, layers):
            held[layer] = found
            progress("layer curve", len(held), len(layers))
    topic = held[layers[0]].topic
    curves = {
        name: [cluster_interval(getattr(held[layer], name), topic) for layer in layers]
        for name in ("readers", "vectors")
    }
    nested, chosen = _nested(held, topic)
    default = subject.model.anatomy.default_layer
    measures = [Measure("layer chosen on other topics: mean rank", *cluster_interval(nested, topic))]
    for label, layer in (("read layer", subject.layer), ("two-thirds layer", default)):
        if layer in held:
            measures.append(Measure(f"{label} ({layer}): mean rank", *cluster_interval(held[layer].readers, topic)))
    best = min(layers, key=lambda layer: held[layer].readers.mean())
    worst = max(layers, key=lambda layer: held[layer].readers.mean())
    return Result(
        name="layer_curve",
        question="At which depth are emotions most legible?",
        rule="no rule; the curve is reported, with the figure for a layer chosen on other topics",
        finding=f"Emotions are most legible around layer {best} of {subject.model.anatomy.depth} and least at layer {worst}; "
        f"choosing the layer on other topics gives a mean rank of {measures[0].value:.2f}",
        verdict="reported",
        n=len(topic),
        unit="stories",
        measures=tuple(measures),
        caveat="The lowest point of the curve was seen on the test topics; expect the figure of the layer chosen on other topics instead.",
        effect=measures[0].name,
        control="",
        paper="one layer at two thirds, unswept (section 2)",
        data={
            "layers": list(layers),
            "curves": curves,
            "read_layer": subject.layer,
            "two_thirds": default,
            "nested_choice": chosen,
            "chance": (len(subject.corpus.emotions) + 1) / 2,
        },
    )


def _nested(held: dict[int, HeldOut], topic: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Ranks of each topic at the layer that is best on all the other topics, and those layers by topic."""
    nested, chosen = np.zeros(len(topic)), {}
    for label in np.unique(topic):
        rows = topic == label
        best = min(held, key=lambda layer: held[layer].readers[~rows].mean())
        nested[rows] = held[best].readers[rows]
        chosen[str(label)] = best
    return nested, chosen


def plot(result: Result) -> list[Figure]:
    """Mean rank against layer with bands, the read layer and the paper's two-thirds marked."""
    layers, names = result.data["layers"], {"readers": "readers", "vectors": "plain vectors"}
    traces: list[Figure] = []
    for key, label in names.items():
        value, low, high = (list(column) for column in zip(*result.data["curves"][key], strict=True))
        traces.append({
            "type": "scatter", "mode": "lines", "x": layers + layers[::-1], "y": high + low[::-1], "fill": "toself",
            "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "meta": key + "-band",
        })  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": label, "x": layers, "y": value, "meta": key,
            "customdata": [[a, b] for a, b in zip(low, high, strict=True)],
            "hovertemplate": "layer %{x}: %{y:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}]<extra>" + label + "</extra>",
        })  # fmt: skip
    marks = {result.data["two_thirds"]: "two thirds", result.data["read_layer"]: "read layer"}
    layout = {
        "xaxis": {"title": {"text": "layer (output of block, 0-based)"}, "dtick": 5},
        "yaxis": {"title": {"text": "mean rank of the true emotion (lower is better)"}, "type": "log"},
        "shapes": [
            {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot", "width": 1}}
            for x in marks
        ],
        "annotations": [
            {
                "x": x,
                "yref": "paper",
                "y": 1 - 0.07 * i,
                "text": text,
                "showarrow": False,
                "xanchor": "left",
                "xshift": 4,
            }
            for i, (x, text) in enumerate(marks.items())
        ],
    }
    return [{"title": result.finding, "data": traces, "layout": layout}]


EXPERIMENT = register(Experiment("layer_curve", run, plot, "Which layer"))
