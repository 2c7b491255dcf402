"""P3: the false-alarm budget holds: on conversations kept aside the guard acts no more often than was promised."""

from dataclasses import replace

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, TokenStep
from affectscope.engines.transformers import TransformersEngine
from affectscope.guarding.events import Token
from affectscope.guarding.guard import guard_of
from affectscope.monitoring.conformal import interval
from tests.conftest import WORDS
from tests.guarding.conftest import SHORT
from tests.guarding.test_policy import small


def test_acts_on_fresh_benign_conversations(planted, planted_vectors, guard_calibration):
    policy = small(rules__up__ladder=["log"])
    guard, live = guard_of(policy, guard_calibration), guard_calibration.monitor(planted_vectors)
    engine = TransformersEngine(planted[0], live.read, slots=32)
    rng = np.random.default_rng(77)
    requests = [
        Request((Message("user", " ".join(map(str, rng.choice(WORDS, 12)))),), replace(SHORT, seed=i), id=str(i))
        for i in range(300)
    ]
    columns = [live.read.concepts.index(c) for c in policy.watch_list]
    watches, states, acted = {r.id: live.episode() for r in requests}, {r.id: guard.start() for r in requests}, set()
    for generation, step in engine.stream(requests):
        if step is None:
            continue
        reading = watches[generation.id].read(step)
        units = [tuple(reading.z[p, columns].tolist()) for p in (0, 1)]
        states[generation.id], decision = guard.decide(
            states[generation.id], Token(step.position, step.role, step.phase, step.generated, *units)
        )
        if decision.acts:
            acted.add(generation.id)
    low, _ = interval(len(acted), len(requests))
    assert low <= guard_calibration.alpha
    assert acted == {name for name, watch in watches.items() if any(e.kind == "alarm" for e in watch.events)}


def test_the_guard_alarms_exactly_where_the_calibrated_monitor_does(planted, planted_vectors, guard_calibration):
    """With a dwell of one token both see the same crossing, so the promise of the one is that of the other."""
    policy = small(rules__up__ladder=["log"])
    guard, live = guard_of(policy, guard_calibration), guard_calibration.monitor(planted_vectors)
    watch, state, found = live.episode(), guard.start(), []
    columns = [live.read.concepts.index(c) for c in policy.watch_list]
    rng = np.random.default_rng(5)
    place = 8
    for position in range(400):
        z = rng.normal(0.4, 1.5, live.standard.mean[:, place].shape)
        scores = (live.standard.mean[:, place] + z * live.standard.std[:, place]).astype(np.float32)
        step = TokenStep("e", position, 1, "x", "assistant", "answer", position, True, {live.layer: scores}, {})
        reading = watch.read(step)
        units = [tuple(reading.z[p, columns].tolist()) for p in (0, 1)]
        state, decision = guard.decide(state, Token(position, "assistant", "answer", True, *units))
        if decision.acts and not found:
            found.append(position)
    first = next(event.position for event in watch.events if event.kind == "alarm")
    assert found == [first]
