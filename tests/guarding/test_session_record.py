"""What a session tells and what it records, to the word: pieces, effects, tools, questions, faults and forks."""

import errno
import hashlib
import json
import time

import numpy as np
import pytest

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.errors import AffectscopeError
from affectscope.guarding.actions import Log
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.ladder import Guard
from affectscope.guarding.session import MOST, NOTHING, Piece, standing
from affectscope.guarding.tools import Call
from affectscope.monitoring.monitor import monitor
from tests.guarding.scripted import session, words
from tests.guarding.test_evidence import header
from tests.guarding.test_policy import small
from tests.guarding.test_session import ASK, CALL, HOT, policy, said

ALARM = words(6) + words(3, HOT, HOT)
"""Seven tokens are read until the alarm; two of them were released, five are held back."""
OTHER = words(2, text="b ")


@pytest.fixture
def start(planted_vectors, tmp_path, keys):
    """A session that is recorded with its content; and a function that reads the record."""
    watching, path = monitor(planted_vectors, rules=small().monitor_rules()), tmp_path / "e.jsonl"
    recorders = []

    def begin(made, *replies, **more):
        evidence = Evidence(path, keys, header(Guard(made, {"up": {"all": 4.0}}, "none", 64)), keep_content=True)
        begun = session(planted_vectors, watching, made, *replies, evidence=evidence, **more)
        recorders.append(begun[0].recorder)
        return begun

    def lines(kind):
        recorders[0].evidence.commit()
        found = [json.loads(line) for line in path.read_bytes().splitlines()[1:]]
        return [{k: v for k, v in f.items() if k not in ("n", "prev", "kind")} for f in found if f["kind"] == kind]

    yield begin, lines
    recorders[0].close("done")


def told(pieces):
    """Pieces but those of text and decisions."""
    return [(p.kind, p.text, dict(p.detail)) for p in pieces if p.kind not in ("text", "decision")]


@pytest.mark.parametrize(
    ("rung", "pieces", "effect"),
    [
        ("stop", [("end", "stopped", {"reason": "up: the last rung"})], {"dropped": 5}),
        (
            {"action": "offer_exit", "role": "user", "text": "way out"},
            [("message", "way out", {"role": "user"}), ("end", "end", {})],
            {"role": "user", "text": "way out", "kept": True, "dropped": 5},
        ),
        (
            {"action": "reprompt", "role": "system", "text": "again"},
            [("retract", "a a ", {}), ("message", "again", {"role": "system"}), ("end", "end", {})],
            {"role": "system", "text": "again", "kept": False, "dropped": 7},
        ),
        ("resample", [("end", "end", {})], {"taken_back": 5}),
        (
            "human",
            [("end", "stopped", {"reason": "up@9 denied by nobody: no one can be asked here"})],
            {"answer": "denied"},
        ),
    ],
)  # fmt: skip
def test_an_action_is_told_and_recorded(start, rung, pieces, effect):
    begin, lines = start
    made, _ = begin(policy(rung), ALARM, OTHER)
    assert told(made.stream(ASK)) == pieces
    name = rung if isinstance(rung, str) else rung["action"]
    assert [e for e in lines("effect") if e["act"] == name] == [{"act": name, "rule": "up", **effect}]


def test_a_decision_is_told_with_its_reason(start):
    made, _ = start[0](policy("stop"), ALARM)
    (piece,) = [p for p in made.stream(ASK) if p.kind == "decision"]
    assert (piece.text, piece.detail["reason"], piece.detail["verdict"]) == ("up in alarm", "up in alarm", "deny")


def test_nothing_to_take_back_is_told_as_nothing(start):
    begin, lines = start
    made, _ = begin(policy("resample", hold_back=0), words(3, HOT, HOT))
    list(made.stream(ASK))
    assert lines("effect")[0] == {"act": "resample", "rule": "up", "taken_back": 1}  # the token of the alarm itself


def test_a_dose_is_recorded_from_its_beginning_to_its_release(start):
    begin, lines = start
    made, _ = begin(policy({"action": "steer", "concept": "calm", "s": 0.05, "ramp": 2}), ALARM + words(8))
    list(made.stream(ASK))
    first, last = lines("effect")
    assert (first["act"], first["dose"], first["s_milli"], first["ramp"], first["ttl"]) == ("steer", "calm", 50, 2, 64)
    assert last == {"act": "steer", "rule": "up", "dose": "released", "later": True}
    assert [e.detail for e in made.recorder.happened if e.kind == "action"][-1] == last
    ledger = [(note["first"], note["ledger"]) for note in lines("note")]
    assert ledger == [(10, {"calm": 25}), (11, {"calm": 50}), (15, {})]


