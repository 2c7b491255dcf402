"""Beginnings that are taken over: the same tokens and readings as without, and fewer tokens run."""

import numpy as np
import pytest
from tests.conftest import WORDS
from tests.engines.test_engine import readout_for, steps_of

from affectscope.engines.base import Request, Sampling, Steering
from affectscope.engines.prefixes import LEAST, shared
from affectscope.engines.transformers import TransformersEngine

GREEDY = Sampling(temperature=0, max_tokens=12)
LONG = WORDS[:60]
TEXTS = [" ".join([*LONG[:cut], *WORDS[60 + 7 * i : 67 + 7 * i]]) for i, cut in enumerate((60, 60, 50, 40, 10, 60))]


class Counting(TransformersEngine):
    """Counts the tokens that are run."""

    run = 0

    def _forward(self, episodes, segments):
        self.run += sum(s.stop - s.start for s in segments)
        return super()._forward(episodes, segments)


def test_what_two_texts_share():
    ids, a, b = list(range(100)), Steering({}), Steering({})
    assert shared(ids, [], ids, []) == 99  # the last token is run, for its logits
    assert shared(ids, [], [*ids[:50], 7, *ids[51:]], []) == 50
    assert shared(ids, [], ids[: LEAST - 1], []) == 0
    assert shared([7, *ids[1:]], [], ids, []) == 0
    assert shared(ids, [(0, a)], ids, [(0, a)]) == 99
    assert shared(ids, [(0, a)], ids, [(0, b)]) == shared(ids, [(0, a)], ids, []) == 0
    assert shared(ids, [], [*ids[:50], *ids], [(60, a)]) == 50  # a dose behind what is shared changes nothing


@pytest.mark.parametrize("slots", [1, 2, 3, 6])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_readings_and_tokens_are_those_of_a_plain_run_and_less_is_run(tiny, architecture, slots):
    model = tiny(architecture)
    plain, engine = (Counting(model, readout_for(model), slots, reuse) for reuse in (False, True))
    plain.run = engine.run = 0
    expected, others = steps_of(plain, *(Request(t, GREEDY) for t in TEXTS))
    found, generations = steps_of(engine, *(Request(t, GREEDY) for t in TEXTS))
    for one, other, a, b in zip(expected, found, others, generations, strict=True):
        assert a.ids == b.ids
        assert [(s.position, s.token, s.text, s.role, s.generated) for s in one] == [(s.position, s.token, s.text, s.role, s.generated) for s in other]  # fmt: skip
        for s, t in zip(one, other, strict=True):
            np.testing.assert_allclose(s.scores[1], t.scores[1], rtol=1e-3, atol=1e-4)
            assert s.norms[1] == pytest.approx(t.norms[1], rel=1e-4)
    assert engine.run <= plain.run - 3 * 40  # at least three of the others took over forty tokens each


def test_a_turn_goes_on_where_the_last_one_ended(tiny):
    model = tiny("llama")
    engine = Counting(model, readout_for(model), 4, reuse=True)
    first = engine.generate(Request(TEXTS[0], GREEDY))
    list(first)
    engine.run = 0
    longer = f"{TEXTS[0]} {first.text} w3 w4 w5"
    steps = list(engine.generate(Request(longer, GREEDY)))
    prompt = sum(not s.generated for s in steps)
    assert engine.run < prompt - 60 + 12
    fresh = list(TransformersEngine(model, readout_for(model)).generate(Request(longer, GREEDY)))
    assert [s.token for s in steps] == [s.token for s in fresh]


def test_a_dosed_beginning_is_not_taken_over_by_one_without(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model), 4, reuse=True)
    dose = Steering({0: np.full(model.anatomy.d_model, 2.0, np.float32)})
    with_dose = [list(engine.generate(Request(TEXTS[0], GREEDY, dose))) for _ in range(2)]
    without = list(engine.generate(Request(TEXTS[0], GREEDY)))
    fresh = list(TransformersEngine(model, readout_for(model)).generate(Request(TEXTS[0], GREEDY)))
    for one, other in ((with_dose[0], with_dose[1]), (without, fresh)):
        np.testing.assert_allclose([s.scores[1] for s in one], [s.scores[1] for s in other], rtol=1e-3, atol=1e-4)
    assert abs(with_dose[0][40].scores[1] - without[40].scores[1]).max() > 0.01


def test_episodes_that_end_and_move_keep_what_is_theirs(tiny):
    model, rng = tiny("llama"), np.random.default_rng(0)
    engine = TransformersEngine(model, readout_for(model), 3, reuse=True)
    lengths = rng.integers(1, 14, 14)
    asked = [Request(TEXTS[i % len(TEXTS)], Sampling(temperature=0, max_tokens=int(n))) for i, n in enumerate(lengths)]
    _, generations = steps_of(engine, *asked)
    for request, generation in zip(asked, generations, strict=True):
        fresh = TransformersEngine(model).generate(request)
        list(fresh)
        assert generation.ids == fresh.ids


def test_forks_and_rewinds_take_over_nothing_wrong(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model), 4, reuse=True)
    generation = engine.generate(Request(TEXTS[0], GREEDY))
    steps = [next(generation) for _ in range(72)]
    (fork,) = generation.fork(1)
    rest = list(fork)
    generation.rewind(steps[-3].position)
    again = list(generation)
    tokens = [s.token for s in list(TransformersEngine(model).generate(Request(TEXTS[0], GREEDY)))]
    assert [s.token for s in steps] + [s.token for s in rest] == tokens
    assert [s.token for s in steps[:-3]] + [s.token for s in again] == tokens
    assert [s.token for s in engine.generate(Request(TEXTS[0], GREEDY))] == tokens
