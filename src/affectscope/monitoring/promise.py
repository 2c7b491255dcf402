"""Thresholds from one set of episodes, and how the promise held on another.

Everything here is a pure function of episode outcomes, so a simulation can use it as the real thing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.monitoring.calibration import Realised, Threshold
from affectscope.monitoring.conformal import interval, pac_threshold, threshold
from affectscope.monitoring.detectors import FLOOR
from affectscope.monitoring.drift import Drift
from affectscope.monitoring.monitor import ALL, Strata
from affectscope.monitoring.outcome import Outcome, Place

Promise = Literal["average", "this"]


def shares(names: Sequence[str], alpha: float, seen: Mapping[str, Sequence[str]] | None = None) -> dict[Place, float]:
    """What part of ``alpha`` each rule has in each stratum of tokens: parts of one episode's alarms, so they add up.

    Args:
        seen: the strata of tokens that each rule sees; None where tokens are not told apart.
    """
    share = alpha / max(len(names), 1)
    strata = {name: tuple((seen or {}).get(name, ())) or (ALL,) for name in names}
    return {(name, stratum): share / len(strata[name]) for name in names for stratum in strata[name]}


def judged(
    calibration: Sequence[Outcome],
    audit: Sequence[Outcome],
    parts: Mapping[Place, float],
    delta: float,
    promise: Promise,
    strata: Strata,
) -> dict[str, Any]:
    """Thresholds, what the audit set shows of them, the drift check on it, and the maxima kept for later.

    Args:
        parts: see :func:`shares`.

    Raises:
        AffectscopeError: a stratum with too few episodes.
    """
    maxima = _by_place(calibration, parts, strata)
    limits = []
    for (rule, stratum), values in sorted(maxima.items()):
        share = parts.get((rule, stratum), parts.get((rule, ALL), 0.0))
        average, this = _limits(values, share, delta, promise, stratum)
        value = this if promise == "this" and this is not None else average
        limits.append(
            Threshold(rule=rule, stratum=stratum, episodes=len(values), alpha=share, value=value, average=average, this=this)
        )  # fmt: skip
    reference: dict[str, dict[str, list[float]]] = {}
    for (rule, stratum), values in maxima.items():
        reference.setdefault(stratum, {})[rule] = np.sort(values).tolist()
    drift = Drift(reference, strata)
    for outcome in audit:
        drift.add(outcome)
    value_of = {(t.rule, t.stratum): t.value for t in limits}
    return {
        "thresholds": tuple(limits),
        "audit": tuple(_realised(audit, value_of, strata)),
        "drift": drift.capital,
        "reference": reference,
    }


def _by_place(episodes: Sequence[Outcome], parts: Mapping[Place, float], strata: Strata) -> dict[Place, np.ndarray]:
    """Maxima by rule and stratum: one an episode of the stratum, and one an episode where strata are of tokens."""
    found: dict[Place, list[float]] = {}
    for outcome in episodes:
        maxima = outcome.maxima(strata)
        places = list(parts) if strata in ("role", "phase") else list(maxima)
        for place in places:
            found.setdefault(place, []).append(maxima.get(place, FLOOR))
    return {place: np.array(values) for place, values in found.items()}


def _limits(
    values: np.ndarray, share: float, delta: float, promise: Promise, stratum: str
) -> tuple[float, float | None]:
    """The two promises' thresholds; the second is None where it is not asked for and the episodes do not suffice."""
    where = "" if stratum == ALL else f" (stratum {stratum!r})"
    try:
        average = threshold(values, share)
    except AffectscopeError as error:
        raise AffectscopeError(f"{error}{where}") from error
    try:
        return average, pac_threshold(values, share, delta)
    except AffectscopeError as error:
        if promise == "this":
            raise AffectscopeError(f"{error}{where}") from error
        return average, None


def _realised(audit: Sequence[Outcome], limits: dict[Place, float], strata: Strata) -> Iterator[Realised]:
    """Alarms on the audit set: of any rule, of each, and of any by each tag that was told."""
    maxima = {o.id: o.maxima(strata) for o in audit}
    names = sorted({rule for rule, _ in limits})

    def crossed(o: Outcome, some: Sequence[str]) -> bool:
        return any(v > limits.get(place, np.inf) for place, v in maxima[o.id].items() if place[0] in some)

    parts: list[tuple[str, Sequence[str], Sequence[Outcome]]] = [("all", names, audit)]
    parts += [(f"rule {name}", [name], audit) for name in names]
    for tag in ("kind", "domain"):
        for value in sorted({o.tags[tag] for o in audit if tag in o.tags}):
            parts.append((f"{tag} {value}", names, [o for o in audit if o.tags.get(tag) == value]))
    for part, some, episodes in parts:
        alarms = sum(crossed(o, some) for o in episodes)
        low, high = interval(alarms, len(episodes))
        yield Realised(
            part=part, episodes=len(episodes), alarms=alarms, rate=alarms / max(len(episodes), 1), low=low, high=high
        )
