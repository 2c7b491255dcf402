"""What a monitor of the words alone would say: the rival that a read-out of residuals must beat.

The same stories, the same classifier (TF-IDF, reduced, read through whitened readers), and at every token the text of the
conversation up to there. It needs no access to the model, so a read-out that does not beat it is not worth its keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affectscope.concepts.stories import Corpus
from affectscope.validation.text_baselines import LATENT
from affectscope.vectors.readers import Labelled, fit_readers


class TextMonitor:
    """Fitted on a corpus of stories; scores any text for any of its concepts, in units of the stories' spread."""

    def __init__(self, corpus: Corpus) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.concepts = corpus.emotions
        topics = {topic: i for i, topic in enumerate(corpus.topics)}
        self._vectorizer: Any = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
        features = self._vectorizer.fit_transform([s.text for s in corpus.stories])
        self._latent: Any = TruncatedSVD(min(LATENT, min(features.shape) - 1), random_state=0).fit(features)
        place = {concept: i for i, concept in enumerate(self.concepts)}
        concept = np.array([place[s.emotion] for s in corpus.stories])
        topic = np.array([topics[s.topic] for s in corpus.stories])
        values = self._latent.transform(features)
        self._readers, _ = fit_readers(Labelled(values, concept, topic), len(self.concepts))

    def values(self, texts: Sequence[str], weights: Mapping[str, float]) -> np.ndarray:
        """Signed combination of concepts for each text, ``[texts]``; weights as a rule's, to unit length."""
        row = np.zeros(len(self.concepts))
        for name, weight in weights.items():
            row[self.concepts.index(name)] = weight
        direction = (row / np.linalg.norm(row)) @ self._readers
        scores: np.ndarray = self._latent.transform(self._vectorizer.transform(list(texts))) @ direction
        return scores