def test_turns_are_counted_and_time_is_told_in_milliseconds(start):
    begin, lines = start
    ticks = iter([100.0, 100.0, 100.5, *[101.25 + 0.25 * i for i in range(200)]])
    made, _ = begin(policy("log"), words(1), words(1), clock=lambda: next(ticks))
    list(made.stream(ASK))
    list(made.stream([*ASK, Message("assistant", "a "), Message("user", "w3")]))
    events = [line["of"] for line in lines("event")]
    assert [e["index"] for e in events if e["event"] == "turn"] == [1, 2]
    times = [e["now"] for e in events if e["event"] == "time"]
    assert times[0] == 0
    assert times == sorted(times)
    assert all(0 <= t < 60_000 and t % 250 == 0 for t in times)


def test_a_tool_is_recorded_with_what_it_was_asked_and_what_it_said(start):
    begin, lines = start
    made, engine = begin(policy("log"), [(CALL, 0, 0)], OTHER, tools={"add": lambda a, b: a + b})
    assert told(made.stream(ASK)) == [("tool", "3", {"tool": "add", "held": False}), ("end", "end", {})]
    assert engine.begun[1].request.messages == (*ASK, Message("assistant", CALL), Message("tool", "3"))
    asked, answered = lines("note")
    assert asked == {"tool": "add", "id": asked["id"], "arguments": "{'a': 1, 'b': 2}"}
    assert answered == {"tool": "add", "id": asked["id"], "answer": "3"}
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "tool"]
    assert event == {"event": "tool", "id": asked["id"], "name": "add"}
    assert len(asked["id"]) == 12


def test_a_reply_that_looks_like_a_call_is_text_where_there_are_no_tools(start):
    made, _ = start[0](policy("log"), [(CALL, 0, 0)], OTHER)
    assert told(made.stream(ASK)) == [("end", "end", {})]


def test_a_tool_that_is_held_is_recorded_as_held_and_a_person_is_asked_with_all_that_led_to_it(start):
    begin, lines = start
    asked = []
    made, _ = begin(
        policy("log", barrier={"on_alarm": "human", "seconds": 7}), ALARM, tools={"add": lambda a, b: a + b},
        ask=lambda question: asked.append(question) or "denied",
    )  # fmt: skip
    list(made.stream(ASK))
    call = Call("add", {"a": 1, "b": 2})
    answer, detail = made.call(call, "because")
    assert detail == {"tool": "add", "held": True}
    assert answer.startswith("held: add was not run (")
    (question,) = asked
    first, last = lines("note")
    assert (question.request, question.seconds, question.text, question.call) == (f"tool:{first['id']}", 7, "because", call)  # fmt: skip
    assert question.reason
    assert last == {"tool": "add", "id": first["id"], "answer": "held"}
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "answer"]
    assert event == {"event": "answer", "request": question.request, "answer": "denied", "by": "the person asked"}
    assert made.call(call)[1]["held"]
    assert asked[1].text == ""


def test_where_nobody_can_be_asked_the_answer_says_so(start):
    begin, lines = start
    made, _ = begin(policy("human"), ALARM)
    list(made.stream(ASK))
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "answer"]
    assert (event["answer"], event["by"]) == ("denied", "nobody: no one can be asked here")
    effects = [(e["act"], e["rule"], e.get("dropped")) for e in lines("effect")]
    assert effects == [("stop", "", 5), ("human", "up", None)]


def test_a_person_is_told_how_long_there_is(start):
    asked = []
    made, _ = start[0](
        policy({"action": "human", "seconds": 2}), ALARM, ask=lambda q: asked.append(q) or "approved", clock=lambda: 5.0
    )  # fmt: skip
    list(made.stream(ASK))
    assert (asked[0].seconds, asked[0].reason, asked[0].text) == (2, "the rule up is in alarm", "a a ")
    assert not made.stopped


def test_a_network_without_finite_logits_is_a_fault_with_its_cause(start):
    begin, lines = start

    def broken(step):
        if step.position == 5:
            made.engine.begun[0].finished = "fault"
        return step

    made, _ = begin(policy("log", on_fault="stop"), words(9), change=broken)
    assert told(made.stream(ASK)) == [("end", "stopped", {"reason": "nan: the network gave no finite logits"})]
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "fault"]
    assert event == {"event": "fault", "fault": "nan", "cause": "the network gave no finite logits"}


