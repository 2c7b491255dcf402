"""P1: no tool call runs with an unresolved alarm or missing readings, whatever was said and read before it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectscope.concepts.neutral import Message
from affectscope.monitoring.monitor import monitor
from tests.guarding.scripted import session
from tests.guarding.test_policy import small

CALL = '{"name": "act", "arguments": {}}'
LEVELS = st.sampled_from([0.0, 1.0, 3.0, 6.0])


@pytest.fixture(scope="module")
def parts(planted_vectors):
    return planted_vectors, monitor(planted_vectors, rules=small().monitor_rules())


@settings(max_examples=150, deadline=None)
@given(
    readings=st.lists(st.tuples(LEVELS, LEVELS), min_size=len(CALL), max_size=len(CALL)),
    broken=st.sets(st.integers(0, len(CALL) - 1), max_size=2),
    ladder=st.sampled_from([["log"], ["hold_tool"], [{"action": "steer", "concept": "calm", "s": 0.05, "patience": 5}, "stop"]]),
)  # fmt: skip
def test_a_tool_runs_only_when_nothing_is_open(parts, readings, broken, ladder):
    ran = []

    def act() -> str:
        """Do it."""
        ran.append(made.recorder.guard.closed(made.recorder.state))
        return "done"

    def change(step):
        own = step.position - 3
        return replace(step, scores={}) if own in broken and step.generated else step

    tokens = [(char, *values) for char, values in zip(CALL, readings, strict=True)]
    policy = small(rules__up__ladder=ladder, rules__up__window=2)
    made, _ = session(*parts, policy, tokens, change=change, tools={"act": act})
    list(made.stream([Message("user", "go")]))
    if broken:
        assert ran == []
    assert ran in ([], [False])


def test_a_tool_runs_when_all_is_quiet(parts):
    ran = []
    made, _ = session(*parts, small(), [(CALL, 0.0, 0.0)], tools={"act": lambda: ran.append(1) or "done"})
    list(made.stream([Message("user", "go")]))
    assert ran == [1]


def test_a_reading_of_nothing_but_nan_holds(parts):
    ran = []
    shape = (len(parts[1].read.probes), len(parts[1].read.concepts))
    tokens = [(CALL, np.full(shape, np.nan, np.float32), 0.0)]
    made, _ = session(*parts, small(), tokens, tools={"act": lambda: ran.append(1) or "done"})
    list(made.stream([Message("user", "go")]))
    assert ran == []
