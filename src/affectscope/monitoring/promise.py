"""Thresholds from one set of episodes, and how the promise held on another.

Everything here is a pure function of episode outcomes, so a simulation can use it as the real thing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.monitoring.calibration import ALL, Realised, Threshold
from affectscope.monitoring.conformal import Martingale, interval, p_value, pac_threshold, threshold

Promise = Literal["average", "this"]
Strata = Literal["none", "domain", "length"]
LENGTHS = (("short", 64), ("medium", 192))
"""Length strata by tokens of the prompt, known before the first reading; beyond the last: ``long``."""


@dataclass(frozen=True)
class Outcome:
    """One episode: its tags and length, each rule's highest statistic, and what was written when content is kept."""

    id: str
    tags: dict[str, str]
    prompt: int
    generated: int
    peaks: dict[str, float]

    def stratum(self, by: str) -> str:
        """The stratum that it belongs to."""
        if by == "length":
            return next((name for name, most in LENGTHS if self.prompt <= most), "long")
        return self.tags.get("domain", "unknown") if by == "domain" else ALL


def judged(
    calibration: Sequence[Outcome],
    audit: Sequence[Outcome],
    names: Sequence[str],
    share: float,
    delta: float,
    promise: Promise,
    strata: Strata,
) -> dict[str, Any]:
    """Thresholds, what the audit set shows of them, the drift check on it, and the maxima kept for later."""
    by: dict[str, dict[str, np.ndarray]] = {}
    for stratum in sorted({o.stratum(strata) for o in calibration}):
        inside = [o for o in calibration if o.stratum(strata) == stratum]
        by[stratum] = {name: np.array([o.peaks[name] for o in inside]) for name in names}
    limits = []
    for stratum, peaks in by.items():
        for name in names:
            average, this = threshold(peaks[name], share), None
            try:
                this = pac_threshold(peaks[name], share, delta)
            except AffectscopeError:
                if promise == "this":
                    raise
            value = this if promise == "this" and this is not None else average
            limits.append(
                Threshold(rule=name, stratum=stratum, episodes=len(peaks[name]), alpha=share, value=value, average=average, this=this)
            )  # fmt: skip
    value_of = {(t.rule, t.stratum): t.value for t in limits}
    return {
        "thresholds": tuple(limits),
        "audit": tuple(_realised(audit, names, value_of, strata)),
        "drift": _drift(audit, names, by, strata),
        "reference": {s: {n: np.sort(v).tolist() for n, v in peaks.items()} for s, peaks in by.items()},
    }


def _realised(
    audit: Sequence[Outcome], names: Sequence[str], limits: dict[tuple[str, str], float], strata: str
) -> Iterator[Realised]:
    """Alarms on the audit set: of any rule, of each, and of any by each tag that was told."""

    def crossed(o: Outcome, some: Sequence[str]) -> bool:
        return any(o.peaks[name] > limits.get((name, o.stratum(strata)), np.inf) for name in some)

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


def _drift(
    audit: Sequence[Outcome], names: Sequence[str], by: dict[str, dict[str, np.ndarray]], strata: str
) -> dict[str, float]:
    """Each rule's martingale over the audit episodes: its highest capital (100 would say: recalibrate)."""
    found = {}
    for name in names:
        martingale = Martingale()
        for o in audit:
            if (stratum := o.stratum(strata)) in by:
                tie = int(o.id[:8], 16) / 2**32 if _is_hex(o.id) else 0.5
                martingale = martingale.step(p_value(by[stratum][name], o.peaks[name], tie))
        found[name] = round(martingale.highest, 4)
    return found


def _is_hex(name: str) -> bool:
    return len(name) >= 8 and all(c in "0123456789abcdef" for c in name[:8])
