"""From steps to readings and alarms: standardising, quantising, faults, replay, and a planted pressure that is found."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from affectscope.engines.base import Request, Sampling, TokenStep
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.detectors import Cusum, Rule
from affectscope.monitoring.monitor import monitor
from affectscope.monitoring.scan import scan
from affectscope.monitoring.trace import LIMIT, MISSING, STEP, quantise, restore
from affectscope.monitoring.watch import watch

RULE = Rule("up", {"angry": 1, "calm": -1}, Cusum(0.5), roles=("text", "assistant"), generated=False)


@pytest.fixture(scope="module")
def watched(planted, planted_vectors):
    model, vectors = planted[0], planted_vectors
    return model, vectors, monitor(vectors, rules=(RULE,))


def step(position=3, scores=None, **more):
    values = {"episode": "e", "position": position, "token": 1, "text": "x", "role": "text", "phase": "none", "index": position,
              "generated": False, "scores": {} if scores is None else scores, "norms": {}}  # fmt: skip
    return TokenStep(**(values | more))


def test_quantised_readings_come_back_within_half_a_step():
    z = np.random.default_rng(0).normal(0, 4, 1000).astype(np.float32)
    back = restore(quantise(z))
    inside = np.abs(z) < LIMIT * STEP
    assert np.abs(back - z)[inside].max() <= STEP / 2
    assert np.isnan(restore(quantise(np.array([np.nan, np.inf])))).all()
    assert restore(quantise(np.array([99.0, -99.0]))).tolist() == [LIMIT * STEP, -LIMIT * STEP]
    assert (quantise(restore(quantise(z))) == quantise(z)).all()


def test_live_readings_are_those_of_a_scan(watched):
    model, vectors, made = watched
    text = "w1 w2 m0 m0 m0 w3 w4 m1 w5"
    engine = TransformersEngine(model, made.read)
    watch_ = made.episode()
    for one in engine.generate(Request(text, Sampling(max_tokens=1, temperature=0))):
        watch_.read(one)
    expected = scan(model, vectors, text)
    found = np.stack([restore(r.z[0]) for r in watch_.readings[: len(expected.tokens)]])
    np.testing.assert_allclose(found, np.clip(expected.z, -LIMIT * STEP, LIMIT * STEP), atol=STEP / 2 + 2e-2)


def test_a_threshold_crossed_is_one_alarm(watched):
    _, _, made = watched
    made = replace(made, thresholds={"up": {"all": (2.0, 0.01)}})
    angry = made.read.concepts.index("angry")
    watch_ = made.episode()
    where = made.standard
    for position in range(6):
        scores = where.mean[:, 0].copy()
        scores[0, angry] += (2.0 if position >= 2 else 0) * where.std[0, 0, angry]
        watch_.read(step(position, {made.layer: scores}))
    alarms = [e for e in watch_.events if e.kind == "alarm"]
    assert len(alarms) == 1
    assert alarms[0].detail["rule"] == "up"
    assert alarms[0].detail["statistic"] > 2.0
    assert alarms[0].detail["alpha"] == 0.01
    assert watch_.peak("up") >= alarms[0].detail["statistic"]


def test_strata_of_tokens_share_a_detector_and_have_thresholds_of_their_own(watched):
    _, _, made = watched
    rule = replace(RULE, roles=("user", "assistant"))
    limits = {"up": {"user": (4.0, 0.005), "assistant": (1e9, 0.005)}}
    made = replace(made, rules=(rule,), thresholds=limits, strata="role")
    angry = made.read.concepts.index("angry")
    hot = made.standard.mean[:, 0].copy()
    hot[0, angry] += 3 * made.standard.std[0, 0, angry]
    watch_ = made.episode()
    for position in range(8):
        role = "user" if position < 2 or position > 5 else "assistant"
        watch_.read(step(position, {made.layer: hot}, role=role, phase="none" if role == "user" else "answer"))
    alarms = [e for e in watch_.events if e.kind == "alarm"]
    assert [(e.position, e.detail["stratum"]) for e in alarms] == [
        (6, "user")
    ]  # what the assistant's tokens gathered counts
    assert set(watch_.peaks["up"]) == {"user", "assistant"}
    assert watch_.peak("up") == watch_.peaks["up"]["user"]


def test_a_stratum_without_a_threshold_is_a_fault_once(watched):
    _, _, made = watched
    made = replace(made, thresholds={"up": {"user": (4.0, 0.01)}}, strata="role")
    watch_ = made.episode()
    for position in range(3):
        watch_.read(step(position, {made.layer: made.standard.mean[:, 0]}))
    assert [e.detail["fault"] for e in watch_.events] == ["no threshold"]
    by_domain = replace(made, thresholds={"up": {"travel": (-99.0, 0.01)}}, strata="domain")
    for stratum, kind in (("travel", "alarm"), ("night", "fault")):
        other = by_domain.episode(stratum)
        other.read(step(0, {made.layer: made.standard.mean[:, 0]}))
        assert [e.kind for e in other.events] == [kind]


def test_an_alarm_tells_whether_the_promise_covers_it(watched):
    _, _, made = watched
    made = replace(made, thresholds={"up": {"all": (2.0, 0.01)}}, horizon=3)
    angry = made.read.concepts.index("angry")
    for late in (False, True):
        watch_ = made.episode()
        for position in range(6):
            scores = made.standard.mean[:, 0].copy()
            scores[0, angry] += (4 if position == (5 if late else 1) else 0) * made.standard.std[0, 0, angry]
            watch_.read(step(position, {made.layer: scores}, generated=True))
        assert [e.detail["promised"] for e in watch_.events] == [not late]


def turn(made, ids, prompt, hot=()):
    """Steps of a turn: ``prompt`` tokens of what was said, then generated ones; ``hot`` positions read high."""
    angry = made.read.concepts.index("angry")
    for position, token in enumerate(ids):
        scores = made.standard.mean[:, 0].copy()
        scores[0, angry] += (3 if position in hot else 0) * made.standard.std[0, 0, angry]
        yield replace(step(position, {made.layer: scores}, generated=position >= prompt), token=token)


def test_a_conversation_is_one_episode_over_its_turns(watched):
    _, _, made = watched
    made = replace(made, rules=(replace(RULE, generated=True),), thresholds={"up": {"all": (2.5, 0.01)}}, horizon=99)
    talk = Conversation(made)
    first = list(talk.read(turn(made, [1, 2, 3, 4, 5], 3, hot=(4,))))
    assert [r.step.position for r in first] == [0, 1, 2, 3, 4]
    assert not talk.watch.events
    second = list(talk.read(turn(made, [1, 2, 3, 4, 5, 6, 7, 8], 7, hot=(4, 7))))
    assert [(r.step.position, r.step.token, r.step.generated) for r in second] == [
        (5, 6, False),
        (6, 7, False),
        (7, 8, True),
    ]
    assert talk.turn == 5
    assert talk.watch.generated == 3
    assert [e.kind for e in talk.watch.events] == ["alarm"]  # one hot token in each reply: only together they cross
    assert [e.position for e in talk.watch.events] == [7]


def test_a_template_that_drops_a_thought_is_read_from_there_as_prompt(watched):
    _, _, made = watched
    talk = Conversation(made, spent=10)
    list(talk.read(turn(made, [1, 2, 3, 4, 5], 3)))
    again = list(talk.read(turn(made, [1, 2, 3, 5, 6, 7], 5)))
    assert [(r.step.position, r.step.token, r.step.generated) for r in again] == [
        (5, 5, False),
        (6, 6, False),
        (7, 7, True),
    ]
    assert not talk.watch.events
    assert talk.watch.generated == 13


def test_the_held_out_probe_is_seen_by_no_rule(watched):
    _, _, made = watched
    made = replace(made, thresholds={"up": {"all": (1.0, 0.01)}})
    watch_ = made.episode()
    scores = made.standard.mean[:, 0].copy()
    scores[1] += 50 * made.standard.std[1, 0]
    for position in range(5):
        watch_.read(step(position, {made.layer: scores}))
    assert not watch_.events
    assert (watch_.readings[-1].z[1] == LIMIT).all()


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda m: step(0, {}), "missing layer"),
        (lambda m: step(0, {m.layer: np.full((2, len(m.read.concepts)), np.nan, np.float32)}), "nan"),
        (lambda m: step(0, {m.layer: np.full((2, len(m.read.concepts)), np.inf, np.float32)}), "nan"),
        (lambda m: step(0, {m.layer: np.zeros((2, len(m.read.concepts)), np.float32)}), "zeros"),
        (lambda m: step(0, {m.layer: np.zeros((1, 2), np.float32)}), "wrong shape"),
        (lambda m: step(4, {m.layer: m.standard.mean[:, 0]}), "missing steps"),
    ],
)
def test_what_cannot_be_read_is_a_fault(watched, make, fault):
    _, _, made = watched
    watch_ = made.episode()
    reading = watch_.read(make(made))
    assert [e.detail["fault"] for e in reading.events] == [fault]
    assert watch_.events == list(reading.events)
    if fault != "missing steps":
        assert (reading.z == MISSING).all()


def test_a_stale_step_is_told_and_counts_once(watched):
    _, _, made = watched
    watch_ = made.episode()
    good = {made.layer: made.standard.mean[:, 0]}
    watch_.read(step(0, good))
    watch_.read(step(1, good))
    peaks = deepcopy(watch_.peaks)
    stale = watch_.read(step(0, good))
    assert [e.detail["fault"] for e in stale.events] == ["stale step"]
    assert len(watch_.readings) == 2
    assert watch_.peaks == peaks


def test_rewinding_gives_the_state_of_the_shorter_stream(watched):
    _, _, made = watched
    rng = np.random.default_rng(0)
    rows = [
        made.standard.mean[:, 0] + rng.normal(0, 2, made.standard.mean[:, 0].shape) * made.standard.std[:, 0]
        for _ in range(9)
    ]
    whole, short = made.episode(), made.episode()
    for position, row in enumerate(rows):
        whole.read(step(position, {made.layer: row}))
    whole.rewind(4)
    for position, row in enumerate(rows[:4]):
        short.read(step(position, {made.layer: row}))
    for watch_ in (whole, short):
        watch_.read(step(4, {made.layer: rows[8]}))
    assert whole.peaks == short.peaks
    assert [r.z.tolist() for r in whole.readings] == [r.z.tolist() for r in short.readings]


def test_planted_pressure_raises_the_alarm_and_its_twin_does_not(watched):
    model, _, made = watched
    made = replace(made, thresholds={"up": {"all": (12.0, 0.01)}})
    engine = TransformersEngine(model, made.read)
    found = {}
    for name, text in (("pressure", "w1 w2 " + "m0 " * 30), ("twin", "w1 w2 " + "w7 " * 30)):
        watch_ = made.episode()
        for one in engine.generate(Request(text, Sampling(max_tokens=1, temperature=0))):
            watch_.read(one)
        found[name] = [e for e in watch_.events if e.kind == "alarm"]
    assert len(found["pressure"]) == 1
    assert not found["twin"]


def test_a_rule_over_unread_concepts_is_refused(planted_vectors):
    vectors = planted_vectors
    with pytest.raises(AffectscopeError, match="watch-list"):
        monitor(vectors, concepts=["happy"], rules=(RULE,))


def test_watch_reads_a_foreign_loop_and_leaves_nothing(planted, planted_vectors):
    model, vectors = planted[0], planted_vectors
    ids = torch.tensor([model.encode("w1 w2 m0 m0 w3")] * 2)
    with torch.inference_mode():
        before = model.network(ids).logits
        with watch(model.network, vectors, concepts=["angry", "calm"]) as scope:
            inside = model.network(ids).logits
            model.network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
        after = model.network(ids).logits
    assert torch.equal(before, inside)
    assert torch.equal(before, after)
    assert scope.concepts == ("angry", "calm")
    assert scope.z(1).shape[0] >= 5 + 5
    assert scope.z().shape[1] == 2
    assert scope.top(1)[0][0] == "angry"
    count = len(scope.passes)
    model.network(ids)
    assert len(scope.passes) == count


def test_watch_refuses_another_model(planted_vectors, tiny):
    vectors = planted_vectors
    with pytest.raises(AffectscopeError, match="extract"), watch(tiny("llama").network, vectors):
        pass
