"""Events: what is written of one is read back as the same one, and nothing else is taken for an event."""

import json

import pytest

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Answer, Fault, Time, Token, Tool, Turn, from_json, to_json
from affectscope.guarding.evidence import canonical

EVENTS = [
    Token(17, "assistant", "answer", True, (3, -4), (5, -6)), Token(0, "user", "text", False, (), ()), Fault("nan", "a probe"),
    Tool("t1", "send"), Answer("t1", "approved", "the person on duty"), Turn(2), Time(1_234),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_an_event_is_read_back_as_itself(event):
    assert from_json(json.loads(canonical(to_json(event)))) == event


@pytest.mark.parametrize(
    "values", [{}, {"event": "token"}, {"event": "nonsense"}, {"event": "time"}, {"event": "time", "now": 1, "more": 2}]
)
def test_what_is_no_event_of_ours_is_refused(values):
    with pytest.raises(AffectscopeError, match="another version or damaged"):
        from_json(values)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_never_written(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": number})
