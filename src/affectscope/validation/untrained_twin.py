"""What do random features of the same words give? The same architecture with random weights, read by the same recipe.

1. Build the subject's network anew from its configuration, weights drawn with a fixed seed, same tokenizer and number
   format; read a part of the stories at the same layer.
2. Held-out recognition by the same recipe on the same topics, paired story by story: what training adds.
3. The twin's directions applied to the subject's residuals must be at chance: vectors belong to one model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from affectscope.models.load import Model, wrap
from affectscope.validation.base import (
    Experiment,
    Figure,
    Measure,
    NotApplicableError,
    Result,
    Subject,
    Verdict,
    register,
)
from affectscope.validation.recognition import FOLDS, held_out_ranks
from affectscope.validation.statistics import cluster_interval
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import StoryActivations, difference_vectors, read_corpus
from affectscope.vectors.readers import Labelled, centred_by_topic, fit_readers, folds, ranks, standardised_scores

TOPICS = {"normal": 6, "full": 12}
SEED = 1
_PROBES = ("readers", "vectors")


@dataclass(frozen=True)
class Part(StoryActivations):
    """Some stories of a corpus that was read whole: ``rows`` bool ``[stories]``; labels stay those of the whole."""

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def stories(self, layer: int) -> Labelled:
        """Story means of the chosen rows."""
        return super().stories(layer).where(self.rows)


def untrained(model: Model, seed: int = SEED) -> Model:
    """A model of the same architecture, tokenizer and number format with random weights. Takes as much memory again.

    The random state of the caller is left as it was.

    Raises:
        NotApplicableError: the network cannot be built from its configuration.
        AffectscopeError: the twin did not pass the self-check.
    """
    config: Any = copy.deepcopy(getattr(model.network, "config", None))
    # A model read from a GGUF file remembers being quantised, and a network built so would not be the same kind.
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    build: Any = type(model.network)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            network = build(config)
        except (TypeError, ValueError, AttributeError) as error:
            line = str(error).splitlines()[0][:100]
            raise NotApplicableError(f"the network cannot be built from its configuration ({line})") from error
    network = network.to(device=model.device, dtype=model.dtype).eval()
    anatomy = model.anatomy
    norm = next(name for name, module in model.network.named_modules() if module is anatomy.final_norm)
    return wrap(network, model.tokenizer, name="untrained twin", blocks=anatomy.blocks_name, final_norm=norm)


def run(subject: Subject, progress: Progress) -> Result:
    """Held-out mean ranks of the subject and of its untrained twin on the same stories, and of one's directions on the other."""
    if subject.effort == "quick":
        raise NotApplicableError("left out under --quick, since a second network would have to read the stories")
    corpus, layer = subject.corpus, subject.layer
    chosen = corpus.topics[: TOPICS[subject.effort]]
    if len(chosen) < 2:
        raise NotApplicableError("fewer than two topics, so none can be left out")
    rows = np.array([s.topic in chosen for s in corpus.stories])
    if len({s.emotion for s in corpus.stories if s.topic in chosen}) < len(corpus.emotions):
        raise NotApplicableError("the first topics do not tell every emotion")
    read = subject.read
    mine = Part(read.model, corpus, read.activations, read.neutral, read.recipe, rows)
    twin = untrained(subject.model)
    its = read_corpus(twin, corpus.restricted(chosen), [layer], recipe=read.recipe, progress=progress)
    found = {
        "trained": held_out_ranks(mine, layer, controls=False),
        "untrained": held_out_ranks(its, layer, controls=False),
    }
    crossed = crossed_ranks(its, mine, layer)
    progress("untrained twin", 1, 1)
    topic = found["trained"].topic
    measures = [
        Measure(
            f"{who}: {probe}, mean rank", *cluster_interval(getattr(held, probe), topic), control=who == "untrained"
        )
        for probe in _PROBES
        for who, held in found.items()
    ]
    measures += [
        Measure(f"twin's {probe} on the subject: mean rank", *cluster_interval(crossed[probe], topic), control=True)
        for probe in _PROBES
    ]
    measures.append(Measure("chance: mean rank", (len(corpus.emotions) + 1) / 2, control=True))
    gains = [
        Measure(
            f"gain of training, {probe}",
            *cluster_interval(getattr(found["untrained"], probe) - getattr(found["trained"], probe), topic),
            " ranks",
        )
        for probe in _PROBES
    ]
    return _conclude(measures, gains, len(topic), len(corpus.emotions), chosen)


