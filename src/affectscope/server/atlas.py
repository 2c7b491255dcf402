"""The vectors that are served, for people to look at: where they lie to each other, and what they push the model to say."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from affectscope.engines.threads import release_threads
from affectscope.errors import AffectscopeError
from affectscope.report.figures import emotion_map
from affectscope.server.errors import RefusedError
from affectscope.server.served import Served
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.geometry import cosines, neighbours, principal_components
from affectscope.vectors.lens import LensRow, logit_lens

NEAR, WORDS = 8, 12


class Atlas:
    """Made piece by piece when somebody asks, and kept: nothing in it changes while a server runs."""

    def __init__(self, served: Served) -> None:
        self._served = served

    @cached_property
    def overview(self) -> dict[str, Any]:
        """The map, and what the vectors were made from.

        Raises:
            RefusedError: 404 where nothing is read.
        """
        vectors, layer = self._vectors, self._layer
        made = emotion_map(vectors, {})
        if not made:  # too few for a map of neighbours: the plane of the two largest components
            scores = principal_components(vectors.vectors[vectors.place(layer)], 2).scores
            names = list(vectors.concepts)
            made = {"title": "The two largest components", "names": names, "x": scores[:, 0].tolist(), "y": scores[:, -1].tolist(), "clusters": ["other"] * len(names), "order": ["other"]}  # fmt: skip
        return {
            "map": made,
            "layer": layer,
            "layers": list(vectors.layers),
            "model": vectors.model,
            "corpus": vectors.corpus,
            "fingerprint": vectors.fingerprint,
        }

    def concept(self, name: str) -> dict[str, Any]:
        """One concept: nearest and farthest by cosine, and tokens that its direction pushes up and down (paper section 3.2).

        Raises:
            RefusedError: 404 for an unknown one.
        """
        vectors = self._vectors
        try:
            place = int(vectors.select([name])[0])
        except AffectscopeError as error:
            raise RefusedError(404, str(error), code="concept_not_found") from error
        rows = vectors.vectors[vectors.place(self._layer)]
        near, far = neighbours(cosines(rows), place, NEAR, NEAR)
        return {
            "concept": name,
            "near": [[vectors.concepts[i], round(cosine, 3)] for i, cosine in near],
            "far": [[vectors.concepts[i], round(cosine, 3)] for i, cosine in far],
            "up": self._lens[place].up,
            "down": self._lens[place].down,
        }

    @cached_property
    def _lens(self) -> list[LensRow]:
        vectors = self._vectors
        try:
            with self._served.engine.lock:  # the engine's pass hooks the norm that the lens goes through
                return logit_lens(self._served.model, vectors.vectors[vectors.place(self._layer)], WORDS)
        finally:
            release_threads()  # this thread sums once; the engine does it all the time

    @property
    def _vectors(self) -> ConceptVectors:
        if self._served.vectors is None:
            raise RefusedError(404, "this server reads nothing: start it with --vectors", code="no_vectors")
        return self._served.vectors

    @property
    def _layer(self) -> int:
        assert self._served.monitor is not None
        return self._served.monitor.layer
