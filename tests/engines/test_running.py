"""The engine that runs by itself: readers in many threads, slow ones, errors, and its end."""

import threading
import time

import numpy as np
import pytest
from tests.engines.test_engine import PROMPTS, readout_for

from affectscope.engines.base import Request, Sampling
from affectscope.engines.running import RunningEngine
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError

GREEDY = Sampling(temperature=0, max_tokens=24)


@pytest.fixture
def engine(tiny):
    model = tiny("llama")
    with_loop = RunningEngine(model, readout_for(model), slots=3)
    yield with_loop
    with_loop.close()


def together(work, items):
    found = [None] * len(items)

    def one(place, item):
        try:
            found[place] = work(item)
        except BaseException as error:
            found[place] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(items)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def test_many_threads_get_what_each_alone_would(tiny, engine):
    found = together(lambda p: list(engine.generate(Request(p, GREEDY))), PROMPTS * 3)
    plain = TransformersEngine(tiny("llama"), readout_for(tiny("llama")))
    for prompt, steps in zip(PROMPTS * 3, found, strict=True):
        alone = list(plain.generate(Request(prompt, GREEDY)))
        assert [s.token for s in steps] == [s.token for s in alone]
        for one, other in zip(steps, alone, strict=True):
            np.testing.assert_allclose(one.scores[1], other.scores[1], rtol=1e-3, atol=1e-4)


def test_readers_that_keep_up_share_passes(tiny):
    passes = []

    class Counted(RunningEngine):
        def _forward(self, episodes, segments):
            passes.append(len(episodes))
            return super()._forward(episodes, segments)

    engine = Counted(tiny("llama"), readout_for(tiny("llama")), slots=4, gather=0.2)
    passes.clear()
    together(lambda p: list(engine.generate(Request(p, GREEDY))), PROMPTS)
    engine.close()
    assert len(passes) < 2 * 26  # a pass for each token of each would be a hundred
    assert np.mean(passes) > 2


def test_a_slow_reader_holds_up_nobody_and_loses_nothing(engine):
    slow = engine.generate(Request(PROMPTS[0], GREEDY))
    first = [next(slow) for _ in range(4)]
    began = time.monotonic()
    others = together(lambda p: list(engine.generate(Request(p, GREEDY))), PROMPTS[1:3])
    assert all(len(steps) > 20 for steps in others)
    assert time.monotonic() - began < 30
    steps = [*first, *slow]
    assert [s.position for s in steps] == list(range(len(steps)))
    assert sum(s.generated for s in steps) == 24


def test_an_error_in_a_pass_reaches_its_readers_and_no_others(tiny):
    class Failing(RunningEngine):
        broken = False

        def _forward(self, episodes, segments):
            if self.broken:
                self.broken = False
                raise RuntimeError("out of memory")
            return super()._forward(episodes, segments)

    engine = Failing(tiny("llama"), readout_for(tiny("llama")), slots=2)
    engine.broken = True
    with pytest.raises(RuntimeError, match="out of memory"):
        list(engine.generate(Request(PROMPTS[0], GREEDY)))
    assert len(list(engine.generate(Request(PROMPTS[0], GREEDY)))) > 24
    assert engine.alive
    engine.close()
    assert not engine.alive


def test_close_ends_what_runs_and_refuses_what_comes(engine):
    generation = engine.generate(Request(PROMPTS[0], GREEDY))
    next(generation)
    waiting = threading.Thread(target=list, args=(generation,))
    engine.close()
    waiting.start()
    waiting.join(30)
    assert generation.finished == "closed"
    with pytest.raises(AffectscopeError, match="closed"):
        engine.generate(Request(PROMPTS[0], GREEDY))


def test_log_probabilities_are_those_of_the_network(tiny, engine):
    import torch

    model = tiny("llama")
    steps = list(engine.generate(Request(PROMPTS[0], GREEDY, logprobs=3)))
    ids = [s.token for s in steps]
    with torch.inference_mode():
        every = model.network(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    for step in steps:
        if not step.generated:
            assert step.drawn is None
            continue
        expected = every[step.position - 1]
        assert step.drawn.logprob == pytest.approx(float(expected[step.token]), abs=1e-4)
        assert [i for i, _ in step.drawn.likeliest] == expected.topk(3).indices.tolist()
        assert step.drawn.likeliest[0] == (step.token, pytest.approx(step.drawn.logprob, abs=1e-5))


def test_a_prompt_that_is_taken_over_whole_wakes_its_reader_at_once(engine, monkeypatch):
    monkeypatch.setattr("affectscope.engines.running._STALL", 60.0)  # nobody finds out by himself
    long = " ".join(PROMPTS[0] for _ in range(8))
    found = together(lambda p: list(engine.generate(Request(p, GREEDY))), [long] * 6)
    assert all([s.token for s in steps] == [s.token for s in found[0]] for steps in found)
