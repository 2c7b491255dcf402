"""Which neurons write a concept's direction, and which are more or less active on its stories.

1. Keep the mean activation of every neuron on every story (float16; on disk where memory would not hold it).
2. Layer by layer: what a neuron writes along each vector, and how far its activation separates each concept.
3. Keep the best few of each concept; no matrix of all neurons and all concepts is ever held.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import posix_fallocate

import numpy as np
import torch
from scipy.stats import rankdata

from affectscope.files import cache_dir, disk_errors
from affectscope.models.load import Model
from affectscope.models.neurons import ablated_means, neuron_count, pooled_neurons
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.readers import (
    Labelled,
    centred_by_topic,
    concept_means,
    fit_readers,
    ranks,
    standardised_scores,
)

MEMORY = 2**30
"""Bytes of activations that are kept in memory; more go to a file in the cache folder."""
SILENT = 1e-3
"""A neuron whose spread is this share of its layer's median, or less, is left out: its ratio would be rounding."""


def neuron_means(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    skip: int,
    progress: Progress = silent,
    memory: int = MEMORY,
) -> np.ndarray:
    """``[layers, texts, d_mlp]`` float16: mean activation of each neuron over each text from position ``skip`` on.

    Args:
        memory: bytes above which the array is a file without a name, gone with the array.

    Raises:
        AffectscopeError: no dense blocks, a text that is too short, NaN, or a full disk.
    """
    shape = (len(layers), len(texts), neuron_count(model, layers))
    size = int(np.prod(shape)) * 2
    found = np.empty(shape, np.float16) if size <= memory else _on_disk(shape, size)
    limit = float(np.finfo(np.float16).max)
    done = 0
    for batch in pooled_neurons(model, texts, layers, skip=skip):
        values = batch.means.clamp(-limit, limit).to(torch.float16).numpy()
        found[:, batch.indices] = values.transpose(1, 0, 2)
        done += len(batch.indices)
        progress("reading neurons", done, len(texts))
    return found


def _on_disk(shape: tuple[int, ...], size: int) -> np.ndarray:
    with disk_errors(cache_dir()):
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir()) as file:
            posix_fallocate(file.fileno(), 0, size)  # a full disk is found now, not in an hour
            found: np.ndarray = np.memmap(file, np.float16, "r+", shape=shape)
    return found


@dataclass(frozen=True)
class NeuronRead:
    """Neurons of ``layers`` on some stories of a corpus.

    * ``means`` ``[layers, stories, d_mlp]``: see :func:`neuron_means`.
    * ``rows`` ``[stories]``: their places in the corpus; ``concept`` and ``topic`` ``[stories]`` as integers.
    * ``fit`` ``[stories]``: whether a story's topic is in the half that chooses.
    """

    layers: tuple[int, ...]
    means: np.ndarray
    rows: np.ndarray
    concept: np.ndarray
    topic: np.ndarray
    fit: np.ndarray

    def centred(self, place: int) -> np.ndarray:
        """``[stories, d_mlp]`` float64 of one layer, minus the mean of each story's topic."""
        return centred_by_topic(Labelled(self.means[place].astype(np.float32), self.concept, self.topic))

    def at(self, layer: np.ndarray, index: np.ndarray) -> np.ndarray:
        """``[stories, neurons]`` activations of the neurons at ``layer`` ``[neurons]`` and ``index`` ``[neurons]``."""
        places = np.searchsorted(self.layers, layer)
        found: np.ndarray = np.asarray(self.means[places, :, index], dtype=np.float32).T
        return found

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """``[stories]``: concepts dealt anew within each topic, so that the crossing stays."""
        concept = self.concept.copy()
        for topic in np.unique(self.topic):
            rows = np.flatnonzero(self.topic == topic)
            concept[rows] = concept[rng.permutation(rows)]
        return concept

    def aucs(self, best: Best, rows: np.ndarray, which: int = 0) -> np.ndarray:
        """``[topics, concepts]``: AUC on the stories ``rows`` of each concept's neuron number ``which``, by its ``effect``'s sign."""
        values = self.at(best.layer[:, which], best.index[:, which]) * np.sign(best.more["effect"][:, which])
        return auc_by_topic(values[rows], self.concept[rows], self.topic[rows])


