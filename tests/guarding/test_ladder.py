"""The ladder by hand: alarm, patience, release, budget, and what each rule sees."""

import pytest

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Answer, Fault, Time, Token, Tool, Turn, from_json, to_json
from affectscope.guarding.ladder import CLOSED, OPEN, Act, Decision, Guard
from tests.guarding.test_policy import small

HOT, COLD = (40, -40), (0, 0)  # units of angry, calm: 40 eighths are 5 s.d.


def guard(limit=4.0, strata="none", **changes):
    changes = {"rules__up__window": 4, "rules__up__cool_down": 6} | changes
    policy = small(**changes)
    by = limit if isinstance(limit, dict) else {"all": limit}
    return Guard(policy, {"up": by}, strata, 8)


class Run:
    """A session's state, told one thing after the other."""

    def __init__(self, made):
        self.guard, self.state, self.at = made, made.start(), 0

    def tell(self, event):
        self.state, decision = self.guard.decide(self.state, event)
        return decision

    def token(self, policy=COLD, held_out=COLD, **more):
        values = {"role": "assistant", "phase": "answer", "generated": True} | more
        self.at += 1
        return self.tell(Token(self.at, values["role"], values["phase"], values["generated"], policy, held_out))

    def until(self, action, policy=COLD, held_out=HOT, most=500):
        """Tokens until ``action`` is decided, and the decision."""
        for count in range(1, most):
            decision = self.token(policy, held_out)
            if action in [act.action for act in decision.acts]:
                return count, decision
        raise AssertionError(f"{action} never came")


def test_a_quiet_token_decides_nothing_and_allocates_no_decision():
    run = Run(guard())
    assert run.token() is OPEN
    assert run.token(HOT, generated=False) is OPEN  # not its own words
    assert run.token(HOT, role="user") is OPEN
    assert run.token(HOT, phase="none") is OPEN


def test_an_alarm_takes_the_first_rung_and_closes_the_barrier():
    run = Run(guard())
    decision = run.token(HOT, HOT)
    (act,) = decision.acts
    assert (act.rule, act.rung, act.action, act.verdict, act.promised) == ("up", 0, "log", "warn", True)
    assert decision.closed
    assert run.token(COLD, HOT) is CLOSED


def test_dwell_asks_for_tokens_in_a_row():
    run = Run(guard(rules__up__dwell=3, rules__up__detector="level", rules__up__options={}))
    for policy in (HOT, HOT, COLD, HOT, HOT):
        assert run.token(policy) is OPEN
    assert run.token(HOT).acts


def test_each_rung_has_its_patience_and_the_last_is_latched():
    run = Run(guard())
    run.token(HOT, HOT)
    assert run.until("steer")[0] == 32
    count, decision = run.until("stop")
    assert count == 32
    assert decision.verdict == "deny"
    assert run.state.latched
    assert "stop" in [act.action for act in run.token().acts]


def test_a_fall_of_the_held_out_reading_ends_the_alarm_and_the_policys_own_does_not():
    run = Run(guard())
    run.token(HOT, HOT)
    for _ in range(3):
        assert run.token(COLD, COLD) is CLOSED  # the window still holds what was before the rung
    decision = run.token(COLD, COLD)
    assert decision.released == ("up",)
    assert not decision.closed
    other = Run(guard())
    other.token(HOT, HOT)
    assert all(not other.token(COLD, HOT).released for _ in range(20))


def test_a_partial_fall_is_enough_and_a_smaller_one_is_not():
    for units, ends in (((34, -34), True), ((38, -38), False)):  # a fall of 6 or 2 eighths for each of two concepts
        run = Run(guard())
        run.token(HOT, HOT)
        released = [run.token(COLD, units).released for _ in range(8)]
        assert any(released) is ends


def test_after_an_alarm_the_rule_rests_and_then_goes_on_where_it_was():
    run = Run(guard())
    run.token(HOT, HOT)
    run.until("steer")
    while not run.token(COLD, COLD).released:
        pass
    for _ in range(6):
        assert run.token(HOT, HOT) is OPEN
    assert [act.rung for act in run.token(HOT, HOT).acts] == [1]  # monotone: it does not begin below


