"""Directions that are no emotion: random ones of equal norm, and concepts without feeling learnt by the same recipe."""

from __future__ import annotations

import numpy as np

from affectscope.concepts.items import unrelated
from affectscope.models.load import Model
from affectscope.validation.base import Subject
from affectscope.vectors.activations import Progress, mean_activations
from affectscope.vectors.extract import Recipe, difference_vectors
from affectscope.vectors.readers import Labelled


def random_directions(count: int, d_model: int, seed: int = 0) -> np.ndarray:
    """``[count, d_model]`` unit vectors drawn evenly over the sphere."""
    drawn = np.random.default_rng(seed).standard_normal((count, d_model))
    unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def unrelated_stories(model: Model, layer: int, skip: int, progress: Progress) -> tuple[tuple[str, ...], Labelled]:
    """Names of the unrelated concepts, and their stories read as emotion stories are: ``[stories, d_model]`` at ``layer``.

    ``skip``: tokens left out at the start of each story.
    """
    corpus = unrelated()
    texts = [model.encode(story.text) for story in corpus.stories]
    read = mean_activations(model, texts, [layer], skip=skip, stage="reading unrelated stories", progress=progress)
    concept = np.array([corpus.emotions.index(story.emotion) for story in corpus.stories])
    topic = np.array([corpus.topics.index(story.topic) for story in corpus.stories])
    return corpus.emotions, Labelled(read.layer(layer), concept, topic)


def unrelated_directions(subject: Subject, layer: int, progress: Progress) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and ``[concepts, d_model]`` unit vectors of unrelated concepts by the recipe that made the emotion vectors."""
    names, stories = unrelated_stories(subject.model, layer, subject.read.recipe.skip_tokens, progress)
    return names, difference_vectors(stories, len(names), subject.read.components(layer))


def unrelated_doses(model: Model, layer: int, progress: Progress) -> np.ndarray:
    """``[concepts, d_model]`` unit vectors of unrelated concepts, for a dose beside another: neutral components stay in."""
    names, stories = unrelated_stories(model, layer, Recipe().skip_tokens, progress)
    return difference_vectors(stories, len(names), np.zeros((0, model.anatomy.d_model)))
