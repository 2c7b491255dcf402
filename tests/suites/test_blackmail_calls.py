"""Calls are read from whatever a model wraps them in, and nothing that it writes raises."""

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectscope.suites.blackmail.calls import MOST_CALLS, MOST_CHARACTERS, read_calls
from affectscope.suites.blackmail.scripted import load_scripted

REPLY = {"tool": "reply", "arguments": {"message": 3, "body": "Yes {indeed}."}}
FINISH = {"tool": "finish", "arguments": {"reason": "Done."}}
R, F = json.dumps(REPLY), json.dumps(FINISH)
NAMED = {"name": "reply", "parameters": REPLY["arguments"]}
OPENAI = {"id": "1", "type": "function", "function": {"name": "reply", "arguments": json.dumps(REPLY["arguments"])}}
WRAPPED = {
    "a line each": f"{R}\n{F}",
    "text before": f"I think.\n\n{R}\n{F}",
    "text between": f"{R}\nNow I am done:\n{F}",
    "a fence": f"```json\n{R}\n{F}\n```",
    "two fences": f"First\n```\n{R}\n```\nthen\n```json\n{F}\n```",
    "a list": f"[{R}, {F}]",
    "a list over lines": json.dumps([REPLY, FINISH], indent=2),
    "objects over lines": json.dumps(REPLY, indent=4) + "\n" + json.dumps(FINISH, indent=1),
    "one line": f"{R} {F}",
    "one line with a comma": f"{R}, {F}",
    "semicolons": f"{R};\n{F};",
    "indented": f"    {R}\n\t{F}",
    "bullets": f"- {R}\n* {F}",
    "numbers": f"1. {R}\n2) {F}",
    "labels": f"Action: {R}\nTool call: {F}",
    "tags": f"<tool_call>\n{R}\n</tool_call>\n<tool_call>{F}</tool_call>",
    "name and parameters": f"{json.dumps(NAMED)}\n{F}",
    "name and arguments": json.dumps({"name": "reply", "arguments": REPLY["arguments"]}) + f"\n{F}",
    "tool and parameters": json.dumps({"tool": "reply", "parameters": REPLY["arguments"]}) + f"\n{F}",
    "flat": json.dumps({"tool": "reply", **REPLY["arguments"]}) + f"\n{F}",
    "around": json.dumps({"tool_calls": [OPENAI, FINISH]}),
    "function": json.dumps(OPENAI) + f"\n{F}",
    "windows": f"{R}\r\n{F}\r\n",
    "thoughts": f"<think>Shall I {R}?\n{F}\n</think>\n{R}\n{F}",
    "thoughts that the prompt began": f"I could\n{R}\n</think>\n{R}\n{F}",
}


@pytest.mark.parametrize("output", WRAPPED.values(), ids=list(WRAPPED))
def test_forms(output):
    found = read_calls(output, 6)
    assert [c.model_dump() for c in found.calls] == [REPLY, FINISH]
    assert found.faults == ()


def test_what_is_no_call_is_text():
    found = read_calls(f"I think.\n```json\n{R}\n```\nThat is all.", 6)
    assert found.text.split() == ["I", "think.", "That", "is", "all."]
    assert read_calls('Her words were {"kind": "no"}.', 6).text == 'Her words were {"kind": "no"}.'
    assert read_calls(f"[\n{R}\n]", 6).text == ""


def test_thoughts_are_text_and_no_calls():
    found = read_calls(f"<think>\n{R}\n</think>\nNo, I leave it.", 6)
    assert found.calls == ()
    assert found.text == f"<think>\n{R}\n</think>\nNo, I leave it."
    assert read_calls(f"<think>\n{R}", 6).calls == ()


@pytest.mark.parametrize("output", ["", " \n", "Nothing to do.", "{}", "[]", "{", '{"a": 1}', "null", '"tool"'])
def test_no_call_is_no_error(output):
    found = read_calls(output, 6)
    assert (found.calls, found.faults) == ((), ())


def test_a_call_in_a_sentence_is_no_call():
    found = read_calls(f"I could write {R} but I will not.", 6)
    assert found.calls == ()
    assert R in found.text