def _conclude(
    measures: list[Measure], gains: list[Measure], count: int, concepts: int, topics: tuple[str, ...]
) -> Result:
    by, gain = {m.name: m for m in measures}, gains[0]
    verdict: Verdict = "shown" if (gain.low or 0) > 0 else "contrary" if (gain.high or 0) < 0 else "not shown"
    how = {"shown": "better", "not shown": "not clearly better", "contrary": "worse"}[verdict]
    trained, untrained_ = by["trained: readers, mean rank"], by["untrained: readers, mean rank"]
    crossed = by["twin's readers on the subject: mean rank"]
    return Result(
        name="untrained_twin",
        question="Do the readers of the trained model recognise emotions better than those of the same network untrained?",
        rule="shown if the trained model's readers rank the true emotion better than its untrained twin's on the same held-out "
        "stories, the paired interval over topics excluding zero; contrary if worse by the same measure",
        finding=f"The trained model's readers do {how} than random features of the same words: mean rank {trained.value:.1f} against "
        f"{untrained_.value:.1f} of {concepts}; the twin's own readers on the trained model {crossed.value:.1f} "
        f"(chance {(concepts + 1) / 2:.0f})",
        verdict=verdict,
        n=count,
        unit="stories",
        measures=(*measures, *gains),
        effect=trained.name,
        control=untrained_.name,
        caveat=f"One twin, on {len(topics)} topics. Random features keep much of the words, so the twin is a control for words and size.",
        data={
            "topics": list(topics),
            "rows": [
                {"name": m.name.removesuffix(", mean rank").removesuffix(": mean rank"), "value": m.value, "low": m.low, "high": m.high, "control": m.control}
                for m in measures
                if m.low is not None
            ],
        },
    )  # fmt: skip


def crossed_ranks(source: StoryActivations, target: StoryActivations, layer: int) -> dict[str, np.ndarray]:
    """Ranks in ``target``'s held-out stories by directions fitted on the same training topics of ``source``.

    Both hold the same stories in the same order, and the directions' signs and places are ``source``'s own.
    """
    fit, read, concepts = source.stories(layer), target.stories(layer), len(source.corpus.emotions)
    components = source.components(layer)
    found = {probe: np.zeros(len(read.topic)) for probe in _PROBES}
    for held in folds(read.topic, FOLDS):
        train, test = read.where(~held), read.where(held)
        theirs = fit.where(~held)
        directions = {
            "readers": fit_readers(theirs, concepts)[0],
            "vectors": difference_vectors(theirs, concepts, components),
        }
        for probe, direction in directions.items():
            scores = standardised_scores(direction, centred_by_topic(train), centred_by_topic(test))
            found[probe][held] = ranks(scores, test.concept)
    return found


def plot(result: Result) -> list[Figure]:
    """Mean rank with intervals: trained, untrained, and one's directions on the other."""
    rows = sorted(result.data["rows"], key=lambda row: -row["value"])
    traces: list[dict[str, Any]] = []
    for control, label, meta, symbol in (
        (True, "control", "text", "diamond"),
        (False, "trained model", "readers", "circle"),
    ):
        some = [row for row in rows if row["control"] is control]
        traces.append({
            "type": "scatter", "mode": "markers", "name": label, "meta": meta,
            "x": [row["value"] for row in some], "y": [row["name"] for row in some],
            "error_x": {
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
                "array": [row["high"] - row["value"] for row in some], "arrayminus": [row["value"] - row["low"] for row in some],
            },
            "marker": {"size": 10, "symbol": symbol}, "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
        })  # fmt: skip
    axis = "mean rank of the true emotion on held-out topics (lower is better, 95 % interval)"
    layout = {
        "xaxis": {"title": {"text": axis}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "categoryorder": "array", "categoryarray": [row["name"] for row in rows]},
        "height": 380,
    }
    return [{"title": result.finding, "data": traces, "layout": layout}]


EXPERIMENT = register(Experiment("untrained_twin", run, plot, "An untrained twin"))
