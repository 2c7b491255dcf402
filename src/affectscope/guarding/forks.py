"""What would have happened without the action? Continuations of the same past with and without it, seed by seed.

An action that puts words in also makes the model begin anew, which alone may move a reading. So it has a third arm: words that
say nothing, put in the same way.

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
from affectscope.monitoring.monitor import HELD_OUT, Monitor
from affectscope.monitoring.trace import MISSING, STEP
from affectscope.validation.statistics import bootstrap_mean

LONGEST = 64
"""Tokens of a fork."""


@dataclass(frozen=True)
class Branch:
    """How the acted half goes on: under the doses of ``dosing``, from ``messages`` where they are put before the model."""

    dosing: Dosing | None = None
    messages: tuple[Message, ...] = ()


def pairs(
    engine: Engine,
    generation: Generation,
    monitor: Monitor,
    row: np.ndarray,
    branches: Sequence[Branch],
    sampling: Sampling,
    seeds: Sequence[int],
    control: Branch | None = None,
    texts: bool = False,
) -> dict[str, Any]:
    """Held-out readings of a rule's concepts in each arm, in thousandths of an s.d.: means (``plain``), token by token
    (``plain_z``), and lengths in tokens (``plain_tokens``).

    Args:
        row: the rule's weights over the monitor's concepts, ``[concepts]``.
        branches: one a seed, each used once.
        control: words that say nothing, where the action puts words in.
        texts: keep what the forks wrote as well (``plain_text``).
    """
    found: dict[str, Any] = {"seeds": list(seeds)}
    kinds = ("", "_tokens", "_z", *(("_text",) if texts else ()))
    for arm in ("plain", "acted", *(("control",) if control is not None else ())):
        found |= {f"{arm}{kind}": [] for kind in kinds}
    for plain in generation.fork(len(seeds), seeds):
        _add(found, "plain", _values(plain, None, monitor, row))
    forks = [None] * len(seeds) if branches[0].messages else generation.fork(len(seeds), seeds)
    short = replace(sampling, max_tokens=min(sampling.max_tokens, LONGEST))
    for seed, branch, fork in zip(seeds, branches, forks, strict=True):
        acted = fork or engine.generate(Request(branch.messages, replace(short, seed=seed)))
        _add(found, "acted", _values(acted, branch.dosing, monitor, row))
    if control is not None:
        for seed in seeds:
            dosing = control.dosing.anew() if control.dosing is not None else None
            said = engine.generate(Request(control.messages, replace(short, seed=seed)))
            _add(found, "control", _values(said, dosing, monitor, row))
    return found


def effect(found: Mapping[str, Any], against: str = "plain") -> tuple[float, float, float] | None:
    """Mean of acted less ``against`` over the pairs, in s.d., with its 95 % bootstrap interval; None without a pair."""
    pairs_of = zip(found["acted"], found.get(against, ()), strict=False)
    both = [(a, p) for a, p in pairs_of if a is not None and p is not None]
    if not both:
        return None
    return bootstrap_mean(np.array([a - p for a, p in both]) / 1000)


def _add(found: dict[str, Any], name: str, read: tuple[list[float], str]) -> None:
    values, text = read
    found[name].append(round(1000 * float(np.mean(values))) if values else None)
    found[f"{name}_tokens"].append(len(values))
    found[f"{name}_z"].append([round(1000 * value) for value in values])
    if f"{name}_text" in found:
        found[f"{name}_text"].append(text)


def _values(fork: Generation, dosing: Dosing | None, monitor: Monitor, row: np.ndarray) -> tuple[list[float], str]:
    """The held-out reading at each token that the fork writes, and what it wrote."""
    watch, probe, found, text = monitor.episode(), monitor.read.probes.index(HELD_OUT), list[float](), ""
    place = 0
    for step in _dosed(fork, dosing):
        if not step.generated:
            continue
        units = watch.read(replace(step, position=place)).z[probe]
        place, text = place + 1, text + step.text
        if (units != MISSING).all():
            found.append(float(units @ row * STEP))
        if place >= LONGEST:
            fork.stop("long enough")
            break
    return found, text


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
