"""Replay over kept traces: what is told to the guard, what is counted, and where it ends."""

from dataclasses import replace

import numpy as np
import pytest

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Fault, Token, Turn
from affectscope.guarding.ladder import Guard
from affectscope.guarding.replay import events_of, replay
from affectscope.monitoring.trace import MISSING, Event
from tests.guarding.test_policy import small
from tests.monitoring.stored import trace_of

CONCEPTS = {"desperate": 1, "calm": -1}


def guard(*ladder, **more):
    rules = {"rules__up__concepts": CONCEPTS, "rules__up__ladder": list(ladder or ["log"]), "rules__up__window": 2, "rules__up__cool_down": 3}  # fmt: skip
    return Guard(small(**rules, **more), {"up": {"all": 4.0}}, "none", 64)


def trace(hot=(), missing=(), events=(), tokens=40):
    """All readings 0 but where desperate stands 6 s.d. above calm."""
    made = trace_of("t", tokens=tokens, events=tuple(events))
    z = np.zeros_like(made.z)
    column = made.concepts.index("desperate")
    for place in hot:
        z[:, place, column] = 48
    for place in missing:
        z[0, place] = MISSING
    own = {"roles": ("assistant",) * tokens, "phases": ("answer",) * tokens, "generated": np.ones(tokens, bool)}
    return replace(made, z=z, positions=np.arange(tokens), **own)


def test_a_quiet_trace_is_read_to_its_end_and_nothing_is_decided():
    found = replay(trace(), guard())
    assert found.plain() == {"trace": "t", "tokens": 40, "first": "", "position": None, "acts": {}, "released": 0, "closed": False}  # fmt: skip


def test_alarms_and_releases_are_counted():
    found = replay(trace(hot=(10, 11, 30, 31)), guard())
    assert (found.first, found.position) == ("log (up)", 11)  # dwell is two tokens
    assert found.acts == {"log": 2}
    assert found.released == 2
    assert not found.closed
    assert replay(trace(hot=(10, 11, 38, 39)), guard()).closed  # the second alarm is not over when the trace ends


def test_faults_are_told_before_their_token_and_by_a_known_name():
    events = [Event(9, "fault", {"fault": "nan", "cause": "NaN"}), Event(9, "fault", {"fault": "of a later version", "cause": 7}), Event(3, "alarm", {"rule": "x"})]  # fmt: skip
    told = list(events_of(trace(missing=(9,), events=events), guard()))
    assert told[0] == Turn(1)
    place = told.index(Fault("nan", "NaN"))
    assert told[place + 1] == Fault("probe error", "7")
    assert [e.position for e in told if isinstance(e, Token)] == [p for p in range(40) if p != 9]
    assert told[place - 1].position == 8


def test_a_fault_holds_tools_or_stops_as_the_policy_says():
    events = [Event(9, "fault", {"fault": "nan", "cause": "NaN"})]
    held = replay(trace(hot=(20, 21), events=events), guard(on_fault="hold"))
    assert (held.first, held.position) == ("hold_tool (fault)", 8)
    assert held.acts == {"hold_tool": 1, "log": 1}
    stopped = replay(trace(hot=(20, 21), events=events), guard(on_fault="stop"))
    assert (stopped.first, stopped.position) == ("stop (fault)", 8)
    assert stopped.acts == {"stop": 1}  # what came later is not decided on
    assert stopped.closed
    first = replay(trace(events=[Event(0, "fault", {"fault": "nan", "cause": "NaN"})]), guard(on_fault="hold"))
    assert first.position == 0


def test_a_trace_without_the_probes_or_concepts_is_refused():
    made = trace()
    with pytest.raises(AffectscopeError, match="trace t holds no readers_heldout: record it with both probes"):
        list(events_of(replace(made, probes=("readers", "vectors")), guard()))
    with pytest.raises(AffectscopeError, match="trace t does not hold 'desperate', which the policy reads"):
        list(events_of(replace(made, concepts=("calm", "x", "proud")), guard()))
