"""P5: the guard's cost is stated as a ratio in ``bench/guarding.py``; here, what it must never cost: a pass through the model."""

import pytest

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.guarding.guard import guard
from tests.guarding.test_policy import small

GREEDY = Sampling(temperature=0, max_tokens=10)


@pytest.fixture
def passes(planted):
    count = []
    handle = planted[0].network.register_forward_pre_hook(lambda *_: count.append(1))
    yield count
    handle.remove()


def test_a_guarded_reply_takes_as_many_passes_as_a_bare_one(
    planted, planted_vectors, guard_calibration, passes, tmp_path, keys
):
    engine = TransformersEngine(planted[0])
    passes.clear()
    list(engine.generate(Request((Message("user", "w1 w2"),), GREEDY)))
    bare = len(passes)
    evidence = tmp_path / "e.jsonl"
    guarded = guard(planted[0], planted_vectors, small(), calibration=guard_calibration, sampling=GREEDY, evidence=evidence, keys=keys)  # fmt: skip
    passes.clear()
    guarded.chat("w1 w2")
    guarded.close()
    assert len(passes) == bare
