"""Is the geometry of the concepts the same from layer to layer (section 3.6, representational similarity)?

Cosine matrices of one set of stories agree between layers even for shuffled labels, since layers share one residual
stream and so one noise. The test is therefore across topics: vectors of one half of the topics at one layer against
vectors of the other half at another; the shuffled control is dealt within topics.
"""

from __future__ import annotations

import numpy as np

from affectscope.validation.base import Experiment, Figure, Measure, NotApplicableError, Result, Subject, register
from affectscope.validation.recognition import shuffled_labels
from affectscope.validation.statistics import correlation, half_samples
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import difference_vectors
from affectscope.vectors.geometry import cosines

SHUFFLES = 3


def run(subject: Subject, progress: Progress) -> Result:
    """Correlation of cosine matrices, of every two layers, on the same topics and across topics."""
    layers = subject.vectors.layers
    if len(layers) < 2 or subject.model.anatomy.depth < 8:
        raise NotApplicableError(
            f"{len(layers)} layers of {subject.model.anatomy.depth} were read; similarity across layers needs a model of 8 "
            "and vectors of all (--layers all)"
        )
    count, topics = len(subject.corpus.emotions), len(subject.corpus.topics)
    if topics < 2:
        raise NotApplicableError("one topic cannot be split into halves")
    half = np.random.default_rng(0).permutation(topics)[: topics // 2]
    one: list[np.ndarray] = []
    two: list[np.ndarray] = []
    noise_one: list[list[np.ndarray]] = []
    noise_two: list[list[np.ndarray]] = []
    rng = np.random.default_rng(1)
    for done, layer in enumerate(layers, start=1):
        stories, components = subject.read.stories(layer), subject.read.components(layer)
        for side, real, noise in (
            (np.isin(stories.topic, half), one, noise_one),
            (~np.isin(stories.topic, half), two, noise_two),
        ):
            part = stories.where(side)
            real.append(cosines(difference_vectors(part, count, components)))
            shuffles = [shuffled_labels(part, rng) for _ in range(SHUFFLES)]
            noise.append([cosines(difference_vectors(s, count, components)) for s in shuffles])
        progress("similarity of layers", done, len(layers))
    upper = np.triu_indices(count, 1)
    table = np.array([[correlation(a[upper], b[upper]) for b in two] for a in one])
    same = np.array([[correlation(a[upper], b[upper]) for b in one] for a in one])
    null = np.array(
        [[[correlation(a[i][upper], b[i][upper]) for b in noise_two] for a in noise_one] for i in range(SHUFFLES)]
    )
    middle = [
        i
        for i, layer in enumerate(layers)
        if subject.model.anatomy.depth // 4 <= layer < subject.model.anatomy.depth - 2
    ]
    grid = np.ix_(middle, middle)
    off = ~np.eye(len(middle), dtype=bool)
    value = float(table[grid][off].mean())
    low, high = half_samples(
        lambda rows: _mean_similarity([one[i] for i in middle], [two[i] for i in middle], rows), count, draws=60
    )
    noise_low, noise_high = np.percentile(null, [2.5, 97.5])
    effect = Measure("middle layers, across topics: mean r", value, low, high)
    control = Measure(
        "shuffled labels, across topics: mean r", float(null.mean()), float(noise_low), float(noise_high), control=True
    )
    return Result(
        name="layer_similarity",
        question="Is the geometry of the concepts the same from layer to layer, beyond what layers share of one text?",
        rule="shown if cosine matrices of disjoint topics at different middle layers correlate above the shuffled control, intervals apart",
        finding=f"Cosine matrices of different middle layers correlate at {effect.text()} across disjoint topics "
        f"(shuffled labels {control.text()}); on the same topics at {same[grid][off].mean():.2f}",
        verdict="shown" if low > noise_high else "not shown",
        n=len(layers),
        unit="layers",
        measures=(effect, Measure("middle layers, same topics: mean r", float(same[grid][off].mean())), control),
        effect=effect.name,
        control=control.name,
        paper="0.8 to 1.0 over central layers, same stories (section 3.6, Fig 9)",
        caveat="Halves of the topics are noisier than the whole, so the value across topics understates the agreement.",
        data={"layers": list(layers), "across": table.round(3).tolist(), "same": same.round(3).tolist()},
    )


def _mean_similarity(one: list[np.ndarray], two: list[np.ndarray], rows: np.ndarray) -> float:
    """Mean off-diagonal correlation over some concepts only; every third layer, which suffices for an interval."""
    upper = np.triu_indices(len(rows), 1)
    flat = [[m[np.ix_(rows, rows)][upper] for m in side[::3]] for side in (one, two)]
    found = np.corrcoef(np.array(flat[0]), np.array(flat[1]))[: len(flat[0]), len(flat[0]) :]
    return float(found[~np.eye(len(found), dtype=bool)].mean()) if len(found) > 1 else float(found.mean())


def plot(result: Result) -> list[Figure]:
    """Layer against layer."""
    layers = result.data["layers"]
    heat = {
        "type": "heatmap", "z": result.data["across"], "x": layers, "y": layers, "zmin": 0, "zmax": 1, "meta": "sequential",
        "colorbar": {"title": {"text": "r"}, "thickness": 12}, "hovertemplate": "layers %{x} and %{y}: r = %{z:.2f}<extra></extra>",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "layer (one half of the topics)"}},
        "yaxis": {"title": {"text": "layer (other half)"}},
        "height": 460,
    }
    return [{"title": result.finding, "data": [heat], "layout": layout}]


EXPERIMENT = register(Experiment("layer_similarity", run, plot, "Geometry across layers"))