def separation(centred: np.ndarray, concept: np.ndarray, concepts: int) -> np.ndarray:
    """``[concepts, neurons]``: mean on a concept's stories minus that on the rest, in s.d. within concepts.

    Args:
        centred: ``[stories, neurons]`` activations minus their topic's mean.

    Neurons that hardly vary get 0. Raises ``ValueError`` when a concept has no story.
    """
    means = concept_means(centred, concept, concepts)
    residual = centred - centred.mean(axis=0) - means[concept]
    freedom = max(len(centred) - concepts, 1)
    spread = np.sqrt((residual**2).sum(axis=0) / freedom)
    heard = spread > SILENT * np.median(spread)
    # The mean over concepts is 0, so the rest's mean is minus a (C - 1)th of the concept's.
    difference = means * concepts / (concepts - 1)
    found: np.ndarray = np.where(heard, difference / np.where(heard, spread, 1.0), 0.0)
    return found


@dataclass
class Best:
    """The ``k`` neurons of highest score for each concept, found layer by layer. Arrays ``[concepts, k]``.

    ``more`` holds what else was given about them. Places without a neuron have the layer -1.
    """

    concepts: int
    k: int
    score: np.ndarray = field(init=False)
    layer: np.ndarray = field(init=False)
    index: np.ndarray = field(init=False)
    more: dict[str, np.ndarray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.score = np.full((self.concepts, self.k), -np.inf)
        self.layer = np.full((self.concepts, self.k), -1)
        self.index = np.full((self.concepts, self.k), -1)

    def see(self, layer: int, score: np.ndarray, **more: np.ndarray) -> None:
        """Take a layer's neurons into account: ``score`` and each of ``more`` are ``[concepts, neurons]``."""
        count = min(self.k, score.shape[1])
        top = np.argpartition(-score, count - 1, axis=1)[:, :count]
        index = np.concatenate([self.index, top], axis=1)
        layers = np.concatenate([self.layer, np.full_like(top, layer)], axis=1)
        scores = np.concatenate([self.score, np.take_along_axis(score, top, 1)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        for name, values in more.items():
            known = self.more.get(name, np.full(self.score.shape, np.nan))
            joined = np.concatenate([known, np.take_along_axis(values, top, 1)], axis=1)
            self.more[name] = np.take_along_axis(joined, order, 1)
        self.score, self.layer, self.index = (np.take_along_axis(a, order, 1) for a in (scores, layers, index))

    def by_layer(self, concept: int) -> dict[int, np.ndarray]:
        """Layer to indices of a concept's neurons."""
        return {
            int(la): self.index[concept][self.layer[concept] == la] for la in np.unique(self.layer[concept]) if la >= 0
        }


def auc_by_topic(values: np.ndarray, concept: np.ndarray, topic: np.ndarray) -> np.ndarray:
    """``[topics, columns]``: chance that a story of the column's concept lies above another story of its topic.

    Args:
        values: ``[stories, columns]``, column ``c`` a reading of concept ``c``. Ties count half; NaN where a topic has no
            such pair.
    """
    found = np.full((len(np.unique(topic)), values.shape[1]), np.nan)
    for row, label in enumerate(np.unique(topic)):
        rows = topic == label
        mine = concept[rows][:, None] == np.arange(values.shape[1])
        positive = mine.sum(axis=0)
        pairs = positive * (rows.sum() - positive)
        above = (rankdata(values[rows], axis=0) * mine).sum(axis=0) - positive * (positive + 1) / 2
        found[row] = np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)
    return found


def like_it(top: dict[int, np.ndarray], width: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """As many random neurons of each layer as ``top`` has there, none of them in ``top`` (as far as there are others)."""
    found = {}
    for layer, index in top.items():
        others = np.setdiff1d(np.arange(width), index)
        found[layer] = rng.choice(others, min(len(index), len(others)), replace=False)
    return found


def profile_scores(gram: np.ndarray, k: int = 50) -> np.ndarray:
    """``[concepts, k]`` principal components of profiles from their inner products ``[concepts, concepts]``."""
    centre = np.eye(len(gram)) - 1 / len(gram)
    values, vectors = np.linalg.eigh(centre @ gram @ centre)
    order = np.argsort(-values)[:k]
    scores: np.ndarray = vectors[:, order] * np.sqrt(np.maximum(values[order], 0.0))
    return scores


@dataclass(frozen=True)
class Ablated:
    """What ablating neurons did to the reading of each held-out story's own concept. Arrays ``[stories]``.

    ``z`` and ``rank`` are before any ablation; ``changes`` maps a kind of neurons to the changes of ``(z, rank)``, the
    mean over its draws.
    """

    concept: np.ndarray
    z: np.ndarray
    rank: np.ndarray
    changes: dict[str, tuple[np.ndarray, np.ndarray]]


def ablate(
    model: Model,
    texts: Sequence[Sequence[int]],
    stories: Labelled,
    layer: int,
    read: NeuronRead,
    chosen: Mapping[str, Sequence[Mapping[int, dict[int, np.ndarray]]]],
    skip: int,
    progress: Progress = silent,
) -> Ablated:
    """Set neurons to their mean over the choosing half's stories, in each held-out story of a concept, and read it again.

    Args:
        texts: token ids of all stories of the corpus.
        stories: their residual means at ``layer``. Readers are fitted on the topics that are not held out.
        chosen: kind of neurons to draws, each a concept to the neurons (layer to indices) that are ablated in its stories.
    """
    concepts = int(stories.concept.max()) + 1
    wanted = next(iter(chosen.values()))[0]
    rows = read.rows[~read.fit & np.isin(read.concept, list(wanted))]
    held = np.isin(stories.topic, np.unique(stories.topic[rows]))
    train = stories.where(~held)
    readers, fitted = fit_readers(train, concepts)[0], centred_by_topic(train)
    centred = np.zeros(stories.values.shape)
    centred[held] = centred_by_topic(stories.where(held))
    concept = stories.concept[rows]

    def score(shift: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        scores = standardised_scores(readers, fitted, centred[rows] + shift)
        return scores[np.arange(len(rows)), concept], ranks(scores, concept)

    base = np.stack([layer_means[read.fit].mean(axis=0, dtype=np.float32) for layer_means in read.means])
    jobs = [(draw, row) for draws in chosen.values() for draw in draws for row in rows]
    sets = [_clamps(draw[int(stories.concept[row])], read.layers, base) for draw, row in jobs]
    after = ablated_means(
        model, [texts[row] for _, row in jobs], layer, sets, skip=skip,
        progress=lambda done, total: progress("ablating neurons", done, total),
    ).numpy()  # fmt: skip
    z, rank = score(0.0)
    changes, start = {}, 0
    for kind, draws in chosen.items():
        found = []
        for _ in draws:
            new_z, new_rank = score(after[start : start + len(rows)] - stories.values[rows])
            found.append((new_z - z, new_rank - rank))
            start += len(rows)
        changes[kind] = (np.mean([f[0] for f in found], axis=0), np.mean([f[1] for f in found], axis=0))
    return Ablated(concept, z, rank, changes)


def _clamps(
    neurons: dict[int, np.ndarray], layers: Sequence[int], base: np.ndarray
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    return {
        layer: (torch.from_numpy(index), torch.from_numpy(base[layers.index(layer)][index]))
        for layer, index in neurons.items()
    }


def rand_index(one: np.ndarray, other: np.ndarray) -> float:
    """Adjusted Rand index of two partitions (integer labels): 1 the same, 0 chance. Quick, for nulls of many draws."""
    table = np.zeros((int(one.max()) + 1, int(other.max()) + 1))
    np.add.at(table, (one, other), 1)
    together, rows, columns = ((n * (n - 1) / 2).sum() for n in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / max(len(one) * (len(one) - 1) / 2, 1)
    most = (rows + columns) / 2
    return float((together - expected) / (most - expected)) if most != expected else 1.0
