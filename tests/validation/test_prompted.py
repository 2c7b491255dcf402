"""Experiments on prompts: planted effects are found, their twins are not, and small cases agree with hand-made numbers."""

import dataclasses

import numpy as np
import pytest
from tests.conftest import CONCEPTS, MARKERS, WORDS

from affectscope.api import chosen_experiments, validate
from affectscope.concepts import items
from affectscope.concepts.checks import forbidden
from affectscope.concepts.emotions import TWELVE
from affectscope.concepts.items import Intensity, Negation, Situation
from affectscope.errors import AffectscopeError
from affectscope.files import json_text
from affectscope.validation import expressed, intensity, negation, situations
from affectscope.validation.base import Subject, experiments, run
from affectscope.validation.contrast import Pair, Place, contrasts, measures, verdict_at
from affectscope.validation.prompts import common_tail, locate, standardise

BY_NAME = {e.name: e for e in experiments()}


@pytest.fixture(scope="module")
def subject(planted, planted_read, planted_vectors):
    return Subject(planted[0], planted_vectors, planted_read)


def words(rng, count):
    return [str(w) for w in rng.choice(WORDS, count)]


def planted_situations(mark=True, seed=0):
    """Five texts an emotion that end on its marker; the twin's end on a random word."""
    rng = np.random.default_rng(seed)
    return tuple(
        Situation(name, " ".join([*words(rng, 12), *([MARKERS[e]] * 6 if mark else words(rng, 6))]))
        for e, name in enumerate(CONCEPTS)
        for _ in range(5)
    )


def last_of_message(subject, texts, *_rest, **_more):
    """Read the last word itself: a tiny random network does not carry it to the reply."""
    from affectscope.models.residuals import Span
    from affectscope.validation.prompts import ask, message_end

    prompts = [ask(subject.model, text) for text in texts]
    spans = [Span(i, message_end(t) - 1, message_end(t)) for i, t in enumerate(prompts)]
    return subject.means([t.ids for t in prompts], spans, [subject.layer])


@pytest.mark.parametrize(("mark", "verdict"), [(True, "shown"), (False, "not shown")])
def test_situations_find_what_is_planted_and_nothing_else(subject, monkeypatch, mark, verdict):
    monkeypatch.setattr(situations, "situations", lambda: planted_situations(mark))
    monkeypatch.setattr(situations, "read_last", last_of_message)
    result = run(BY_NAME["situations"], subject)
    assert result.verdict == verdict, result.finding
    assert result.measure("random directions: argmax right").value == pytest.approx(100 / 6, abs=6)
    if mark:
        assert result.measure("vectors: argmax right").value > 95
        assert result.measure("vectors, averaged by emotion: argmax right").value == 6


def test_curves_are_spearmans_with_the_sign_expected():
    items_ = (Intensity("a", "{x}", (1, 2, 3, 4), {"afraid": 1, "calm": -1}, "no {x}"),)
    scores = np.zeros((8, 4))
    scores[:4, 0] = [0.1, 0.2, 0.3, 0.4]  # rises as expected: rho 1
    scores[:4, 1] = [1, 2, 3, 4]  # expected to fall: -1
    scores[4:, 0] = [4, 3, 2, 1]
    scores[4:, 1] = [1, 3, 2, 4]  # rho 0.8, sign turned
    real, control, rows = intensity._curves(items_, scores)
    np.testing.assert_allclose(real, [1, -1])
    np.testing.assert_allclose(control, [-1, -0.8])
    assert [row["emotion"] for row in rows] == ["afraid", "calm"]


def planted_pairs(subject, shift=0, seed=3):
    """The marker of an emotion stands at the high place and a plain word at the low one; ``shift`` names another emotion."""
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(24):
        e = i % len(CONCEPTS)
        front = words(rng, 8)
        high, low = (subject.model.encode(" ".join([*front, end])) for end in (MARKERS[e], str(rng.choice(WORDS))))
        pairs.append(
            Pair(Place(tuple(high), 8, 9), Place(tuple(low), 8, 9), {CONCEPTS[(e + shift) % len(CONCEPTS)]: 1})
        )
    return pairs


def test_a_contrast_finds_the_planted_difference_and_none_for_another_emotion(subject):
    found = contrasts(subject, {"x": planted_pairs(subject)}, "test", lambda *_: None)["x"]
    twin = contrasts(subject, {"x": planted_pairs(subject, shift=1)}, "test", lambda *_: None)["x"]
    assert verdict_at(found, 1) == "shown"
    assert verdict_at(twin, 1) != "shown"
    assert measures(found, 1, "x")[2].value < 0.01
    low, high = found.random[1]
    assert low < 0 < high
    assert found.at(1)[0] > 2 * high


def test_a_contrast_by_hand():
    """Two items, two places, one probe: standardised within a place each side is plus or minus one."""
    z = standardise(np.array([[[1.0], [3.0]], [[8.0], [2.0]]]))
    np.testing.assert_allclose(z[:, :, 0], [[-1, 1], [1, -1]])


def test_places_are_found_in_tokens(subject):
    ids = subject.model.encode("w1 w2 angry w3")
    assert locate(subject.model, ids, "angry") == (2, 3)
    assert common_tail([1, 2, 3, 4], [9, 3, 4]) == 2
    with pytest.raises(ValueError, match="is not in the text"):
        locate(subject.model, ids, "happy")


