"""Forks on scripted replies: which arm says what from which seed, how long they run, and what their difference is."""

import numpy as np
import pytest

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling
from affectscope.guarding.dosing import Dosing, layers_for
from affectscope.guarding.forks import LONGEST, Branch, effect, pairs
from affectscope.monitoring.monitor import monitor
from tests.guarding.scripted import ScriptedEngine, flat, words
from tests.guarding.test_policy import small

SAMPLING = Sampling(temperature=0.5, max_tokens=500, seed=1)
ACTED, SAID = (Message("user", "a way out"),), (Message("user", "nothing"),)
EXACT = 2**0.5 * 1000
"""Thousandths of an s.d. that the rule reads (two concepts, weights of length 1) when a script says 1."""


@pytest.fixture
def parts(planted_vectors):
    watching = flat(monitor(planted_vectors, rules=small().monitor_rules()))
    return planted_vectors, watching, small().rules["up"].rule("up").row(watching.read.concepts)


def begun(engine, count):
    generation = engine.generate(Request((Message("user", "w1"),), SAMPLING))
    for _ in range(count):
        next(generation)
    return generation


def test_words_put_in_are_read_beside_no_words_and_words_that_say_nothing(parts):
    _, watching, row = parts
    replies = [words(2, held_out=z) for z in (3.0, 2.0, 1.0, 0.5)]
    engine = ScriptedEngine(watching, words(9, held_out=4.0), *replies)
    generation = begun(engine, 3 + 4)
    branches = [Branch(messages=ACTED)] * 2
    found = pairs(engine, generation, watching, row, branches, SAMPLING, [11, 12], Branch(messages=SAID))
    assert found == {
        "seeds": [11, 12],
        "plain": [round(4 * EXACT)] * 2,
        "acted": [round(3 * EXACT), round(2 * EXACT)],
        "control": [round(1 * EXACT), round(0.5 * EXACT)],
        "plain_tokens": [5, 5],
        "acted_tokens": [2, 2],
        "control_tokens": [2, 2],
        "plain_z": [[round(4 * EXACT)] * 5] * 2,
        "acted_z": [[round(3 * EXACT)] * 2, [round(2 * EXACT)] * 2],
        "control_z": [[round(1 * EXACT)] * 2, [round(0.5 * EXACT)] * 2],
    }
    assert [fork.seed for fork in engine.forks] == [11, 12]
    said = [(script.request.messages, script.request.sampling) for script in engine.begun[1:]]
    short = {seed: Sampling(temperature=0.5, max_tokens=LONGEST, seed=seed) for seed in (11, 12)}
    assert said == [(ACTED, short[11]), (ACTED, short[12]), (SAID, short[11]), (SAID, short[12])]
    brief = Sampling(max_tokens=3)
    told = pairs(engine, begun(engine, 3), watching, row, branches[:1], brief, [5], texts=True)
    assert engine.begun[-1].request.sampling == Sampling(max_tokens=3, seed=5)
    assert len(told["plain_text"]) == len(told["acted_text"]) == 1


def test_a_dose_is_given_to_forks_of_the_same_past(parts):
    vectors, watching, row = parts
    engine = ScriptedEngine(watching, words(9, held_out=2.0))
    generation = begun(engine, 3 + 4)
    dosing = Dosing(vectors, layers_for(vectors, watching.layer, False), 0.1)
    branches = [Branch(dosing.copy()), Branch(dosing.copy())]
    for branch in branches:
        branch.dosing.begin("up", "calm", 0.05, 1, 2)
    found = pairs(engine, generation, watching, row, branches, SAMPLING, [11, 12])
    assert "control" not in found
    assert [fork.seed for fork in engine.forks] == [11, 12, 11, 12]
    assert [bool(fork.doses) for fork in engine.forks] == [False, False, True, True]
    assert len(engine.begun) == 1
    assert found["acted"] == found["plain"] == [round(2 * EXACT)] * 2


def test_a_fork_is_not_run_for_ever_and_one_without_a_reading_is_no_number(parts):
    _, watching, row = parts
    engine = ScriptedEngine(watching, words(LONGEST + 9, held_out=1.0), [])
    found = pairs(engine, begun(engine, 3), watching, row, [Branch(messages=ACTED)], SAMPLING, [1])
    assert (found["plain_tokens"], found["acted_tokens"], found["acted"]) == ([LONGEST], [0], [None])
    assert engine.forks[0].finished == "long enough"
    assert engine.forks[0].at == 3 + LONGEST


def test_branches_and_seeds_belong_together(parts):
    _, watching, row = parts
    engine = ScriptedEngine(watching, words(9))
    with pytest.raises(ValueError, match="zip"):
        pairs(engine, begun(engine, 3), watching, row, [Branch(messages=ACTED)], SAMPLING, [1, 2])


def test_the_effect_is_the_mean_difference_of_pairs_in_standard_deviations():
    rng = np.random.default_rng(3)
    plain = [int(v) for v in rng.integers(0, 3000, 40)]
    acted = [p - 500 + int(e) for p, e in zip(plain, rng.normal(0, 300, 40), strict=True)]
    mean, low, high = effect({"plain": plain, "acted": acted, "control": acted})
    differences = (np.array(acted) - np.array(plain)) / 1000
    assert mean == pytest.approx(differences.mean())
    half = 1.96 * differences.std(ddof=1) / 40**0.5
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.03)
    assert effect({"plain": plain, "acted": acted, "control": acted}, "control") == (0, 0, 0)
    # A pair of which one side was not read is left out whole.
    holes = {"plain": [None, 1000, 0, 9999], "acted": [9999, None, 250, None]}
    assert effect(holes) == (0.25, 0.25, 0.25)
    assert effect({"plain": [None], "acted": [5]}) is None
    assert effect({"plain": [1], "acted": [5]}, "control") is None
