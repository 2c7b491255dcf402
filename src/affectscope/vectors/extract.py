"""The paper's section 2: from stories to the vectors of 171 emotion concepts.

1. Run every story through the model; average the residual stream from the 50th token on.
2. Centre by topic; average by emotion; subtract the mean over emotions.
3. Find the components of neutral text that hold half its variance; project them out.
4. Scale to unit norm: `vectors`, for steering and geometry.
5. From the same means, whitened: `readers` for detection, on disjoint topics `readers_heldout`.
6. Score neutral text by role, phase and position: the baseline that turns a score into a z.

Shapes: ``S`` stories, ``C`` concepts, ``L`` layers, ``d`` = d_model. Sums are float64, results float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from affectscope.concepts.neutral import Neutral, load_neutral
from affectscope.concepts.stories import Corpus
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model
from affectscope.vectors.activations import Activations, Progress, mean_activations, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.baseline import measure_baseline, neutral_tokens
from affectscope.vectors.readers import Labelled, centred_by_topic, concept_means, fit_readers, split_topics


@dataclass(frozen=True)
class Recipe:
    """The numbers of an extraction. ``shrinkage`` None: chosen on held-out topics."""

    skip_tokens: int = 50
    neutral_variance: float = 0.5
    shrinkage: float | None = None


@dataclass(frozen=True)
class StoryActivations:
    """A model with its stories and neutral texts read: what vectors and every experiment on them start from."""

    model: Model
    corpus: Corpus
    activations: Activations
    neutral: Activations
    recipe: Recipe

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that were read."""
        return self.activations.layers

    def stories(self, layer: int) -> Labelled:
        """Story means of one layer with concept and topic as integers (concepts in alphabetical order)."""
        concept = np.array([self.corpus.emotions.index(s.emotion) for s in self.corpus.stories])
        topic = np.array([self.corpus.topics.index(s.topic) for s in self.corpus.stories])
        return Labelled(self.activations.layer(layer), concept, topic)

    def components(self, layer: int) -> np.ndarray:
        """``[k, d]`` orthonormal components of neutral text at one layer (step 3)."""
        return neutral_components(self.neutral.layer(layer), self.recipe.neutral_variance)


def read_corpus(
    model: Model,
    corpus: Corpus,
    layers: Sequence[int],
    *,
    recipe: Recipe = Recipe(),
    neutral: Neutral | None = None,
    progress: Progress = silent,
) -> StoryActivations:
    """Step 1, for any set of layers in one pass. Resumes what an interrupted run left.

    Raises:
        AffectscopeError: a layer that the model lacks, a story shorter than ``skip_tokens``, NaN, a full disk.
    """
    for layer in layers:
        if not 0 <= layer < model.anatomy.depth:
            raise AffectscopeError(f"no layer {layer}: {model.name} has layers 0 to {model.anatomy.depth - 1}")
    texts = [model.encode(story.text) for story in corpus.stories]
    for story, ids in zip(corpus.stories, texts, strict=True):
        if len(ids) > model.longest:
            raise AffectscopeError(
                f"the story of {story.emotion!r} on {story.topic!r} has {len(ids)} tokens; {model.name} takes {model.longest}"
            )
        if len(ids) <= recipe.skip_tokens:
            raise AffectscopeError(
                f"the story of {story.emotion!r} on {story.topic!r} has {len(ids)} tokens, and the first "
                f"{recipe.skip_tokens} do not count: write it longer"
            )
    activations = mean_activations(
        model, texts, layers, skip=recipe.skip_tokens, stage="reading stories", progress=progress
    )
    plain = [tokens.ids for tokens in neutral_tokens(model, neutral or load_neutral())]
    neutral_means = mean_activations(model, plain, layers, skip=1, stage="reading neutral texts", progress=progress)
    return StoryActivations(model, corpus, activations, neutral_means, recipe)


def difference_vectors(stories: Labelled, concepts: int, components: np.ndarray) -> np.ndarray:
    """Steps 2-4: ``[C, d]`` unit vectors, the mean of each concept minus the mean over concepts, denoised."""
    means = concept_means(centred_by_topic(stories), stories.concept, concepts)
    return unit(project_out(means, components))