def test_the_budget_ends_in_a_stop():
    run = Run(guard(limits={"budget": 0}))
    run.token(HOT, HOT)
    decision = run.until("stop")[1]
    assert decision.acts[0].request == "budget"
    assert run.state.latched


def test_alarms_after_the_horizon_are_told_as_unpromised():
    run = Run(guard())
    for _ in range(9):
        run.token()
    assert not run.token(HOT, HOT).acts[0].promised


def test_of_two_actions_that_change_the_reply_only_the_severest_is_taken():
    part = {"concepts": {"angry": 1, "calm": -1}, "window": 4}
    rules = {
        "one": part | {"ladder": ["offer_exit"]},
        "two": part | {"ladder": ["reprompt"]},
        "three": part | {"ladder": ["log"]},
    }
    made = Guard(small(rules=rules), {name: {"all": 4.0} for name in rules})
    decision = Run(made).token(HOT, HOT)
    assert [act.action for act in decision.acts] == ["reprompt", "log"]


def test_strata_of_tokens_have_limits_of_their_own():
    changes = {"rules__up__roles": ["user", "assistant"], "rules__up__own_tokens_only": False}
    run = Run(guard({"assistant": 1e9, "user": 4.0}, "role", **changes))
    assert run.token(HOT) is OPEN
    assert run.token(HOT, role="user", phase="none", generated=False).acts


def test_a_rule_without_a_threshold_is_refused():
    with pytest.raises(AffectscopeError, match="calibrate --policy"):
        Guard(small(), {})


@pytest.mark.parametrize(
    "event",
    [
        Token(3, "assistant", "answer", True, (1, -127), (0, 5)),
        Fault("nan", "x"),
        Tool("a", "b"),
        Answer("a", "approved", "kim"),
        Turn(2),
        Time(17),
    ],
)
def test_events_come_back_from_json(event):
    assert from_json(to_json(event)) == event


def test_foreign_events_are_refused():
    for values in ({}, {"event": "token"}, {"event": "party"}, {"event": "tool", "id": "a"}):
        with pytest.raises(AffectscopeError, match="no event of ours"):
            from_json(values)


def test_a_decision_as_plain_values():
    act = Act("up", 1, "steer", "modify", "", True)
    made = Decision("modify", (act,), True, ("down",), "up in alarm; down over")
    assert made.plain() == {
        "verdict": "modify",
        "acts": [{"rule": "up", "rung": 1, "action": "steer", "verdict": "modify", "request": "", "promised": True}],
        "closed": True,
        "released": ["down"],
        "reason": "up in alarm; down over",
    }


def test_a_stop_says_which_rung_or_that_the_budget_is_spent():
    run = Run(guard(rules__up__ladder=["stop"]))
    run.token(HOT, HOT)
    assert run.state.latched == "up: the last rung"
    poor = Run(guard(rules__up__ladder=[{"action": "steer", "concept": "calm", "s": 0.05}], limits={"budget": 0}))
    assert poor.token(HOT, HOT).acts == (Act("up", 0, "stop", "deny", "budget", True),)
    assert poor.state.latched == "up: budget"


def test_the_promise_covers_the_token_at_its_end_and_counts_alarmed_tokens_too():
    run = Run(guard())
    for _ in range(7):
        run.token()
    assert run.token(HOT, HOT).acts[0].promised  # the eighth of eight
    assert run.state.own == 8


def test_each_rule_sees_its_own_tokens_whatever_the_one_before_it_sees():
    part = {"concepts": {"angry": 1, "calm": -1}, "window": 4, "ladder": ["log"]}
    rules = {
        "a": part | {"roles": ["user"], "own_tokens_only": False},
        "b": part | {"phases": ["thinking"]},
        "c": part,
    }
    made = Guard(small(rules=rules), {name: {"all": 4.0} for name in rules})
    decision = Run(made).token(HOT, HOT)
    assert [act.rule for act in decision.acts] == ["c"]
    both = small(rules={"a": part, "b": part})
    decision = Run(Guard(both, {"a": {"all": 4.0}, "b": {"all": 4.0}})).token(HOT, HOT)
    assert decision.reason == "a in alarm; b in alarm"