def test_negation_reads_after_the_word(subject, monkeypatch):
    rng = np.random.default_rng(5)
    made = []
    for i in range(12):
        name, tail = CONCEPTS[i % 6], words(rng, 5)
        made.append(Negation(name, " ".join(["w1", name, MARKERS[i % 6], *tail]), " ".join(["w1", name, "w9", *tail])))
    monkeypatch.setattr(negation, "negations", lambda: tuple(made))
    result = run(BY_NAME["negation"], subject)
    assert result.n == 12
    assert result.measure("over the words after").value > 0.5
    # the word itself stands before the marker, in both versions alike
    assert abs(result.measure("at the emotion word").value) < 1e-5


FRAMES = {"another person": ("w1 w2 w3", "w4 w5"), "the assistant": ("w6 w7", "w8"), "an event": ("w9 w2", "w3 w3")}


@pytest.mark.parametrize(("shuffle", "verdict"), [(False, "shown"), (True, "not shown")])
def test_steering_raises_the_planted_word_and_a_twin_with_other_vectors_does_not(
    subject, monkeypatch, shuffle, verdict
):
    monkeypatch.setattr(expressed, "FRAMES", FRAMES)
    monkeypatch.setattr(expressed, "TWELVE", CONCEPTS)
    vectors = subject.vectors
    if shuffle:
        rng = np.random.default_rng(8)
        noise = rng.standard_normal(vectors.vectors.shape).astype(np.float32)
        vectors = dataclasses.replace(vectors, vectors=noise / np.linalg.norm(noise, axis=-1, keepdims=True))
    result = run(BY_NAME["expressed"], Subject(subject.model, vectors, subject.read))
    own = result.measure("another person: own word over unrelated")
    assert (result.verdict == "shown") is (verdict == "shown"), result.finding
    if not shuffle:
        assert own.low > 0
        curve = {row["strength"]: row["gain"] for row in result.data["curve"]}
        assert curve[-0.5] < 0 < curve[0.1] < curve[0.5] < curve[1.0]


def test_a_model_without_a_template_is_told_what_does_not_apply(subject, tokenizer):
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    base = Subject(dataclasses.replace(subject.model, tokenizer=bare), subject.vectors, subject.read)
    for name in ("situations", "intensity", "expressed", "positions"):
        result = run(BY_NAME[name], base)
        assert result.verdict == "not applicable"
        assert "no chat template" in result.finding


def test_few_layers_and_missing_emotions_do_not_apply(subject):
    shallow = run(BY_NAME["layer_similarity"], subject)
    assert shallow.verdict == "not applicable"
    assert "8" in shallow.finding
    missing = run(BY_NAME["intensity"], subject)
    assert missing.verdict == "not applicable"
    assert "'afraid'" in missing.finding


def test_kept_results_are_not_run_again(subject, tmp_path, monkeypatch):
    only = ["recognition", "geometry"]
    first = validate(subject, only=only, out=tmp_path)
    monkeypatch.setattr("affectscope.api.run", lambda *_: pytest.fail("a kept result was run again"))
    second = validate(subject, only=only, out=tmp_path)
    assert json_text([r.as_dict() for r in second]) == json_text([r.as_dict() for r in first])
    quick = dataclasses.replace(subject, effort="quick")
    with pytest.raises(pytest.fail.Exception):
        validate(quick, only=only, out=tmp_path)
    (tmp_path / "results" / "recognition.json").write_text("{broken")
    with pytest.raises(pytest.fail.Exception):
        validate(subject, only=["recognition"], out=tmp_path)


def test_an_unknown_experiment_is_named():
    with pytest.raises(AffectscopeError, match="unknown experiment 'nothing'"):
        chosen_experiments(["nothing"])


def test_every_item_is_well_formed():
    twelve = set(TWELVE)
    assert len(items.situations()) == 60
    assert {s.emotion for s in items.situations()} == twelve
    assert len(items.minimal_pairs()) == 48
    assert len(items.intensities()) >= 16
    for item in items.intensities():
        assert item.text.count("{x}") == item.control.count("{x}") == 1
        assert list(item.values) == sorted(set(item.values))
        assert set(item.expected) <= set(intensity.PROBES)
    assert min(map(len, (items.positions(), items.carry_overs(), items.negations(), items.bindings()))) >= 16
    kinds = [a.category for a in items.activities()]
    assert sorted(kinds.count(k) for k in set(kinds)) == [8] * 8
    assert len({a.activity for a in items.activities()}) == 64
    for item in items.negations():
        assert item.emotion in item.affirmed
        assert item.emotion in item.negated


def test_no_item_names_the_emotion_that_it_evokes():
    texts = [(s.emotion, s.text) for s in items.situations()]
    texts += [(p.emotion, p.prefix + p.high + p.suffix) for p in items.minimal_pairs()]
    found = [(emotion, hit[0], text) for emotion, text in texts if (hit := forbidden(emotion).search(text))]
    assert not found


def test_unrelated_stories_are_crossed_and_long_enough():
    corpus = items.unrelated()
    assert len(corpus.stories) == 96
    assert not corpus.missing
    assert all(80 <= len(s.text.split()) <= 120 for s in corpus.stories)
