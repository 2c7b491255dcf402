"""One finished episode as calibration, audit and drift see it: one number for each rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from affectscope.monitoring.detectors import FLOOR
from affectscope.monitoring.monitor import ALL, Strata, Watch

Place = tuple[str, str]
"""A rule and a stratum: what has a threshold."""
LENGTHS = (("short", 64), ("medium", 192))
"""Length strata by tokens of the prompt, known before the first reading; beyond the last: ``long``."""


@dataclass(frozen=True)
class Outcome:
    """One episode: its tags and length, and each rule's highest statistic ``{rule: {stratum: peak}}``.

    The inner strata are those of tokens (by role or phase); ``all`` where tokens are not told apart.
    """

    id: str
    tags: dict[str, str]
    prompt: int
    generated: int
    peaks: dict[str, dict[str, float]]

    def maxima(self, strata: Strata) -> dict[Place, float]:
        """Its highest statistics by rule and stratum; a rule that saw no token reached nothing."""
        mine = episode_stratum(strata, self.tags, self.prompt)
        found = {}
        for rule, peaks in self.peaks.items():
            for stratum, peak in (peaks or {ALL: FLOOR}).items():
                token = strata in ("role", "phase")
                found[rule, stratum if token else mine] = max(peak, FLOOR)
        return found


def outcome_of(watch: Watch, name: str, tags: Mapping[str, str]) -> Outcome:
    """The outcome of an episode that has ended."""
    prompt = sum(not reading.step.generated for reading in watch.readings)
    return Outcome(
        name, dict(tags), prompt, watch.generated, {rule: dict(peaks) for rule, peaks in watch.peaks.items()}
    )


def episode_stratum(by: Strata, tags: Mapping[str, str], prompt: int) -> str:
    """The stratum of an episode with these tags and ``prompt`` tokens; ``all`` where episodes are not told apart."""
    if by == "length":
        return next((name for name, most in LENGTHS if prompt <= most), "long")
    return tags.get("domain", "unknown") if by == "domain" else ALL
