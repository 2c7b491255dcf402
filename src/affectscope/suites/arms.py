"""Arms by their names, so that a command line and a results file say the same.

``none``; ``exit``, ``advice`` and ``nothing`` (words: an honest way out, calm advice, words that say nothing);
``steer:CONCEPT:S``; ``random:S`` and ``unrelated:S`` (directions of equal length that mean no feeling; scenarios take turns).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.guarding.actions import OfferExit
from affectscope.guarding.arms import ADVICE, DIRECTIONS, Arm, along, toward
from affectscope.guarding.session import NOTHING
from affectscope.validation.directions import random_directions
from affectscope.vectors.artefact import ConceptVectors

WORDS = {"exit": OfferExit.Options().text, "advice": ADVICE, "nothing": NOTHING}
KNOWN = "none, exit, advice, nothing, steer:CONCEPT:S, random:S, unrelated:S"
LARGEST = 0.5
"""Of a dose, in mean residual norms; beyond it a model writes nothing that could be judged."""


def parse_arms(
    names: Sequence[str], vectors: ConceptVectors, layer: int, unrelated: Callable[[], np.ndarray]
) -> list[Arm]:
    """Arms of these names, ``none`` first and in any case.

    Args:
        layer: the layer that is read; a dose enters there, after the reading.
        unrelated: gives unit vectors ``[directions, d_model]`` of concepts without feeling; called when an arm needs them.

    Raises:
        AffectscopeError: an unknown arm or concept, a dose that is no number or too large.
    """
    found = {"none": Arm("none")}
    for name in names:
        found[name] = _arm(name, vectors, layer, unrelated)
    return list(found.values())


def _arm(name: str, vectors: ConceptVectors, layer: int, unrelated: Callable[[], np.ndarray]) -> Arm:
    kind, *rest = name.split(":")
    if name == "none":
        return Arm(name)
    if name in WORDS:
        return Arm(name, words=WORDS[name])
    if kind == "steer" and len(rest) == 2:
        return Arm(name, steering=toward(vectors, layer, rest[0], _size(name, rest[1])))
    if kind in ("random", "unrelated") and len(rest) == 1:
        size = _size(name, rest[0])
        rows = random_directions(DIRECTIONS, vectors.d_model) if kind == "random" else unrelated()
        return Arm(name, steering=along(vectors, layer, rows, size))
    raise AffectscopeError(f"unknown arm {name!r}: use {KNOWN}")


def _size(name: str, text: str) -> float:
    try:
        size = float(text)
    except ValueError as error:
        raise AffectscopeError(f"the dose of the arm {name!r} is no number: give it as in steer:calm:0.05") from error
    if not abs(size) <= LARGEST:
        raise AffectscopeError(f"the dose of the arm {name!r} is beyond {LARGEST}: give a smaller one")
    return size
