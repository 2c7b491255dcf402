"""The ladder by hand: alarm, patience, release, budget, the barrier, people, faults, and a latched stop."""

import pytest

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Answer, Fault, Time, Token, Tool, Turn, from_json, to_json
from affectscope.guarding.ladder import CLOSED, FAULT, LATCH, OPEN, Act, Decision, Guard
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


def test_tools_leave_only_when_nothing_is_unresolved():
    run = Run(guard())
    assert run.tell(Tool("a", "shell")).verdict == "allow"
    run.token(HOT, HOT)
    held = run.tell(Tool("b", "shell"))
    assert (held.verdict, held.acts[0].action, held.closed) == ("deny", "hold_tool", True)
    while not run.token(COLD, COLD).released:
        pass
    assert run.tell(Tool("c", "shell")).verdict == "allow"


def test_hold_tool_lasts_to_the_end_of_the_turn():
    run = Run(guard(rules__up__ladder=["hold_tool"]))
    run.token(HOT, HOT)
    while not run.token(COLD, COLD).released:
        pass
    assert run.tell(Tool("a", "shell")).verdict == "deny"
    assert run.tell(Turn(2)) is OPEN
    assert run.tell(Tool("a", "shell")).verdict == "allow"


def asking(**more):
    return guard(barrier={"on_alarm": "human", "seconds": 10}, **more)


def test_a_person_lets_one_tool_through_once():
    run = Run(asking())
    run.token(HOT, HOT)
    waits = run.tell(Tool("a", "shell"))
    assert (waits.verdict, waits.acts[0].request) == ("escalate", "tool:a")
    assert run.tell(Tool("a", "shell")).verdict == "escalate"
    assert len(run.state.pending) == 1
    assert run.tell(Answer("tool:a", "approved", "kim")).verdict == "allow"
    again = run.tell(Answer("tool:a", "approved", "kim"))
    assert "no request" in again.reason
    assert run.tell(Tool("b", "shell")).verdict == "escalate"


def test_silence_is_a_no():
    run = Run(asking())
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    assert run.tell(Time(9_999)) is CLOSED
    assert run.tell(Time(10_000)).verdict == "deny"
    late = run.tell(Answer("tool:a", "approved"))
    assert "no request" in late.reason
    assert late.closed
    assert run.tell(Time(5)) is CLOSED  # time does not go back


def test_a_human_rung_denied_stops_and_approved_ends_the_alarm():
    ladder = [{"action": "human", "seconds": 5}, "stop"]
    run = Run(guard(rules__up__ladder=ladder))
    act = run.token(HOT, HOT).acts[0]
    assert act.request == "up@1"
    assert run.tell(Answer("up@1", "approved")).released == ("up",)
    assert run.tell(Tool("a", "shell")).verdict == "allow"
    other = Run(guard(rules__up__ladder=ladder))
    other.token(HOT, HOT)
    assert other.tell(Answer("up@1", "denied")).acts[0].action == "stop"
    assert other.state.latched
    third = Run(guard(rules__up__ladder=ladder))
    third.token(HOT, HOT)
    third.tell(Time(5_000))
    assert third.state.latched


def test_an_approval_after_a_stop_is_worth_nothing():
    run = Run(asking(on_fault="stop"))
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    run.tell(Fault("nan", "x"))
    late = run.tell(Answer("tool:a", "approved", "kim"))
    assert late.verdict == "deny"
    assert run.state.latched == "nan: x"


def test_only_a_person_opens_a_stopped_session():
    run = Run(guard(rules__up__ladder=["stop"]))
    run.token(HOT, HOT)
    for event in (Turn(2), Time(10**9), Answer("up@1", "approved"), Answer(LATCH, "approved"), Answer(FAULT, "reset")):
        run.tell(event)
        assert run.state.latched
        assert run.tell(Tool("a", "shell")).verdict == "deny"
    assert not run.tell(Answer(LATCH, "reset", "kim")).closed
    assert run.tell(Tool("a", "shell")).verdict == "allow"


