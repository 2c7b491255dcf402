"""P7: one session never affects another: opposite policies on one engine, at once and in turn, do as they do alone."""

import threading

import pytest

from affectscope.engines.base import Sampling
from affectscope.guarding.guard import Guarded, guard
from tests.guarding.test_policy import small

SAMPLING = Sampling(temperature=1.0, max_tokens=16, seed=3)
LOW = -100.0  # a threshold that every token crosses


def policies():
    toward = [{"action": "steer", "concept": "calm", "s": 0.1, "ramp": 1, "ttl": 400, "patience": 400}]
    away = [{"action": "steer", "concept": "calm", "s": -0.1, "ramp": 1, "ttl": 400, "patience": 400}]
    return [small(name=n, rules__up__ladder=ladder, rules__up__window=400) for n, ladder in (("toward", toward), ("away", away))]  # fmt: skip


@pytest.fixture
def limits(guard_calibration):
    low = tuple(t.model_copy(update={"value": LOW}) for t in guard_calibration.thresholds)
    return guard_calibration.model_copy(update={"thresholds": low})


def begin(engine_of, limits, policy):
    """A guarded conversation on the same engine under another policy."""
    return Guarded(engine_of.engine, engine_of.vectors, policy, limits, **engine_of._more)


def outcome(reply, guarded):
    readings = [(r.step.token, r.z.tobytes()) for r in guarded.session.conversation.watch.readings]
    return reply.text, readings, [e.detail for e in guarded.session.recorder.happened]


def test_opposite_policies_do_not_touch_each_other(planted, planted_vectors, limits):
    first = guard(planted[0], planted_vectors, policies()[0], calibration=limits, sampling=SAMPLING, slots=4)
    alone = []
    for policy in policies():
        one = begin(first, limits, policy)
        alone.append(outcome(one.chat("w1 w2 w3"), one))
    assert alone[0][1] != alone[1][1]  # the two do act, and apart
    both, found = [begin(first, limits, policy) for policy in policies()], [None, None]

    def work(i):
        found[i] = outcome(both[i].chat("w1 w2 w3"), both[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for i in range(2):
        assert found[i] is not None
        assert found[i][0] == alone[i][0]
        assert [t for t, _ in found[i][1]] == [t for t, _ in alone[i][1]]
        assert [d.get("act") for d in found[i][2]] == [d.get("act") for d in alone[i][2]]
    assert both[0].session.recorder.state is not both[1].session.recorder.state
    assert both[0].session.dosing is not both[1].session.dosing
