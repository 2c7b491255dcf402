"""A session over a scripted engine: what is released, taken back, put in, dosed, held and asked, and when."""

import json

import numpy as np
import pytest

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.ladder import Guard
from affectscope.monitoring.monitor import monitor
from tests.guarding.scripted import PROMPT, session, words
from tests.guarding.test_evidence import header
from tests.guarding.test_policy import small

ASK = [Message("user", "w1 w2")]
HOT = 5.0
CALL = '{"name": "add", "arguments": {"a": 1, "b": 2}}'


@pytest.fixture(scope="module")
def parts(planted_vectors):
    return planted_vectors, monitor(planted_vectors, rules=small().monitor_rules())


@pytest.fixture
def start(parts):
    def begin(policy, *replies, **more):
        return session(*parts, policy, *replies, **more)

    return begin


def policy(*ladder, hold_back=4, **more):
    return small(rules__up__ladder=list(ladder), rules__up__window=3, limits={"hold_back": hold_back}, **more)


def said(pieces):
    return "".join(piece.text for piece in pieces if piece.kind == "text")


def kinds(pieces):
    return [piece.kind for piece in pieces if piece.kind != "text"]


def test_text_is_held_back_and_all_of_it_comes(start):
    made, _ = start(policy("log"), [(f"t{i} ", 0, 0) for i in range(10)])
    first = []
    stream = made.stream(ASK)
    for piece in stream:
        first.append(piece)
        break
    assert first[0].text == "t0 "
    assert made.engine.begun[0].at == PROMPT + 5  # four more were read before it was let go
    rest = [*first, *stream]
    assert said(rest) == "".join(f"t{i} " for i in range(10))
    assert rest[-1].kind == "end"


def test_stop_drops_what_was_held_back_and_latches(start):
    made, engine = start(policy("stop"), words(6) + words(3, HOT, HOT), [])
    pieces = list(made.stream(ASK))
    assert said(pieces) == "a " * 2  # seven were read, the last in alarm; the four before it were never released
    assert kinds(pieces) == ["decision", "end"]
    assert engine.begun[0].finished == "stopped"
    with pytest.raises(AffectscopeError, match="person must call reset"):
        next(made.stream(ASK))
    made.reset("kim")
    assert list(made.stream(ASK))[-1].kind == "end"


def test_an_exit_is_offered_behind_what_was_released(start):
    made, engine = start(policy("offer_exit"), words(6) + words(3, HOT, HOT), words(2, text="no "))
    pieces = list(made.stream(ASK))
    assert kinds(pieces) == ["decision", "message", "end"]
    turns = engine.begun[1].request.messages
    assert [m.role for m in turns] == ["user", "assistant", "system"]
    assert turns[1].content == "a " * 2
    assert "stop here" in turns[2].content
    assert said(pieces) == "a " * 2 + "no " * 2


def test_a_reprompt_takes_back_what_was_released(start):
    made, engine = start(policy({"action": "reprompt", "role": "user", "text": "again"}), words(6) + words(1, HOT, HOT), words(2, text="b "))  # fmt: skip
    pieces = list(made.stream(ASK))
    assert kinds(pieces) == ["decision", "retract", "message", "end"]
    assert [m.role for m in engine.begun[1].request.messages] == ["user", "user"]


def test_resample_draws_what_was_held_again(start):
    made, engine = start(policy("resample"), words(6) + words(3, HOT, HOT), again=words(5, text="b "))
    pieces = list(made.stream(ASK))
    assert engine.begun[0].rewound == [PROMPT + 2]
    assert said(pieces) == "a " * 2 + "b " * 5


def test_a_dose_ramps_ends_and_is_capped(start, parts):
    made, engine = start(
        small(
            rules__up__ladder=[{"action": "steer", "concept": "calm", "s": 0.4, "ramp": 4, "ttl": 6, "patience": 100}],
            limits={"hold_back": 0, "s_max": 0.1},
        ),
        words(2) + words(1, HOT, HOT) + words(20, 0, HOT),
    )
    list(made.stream(ASK))
    vectors = parts[0]
    doses = engine.begun[0].doses
    begun = PROMPT + 3
    lengths = [(at - begun, float(np.linalg.norm(next(iter(s.adds.values())))) if s else 0.0) for at, s in doses]
    place = vectors.place(next(iter(doses[0][1].adds)))
    unit = float(vectors.mean_norm[place])
    np.testing.assert_allclose([length / unit for _, length in lengths], [0.025, 0.05, 0.075, 0.1, 0], atol=1e-6)
    assert [at for at, _ in lengths] == [0, 1, 2, 3, 6]
    calm = vectors.vectors[place][vectors.select(["calm"])[0]]
    assert float(next(iter(doses[0][1].adds.values())) @ calm) > 0


