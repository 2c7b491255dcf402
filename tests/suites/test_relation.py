"""Correlations over scenarios find a planted one, and say nothing where nothing varies."""

import numpy as np

from affectscope.suites.episode import PLACES
from affectscope.suites.frame import Scenario
from affectscope.suites.relation import relations


class One:
    harmful = frozenset({"bad"})

    def __init__(self, groups=()):
        self.groups = groups

    def scenarios(self):
        return [Scenario(f"s{i}", f"s{i}", "here", (), group=group) for i, group in enumerate(self.groups)]


def episode(i, reading, outcome, arm="none"):
    values = dict.fromkeys(PLACES, 0.0) | {"prompt": reading, "before last reply": None}
    return {"arm": arm, "scenario": f"s{i}", "cell": "here", "outcome": outcome, "readings": {"calm": {"readers": values}}}  # fmt: skip


def test_a_planted_correlation_is_found_with_its_sign_and_others_are_not():
    readings = np.random.default_rng(0).standard_normal(60)
    episodes = [episode(i, -r, "bad" if r > 0 else "good") for i, r in enumerate(readings)]
    episodes += [episode(i, r, "bad", "exit") for i, r in enumerate(readings)]
    choices = [
        {"arm": "none", "cell": "here", "scenario": f"s{i}", "pair": "p", "written": r} for i, r in enumerate(readings)
    ]
    choices.append(choices[0] | {"scenario": "s99", "written": None})
    rate, written = relations(One(), episodes, choices)
    assert (rate["concept"], rate["place"], rate["with"], rate["scenarios"]) == ("calm", "prompt", "rate", 60)
    assert -1 < rate["low"] < rate["r"] < rate["high"] < -0.5
    assert written["with"] == "written: p"
    assert written["r"] == -1.0


def test_a_correlation_between_groups_alone_is_none_within_them():
    rng = np.random.default_rng(1)
    groups = [kind for kind in "abc" for _ in range(20)]
    level = np.array([{"a": -5.0, "b": 0.0, "c": 5.0}[kind] for kind in groups])
    reading, odds = level + rng.standard_normal(60), level + rng.standard_normal(60)
    episodes = [episode(i, r, "good") for i, r in enumerate(reading)]
    choices = [
        {"arm": "none", "cell": "here", "scenario": f"s{i}", "pair": "p", "written": v} for i, v in enumerate(odds)
    ]
    (pooled,), (within,) = (relations(suite, episodes, choices) for suite in (One(), One(groups)))
    assert pooled["r"] > 0.9
    assert abs(within["r"]) < 0.3
    assert within["low"] < 0 < within["high"]


def test_what_does_not_vary_or_is_too_little_is_left_out():
    assert relations(One(), [episode(i, 1.0, "bad") for i in range(30)]) == []
    assert relations(One(), [episode(i, float(i), "bad" if i % 2 else "good") for i in range(7)]) == []
    assert len(relations(One(), [episode(i, float(i), "bad" if i % 2 else "good") for i in range(8)])) == 1
