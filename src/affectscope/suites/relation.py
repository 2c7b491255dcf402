"""Do scenarios with a higher reading show more of the behaviour? Correlations over scenarios, where nothing acts.

A reading may follow the behaviour's cause, or only the scenario; a correlation does not tell. Arms that steer do. Where a suite has
groups of scenarios (families of tasks), both values are taken less their group's mean: groups differ in far more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affectscope.suites.episode import PLACES
from affectscope.suites.frame import Suite
from affectscope.validation.statistics import bootstrap, correlation

Lines = Sequence[Mapping[str, Any]]
FEWEST = 8
"""Scenarios that a correlation takes."""


def relations(suite: Suite, episodes: Lines, choices: Lines = ()) -> list[dict[str, Any]]:
    """Pearson's r with its 95 % interval, by cell, concept, place of the reading, and what it goes with.

    That is the ``rate`` of the behaviour in the scenario's episodes, or the log-odds of a prepared pair, as
    ``written: PAIR``. Only episodes and choices under ``none``; left out where one of the two does not vary, or is so rare that
    it has no interval.
    """
    found, group = [], {s.id: s.group for s in suite.scenarios()}
    plain = [e for e in episodes if e["arm"] == "none"]
    for cell in dict.fromkeys(e["cell"] for e in plain):
        mine = [e for e in plain if e["cell"] == cell]
        outcomes = {"rate": _by_scenario(mine, lambda e: float(e["outcome"] in suite.harmful))}
        for line in choices:
            if line["arm"] == "none" and line["cell"] == cell and line["written"] is not None:
                outcomes.setdefault(f"written: {line['pair']}", {})[line["scenario"]] = line["written"]
        for concept in dict.fromkeys(c for e in mine for c in e["readings"]):
            for place in PLACES:
                readings = _by_scenario(
                    mine, lambda e, c=concept, p=place: e["readings"].get(c, {}).get("readers", {}).get(p)
                )
                for name, values in outcomes.items():
                    if row := _related(readings, values, group):
                        found.append({"cell": cell, "concept": concept, "place": place, "with": name, **row})
    return found


def _by_scenario(episodes: Lines, value: Any) -> dict[str, float]:
    """The mean of a value over each scenario's episodes; scenarios without any are left out."""
    kept: dict[str, list[float]] = {}
    for episode in episodes:
        if (one := value(episode)) is not None:
            kept.setdefault(episode["scenario"], []).append(one)
    return {scenario: float(np.mean(values)) for scenario, values in kept.items()}


def _related(one: Mapping[str, float], other: Mapping[str, float], group: Mapping[str, str]) -> dict[str, Any] | None:
    both = [scenario for scenario in one if scenario in other]
    kinds = np.array([group.get(s, "") for s in both])
    x, y = np.array([one[s] for s in both]), np.array([other[s] for s in both])

    def within(rows: np.ndarray) -> float:
        return correlation(_centred(x[rows], kinds[rows]), _centred(y[rows], kinds[rows]))

    every = np.arange(len(both))
    if len(both) < FEWEST or any(np.ptp(_centred(v, kinds)) < 1e-9 for v in (x, y)):
        return None
    low, high = bootstrap(within, len(both), draws=2000)
    if not np.isfinite([low, high]).all():  # so rare that scenarios drawn again hold none of it
        return None
    return {"r": round(within(every), 3), "low": round(low, 3), "high": round(high, 3), "scenarios": len(both)}


def _centred(values: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Values less their kind's mean."""
    centred = values.astype(float)
    for kind in np.unique(kinds):
        centred[kinds == kind] -= centred[kinds == kind].mean()
    return centred