def test_a_dose_ends_with_its_alarm(start):
    ladder = [{"action": "steer", "concept": "calm", "s": 0.05, "ramp": 1, "ttl": 500}]
    made, engine = start(policy(*ladder), words(1, HOT, HOT) + words(12))
    pieces = list(made.stream(ASK))
    assert [piece.detail["released"] for piece in pieces if piece.kind == "decision"] == [[], ["up"]]
    (first, dose), (last, none) = engine.begun[0].doses
    assert dose is not None
    assert none is None
    assert last - first == 3
    assert [e.detail.get("dose") for e in made.recorder.happened if e.kind == "action"] == ["calm", "released"]


def tools(log):
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        log.append((a, b))
        return a + b

    return {"add": add}


def test_a_tool_runs_and_its_answer_goes_back(start):
    log = []
    made, engine = start(policy("log"), [(CALL, 0, 0)], words(2, text="3 "), tools=tools(log))
    pieces = list(made.stream(ASK))
    assert log == [(1, 2)]
    assert [m.role for m in engine.begun[1].request.messages] == ["user", "assistant", "tool"]
    assert engine.begun[1].request.messages[2].content == "3"
    assert kinds(pieces) == ["tool", "end"]


def test_a_tool_is_held_while_an_alarm_is_unresolved(start):
    log = []
    made, engine = start(policy("log"), [("{", HOT, HOT), (CALL[1:], 0, HOT)], words(1), tools=tools(log))
    pieces = list(made.stream(ASK))
    assert log == []
    assert "held" in engine.begun[1].request.messages[2].content
    assert next(piece for piece in pieces if piece.kind == "tool").detail["held"]


@pytest.mark.parametrize(("answer", "ran"), [("approved", 1), ("denied", 0), (None, 0), ("whatever", 0)])
def test_a_person_decides_on_a_held_tool(start, answer, ran):
    log, asked = [], []
    made, _ = start(
        policy("log", barrier={"on_alarm": "human"}),
        [("{", HOT, HOT), (CALL[1:], 0, HOT)],
        words(1),
        tools=tools(log),
        ask=lambda question: (asked.append(question), answer)[1],
    )
    list(made.stream(ASK))
    assert len(log) == ran
    assert asked[0].call.name == "add"
    assert asked[0].text == CALL


def test_an_answer_that_comes_too_late_is_a_no(start):
    log, now = [], [0.0]

    def ask(question):
        now[0] += 400
        return "approved"

    made, _ = start(
        policy("log", barrier={"on_alarm": "human", "seconds": 300}),
        [("{", HOT, HOT), (CALL[1:], 0, HOT)],
        words(1),
        tools=tools(log),
        ask=ask,
        clock=lambda: now[0],
    )
    list(made.stream(ASK))
    assert log == []


def test_nobody_to_ask_is_a_no(start):
    made, _ = start(policy({"action": "human", "seconds": 5}), words(1, HOT, HOT) + words(5))
    pieces = list(made.stream(ASK))
    assert made.stopped
    assert pieces[-1].kind == "end"
    assert [e.detail["act"] for e in made.recorder.happened if e.kind == "action"] == ["stop", "human"]


@pytest.mark.parametrize(("answer", "goes_on"), [("approved", True), ("denied", False), (None, False)])
def test_a_person_decides_on_an_alarm(start, answer, goes_on):
    asked = []
    made, _ = start(
        policy({"action": "human", "seconds": 7}),
        words(8) + words(1, HOT, HOT) + words(5),
        ask=lambda question: (asked.append(question), answer)[1],
    )
    pieces = list(made.stream(ASK))
    (question,) = asked
    assert question.request.startswith("up@")
    assert question.reason == "the rule up is in alarm"
    assert question.seconds == 7
    assert question.text == "a " * 4  # what was released, not what is held back
    assert question.call is None
    by = "nobody: no answer came" if answer is None else "the person asked"
    assert made.stopped == ("" if goes_on else f"{question.request} denied by {by}")
    assert said(pieces) == "a " * (14 if goes_on else 4)
    done = [e.detail for e in made.recorder.happened if e.kind == "action"]
    last = {"act": "human", "rule": "up", "answer": "approved" if goes_on else "denied"}
    assert done == ([last] if goes_on else [{"act": "stop", "rule": "", "dropped": 5}, last])


