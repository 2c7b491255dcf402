"""P4: where no action is taken the model writes what it would have written; and a loop cannot see its own push."""

import numpy as np
import pytest

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, Steering
from affectscope.engines.readout import readout
from affectscope.engines.transformers import TransformersEngine
from affectscope.guarding.guard import guard
from tests.guarding.test_policy import small

GREEDY = Sampling(temperature=0, max_tokens=12)
ASK = "w1 w2 w3 w4"


def test_greedy_tokens_are_those_of_the_bare_engine(planted, planted_vectors, guard_calibration):
    bare = TransformersEngine(planted[0]).generate(Request((Message("user", ASK),), GREEDY))
    list(bare)
    guarded = guard(planted[0], planted_vectors, small(), calibration=guard_calibration, sampling=GREEDY)
    reply = guarded.chat(ASK)
    assert not reply.decisions
    assert reply.text == bare.text
    own = [r.step.token for r in guarded.session.conversation.watch.readings if r.step.generated]
    assert own == bare.ids[: len(own)]
    assert len(own) >= len(bare.ids) - 1  # an end token is not run


def test_a_dose_of_zero_is_bit_identical(planted, planted_vectors):
    zero = Steering({layer: np.zeros(planted_vectors.d_model, np.float32) for layer in planted_vectors.layers}, "zero")
    engine = TransformersEngine(planted[0], readout(planted_vectors))
    found = [list(engine.generate(Request(ASK, GREEDY, steering))) for steering in (None, zero)]
    for one, other in zip(*found, strict=True):
        assert one.token == other.token
        for layer, scores in one.scores.items():
            assert np.array_equal(scores, other.scores[layer])


@pytest.mark.parametrize("size", [0.05, 1.0, 50.0])
def test_with_the_tokens_forced_readings_are_bit_identical_at_any_dose(planted, planted_vectors, size):
    read_layer = planted_vectors.read_layer
    engine = TransformersEngine(planted[0], readout(planted_vectors))
    forced = " ".join(f"w{i % 9}" for i in range(40))
    direction = planted_vectors.vectors[planted_vectors.place()][0]
    doses = {layer: (size * direction).astype(np.float32) for layer in (read_layer, planted[0].anatomy.depth - 1)}
    plain, dosed = (
        list(engine.generate(Request(forced, Sampling(temperature=0, max_tokens=1), steering)))[:40]
        for steering in (None, Steering(doses, "push"))
    )
    assert all(np.array_equal(a.scores[read_layer], b.scores[read_layer]) for a, b in zip(plain, dosed, strict=True))
    shallow = Steering({read_layer - 1: (size * direction).astype(np.float32)}, "push")
    contaminated = list(engine.generate(Request(forced, Sampling(temperature=0, max_tokens=1), shallow)))[:40]
    assert not all(np.array_equal(a.scores[read_layer], b.scores[read_layer]) for a, b in zip(plain, contaminated, strict=True))  # fmt: skip
