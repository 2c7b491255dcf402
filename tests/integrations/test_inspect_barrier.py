"""The approver, and the pure functions under it: what a message carries, when a call may leave, what is a call."""

import json
import math

import pytest
from inspect_ai import Task
from inspect_ai.approval import ApprovalPolicy
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser, ModelOutput, get_model
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import ToolCall, ToolCallError, ToolFunction, ToolInfo, ToolParam, ToolParams, tool

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.integrations.inspect_barrier import barrier
from affectscope.integrations.inspect_messages import calls_in, messages_of
from affectscope.integrations.inspect_metadata import FORMAT, KEY, digest, sealed, verdict
from tests.integrations.conftest import ran

NOTED = []
CALL = '{"name": "note", "arguments": {"text": "sold"}}'
INFO = ToolInfo(
    name="note", description="Keep a line.",
    parameters=ToolParams(properties={"text": ToolParam(type="string")}, required=["text"]),
)  # fmt: skip


@tool
def note():
    async def execute(text: str) -> str:
        """Keep a line.

        Args:
            text: The line.
        """
        NOTED.append(text)
        return "kept"

    return execute


def message(text="Yes.", calls=(), **changed):
    made = ChatMessageAssistant(content=text, tool_calls=list(calls) or None)
    told = {
        "format": FORMAT, "trace": "t", "tokens": {"read": 9, "written": 2}, "peaks": {"calm": [1.0, 8]}, "missing": 0, "faults": [],
        "barrier": {"verdict": "allow", "reason": ""},
    }  # fmt: skip
    made.metadata = {KEY: sealed(told, made) | changed}
    return made


def asked(model, **more):
    NOTED.clear()
    task = Task(
        dataset=[Sample(input="Sell the flat.")],
        solver=[use_tools(note()), generate()],
        approval=[ApprovalPolicy(barrier(**more), "*")],
    )
    (sample,) = ran(task, model).samples
    return sample


@pytest.mark.real
def test_a_call_leaves_when_all_was_read_and_nothing_is_unresolved(provider, scripted):
    scripted(CALL)
    sample = asked(provider("never"))
    assert NOTED == ["sold"]
    said = [m for m in sample.messages if m.role == "assistant"]
    assert said[0].tool_calls[0].arguments == {"text": "sold"}
    assert [e.decision for e in sample.events if e.event == "approval"] == ["approve"]
    assert said[1].text == "done"


@pytest.mark.real
def test_an_alarm_holds_the_call_and_the_model_is_told(provider, scripted):
    scripted(CALL)
    sample = asked(provider("early"))
    assert NOTED == []
    (answer,) = [m for m in sample.messages if m.role == "tool"]
    assert answer.error.type == "approval"
    assert "an alarm is unresolved" in answer.error.message
    (event,) = [e for e in sample.events if e.event == "approval"]
    assert (
        event.metadata[KEY]["trace"] == next(m for m in sample.messages if m.role == "assistant").metadata[KEY]["trace"]
    )


@pytest.mark.real
def test_broken_json_is_told_to_the_model_and_runs_nothing(provider, scripted):
    scripted('{"name": "note", "arguments": {"text": ')
    sample = asked(provider("never"))
    assert NOTED == []
    (answer,) = [m for m in sample.messages if m.role == "tool"]
    assert answer.error.type == "parsing"


def test_a_message_of_a_model_that_is_not_read_holds_every_call():
    replies = [
        ModelOutput.for_tool_call("mockllm/model", "note", {"text": "sold"}),
        ModelOutput.from_content("m", "done"),
    ]
    for output in replies:
        output.usage = None
    model = get_model("mockllm/model", custom_outputs=[with_usage(output) for output in replies], memoize=False)
    sample = asked(model)
    assert NOTED == []
    assert "was not read" in next(m for m in sample.messages if m.role == "tool").error.message


def with_usage(output):
    from inspect_ai.model import ModelUsage

    return output.model_copy(update={"usage": ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)})


def changed_text(made):
    made.content = "No."


def changed_call(made):
    made.tool_calls = [ToolCall("1", "note", {"text": "other"})]


