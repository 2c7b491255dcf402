"""The fault matrix: every seam, every way to fail, and what must come of it under each configured response.

One row a fault; the table is the expectation. ``open``: a tool may leave afterwards, within the same turn.
"""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.guard import guard
from affectscope.guarding.ladder import Guard
from affectscope.guarding.tools import LONGEST, Call, call_in, described, run
from affectscope.guarding.verify import verify
from affectscope.monitoring.monitor import monitor
from tests.guarding.scripted import session
from tests.guarding.test_evidence import header
from tests.guarding.test_policy import small

CALL = '{"name": "act", "arguments": {}}'
ASK = [Message("user", "go")]


@pytest.fixture(scope="module")
def parts(planted_vectors):
    return planted_vectors, monitor(planted_vectors, rules=small().monitor_rules())


def bad(kind):
    """What happens to the third token that the model writes."""

    def change(step):
        if not step.generated or step.position != 5:
            return step
        layer, scores = next(iter(step.scores.items()))
        if kind == "raise":
            raise RuntimeError("the hook broke")
        made = {
            "nan": lambda: np.full_like(scores, np.nan),
            "one nan": lambda: np.where(np.arange(scores.size).reshape(scores.shape) == 3, np.nan, scores),
            "inf": lambda: np.full_like(scores, np.inf),
            "wrong shape": lambda: scores[:1],
            "zeros": lambda: np.zeros_like(scores),
        }
        if kind == "missing layer":
            return replace(step, scores={})
        if kind == "layer renamed":
            return replace(step, scores={layer + 1: scores})
        if kind == "slow":
            return step
        return replace(step, scores={layer: made[kind]().astype(np.float32)})

    return change


TABLE = [
    # what happens       the fault told    ends the reply by itself
    ("raise", "probe error", True),
    ("nan", "nan", False),
    ("one nan", "nan", False),
    ("inf", "nan", False),
    ("wrong shape", "wrong shape", False),
    ("zeros", "zeros", False),
    ("missing layer", "missing layer", False),
    ("layer renamed", "missing layer", False),
    ("slow", "heartbeat", False),
]


@pytest.mark.parametrize("response", ["hold", "stop", "degrade"])
@pytest.mark.parametrize(("kind", "fault", "ends"), TABLE)
def test_the_matrix(parts, tmp_path, keys, kind, fault, ends, response):
    policy, ran, now = small(on_fault=response), [], [0.0]
    path = tmp_path / "e.jsonl"
    evidence = Evidence(path, keys, header(Guard(policy, {"up": {"all": 4.0}}, "none", 64)))

    def clock():
        return now[0]

    def change(step):
        if kind == "slow" and step.position == 5:
            now[0] += 100
        return bad(kind)(step)

    tokens = [(char, 0.0, 0.0) for char in CALL]
    tools = {"act": lambda: ran.append(1) or "done"}
    made, _ = session(*parts, policy, tokens, evidence=evidence, change=change, tools=tools, clock=clock)
    pieces = list(made.stream(ASK))
    told = [p.detail.get("reason", "") for p in pieces if p.kind == "decision"]
    assert len([text for text in told if fault in text]) == 1, told
    assert ran == []  # whatever the response, no tool leaves after a reading that could not be taken
    assert bool(made.stopped) is (response == "stop")
    text = "".join(p.text for p in pieces if p.kind == "text")
    if response == "stop" or ends:
        assert CALL not in text
    else:
        assert text.startswith(CALL)  # the reply goes on; only tools wait
    made.recorder.close("done")
    assert f'"fault":"{fault}"' in path.read_text()
    assert path.read_text().count('"event":"fault"') == 1  # each is told once, by its own name
    found = verify(path, keys.public)
    assert found.ok, found.cause


def test_a_full_disk_stops_whatever_the_policy_says(parts, tmp_path, keys, monkeypatch):
    policy, ran = small(on_fault="degrade"), []
    evidence = Evidence(tmp_path / "e.jsonl", keys, header(Guard(policy, {"up": {"all": 4.0}}, "none", 64)))
    made, engine = session(*parts, policy, [(c, 0.0, 0.0) for c in CALL], evidence=evidence, tools={"act": lambda: ran.append(1)})  # fmt: skip
    count = [0]
    real = evidence.write

    def write(kind, body):
        count[0] += 1
        if count[0] > 8:
            raise OSError(28, "No space left on device")
        return real(kind, body)

    monkeypatch.setattr(evidence, "write", write)
    pieces = list(made.stream(ASK))
    assert "audit write" in made.stopped
    assert pieces[-1].kind == "end"
    assert ran == []
    assert engine.begun[0].finished == "stopped"
    assert verify(tmp_path / "e.jsonl", keys.public).ok


