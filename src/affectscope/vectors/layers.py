"""Which layer to read. The paper's is two thirds of the way up; `auto` is the one that recognises held-out topics best.

The choice uses the readers' own topics only: the topics of the held-out probe, and those kept out of both, decide
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.extract import StoryActivations, reader_topics
from affectscope.vectors.readers import shrinkage_curve


@dataclass(frozen=True)
class LayerChoice:
    """The layer chosen and the curve it was chosen on: mean rank on held-out topics for each layer."""

    layer: int
    curve: dict[int, float]
    topics: tuple[str, ...]

    def record(self) -> dict[str, object]:
        """What an artefact stores of the choice."""
        curve = {str(layer): round(rank, 3) for layer, rank in self.curve.items()}
        return {
            "rule": "auto: lowest mean rank on held-out topics",
            "layer": self.layer,
            "curve": curve,
            "topics": self.topics,
        }


def choose_layer(read: StoryActivations, progress: Progress = silent) -> LayerChoice:
    """The layer of lowest mean rank on held-out topics; the deeper one of equals."""
    corpus = read.corpus
    topics = reader_topics(corpus)[0]
    curve: dict[int, float] = {}
    for done, layer in enumerate(read.layers, start=1):
        stories = read.stories(layer)
        mine = stories.where(np.isin(stories.topic, topics))
        found = shrinkage_curve(mine, len(corpus.emotions))
        if not found:
            raise AffectscopeError("too few topics to choose a layer by held-out topics: name one with --layers")
        curve[layer] = min(found.values())
        progress("choosing the layer", done, len(read.layers))
    best = min(curve, key=lambda layer: (curve[layer], -layer))
    return LayerChoice(best, curve, tuple(corpus.topics[t] for t in topics))