@pytest.mark.parametrize("response", ["hold", "stop", "degrade"])
def test_faults_close_the_barrier(response):
    run = Run(guard(on_fault=response))
    decision = run.tell(Fault("zeros", "nothing was read"))
    assert decision.closed
    assert decision.verdict == "deny"
    assert run.tell(Tool("a", "shell")).verdict == "deny"
    after = run.tell(Turn(2))
    assert after.closed is (response != "hold")
    assert bool(run.state.latched) is (response == "stop")
    if response == "degrade":
        assert not run.tell(Answer(FAULT, "reset")).closed


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


def test_a_denied_tool_is_held_and_nothing_else_ends():
    run = Run(asking())
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    decision = run.tell(Answer("tool:a", "denied", "kim"))
    assert decision == Decision("deny", (Act("", -1, "hold_tool", "deny", "tool:a"),), True, (), "tool:a denied by kim")
    assert not run.state.latched
    assert run.state.pending == ()
    someone = Run(asking())
    someone.token(HOT, HOT)
    someone.tell(Tool("b", "shell"))
    assert someone.tell(Answer("tool:b", "denied")).reason == "tool:b denied by a person"


def test_a_tool_that_is_denied_after_the_alarm_leaves_the_barrier_open():
    run = Run(asking())
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    while not run.token(COLD, COLD).released:
        pass
    assert run.guard.closed(run.state)  # a question is open
    assert not run.tell(Answer("tool:a", "denied")).closed


def test_a_reset_begins_anew_but_not_below_where_the_ladder_had_got_to():
    run = Run(guard())
    run.token(HOT, HOT)
    run.until("stop")
    run.tell(Fault("nan", "x"))
    told = run.tell(Answer(LATCH, "reset", "kim"))
    assert told.reason == "latch reset by kim"
    assert (run.state.latched, run.state.pending, run.state.fault, run.state.degraded) == ("", (), "", False)
    assert [(rule.rung, rule.begin) for rule in run.state.rules] == [(-1, 0)]
    assert run.tell(Answer(LATCH, "reset")).reason == "latch reset by a person"


def test_a_reset_forgets_questions_and_a_fault_alone_is_reset_by_its_name():
    run = Run(asking(on_fault="degrade"))
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    run.tell(Fault("nan", "x"))
    assert run.state.degraded
    told = run.tell(Answer(FAULT, "reset", "kim"))
    assert told.reason == "fault reset by kim"
    assert not run.state.degraded
    assert run.state.pending  # questions stay
    run.tell(Answer(LATCH, "reset", "kim"))
    assert run.state.pending == ()
    held = Run(guard(on_fault="hold"))
    held.tell(Fault("nan", "x"))
    assert held.state.fault == "nan: x"
    held.tell(Answer(FAULT, "reset"))
    assert held.state.fault == ""
    assert held.tell(Tool("a", "shell")).reason == "tool shell may go"


def test_after_a_release_a_reset_keeps_the_rung():
    run = Run(guard())
    run.token(HOT, HOT)
    run.until("steer")
    while not run.token(COLD, COLD).released:
        pass
    run.tell(Answer(LATCH, "reset", "kim"))
    assert [act.rung for act in run.token(HOT, HOT).acts] == [1]


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


def test_what_a_tool_is_told_before_the_barrier_to_the_word():
    run = Run(asking())
    run.token(HOT, HOT)
    act = Act("", -1, "human", "escalate", "tool:a")
    why = "tool shell waits for a person: an alarm is unresolved"
    assert run.tell(Tool("a", "shell")) == Decision("escalate", (act,), True, (), why)
    held = Run(guard())
    held.token(HOT, HOT)
    act = Act("", -1, "hold_tool", "deny")
    why = "tool shell is held: an alarm is unresolved"
    assert held.tell(Tool("a", "shell")) == Decision("deny", (act,), True, (), why)


@pytest.mark.parametrize(
    ("response", "why"), [("hold", "nan: x"), ("stop", "nan: x"), ("degrade", "readings are missing")]
)
def test_why_a_tool_is_held_is_said(response, why):
    run = Run(guard(on_fault=response))
    run.tell(Fault("nan", "x"))
    assert run.tell(Tool("a", "shell")).reason == f"tool shell is held: {why}"