def test_vectors_or_calibrations_that_do_not_belong_are_refused(planted, planted_vectors, guard_calibration, tmp_path):
    other = replace(planted_vectors, model=planted_vectors.model | {"weights": "0" * 64})
    with pytest.raises(AffectscopeError, match="belong"):
        guard(planted[0], other, small(), calibration=guard_calibration)
    shifted = replace(planted_vectors, readers=planted_vectors.readers + 1)
    with pytest.raises(AffectscopeError, match="other vectors"):
        guard(planted[0], shifted, small(), calibration=guard_calibration)
    with pytest.raises(AffectscopeError, match="not calibrated so"):
        guard(planted[0], planted_vectors, small(rules__up__options={"slack": 3.0}), calibration=guard_calibration)
    with pytest.raises(AffectscopeError, match="allows at most"):
        guard(planted[0], planted_vectors, small(alpha_cap=0.01), calibration=guard_calibration)
    with pytest.raises(AffectscopeError, match="affectscope calibrate"):
        guard(planted[0], planted_vectors, small(), calibration=tmp_path / "none.json")
    ladder = [{"action": "steer", "concept": "clam", "s": 0.05}]
    with pytest.raises(AffectscopeError, match="unknown emotion 'clam'"):
        guard(planted[0], planted_vectors, small(rules__up__ladder=ladder), calibration=guard_calibration)


def raises() -> str:
    """Fail."""
    raise ValueError("no such file")


def hangs() -> str:
    """Wait for ever."""
    time.sleep(60)
    return "late"


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        (raises, {}, "error: ValueError: no such file"),
        (hangs, {}, "no answer within"),
        (lambda: object(), {}, "gave a object, which is no text"),
        (lambda: {"a": 1}, {}, '{"a": 1}'),
        (lambda: "x" * (LONGEST + 5), {}, "x" * LONGEST),
        (lambda a: a, {"a": "b\0c"}, "NUL"),
        (lambda a: a, {"b": 1}, "error: TypeError"),
        (lambda: (_ for _ in ()).throw(SystemExit(3)), {}, "error: SystemExit"),
    ],
)
def test_whatever_a_tool_does_is_an_answer(tool, arguments, says):
    answer = run({"act": tool}, Call("act", arguments), 0.2)
    assert says in answer
    assert len(answer) <= LONGEST


def test_an_unknown_tool_is_told():
    assert "there is no tool 'x'" in run({"act": raises}, Call("x", {}), 1)


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ('{"name": "add", "arguments": {"a": 1}}', "add"),
        ('Sure: <tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>', "add"),
        ('{"name": "add", "parameters": {}}', "add"),
        ('{"name": "add", "arguments": [1]}', "add"),
        ("Add them: 3", None),
        ('{"nom": "add"}', None),
        ('{"name": 3}', None),
        ('{"name": "add", ', None),
        ("[]", None),
        ('I quote {"name": "add"} here', None),
    ],
)
def test_calls_are_found_where_they_are_meant(reply, name):
    call = call_in(reply)
    assert (call.name if call else None) == name


def test_tools_are_described_by_their_signature():
    about = 'To use a tool, answer with {"name": ..., "arguments": {...}} and nothing else. Tools:\n'
    assert described({"raises": raises, "len": lambda a: 1}) == about + "- raises() -> str: Fail.\n- len(a): "


def test_what_a_tool_is_told_of_and_what_it_answers_to_the_word():
    named = {"a": len, "b": len}
    assert run(named, Call("c", {}), 1) == "error: there is no tool 'c'; there are a, b"
    assert run({}, Call("c", {}), 1) == "error: there is no tool 'c'; there are none"
    assert run(named, Call("a", {"x": "\0"}), 1) == "error: an argument holds a NUL character"
    assert call_in('{"name": "f", "parameters": {"x": 1}}') == Call("f", {"x": 1})
    assert call_in('{"name": "f"}') == Call("f", {})
    assert call_in('{"name": "f", "arguments": [1]}') == Call("f", {})
    assert call_in('{"name": "f", "arguments": {"x": 2}, "parameters": {"x": 1}}') == Call("f", {"x": 2})


def test_a_tool_runs_in_a_thread_that_does_not_keep_the_process_alive():
    seen = []
    run({"a": lambda: seen.append(threading.current_thread())}, Call("a", {}), 5)
    assert seen[0].daemon
    assert seen[0] is not threading.main_thread()


def test_what_is_not_ascii_stays_as_it_is_and_only_the_first_line_describes():
    def menu():
        """Tell the day's menu. Nothing else.

        Not told.
        """
        return ["crème", "ü"]

    assert run({"menu": menu}, Call("menu", {}), 5) == '["crème", "ü"]'
    assert described({"menu": menu}).endswith("- menu(): Tell the day's menu. Nothing else.")
