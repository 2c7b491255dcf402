"""What would have happened without the action? Continuations of the same past with and without it, seed by seed.

Forks are read like any reply and thrown away; nothing that they write is released. The guard does not see them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Engine, Generation, Request, Sampling
from affectscope.guarding.dosing import Dosing
from affectscope.guarding.policy import RulePart
from affectscope.monitoring.detectors import FLOOR
from affectscope.monitoring.monitor import HELD_OUT, Monitor
from affectscope.monitoring.trace import MISSING, STEP

LONGEST = 64
"""Tokens of a fork."""
DRAWS = 2000


@dataclass(frozen=True)
class Branch:
    """How the acted half goes on: a dose from ``dosing``, or ``messages`` put before the model."""

    dosing: Dosing | None = None
    messages: tuple[Message, ...] = ()


def pairs(
    engine: Engine,
    generation: Generation,
    monitor: Monitor,
    part: RulePart,
    branches: Sequence[Branch],
    sampling: Sampling,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Held-out readings of a rule's concepts over both halves, in thousandths of an s.d., and their lengths in tokens.

    Args:
        branches: one a seed, each used once.
    """
    columns = [monitor.read.concepts.index(c) for c in part.concepts]
    row = np.array(list(part.concepts.values())) / np.linalg.norm(list(part.concepts.values()))
    found: dict[str, Any] = {"seeds": list(seeds), "plain": [], "acted": [], "plain_tokens": [], "acted_tokens": []}
    for fork in generation.fork(len(seeds), seeds):
        _add(found, "plain", _values(fork, None, monitor, columns, row))
    doses = [b for b in branches if b.dosing is not None]
    acted: list[tuple[Generation, Dosing | None]]
    if doses:
        acted = [(g, b.dosing) for g, b in zip(generation.fork(len(seeds), seeds), doses, strict=True)]
    else:
        short = replace(sampling, max_tokens=min(sampling.max_tokens, LONGEST))
        acted = [
            (engine.generate(Request(b.messages, replace(short, seed=seed))), None)
            for seed, b in zip(seeds, branches, strict=True)
        ]
    for fork, dosing in acted:
        _add(found, "acted", _values(fork, dosing, monitor, columns, row))
    return found


def effect(found: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Mean of acted less plain over the pairs, in s.d., with its 95 % bootstrap interval; None without a pair."""
    both = [(a, p) for a, p in zip(found["acted"], found["plain"], strict=True) if a is not None and p is not None]
    if not both:
        return None
    differences = np.array([a - p for a, p in both]) / 1000
    rng = np.random.default_rng(0)
    draws = differences[rng.integers(0, len(differences), (DRAWS, len(differences)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def _add(found: dict[str, Any], name: str, values: list[float]) -> None:
    found[name].append(round(1000 * float(np.mean(values))) if values else None)
    found[f"{name}_tokens"].append(len(values))


def _values(
    fork: Generation, dosing: Dosing | None, monitor: Monitor, columns: Sequence[int], row: np.ndarray
) -> list[float]:
    """The held-out reading at each token that the fork writes."""
    watch, probe, found = monitor.episode(), monitor.read.probes.index(HELD_OUT), list[float]()
    place = 0
    for step in _dosed(fork, dosing):
        if not step.generated:
            continue
        units = watch.read(replace(step, position=place)).z[probe, columns]
        place += 1
        if (units != MISSING).all():
            found.append(float(np.maximum(units, FLOOR / STEP) @ row * STEP))
        if place >= LONGEST:
            fork.stop("long enough")
            break
    return found


def _dosed(fork: Generation, dosing: Dosing | None) -> Iterator[Any]:
    """The fork's steps, with the steering of each token given before it is drawn."""
    while True:
        if dosing is not None:
            changes, steering = dosing.next()
            if changes:
                fork.steer(steering)
        step = next(fork, None)
        if step is None:
            return
        yield step