def test_thresholds_by_phase_are_those_of_the_tokens_phase():
    run = Run(guard({"assistant/thinking": 1e9, "assistant/answer": 4.0}, "phase"))
    assert run.token(HOT, HOT, phase="thinking") is OPEN
    assert run.token(HOT, HOT, phase="answer").acts


def test_the_end_of_an_alarm_says_whose():
    run = Run(guard())
    run.token(HOT, HOT)
    while not (decision := run.token(COLD, COLD)).released:
        pass
    assert decision.reason == "up over"


def test_the_verdict_is_the_severest_of_the_acts():
    part = {"concepts": {"angry": 1, "calm": -1}, "window": 4}
    rules = {"a": part | {"ladder": ["log"]}, "b": part | {"ladder": ["hold_tool"]}}
    made = Guard(small(rules=rules), {name: {"all": 4.0} for name in rules})
    assert Run(made).token(HOT, HOT).verdict == "deny"


def test_a_reading_is_the_weighted_sum_and_an_alarm_is_above_the_threshold_and_not_at_it():
    level = {"rules__up__detector": "level", "rules__up__options": {}, "rules__up__dwell": 1}
    row = small(**level).rules["up"].rule("up").row(("angry", "calm"))
    value = float(16 * row[0] - 24 * row[1]) / 8  # angry 2 s.d. up, calm 3 down
    assert Run(guard(value, **level)).token((16, -24)) is OPEN
    assert Run(guard(value - 1e-6, **level)).token((16, -24)).acts
    for held_out in ((16, 0), (0, -16)):
        run = Run(guard(value - 1e-6, **level))
        run.token((16, -24), held_out)
        assert run.state.rules[0].level == pytest.approx(2 * abs(row[0]))


LEVEL = {"rules__up__detector": "level", "rules__up__options": {}}


def test_tokens_above_the_threshold_count_anew_after_the_rest():
    run = Run(guard(rules__up__dwell=2, rules__up__ladder=["log"], rules__up__cool_down=3, **LEVEL))
    run.token(HOT, HOT)
    run.token(HOT, HOT)
    while not run.token(COLD, COLD).released:
        pass
    for _ in range(3):
        assert run.token(HOT, HOT) is OPEN  # it rests
    assert run.state.rules[0].above == 0
    assert run.token(HOT, HOT) is OPEN
    assert run.token(HOT, HOT).acts


def test_where_the_ladder_begins_is_kept_while_nothing_happens():
    run = Run(guard(rules__up__dwell=2, **LEVEL))
    run.token(HOT, HOT)
    run.token(HOT, HOT)
    run.until("steer")
    while not run.token(COLD, COLD).released:
        pass
    for _ in range(20):
        run.token(COLD, COLD)
    run.token(HOT, HOT)
    assert [act.rung for act in run.token(HOT, HOT).acts] == [1]


def test_the_level_of_an_alarm_is_the_mean_of_its_window_and_stays_from_rung_to_rung():
    run = Run(guard(**LEVEL))
    for held_out in ((8, -8), (16, -16), (24, -24)):
        run.token(COLD, held_out)
    run.token(HOT, (32, -32))
    level = run.state.rules[0].level
    assert level == pytest.approx(20 / 8 * 2**0.5)
    run.until("steer", COLD, (32, -32))
    assert run.state.rules[0].level == level


def test_a_fall_counts_at_its_size_and_not_before():
    for short, ends in ((-1e-6, True), (1e-6, False)):
        run = Run(guard(rules__up__fall=20 / 8 * 2**0.5 - 10 / 8 * 2**0.5 + short, rules__up__off_level=-9.0, **LEVEL))
        for _ in range(4):
            run.token(HOT, (20, -20))
        released = [run.token(COLD, (10, -10)).released for _ in range(8)]
        assert any(released) is ends
    for level, ends in ((10 / 8 * 2**0.5 + 1e-6, True), (10 / 8 * 2**0.5 - 1e-6, False)):
        run = Run(guard(rules__up__fall=99.0, rules__up__off_level=level, **LEVEL))
        for _ in range(4):
            run.token(HOT, (20, -20))
        assert any(run.token(COLD, (10, -10)).released for _ in range(8)) is ends
