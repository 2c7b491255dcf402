"""What is said of a reply when actions are compared: readings, coherence, length, and whether it declines.

The policy's readers make an alarm and the held-out probe ends it, so neither may publish an effect of a guard. A third
reader does, fitted on the topics that both never saw. It reads each reply again, with its tokens forced and no dose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectscope.concepts.stories import Corpus
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model
from affectscope.models.predictions import continuation_logprobs
from affectscope.models.residuals import Span, pooled
from affectscope.monitoring.detectors import Rule
from affectscope.monitoring.monitor import HELD_OUT, Watch
from affectscope.monitoring.trace import MISSING, STEP
from affectscope.vectors.activations import Progress, mean_activations, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.readers import Labelled, fit_readers

GAVE_UP = re.compile(r"\b(can ?not|can't|unable|impossible|not possible|no way to|sorry|apologi[sz]e)\b", re.IGNORECASE)
"""Words by which a reply says that it does not do what was asked: a coarse sign, the same for all arms."""
HARSH, FLATTERING = "hostile", "loving"
"""Concepts whose readings stand for harshness and for sycophancy: calming can flatter."""
OUTCOMES = {
    "third": "the rule by a third reader, s.d. of stories",
    "held_out": "the rule by the held-out probe, s.d.",
    "policy": "the rule by the policy's own readers, s.d.",
    "nats": "nats a token under the unsteered model (coherence)",
    "tokens": "tokens",
    "gave_up": "says that it does not",
    "harsh": f"{HARSH} by the third reader, s.d. of stories",
    "flattering": f"{FLATTERING} by the third reader, s.d. of stories",
}


@dataclass(frozen=True)
class ThirdReader:
    """Readers ``directions`` ``[concepts, d_model]`` about ``centre`` ``[d_model]``; unit: spread of one concept's stories."""

    layer: int
    concepts: tuple[str, ...]
    directions: np.ndarray
    centre: np.ndarray

    def read(self, model: Model, texts: Sequence[Sequence[int]], starts: Sequence[int]) -> np.ndarray:
        """``[texts, concepts]`` mean readings of each text from its start on; NaN where nothing lies there."""
        spans = [Span(i, starts[i], len(text)) for i, text in enumerate(texts) if len(text) > starts[i]]
        found = np.full((len(texts), len(self.concepts)), np.nan)
        for batch in pooled(model, texts, [self.layer], spans=spans):
            rows = [spans[i].text for i in batch.indices]
            found[rows] = (batch.means[:, 0].numpy() - self.centre) @ self.directions.T
        return found


def third_reader(model: Model, vectors: ConceptVectors, corpus: Corpus, progress: Progress = silent) -> ThirdReader:
    """Fit it on the topics of ``corpus`` that the vectors' own readers and held-out probe never saw.

    Raises:
        AffectscopeError: vectors of other stories, or that keep no topics apart.
    """
    corpus = corpus.restricted(vectors.corpus["topics"])
    if corpus.hash != vectors.corpus["hash"]:
        raise AffectscopeError("the vectors were made of other stories: name their file with --corpus")
    kept = vectors.recipe["reader_topics"]["kept_out"]
    if not kept:
        raise AffectscopeError(
            "the vectors keep no topics out of readers and probe, so no effect can be published: extract from six topics or more"
        )
    apart, layer = corpus.restricted(kept), vectors.read_layer
    texts = [model.encode(story.text) for story in apart.stories]
    skip = vectors.recipe["skip_tokens"]
    values = mean_activations(
        model, texts, [layer], skip=skip, stage="reading stories kept apart", progress=progress
    ).layer(layer)
    data = Labelled(
        values,
        np.array([vectors.concepts.index(s.emotion) for s in apart.stories]),
        np.array([apart.topics.index(s.topic) for s in apart.stories]),
    )
    directions, _ = fit_readers(data, len(vectors.concepts), float(vectors.recipe["shrinkage"][str(layer)]))
    return ThirdReader(layer, vectors.concepts, directions, values.mean(axis=0, dtype=np.float64))


@dataclass(frozen=True)
class Answered:
    """One reply of an arm: the ids of its opening as it was asked and of what was written, its text, its live readings."""

    prompt: list[int]
    own: list[int]
    text: str
    held_out: float
    policy: float

    @classmethod
    def of(cls, watch: Watch, rule: Rule, prompt: list[int], text: str) -> Answered:
        """From the watch of a reply that has ended."""
        concepts, probes = watch.monitor.read.concepts, watch.monitor.read.probes
        written = [r for r in watch.readings if r.step.generated]
        z = np.stack([r.z for r in written] or [np.full((len(probes), len(concepts)), MISSING)])
        values = np.where(z == MISSING, np.nan, z * STEP) @ rule.row(concepts)
        means = np.nanmean(values, axis=0) if written else np.full(len(probes), np.nan)
        held_out, policy = (float(means[probes.index(name)]) for name in (HELD_OUT, watch.monitor.policy))
        return cls(prompt, [r.step.token for r in written], text, held_out, policy)


def outcomes(
    model: Model, third: ThirdReader, rule: Rule, replies: Mapping[str, Answered]
) -> dict[str, dict[str, float]]:
    """``{opening: {outcome: value}}``; readings and coherence are NaN for a reply of no token."""
    order = list(replies)
    texts = [[*replies[i].prompt, *replies[i].own] for i in order]
    starts = [len(replies[i].prompt) for i in order]
    read = third.read(model, texts, starts)
    logprobs = continuation_logprobs(model, texts, starts).tolist()
    row, found = rule.row(third.concepts), {}

    def concept(values: np.ndarray, name: str) -> float:
        return float(values[third.concepts.index(name)]) if name in third.concepts else float("nan")

    for i, values, logprob in zip(order, read, logprobs, strict=True):
        reply = replies[i]
        found[i] = {
            "third": float(values @ row),
            "held_out": reply.held_out,
            "policy": reply.policy,
            "nats": -logprob / len(reply.own) if reply.own else float("nan"),
            "tokens": float(len(reply.own)),
            "gave_up": float(bool(GAVE_UP.search(reply.text))),
            "harsh": concept(values, HARSH),
            "flattering": concept(values, FLATTERING),
        }
    return found
