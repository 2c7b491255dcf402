"""Are today's episodes still like those that thresholds were set on? A bet against it on each, one martingale a rule.

Their mean is a martingale too, so one number decides however many rules there are. It can only say "recalibrate": nothing
is relaxed by it, and an attack that looks like drift gains nothing.

Against a reference that stays the same, p-values are uniform up to the luck of its draw: of 600 episodes, 0.012 in their
mean (one s.d.). The bets win from about 0.04 on, so that luck alone loses money however long it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from affectscope.monitoring.conformal import Martingale, p_value
from affectscope.monitoring.detectors import FLOOR
from affectscope.monitoring.monitor import ALL, Strata
from affectscope.monitoring.outcome import Outcome, episode_stratum

LEVEL = 0.01


class Drift:
    """Evidence over the episodes given so far, in whatever order they came.

    Args:
        reference: each stratum's maxima by rule, as in :class:`~affectscope.monitoring.calibration.Calibration`.
    """

    def __init__(self, reference: Mapping[str, Mapping[str, Sequence[float]]], strata: Strata) -> None:
        self._strata = strata
        self._maxima = {(r, s): np.asarray(v) for s, rules in reference.items() for r, v in rules.items()}
        places = self._maxima if strata in ("role", "phase") else {(rule, ALL) for rule, _ in self._maxima}
        self._bets = {place: Martingale() for place in sorted(places)}
        self.evidence = 1.0
        """Highest mean capital so far: it stays below 100 for ever, in 99 of 100 cases, while nothing drifts."""

    def add(self, outcome: Outcome) -> None:
        """One more episode; one of a stratum that the calibration does not know tells nothing."""
        maxima = outcome.maxima(self._strata)
        mine = episode_stratum(self._strata, outcome.tags, outcome.prompt)
        for rule, stratum in self._bets:
            place = (rule, mine if stratum == ALL else stratum)
            if place in self._maxima:
                p = p_value(self._maxima[place], maxima.get(place, FLOOR), _tie(outcome.id))
                self._bets[rule, stratum] = self._bets[rule, stratum].step(p)
        self.evidence = max(self.evidence, float(np.mean([bet.value for bet in self._bets.values()])))

    @property
    def capital(self) -> dict[str, float]:
        """The highest capital of each bet, by rule (and stratum of tokens): which rule it is that drifts."""
        return {r if s == ALL else f"{r}, {s}": round(bet.highest, 4) for (r, s), bet in self._bets.items()}

    @property
    def recalibrate(self) -> bool:
        """Whether the evidence has ever reached 100. It is never taken back."""
        return self.evidence >= 1 / LEVEL


def _tie(name: str) -> float:
    """What breaks ties: a number that an episode's own name gives, so that a run repeats."""
    is_hex = len(name) >= 8 and all(c in "0123456789abcdef" for c in name[:8])
    return int(name[:8], 16) / 2**32 if is_hex else 0.5