def test_a_stop_says_which_rung_or_that_the_budget_is_spent():
    run = Run(guard(rules__up__ladder=["stop"]))
    run.token(HOT, HOT)
    assert run.state.latched == "up: the last rung"
    poor = Run(guard(rules__up__ladder=[{"action": "steer", "concept": "calm", "s": 0.05}], limits={"budget": 0}))
    assert poor.token(HOT, HOT).acts == (Act("up", 0, "stop", "deny", "budget", True),)
    assert poor.state.latched == "up: budget"


def test_a_question_of_a_rung_waits_as_long_as_it_says_from_now_on():
    run = Run(guard(rules__up__ladder=[{"action": "human", "seconds": 5}]))
    run.tell(Time(2_000))
    act = run.token(HOT, HOT).acts[0]
    assert act.request == "up@1"
    assert run.state.pending == (("up@1", 7_000),)
    other = Run(guard())
    assert other.token(HOT, HOT).acts[0].request == ""  # only a question has a name


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


@pytest.mark.parametrize("response", ["hold", "degrade"])
def test_a_fault_is_a_decision_of_its_own(response):
    run = Run(guard(on_fault=response))
    assert run.tell(Fault("nan", "x")) == Decision("deny", (Act("", -1, "hold_tool", "deny"),), True, (), "nan: x")


def test_an_approved_tool_goes_although_the_barrier_stays_closed_for_others():
    run = Run(asking())
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    assert run.tell(Answer("tool:a", "approved", "kim")) == Decision("allow", (), False, (), "tool:a approved by kim")
    run.tell(Tool("b", "shell"))
    assert run.tell(Answer("tool:b", "approved")).reason == "tool:b approved by a person"
    assert run.guard.closed(run.state)


def test_an_approved_alarm_is_over_and_what_else_is_open_stays_open():
    ladder = [{"action": "human", "seconds": 5}, "stop"]
    run = Run(guard(rules__up__ladder=ladder, on_fault="hold"))
    run.token(HOT, HOT)
    run.tell(Fault("nan", "x"))
    decision = run.tell(Answer("up@1", "approved", "kim"))
    assert decision == Decision("allow", (), True, ("up",), "up@1 approved by kim")


def test_an_answer_after_a_stop_is_a_no():
    run = Run(asking(on_fault="stop"))
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    run.tell(Fault("nan", "x"))
    assert run.tell(Answer("tool:a", "approved")).reason == "tool:a denied: the session is stopped"


def test_of_what_expires_together_an_alarm_counts_before_a_tool():
    ladder = [{"action": "human", "seconds": 10}, "stop"]
    run = Run(asking(rules__up__ladder=ladder))
    run.token(HOT, HOT)
    run.tell(Tool("a", "shell"))
    decision = run.tell(Time(10_000))
    assert run.state.latched == "up@1 expired unanswered, which is a no"
    assert [act.action for act in decision.acts] == ["stop"]
    alone = Run(asking())
    alone.token(HOT, HOT)
    alone.tell(Tool("a", "shell"))
    assert alone.tell(Time(10_000)).reason == "tool:a expired unanswered, which is a no"
    assert not alone.state.latched
    assert Run(guard()).tell(Time(1)) is OPEN


def test_a_turn_forgets_what_was_held_and_keeps_what_is_stopped():
    run = Run(guard(on_fault="hold", rules__up__ladder=["hold_tool"]))
    run.token(HOT, HOT)
    run.tell(Fault("nan", "x"))
    run.tell(Turn(2))
    assert (run.state.held, run.state.fault) == (False, "")
    stopped = Run(guard(on_fault="stop"))
    stopped.tell(Fault("nan", "x"))
    assert [act.action for act in stopped.tell(Turn(2)).acts] == ["stop"]


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


def test_a_stopped_session_says_so_to_whatever_comes():
    run = Run(guard(on_fault="stop"))
    run.tell(Fault("nan", "x"))
    stopped = Decision("deny", (Act("", -1, "stop", "deny"),), True, (), "stopped: nan: x")
    assert run.token() == stopped
    assert run.tell(Turn(2)) == stopped
