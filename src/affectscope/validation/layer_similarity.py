"""Is the geometry of the concepts the same from layer to layer (section 3.6, representational similarity)?

Cosine matrices of one set of stories agree between layers even for shuffled labels, since layers share one residual
stream and so one noise. The test is therefore across topics: vectors of one half of the topics at one layer against
vectors of the other half at another; the shuffled control is dealt within topics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affectscope.validation.base import Experiment, Figure, Measure, NotApplicableError, Result, Subject, register
from affectscope.validation.recognition import shuffled_labels
from affectscope.validation.statistics import half_samples
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import difference_vectors
from affectscope.vectors.geometry import cosines

SHUFFLES = 3


@dataclass(frozen=True)
class _Halves:
    """Cosines of every pair of concepts, ``[layers, pairs]``, from two disjoint halves of the topics; and the same of
    labels shuffled once for all layers, ``[shuffles, layers, pairs]``."""

    one: np.ndarray
    two: np.ndarray
    shuffled_one: np.ndarray
    shuffled_two: np.ndarray


def run(subject: Subject, progress: Progress) -> Result:
    """Correlation of cosine matrices, of every two layers, on the same topics and across topics."""
    layers, depth = subject.vectors.layers, subject.model.anatomy.depth
    middle = [i for i, layer in enumerate(layers) if depth // 4 <= layer < depth - 2]
    if depth < 8 or len(middle) < 2:
        raise NotApplicableError(
            f"{len(middle)} middle layers of {depth} were read; similarity across layers needs a model of 8 and vectors of "
            "all (--layers all)"
        )
    if len(subject.corpus.topics) < 2:
        raise NotApplicableError("one topic cannot be split into halves")
    found = _halves(subject, progress)
    across, same = _between(found.one, found.two), _between(found.one, found.one)
    noise = np.array(
        [_off_diagonal(_between(a, b), middle) for a, b in zip(found.shuffled_one, found.shuffled_two, strict=True)]
    )
    noise_same = np.array([_off_diagonal(_between(a, a), middle) for a in found.shuffled_one])
    low, high = _interval(found, middle, len(subject.corpus.emotions))
    effect = Measure("middle layers, across topics: mean r", float(_off_diagonal(across, middle).mean()), low, high)
    control = _band("shuffled labels, across topics: mean r", noise)
    measures = (
        effect,
        control,
        Measure("middle layers, same topics: mean r", float(_off_diagonal(same, middle).mean())),
        _band("shuffled labels, same topics: mean r", noise_same),
    )
    return Result(
        name="layer_similarity",
        question="Is the geometry of the concepts the same from layer to layer, beyond what layers share of one text?",
        rule="shown if cosine matrices of disjoint topics at different middle layers correlate above the shuffled control, intervals apart",
        finding=f"Cosine matrices of different middle layers correlate at {effect.text()} across disjoint topics (shuffled labels "
        f"{control.text()}); on the same topics at {measures[2].text()}, where shuffled labels give {measures[3].value:.2f} too",
        verdict="shown" if low > (control.high or 1) else "not shown",
        n=len(layers),
        unit="layers",
        measures=measures,
        effect=effect.name,
        control=control.name,
        paper="0.8 to 1.0 over central layers, same stories (section 3.6, Fig 9)",
        caveat="Halves of the topics are noisier than the whole, so the value across topics understates the agreement.",
        data={"layers": list(layers), "across": across.round(3).tolist(), "same": same.round(3).tolist()},
    )


def _halves(subject: Subject, progress: Progress) -> _Halves:
    count, topics = len(subject.corpus.emotions), len(subject.corpus.topics)
    upper = np.triu_indices(count, 1)
    half = np.random.default_rng(0).permutation(topics)[: topics // 2]
    real: list[list[np.ndarray]] = [[], []]
    shuffled: list[list[list[np.ndarray]]] = [[], []]
    for done, layer in enumerate(subject.vectors.layers, start=1):
        stories, components = subject.read.stories(layer), subject.read.components(layer)
        for side in (0, 1):
            part = stories.where(np.isin(stories.topic, half) == (side == 0))
            # The same seed at every layer, so that layers share the labels as they share the texts.
            deals = [shuffled_labels(part, np.random.default_rng([side, i])) for i in range(SHUFFLES)]
            tables = [cosines(difference_vectors(data, count, components))[upper] for data in (part, *deals)]
            real[side].append(tables[0])
            shuffled[side].append(tables[1:])
        progress("similarity of layers", done, len(subject.vectors.layers))
    noise = [np.array(side).transpose(1, 0, 2) for side in shuffled]
    return _Halves(np.array(real[0]), np.array(real[1]), noise[0], noise[1])


def _between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """``[layers, layers]``: r of each row of ``one`` with each of ``two``, both ``[layers, pairs]``."""
    found: np.ndarray = np.corrcoef(one, two)[: len(one), len(one) :]
    return found


def _off_diagonal(table: np.ndarray, rows: list[int]) -> np.ndarray:
    """Values of ``table`` at two different ones of ``rows``."""
    part: np.ndarray = table[np.ix_(rows, rows)]
    return part[~np.eye(len(rows), dtype=bool)]


def _band(name: str, values: np.ndarray) -> Measure:
    low, high = np.percentile(values, [2.5, 97.5])
    return Measure(name, float(values.mean()), float(low), float(high), control=True)


def _interval(found: _Halves, middle: list[int], count: int) -> tuple[float, float]:
    """95 % interval of the mean over random halves of the concepts."""
    first, second = np.triu_indices(count, 1)

    def statistic(rows: np.ndarray) -> float:
        kept = np.isin(first, rows) & np.isin(second, rows)
        return float(_off_diagonal(_between(found.one[:, kept], found.two[:, kept]), middle).mean())

    return half_samples(statistic, count, draws=60)


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