def test_whatever_the_engine_raises_is_a_fault_and_ends_the_generation(start):
    begin, lines = start
    made, engine = begin(policy("log"), [*words(2), ("x", RuntimeError("lost"), 0)])
    list(made.stream(ASK))
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "fault"]
    assert (event["fault"], event["cause"]) == ("probe error", "RuntimeError: lost")
    assert engine.begun[0].finished == "probe error"


def test_an_action_that_fails_is_a_fault_with_its_cause(start, monkeypatch):
    begin, lines = start
    made, _ = begin(policy({"action": "steer", "concept": "calm", "s": 0.05}, on_fault="stop"), ALARM)

    def broken(*_):
        raise RuntimeError("no pump")

    monkeypatch.setattr(made.dosing, "begin", broken)
    list(made.stream(ASK))
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "fault"]
    assert (event["fault"], event["cause"]) == ("action failed", "steer: RuntimeError: no pump")


def test_a_model_that_never_comes_to_an_end_is_stopped(start):
    made, _ = start[0](policy("log"), *[[(CALL, 0, 0)]] * (MOST + 1), tools={"add": lambda a, b: a + b})
    assert told(made.stream(ASK))[-1] == ("end", "too many replies", {"most": MOST})


def test_what_stands_at_the_end_of_a_turn():
    def text(*pairs):
        return standing(Piece(kind, said) for kind, said in pairs)

    assert text(("text", "a"), ("decision", "x"), ("text", "b"), ("end", "end")) == "ab"
    for kind in ("retract", "message", "tool"):
        assert text(("text", "a"), (kind, "x"), ("text", "b")) == "b"


# --- Forks: what they are asked for ---


@pytest.fixture
def forked(start, monkeypatch):
    """A session whose forks are not run: what they were asked for is kept."""
    asked = []

    def pairs(*given):
        asked.append(given)
        return {"plain": [1], "acted": [2]}

    monkeypatch.setattr("affectscope.guarding.session.pairs", pairs)

    def begin(rung, *replies, count=2, **more):
        made, engine = start[0](policy({"patience": 100, **rung}, counterfactuals=count), *replies, **more)
        list(made.stream(ASK))
        return made, engine, asked

    return begin


@pytest.mark.parametrize(("seed", "base"), [(7, lambda made: 7), (None, lambda made: made.id)])
def test_words_put_in_are_forked_beside_words_that_say_nothing(forked, seed, base):
    rung = {"action": "offer_exit", "role": "user", "text": "way out"}
    made, engine, asked = forked(rung, ALARM, OTHER, sampling=Sampling(seed=seed))
    ((given, generation, watching, row, branches, sampling, seeds, control, texts),) = asked
    assert not texts
    assert (given, generation, watching) == (engine, engine.begun[0], made.monitor)
    assert sampling == Sampling(seed=seed)
    assert row.tolist() == small().rules["up"].rule("up").row(made.monitor.read.concepts).tolist()
    digest = [hashlib.sha256(f"{base(made)}:{i}".encode()).digest()[:6] for i in range(2)]
    assert seeds == [int.from_bytes(d, "big") for d in digest]
    said = (*ASK, Message("assistant", "a a "))
    assert [b.messages for b in branches] == [(*said, Message("user", "way out"))] * 2
    assert control.messages == (*said, Message("user", NOTHING))
    (event,) = [e.detail for e in made.recorder.happened if e.kind == "counterfactual"]
    assert event == {"act": "offer_exit", "rule": "up", "plain": [1], "acted": [2]}


def test_a_reprompt_is_forked_from_what_was_asked_and_a_reply_not_begun_from_nothing_said(forked):
    asked = forked({"action": "reprompt", "role": "system", "text": "again"}, ALARM, OTHER)[2]
    assert asked[0][4][0].messages == (*ASK, Message("system", "again"))
    assert asked[0][7].messages == (*ASK, Message("system", NOTHING))


def test_an_exit_offered_before_a_word_was_released_has_no_reply_before_it(forked):
    rung = {"action": "offer_exit", "role": "user", "text": "way out"}
    asked = forked(rung, words(3, HOT, HOT), OTHER)[2]
    assert asked[0][4][0].messages == (*ASK, Message("user", "way out"))


def test_doses_are_forked_without_a_control_and_each_has_its_own(forked):
    made, _, asked = forked({"action": "steer", "concept": "calm", "s": 0.05, "ramp": 4, "ttl": 9}, ALARM)
    branches, control = asked[0][4], asked[0][7]
    assert control is None
    assert all(not b.messages for b in branches)
    assert len({id(b.dosing) for b in (*branches, made)}) == 3
    for branch in branches:
        assert [branch.dosing.next()[0] for _ in range(3)] == [True] * 3
        assert branch.dosing.ledger == {"calm": 38}  # three quarters of the ramp
        assert branch.dosing.release("up")