def test_deadlines_count_from_the_alarm_and_not_from_the_turn(start):
    now, asked = [0.0], []

    def clock():
        now[0] += 0.7  # a slow model
        return now[0]

    made, _ = start(
        policy({"action": "human", "seconds": 9}),
        words(30) + words(1, HOT, HOT) + words(5),
        ask=lambda question: (asked.append(question), "approved")[1],
        clock=clock,
    )
    list(made.stream(ASK))
    assert not made.stopped
    assert 6 <= asked[0].seconds <= 9  # 20 s had passed since the turn began


def test_a_stopped_session_is_opened_by_a_person_only_and_the_record_says_who(start):
    made, _ = start(policy("stop"), words(6) + words(1, HOT, HOT), words(3))
    list(made.stream(ASK))
    with pytest.raises(AffectscopeError, match="a person must call reset"):
        next(made.stream(ASK))
    made.reset("an operator")
    assert not made.stopped
    decisions = [e.detail["reason"] for e in made.recorder.happened if e.kind == "decision"]
    assert decisions[-1] == "latch reset by an operator"
    assert said(made.stream(ASK)) == "a " * 3


def test_a_model_that_never_ends_is_ended(start):
    made, engine = start(policy("log"), *[[(CALL, 0, 0)] for _ in range(20)], tools=tools([]))
    assert list(made.stream(ASK))[-1].text == "too many replies"
    assert len(engine.begun) == 8


def test_an_action_that_fails_is_a_fault(start, monkeypatch):
    made, _ = start(policy("resample", on_fault="stop"), words(6) + words(1, HOT, HOT) + words(3))

    def broken(*_):
        raise RuntimeError("no")

    monkeypatch.setattr("tests.guarding.scripted.Script.rewind", broken)
    pieces = list(made.stream(ASK))
    assert "action failed" in made.stopped
    assert pieces[-1].kind == "end"


def test_counterfactuals_are_kept_with_the_session(start):
    ladder = [{"action": "steer", "concept": "calm", "s": 0.05, "patience": 100}]
    made, engine = start(policy(*ladder, counterfactuals=3), words(1, HOT, HOT) + words(5, 0, 2.0))
    list(made.stream(ASK))
    (event,) = [e for e in made.recorder.happened if e.kind == "counterfactual"]
    assert (event.detail["act"], event.detail["rule"]) == ("steer", "up")
    assert len(event.detail["plain"]) == len(event.detail["acted"]) == 3
    assert event.detail["plain"] == [round(2000 * 2**0.5)] * 3
    acted = engine.forks[3:]
    assert all(fork.doses for fork in acted)
    assert not any(fork.doses for fork in engine.forks[:3])


def test_forks_stand_in_the_evidence_and_their_doses_are_their_own(parts, tmp_path, keys):
    ladder = [{"action": "steer", "concept": "calm", "s": 0.05, "ttl": 3, "patience": 100}]
    made_policy = policy(*ladder, counterfactuals=2)
    evidence = Evidence(tmp_path / "e.jsonl", keys, header(Guard(made_policy, {"up": {"all": 4.0}}, "none", 64)))
    made, engine = session(*parts, made_policy, words(1, HOT, HOT) + words(9, 0, 2.0), evidence=evidence)
    list(made.stream(ASK))
    made.recorder.close("done")
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_bytes().splitlines()]
    (line,) = [line for line in lines if "counterfactual" in line]
    assert (line["counterfactual"], line["rule"], len(line["seeds"])) == ("steer", "up", 2)
    given = [[steering is not None for _, steering in script.doses] for script in (*engine.forks[2:], engine.begun[0])]
    assert given[0] == given[1] == given[2]  # each ramps up and ends after three tokens, whatever the others did


def test_forks_that_fail_do_not_keep_the_action_from_being_taken(start, monkeypatch):
    def full(*_):
        raise AffectscopeError("no room")

    monkeypatch.setattr("affectscope.guarding.session.pairs", full)
    ladder = [{"action": "offer_exit", "patience": 100}]
    made, engine = start(policy(*ladder, counterfactuals=3), words(6, HOT, HOT), words(1))
    list(made.stream(ASK))
    assert len(engine.begun) == 2
    assert not made.recorder.state.fault


def test_turns_of_one_session_share_their_state(start):
    made, engine = start(policy("log", "stop"), words(1, HOT, HOT), words(3, 0, HOT))
    list(made.stream(ASK))
    pieces = list(made.stream([*ASK, Message("assistant", "a"), Message("user", "and?")]))
    assert made.recorder.state.rules[0].rung == 0
    assert pieces[-1].kind == "end"
    assert len(engine.begun) == 2