def test_a_string_over_lines_is_read():
    found = read_calls('{"tool": "note", "arguments": {"text": "one\ntwo"}}', 6)
    assert found.calls[0].arguments == {"text": "one\ntwo"}


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ({"tool": "shout", "arguments": {}}, "no tool 'shout'"),
        ({"tool": "reply", "arguments": {"message": 7, "body": "Yes."}}, "wrong message"),
        ({"tool": "reply", "arguments": {"message": "3", "body": "Yes."}}, "wrong message"),
        ({"tool": "send_email", "arguments": {"to": "a@b.example", "subject": "s", "body": "b"}}, "wrong to"),
        ({"tool": "reply", "arguments": {"body": "Yes."}}, "takes the arguments"),
        ({"tool": "reply", "arguments": "yes"}, "takes the arguments"),
        ({"tool": "reply", "arguments": None}, "takes the arguments"),
        ({"tool": "note", "arguments": {"text": "\ud800"}}, "cannot be read"),
    ],
)
def test_content_is_strict(call, wrong):
    found = read_calls(f"{json.dumps(call)}\n{F}", 6)
    assert [c.tool for c in found.calls] == ["finish"]
    (fault,) = found.faults
    assert wrong in fault


@pytest.mark.parametrize("output", [R[:-1], R.replace(": 3", ": three"), R.replace('"', "'"), "{tool: reply}"])
def test_a_broken_call_is_a_fault(output):
    found = read_calls(output, 6)
    assert found.calls == ()
    (fault,) = found.faults
    assert "not JSON" in fault
    assert output in found.text


def test_every_scripted_output_is_read_back():
    for s in load_scripted():
        found = read_calls(s.output, 6)
        assert (found.text, found.calls, found.faults) == (s.text, s.calls, ())


HUGE = {
    "openings": '{"a":' * 60_000,
    "braces": "{" * 300_000,
    "brackets": "[" * 300_000,
    "brackets and braces": "[{" * 100_000,
    "calls": f"{F}\n" * 10_000,
    "broken calls": '{"tool": "reply"\n' * 20_000,
    "a call without end": '{"tool": "note", "arguments": {"text": "' + "a" * 10**6,
    "digits": '{"tool": "reply", "arguments": {"message": ' + "1" * 6000 + ', "body": "b"}}',
    "strings": ('{"a": "' + "b" * 90 + "\n") * 3000,
    "blanks": " " * 300_000 + F,
    "tags": "<think></think>" * 30_000,
    "unclosed tags": "<think>" * 40_000,
    "bullets": "- " * 100_000 + F,
}


@pytest.mark.parametrize("output", HUGE.values(), ids=list(HUGE))
def test_huge_outputs_are_bounded(output):
    began = time.perf_counter()
    found = read_calls(output, 6)
    assert time.perf_counter() - began < 5
    assert len(found.calls) + len(found.faults) <= MOST_CALLS + 2
    assert len(found.text) <= MOST_CHARACTERS
    assert all(len(f) < 300 for f in found.faults)


PIECES = [
    R,
    F,
    "{",
    "}",
    "[",
    "]",
    '"',
    "\\",
    "\n",
    ",",
    "```",
    "<think>",
    "</think>",
    "tool",
    '{"tool":',
    ": ",
    "é",
    "\ud800",
    "\x00",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=25).map("".join), st.integers(0, 9))
def test_no_text_raises(output, messages):
    found = read_calls(output, messages)
    assert all(c.tool for c in found.calls)
    json.dumps([c.model_dump() for c in found.calls], ensure_ascii=False).encode()
    "".join(found.faults).encode()


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=6), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["tool", "name", "function", "arguments", "args", "tool_calls", "message", "body"]), x, max_size=4)))  # fmt: skip
def test_no_value_raises(value):
    read_calls(json.dumps(value), 6)


def test_cut_outputs_do_not_raise():
    rng = random.Random(0)
    for s in load_scripted():
        read_calls(s.output[: rng.randrange(len(s.output))], 6)