def neutral_components(neutral: np.ndarray, variance: float) -> np.ndarray:
    """``[k, d]``: the fewest principal components of ``neutral`` ``[texts, d]`` that hold ``variance`` of it."""
    if variance <= 0:
        return np.zeros((0, neutral.shape[1]))
    centred = neutral.astype(np.float64) - neutral.mean(axis=0, dtype=np.float64)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    held = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    return right[: int(np.searchsorted(held, variance)) + 1]


def project_out(directions: np.ndarray, components: np.ndarray) -> np.ndarray:
    """``directions`` ``[n, d]`` without their part in the span of orthonormal ``components`` ``[k, d]``."""
    rest: np.ndarray = directions - directions @ components.T @ components
    return rest


def unit(directions: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1."""
    scaled: np.ndarray = directions / np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-12)
    return scaled


def extract(
    read: StoryActivations,
    read_layer: int,
    *,
    neutral: Neutral | None = None,
    layer_choice: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> ConceptVectors:
    """Steps 2-6 at every layer that was read.

    Args:
        read_layer: the layer that readings are taken at; one of those that were read.
        layer_choice: how it was chosen, for the record.

    Raises:
        AffectscopeError: see :func:`read_corpus`.
    """
    model, corpus = read.model, read.corpus
    count = len(corpus.emotions)
    groups = reader_topics(corpus)
    parts: dict[str, list[np.ndarray]] = {"vectors": [], "readers": [], "readers_heldout": [], "grand_mean": []}
    shrinkages: dict[int, float] = {}
    for done, layer in enumerate(read.layers, start=1):
        stories = read.stories(layer)
        parts["vectors"].append(difference_vectors(stories, count, read.components(layer)))
        reader, shrinkages[layer] = _reader(stories, groups[0], count, read.recipe.shrinkage)
        held, _ = _reader(stories, groups[1] or groups[0], count, shrinkages[layer])
        parts["readers"].append(reader)
        parts["readers_heldout"].append(held)
        parts["grand_mean"].append(stories.values.mean(axis=0))
        progress("fitting readers", done, len(read.layers))
    arrays = {name: np.stack(values).astype(np.float32) for name, values in parts.items()}
    source = neutral or load_neutral()
    directions = [arrays["vectors"], arrays["readers"], arrays["readers_heldout"]]
    baseline = measure_baseline(model, neutral_tokens(model, source), read.layers, directions, progress)
    return ConceptVectors(
        concepts=corpus.emotions,
        layers=read.layers,
        read_layer=read_layer,
        mean_norm=baseline.mean_norm,
        read_mean=baseline.read_mean,
        baseline_mean=baseline.mean,
        baseline_std=baseline.std,
        baseline_count=baseline.count,
        model=model.identity | {"d_model": model.anatomy.d_model, "depth": model.anatomy.depth},
        recipe=asdict(read.recipe)
        | {
            "shrinkage": {str(layer): value for layer, value in shrinkages.items()},
            "reader_topics": _named(groups, corpus),
            "layer_choice": layer_choice or {"rule": "given", "layer": read_layer},
        },
        corpus=_corpus_record(corpus, source),
        **arrays,
    )


def _named(groups: list[list[int]], corpus: Corpus) -> dict[str, list[str]]:
    names = [[corpus.topics[t] for t in group] for group in groups]
    return dict(zip(("readers", "readers_heldout", "kept_out"), names, strict=True))


def _corpus_record(corpus: Corpus, neutral: Neutral) -> dict[str, Any]:
    """What an artefact says of the texts that it came from."""
    return {
        "hash": corpus.hash,
        "author": corpus.author,
        "topics": list(corpus.topics),
        "stories": len(corpus.stories),
        "crossed": not corpus.missing,
        "neutral_hash": neutral.hash,
    }


def reader_topics(corpus: Corpus) -> list[list[int]]:
    """Topics (by index) of the readers, of the held-out probe, and kept out of both.

    All go to the readers where a group would lack a concept, as in an uncrossed or small corpus.
    """
    groups = split_topics(range(len(corpus.topics)))
    for group in groups:
        told = {s.emotion for s in corpus.stories if corpus.topics.index(s.topic) in group}
        if group and len(told) < len(corpus.emotions):
            return [list(range(len(corpus.topics))), [], []]
    return groups


def _reader(stories: Labelled, topics: list[int], count: int, shrinkage: float | None) -> tuple[np.ndarray, float]:
    return fit_readers(stories.where(np.isin(stories.topic, topics)), count, shrinkage)