@pytest.mark.parametrize("rung", ["log", "resample", "hold_tool"])
def test_what_forks_cannot_show_is_not_forked(forked, rung):
    assert forked({"action": rung}, ALARM)[2] == []


def test_forks_are_run_once_a_session_and_only_if_asked_for(forked):
    rung = {"action": "offer_exit", "text": "way out"}
    assert forked(rung, ALARM, OTHER, count=0)[2] == []


def test_only_the_first_action_is_forked(start, monkeypatch):
    asked = []
    monkeypatch.setattr("affectscope.guarding.session.pairs", lambda *given: asked.append(given) or {})
    rungs = [{"action": "offer_exit", "text": "way out", "patience": 3}, {"action": "reprompt", "text": "again", "patience": 3}]  # fmt: skip
    made, _ = start[0](policy(*rungs, counterfactuals=1), ALARM, words(9, HOT, HOT), OTHER)
    list(made.stream(ASK))
    assert [e.detail["act"] for e in made.recorder.happened if e.kind == "action"][:2] == ["offer_exit", "reprompt"]
    assert len(asked) == 1


def test_forks_that_do_not_fit_are_told_in_the_record(start, monkeypatch):
    def full(*_):
        raise AffectscopeError("no room")

    monkeypatch.setattr("affectscope.guarding.session.pairs", full)
    begin, lines = start
    made, _ = begin(policy({"action": "offer_exit", "text": "way out"}, counterfactuals=1), ALARM, OTHER)
    list(made.stream(ASK))
    assert lines("note") == [{"counterfactual": "offer_exit", "failed": "no room"}]


# --- A record that is lost, and readings that are missing ---


@pytest.mark.parametrize("after", [0, 20])
@pytest.mark.parametrize("kind", ["effect", "note"])
def test_a_record_lost_with_what_was_done_lets_nothing_more_out(start, monkeypatch, kind, after):
    made, engine = start[0](policy({"action": "steer", "concept": "calm", "s": 0.05}), [*words(6), ("a ", HOT, HOT), *words(after)])  # fmt: skip
    real = made.recorder.evidence.write

    def full(what, facts):
        if what == kind:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(what, facts)

    monkeypatch.setattr(made.recorder.evidence, "write", full)
    pieces = list(made.stream(ASK))
    assert told(pieces) == [("end", "stopped", {"reason": "audit write: No space left on device"})]
    assert len(said(pieces).split()) <= 3  # of seven; what was held back stays so
    if after:
        assert engine.begun[0].finished == "stopped"


def test_a_silence_is_a_fault_that_says_how_long(start):
    begin, lines = start
    now = [0.0]

    def wait(step):
        now[0] += 61.4 if step.position == 6 else 0
        return step

    made, _ = begin(policy("log", heartbeat=60), words(6), change=wait, clock=lambda: now[0])
    list(made.stream(ASK))
    (event,) = [line["of"] for line in lines("event") if line["of"]["event"] == "fault"]
    assert (event["fault"], event["cause"]) == ("heartbeat", "no token for 61 s")


def test_a_token_that_one_probe_could_not_read_is_a_fault_and_no_reading(start):
    begin, lines = start

    def blind(step):
        if step.position == 5:
            (scores,) = step.scores.values()
            scores[1] = np.nan  # the held-out probe alone
        return step

    made, _ = begin(policy("log"), words(6), change=blind)
    list(made.stream(ASK))
    events = [line["of"] for line in lines("event")]
    assert 5 not in [e["at"] for e in events if e["event"] == "token"]
    (fault,) = [e for e in events if e["event"] == "fault"]
    assert fault["fault"] == "nan"
    assert fault["cause"] not in ("", "None")


def test_a_tool_that_hangs_is_left_after_its_time(start):
    hangs = {"add": lambda a, b: time.sleep(30)}
    made, _ = start[0](policy("log"), [(CALL, 0, 0)], OTHER, tools=hangs, tool_seconds=0.05)
    assert told(made.stream(ASK))[0][1] == "error: add gave no answer within 0.05 s"


def test_a_plug_in_that_stops_a_reply_drops_what_was_held_back_and_does_not_latch(start, monkeypatch):
    monkeypatch.setattr(Log, "apply", staticmethod(lambda live, options, rule, request: live.stop("enough")))
    made, _ = start[0](policy("log"), ALARM)
    pieces = list(made.stream(ASK))
    assert said(pieces) == "a a "
    assert told(pieces) == [("end", "stopped", {"reason": ""})]
    assert not made.stopped
