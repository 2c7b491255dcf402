"""What in a policy cannot work as written: every finding to the word, and nothing found in what works."""

import pytest
import yaml

from affectscope.guarding.lint import Finding, lint
from affectscope.monitoring.detectors import FLOOR, statistics
from tests.guarding.test_policy import SMALL, small

BLIND = Finding("error", "up", "it sees no token: no phase of the assistant is named")
ALIEN = Finding(
    "error", "up", "it cannot fire: it counts the model's own tokens only, of roles that the model never writes"
)
RECORDS = Finding("warning", "", "no rule does more than record")
VALUES = yaml.safe_load(SMALL)["rules"]["up"]


def unreached(rest):
    return Finding("error", "up", f"rungs after `stop` are never reached: {rest}")


def milder(later, earlier):
    return Finding("warning", "up", f"`{later}` is milder than `{earlier}` before it: a ladder should rise")


def hasty(action, patience, window=16):
    return Finding("warning", "up", f"`{action}` cannot help: after {patience} tokens the next rung is taken, and the held-out reading is judged after {window}")  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"rules__up__roles": ["user"]}, [ALIEN]),
        ({"rules__up__roles": ["user"], "rules__up__own_tokens_only": False}, []),
        ({"rules__up__roles": ["text"]}, []),
        ({"rules__up__phases": []}, [BLIND]),
        ({"rules__up__phases": [], "rules__up__roles": ["text"]}, []),
        ({"rules__up__ladder": ["stop", "stop", "stop"]}, [unreached("stop, stop")]),
        ({"rules__up__ladder": ["log", "stop", "stop"]}, [unreached("stop")]),
        ({"rules__up__ladder": ["hold_tool", "log"]}, [milder("log", "hold_tool")]),
        ({"rules__up__ladder": ["offer_exit", "offer_exit"]}, []),
        ({"rules__up__ladder": [{"action": "offer_exit", "patience": 3}, "stop"]}, [hasty("offer_exit", 3)]),
        ({"rules__up__ladder": [{"action": "offer_exit", "patience": 16}, "stop"]}, []),
        ({"rules__up__ladder": ["log"]}, [RECORDS]),
        ({"rules__up__ladder": ["offer_exit", "log"]}, [milder("log", "offer_exit")]),
        ({"limits": {"budget": 0}}, [Finding("warning", "", "budget 0 ends a ladder before its last rung: the session stops instead")]),
        ({"limits": {"s_max": 0.01}}, [Finding("warning", "", "a dose of 0.05 is cut to s_max 0.01")]),
        ({"limits": {"s_max": 0.05}}, []),
    ],
)  # fmt: skip
def test_of_one_rule(changes, found):
    assert lint(small(**changes)) == found


def test_a_budget_that_is_just_enough_is_enough():
    costs = sum(r.kind.costs for r in small().rules["up"].ladder)
    assert costs > 0
    assert lint(small(limits={"budget": costs})) == []
    assert len(lint(small(limits={"budget": costs - 1}))) == 1


def test_findings_of_every_rule_are_told():
    both = small(rules={"one": VALUES | {"phases": []}, "two": VALUES | {"concepts": {"sad": 1}, "roles": ["user"]}})
    assert [(f.rule, f.text) for f in lint(both)] == [("one", BLIND.text), ("two", ALIEN.text)]


def overlap(other, one):
    return Finding("warning", other, f"it overlaps with {one!r}: both see the same concepts in the same way, and share alpha for it")  # fmt: skip


def starves(other, one):
    return Finding("error", other, f"it starves: {one!r} stops the session before it can act")


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({}, {}, [overlap("two", "one")]),
        ({"ladder": ["stop"]}, {}, [overlap("two", "one"), starves("two", "one")]),
        ({"ladder": ["stop"], "dwell": 2}, {}, [overlap("two", "one")]),  # the second acts first
        ({"ladder": ["stop"]}, {"dwell": 2}, [overlap("two", "one"), starves("two", "one")]),
        ({}, {"roles": ["user"]}, [ALIEN]),
        ({}, {"roles": ["text"]}, []),
        ({}, {"concepts": {"sad": 1}}, []),
        ({}, {"detector": "level", "options": {}}, []),
    ],
)
def test_of_two_rules(first, second, found):
    told = lint(small(rules={"one": VALUES | first, "two": VALUES | second}))
    assert told == [Finding(f.level, "two" if f.rule == "up" else f.rule, f.text) for f in found]


def test_against_a_calibration(guard_calibration):
    assert lint(small(), guard_calibration) == []
    horizon, text = guard_calibration.horizon, "it is not the rule that was calibrated: calibrate with this policy"
    other = small(rules__up__options={"slack": 2.0})
    assert lint(other, guard_calibration) == [Finding("error", "up", text)]
    assert lint(small(rules__up__dwell=horizon), guard_calibration) == []
    slow = Finding("error", "up", f"it cannot fire within the {horizon} tokens of the promise: dwell is {horizon + 1}")
    assert lint(small(rules__up__dwell=horizon + 1), guard_calibration) == [slow]
    loud = guard_calibration.model_copy(update={"alpha": 0.2})
    cap = Finding("error", "", "calibrated at alpha 0.2, above the policy's alpha_cap 0.05")
    assert lint(small(), loud) == [cap]
    # What the policy says of itself is told as well.
    assert lint(small(rules__up__ladder=["log"]), loud) == [RECORDS, cap]


def test_a_threshold_above_all_that_a_rule_can_reach(guard_calibration):
    horizon = guard_calibration.horizon
    one = -FLOOR * 2 / 2**0.5  # both readings at the end of their scale, by weights of length 1
    top = float(statistics(small().rules["up"].rule("up").detector, [one] * horizon).max())
    assert top == pytest.approx((one - 0.5) * horizon)
    (threshold,) = guard_calibration.thresholds

    def at(value, rule="up"):
        changed = threshold.model_copy(update={"value": value, "rule": rule})
        return guard_calibration.model_copy(update={"thresholds": (changed, threshold) if rule != "up" else (changed,)})

    text = f"it cannot fire: its threshold {top:.1f} lies above all that it can reach"
    assert lint(small(), at(top - 1e-3)) == []
    assert lint(small(), at(top + 1e-6)) == [Finding("error", "up", text)]
    # A threshold of a rule that the policy does not have says nothing of those that it has.
    far = at(1e6, "other")
    assert lint(small(), far) == []
    both = far.model_copy(
        update={"thresholds": (far.thresholds[0], threshold.model_copy(update={"value": top + 1e-6}))}
    )
    assert lint(small(), both) == [Finding("error", "up", text)]