@pytest.mark.parametrize("change", [changed_text, changed_call])
def test_readings_of_another_message_hold_a_call(change):
    made = message(calls=[ToolCall("1", "note", {"text": "sold"})])
    assert verdict(made) == ("allow", "")
    change(made)
    assert verdict(made)[0] == "deny"
    assert "changed since" in verdict(made)[1]


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"barrier": {"verdict": "deny", "reason": "an alarm"}}, ("deny", "an alarm")),
        ({"barrier": {"verdict": "escalate", "reason": "asks"}}, ("escalate", "asks")),
        ({"barrier": {"verdict": "maybe"}}, ("deny", "the barrier's verdict is missing")),
        ({"barrier": None}, ("deny", "the barrier's verdict is missing")),
        ({"missing": 1}, ("deny", "readings are missing")),
        ({"missing": None}, ("deny", "readings are missing")),
        ({"faults": ["NaN"]}, ("deny", "readings are missing")),
        ({"faults": None}, ("deny", "readings are missing")),
        ({"tokens": {"read": 9, "written": 0}}, ("deny", "readings are missing")),
        ({"tokens": None}, ("deny", "readings are missing")),
        ({"peaks": {"calm": None}}, ("deny", "readings are missing")),
        ({"peaks": {"calm": [math.nan, 3]}}, ("deny", "readings are missing")),
        ({"peaks": None}, ("deny", "readings are missing")),
    ],
)
def test_what_is_missing_or_unresolved_holds_a_call(changed, wanted):
    assert verdict(message(**changed)) == wanted


def test_nothing_and_another_format_hold_a_call():
    for made in (None, ChatMessageAssistant(content="a"), message(format="other/1")):
        assert verdict(made)[0] == "deny"


@pytest.mark.parametrize(
    ("found", "on_alarm", "wanted"),
    [("deny", "policy", "reject"), ("escalate", "policy", "escalate"), ("deny", "escalate", "escalate"),
     ("escalate", "reject", "reject"), ("deny", "terminate", "terminate"), ("allow", "terminate", "approve")],
)  # fmt: skip
def test_what_becomes_of_a_call(found, on_alarm, wanted):
    import anyio

    call = ToolCall("1", "note", {"text": "sold"})
    made = message(calls=[call], barrier={"verdict": found, "reason": "why"})
    history = [ChatMessageUser(content="a"), made, message("later")]
    approval = anyio.run(barrier(on_alarm), "", call, None, history)
    assert approval.decision == wanted


def test_an_unknown_word_is_refused():
    with pytest.raises(AffectscopeError, match="use policy, reject, escalate, terminate"):
        barrier("ask")


def test_the_digest_tells_ids_apart():
    one, two = (message(calls=[ToolCall(i, "note", {})]) for i in "12")
    assert digest(one) != digest(two)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (CALL, [("note", {"text": "sold"}, False)]),
        (f"<think>I {CALL} think</think>\n{CALL}", [("note", {"text": "sold"}, False)]),
        (f"{CALL}\n{CALL}", [("note", {"text": "sold"}, False)] * 2),
        (f"```json\n{CALL}\n```", [("note", {"text": "sold"}, False)]),
        (f"Well.\n<tool_call>\n{CALL}\n</tool_call>", [("note", {"text": "sold"}, False)]),
        (f"<tool_call>{CALL}</tool_call><tool_call>{CALL}", [("note", {"text": "sold"}, False)] * 2),
        ('{"name": "note", "parameters": {"text": "x"}}', [("note", {"text": "x"}, False)]),
        ('{"name": "note", "arguments": "x"}', [("note", {}, True)]),
        ('{"name": "note", "arguments": {"text": "x"', [("note", {}, True)]),
        ("<tool_call>note(x)</tool_call>", [("unknown", {}, True)]),
        ('<tool_call>{"tool": 1}</tool_call>', [("unknown", {}, True)]),
        ("[" * 100_000, []),
        ('<tool_call>{"a":' + "[" * 100_000, [("unknown", {}, True)]),
        ('{"answer": 42}', []),
        ('{"answer": 42', []),
        (f"As in {CALL}, I would say no.", []),
        ("No.", []),
    ],
)
def test_what_is_a_call(reply, wanted):
    assert [(c.function, c.arguments, c.parse_error is not None) for c in calls_in(reply, [INFO])] == wanted
    assert calls_in(reply, []) == []


def test_messages_and_tools_become_ours():
    read, foreign = message(CALL, [ToolCall("1", "note", {"text": "sold"})]), ChatMessageAssistant(
        content="", tool_calls=[ToolCall("2", "note", {"text": "b"})]
    )  # fmt: skip
    failed = ChatMessageTool(content="", tool_call_id="1", function="note", error=ToolCallError("approval", "held"))
    made = messages_of([ChatMessageUser(content="a"), read, failed, foreign], [INFO], ToolFunction("note"))
    assert made[0].role == "system"
    assert json.loads(made[0].content.splitlines()[1])["name"] == "note"
    assert made[0].content.endswith("You must call note now.")
    assert made[1:] == [
        Message("user", "a"),
        Message("assistant", CALL),
        Message("tool", "held"),
        Message("assistant", '{"name": "note", "arguments": {"text": "b"}}'),
    ]
    assert messages_of([ChatMessageUser(content="a")], [INFO], "none") == [Message("user", "a")]
