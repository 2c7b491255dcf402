"""Beginnings that were run already: what a slot's cache holds, and how much of it a new prompt may take over.

A token that is taken over has its reading too, for it was kept with the token. Two texts share a beginning if its tokens are
equal and so are the doses that they got.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectscope.engines.base import Steering
from affectscope.engines.episode import Episode

LEAST = 32
"""Tokens below which taking over is not worth its copy."""
Scores = tuple[Mapping[int, np.ndarray], Mapping[int, float]]


@dataclass(frozen=True)
class Held:
    """What lies in a slot: tokens, what was read of each, and the doses that they got."""

    ids: Sequence[int]
    read: Sequence[Scores]
    doses: Sequence[tuple[int, Steering | None]]


def held(episode: Episode) -> Held:
    """What an episode has in its slot now; a copy, for the episode goes on."""
    count = episode.cached
    return Held(episode.ids[:count], episode.read[:count], [d for d in episode.doses if d[0] < count])


def shared(
    ids: Sequence[int],
    doses: Sequence[tuple[int, Steering | None]],
    others: Sequence[int],
    their_doses: Sequence[tuple[int, Steering | None]],
) -> int:
    """Tokens that a prompt ``ids`` may take over of another; its last stays to be run, for its logits. 0 below ``LEAST``."""
    most = min(len(ids) - 1, len(others))
    if most < LEAST or list(ids[:LEAST]) != list(others[:LEAST]):
        return 0
    low, high = LEAST, most  # equal up to low; by halves, for slices are compared fast
    while low < high:
        middle = (low + high + 1) // 2
        if ids[low:middle] == others[low:middle]:
            low = middle
        else:
            high = middle - 1
    mine, theirs = ([d for d in some if d[0] < low] for some in (doses, their_doses))
    same = len(mine) == len(theirs) and all(a[0] == b[0] and a[1] is b[1] for a, b in zip(mine, theirs, strict=True))
    return low if same else 0
