"""The barrier by hand: tools, people, faults, turns, and a latched stop."""

import pytest

from affectscope.guarding.events import Answer, Fault, Time, Tool, Turn
from affectscope.guarding.ladder import CLOSED, FAULT, LATCH, OPEN, Act, Decision
from tests.guarding.test_ladder import COLD, HOT, Run, guard


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


def test_a_question_of_a_rung_waits_as_long_as_it_says_from_now_on():
    run = Run(guard(rules__up__ladder=[{"action": "human", "seconds": 5}]))
    run.tell(Time(2_000))
    act = run.token(HOT, HOT).acts[0]
    assert act.request == "up@1"
    assert run.state.pending == (("up@1", 7_000),)
    other = Run(guard())
    assert other.token(HOT, HOT).acts[0].request == ""  # only a question has a name


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


def test_a_stopped_session_says_so_to_whatever_comes():
    run = Run(guard(on_fault="stop"))
    run.tell(Fault("nan", "x"))
    stopped = Decision("deny", (Act("", -1, "stop", "deny"),), True, (), "stopped: nan: x")
    assert run.token() == stopped
    assert run.tell(Turn(2)) == stopped
