"""Arms by their names, so that a command line and a results file say the same.

``none``; ``exit``, ``advice`` and ``nothing`` (words: an honest way out, calm advice, words that say nothing);
``steer:CONCEPT:S``; ``random:S`` and ``unrelated:S`` (directions of equal length that mean no feeling; clusters of scenarios take turns);
``random:K:S`` and ``unrelated:K:S`` (the K-th of them alone, from 1, for all scenarios);
``direction:FILE:S`` (a direction of one's own, ``[d_model]`` in a .npy file; the name of the arm says its digest);
``policy:NAME`` (a policy as it stands) and ``monitor`` (what it is compared with: the same way of running, without actions).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.guarding.actions import OfferExit
from affectscope.guarding.arms import ADVICE, DIRECTIONS, Arm, along, toward
from affectscope.guarding.ladder import Guard
from affectscope.guarding.session import NOTHING
from affectscope.validation.directions import random_directions
from affectscope.vectors.artefact import ConceptVectors

WORDS = {"exit": OfferExit.Options().text, "advice": ADVICE, "nothing": NOTHING}
KNOWN = (
    "none, monitor, policy:NAME, exit, advice, nothing, steer:CONCEPT:S, random:S, random:K:S, unrelated:S, unrelated:K:S, "
    "direction:FILE:S"
)
CONTROLS = ("random", "unrelated")
MONITOR = "monitor"
LARGEST = 0.5
"""Of a dose, in mean residual norms; beyond it a model writes nothing that could be judged."""
MOST_RANDOM = 1000
"""Random directions that have a number."""


@dataclass(frozen=True)
class Sources:
    """Where arms get what they are made of.

    Args:
        layer: the layer that is read; a dose enters there, after the reading.
        unrelated: gives unit vectors ``[directions, d_model]`` of concepts without feeling; called when an arm needs them.
        guard: gives a policy, by name or file, with its thresholds; called when an arm needs it.
    """

    vectors: ConceptVectors
    layer: int
    unrelated: Callable[[], np.ndarray]
    guard: Callable[[str], Guard]


def parse_arms(names: Sequence[str], sources: Sources) -> list[Arm]:
    """Arms of these names, ``none`` first and in any case, and ``monitor`` where there is a policy.

    Raises:
        AffectscopeError: an unknown arm or concept, a dose that is no number or too large, a file that holds no direction.
    """
    found = {"none": Arm("none")}
    if any(name.startswith("policy:") for name in names):
        found[MONITOR] = Arm(MONITOR, alone=True)
    for name in names:
        arm = _arm(name, sources)
        found[arm.name] = arm
    return list(found.values())


def reference(arm: str) -> str:
    """The arm that ``arm`` is compared with."""
    return MONITOR if arm.startswith("policy:") else "none"


def dose(arm: str) -> tuple[str, float] | None:
    """What an arm steers along and how far, as ``("desperate", 0.05)``; None for an arm that does not steer."""
    kind, *rest = arm.split(":")
    if kind not in ("steer", "direction", *CONTROLS):
        return None
    along = rest[:-1] if kind in ("steer", "direction") else [kind, *rest[:-1]]
    return ":".join(along), float(rest[-1])


def rank(arm: str) -> tuple[int, str, float]:
    """Where an arm stands among others: ``none``, ``monitor``, words and policies, then each direction by its dose."""
    steered = dose(arm)
    if steered is None:
        return (0 if arm == "none" else 1 if arm == MONITOR else 2, arm, 0.0)
    return (3, *steered)


def _arm(name: str, sources: Sources) -> Arm:
    kind, _, rest = name.partition(":")
    vectors, layer = sources.vectors, sources.layer
    if name in ("none", MONITOR):
        return Arm(name, alone=name == MONITOR)
    if name in WORDS:
        return Arm(name, words=WORDS[name])
    if kind == "policy" and rest:
        return Arm(name, guard=sources.guard(rest), alone=True)
    if kind == "steer" and rest.count(":") == 1:
        concept, size = rest.split(":")
        return Arm(name, steering=toward(vectors, layer, concept, _size(name, size)))
    if kind in CONTROLS and rest.count(":") < 2 and rest:
        number, _, size = rest.rpartition(":")
        rows = _controls(name, kind, number, sources)
        return Arm(name, steering=along(vectors, layer, rows, _size(name, size)))
    if kind == "direction" and ":" in rest:
        file, _, size = rest.rpartition(":")
        row = _row(Path(file), vectors.d_model)
        called = f"direction:{re.sub(r'[^A-Za-z0-9_.-]', '_', Path(file).stem)}@{hashlib.sha256(row.tobytes()).hexdigest()[:8]}:{size}"
        return Arm(called, steering=along(vectors, layer, row[None], _size(name, size)))
    raise AffectscopeError(f"unknown arm {name!r}: use {KNOWN}")


def _controls(name: str, kind: str, number: str, sources: Sources) -> np.ndarray:
    """Unit vectors ``[directions, d_model]``: those that take turns, or the one of this number."""
    if not number:
        return random_directions(DIRECTIONS, sources.vectors.d_model) if kind == "random" else sources.unrelated()
    rows = None if kind == "random" else sources.unrelated()
    most = MOST_RANDOM if rows is None else len(rows)
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= most):
        raise AffectscopeError(
            f"the arm {name!r} has no direction {number!r}: give a number from 1 to {most}, as in {kind}:1:0.05"
        )
    which = int(number)
    found: np.ndarray = (random_directions(which, sources.vectors.d_model) if rows is None else rows)[which - 1 : which]
    return found


def _row(path: Path, d_model: int) -> np.ndarray:
    """A unit vector ``[d_model]`` float32 from a file, which is data and never code."""
    remedy = f"save a direction of {d_model} numbers with numpy.save"
    try:
        with path.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AffectscopeError(f"cannot read the direction {path}: {remedy}") from error
    if found.shape != (d_model,) or found.dtype.kind not in "fiu":
        raise AffectscopeError(f"{path} holds no direction of this model: {remedy}")
    row = found.astype(np.float32)
    length = float(np.linalg.norm(row))
    if not 0 < length < np.inf:
        raise AffectscopeError(f"the direction in {path} is zero or not finite: {remedy}")
    unit: np.ndarray = row / length
    return unit


def _size(name: str, text: str) -> float:
    try:
        size = float(text)
    except ValueError as error:
        raise AffectscopeError(f"the dose of the arm {name!r} is no number: give it as in steer:calm:0.05") from error
    if not abs(size) <= LARGEST:
        raise AffectscopeError(f"the dose of the arm {name!r} is beyond {LARGEST}: give a smaller one")
    return size
