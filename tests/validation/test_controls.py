"""Controls call out a signal that the words carry, and let one pass that they do not."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from tests.conftest import CONCEPTS, MARKERS, WIDTH, WORDS, network_of, plain_neutral, planted_corpus

from affectscope.concepts.items import MinimalPair
from affectscope.concepts.stories import Corpus, Story
from affectscope.models.load import wrap
from affectscope.validation import directions, minimal_pairs, residualised, statistics, unrelated, untrained_twin
from affectscope.validation.base import Subject, run
from affectscope.vectors.extract import extract, read_corpus
from affectscope.vectors.readers import Labelled

PARTS = (residualised, minimal_pairs, unrelated, untrained_twin)


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """TF-IDF alone: made-up words mean nothing to a sentence embedding, and loading it takes seconds. Fewer draws."""
    monkeypatch.setattr(residualised, "with_embedding", lambda _s: False)
    monkeypatch.setattr(minimal_pairs, "with_embedding", lambda _s: False)
    monkeypatch.setattr(minimal_pairs, "RANDOM_DRAWS", 50)
    monkeypatch.setattr(unrelated, "DRAWS", 100)
    # The word-level tokenizer decodes without spaces, which would hide the words from a reader of text.
    monkeypatch.setattr(residualised, "windows", lambda _s, stories: [" ".join(s.text.split()[50:]) for s in stories])


@pytest.fixture(scope="module")
def subject(planted, planted_read, planted_vectors):
    return Subject(planted[0], planted_vectors, planted_read)


def subject_on(model, corpus, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECTSCOPE_CACHE", str(tmp_path_factory.mktemp("controls")))
        read = read_corpus(model, corpus, [1], neutral=plain_neutral())
        return Subject(model, extract(read, 1, neutral=plain_neutral()), read)


@pytest.fixture(scope="module")
def noise(planted, tmp_path_factory):
    return subject_on(planted[0], planted_corpus(share=0.0, per_cell=2), tmp_path_factory)


@pytest.fixture(scope="module")
def rare(planted, tmp_path_factory):
    """Two or three marker words a story: enough for the planted model, little for random features."""
    return subject_on(planted[0], planted_corpus(share=0.06, per_cell=2), tmp_path_factory)


@dataclasses.dataclass(frozen=True)
class Given:
    """Residuals given as an array in place of a model's."""

    values: np.ndarray
    layers: tuple[int, ...] = (1,)

    def layer(self, _layer):
        return self.values


def given(subject, values):
    read = dataclasses.replace(subject.read, activations=Given(values.astype(np.float32)))
    return dataclasses.replace(subject, read=read)


def told(subject, size=4.0, width=40, seed=0):
    """Residuals that hold the emotion whatever the words are."""
    rng = np.random.default_rng(seed)
    concept = subject.read.stories(1).concept
    pattern = np.linalg.qr(rng.standard_normal((width, len(CONCEPTS))))[0].T
    return given(subject, rng.standard_normal((len(concept), width)) + size * pattern[concept])


def counted(subject, seed=0, noise=0.02):
    """Residuals that hold the counts of words, mixed at random, and nothing else: a text-only confound."""
    rng = np.random.default_rng(seed)
    names = WORDS + MARKERS
    rows = []
    for story in subject.corpus.stories:
        words = story.text.split()[50:]
        rows.append([words.count(name) for name in names])
    mixed = np.array(rows, float) @ rng.standard_normal((len(names), 60)) / 10
    return given(subject, mixed + noise * rng.standard_normal(mixed.shape))


@pytest.fixture
def flat_components(monkeypatch):
    """Made-up residuals have a width of their own, so that no neutral component fits them."""
    from affectscope.vectors.extract import StoryActivations

    monkeypatch.setattr(
        StoryActivations, "components", lambda self, layer: np.zeros((0, self.activations.layer(layer).shape[1]))
    )


def test_a_ridge_path_is_a_ridge():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)), rng.standard_normal((40, 3))
    path, mean = residualised.RidgePath.of(x, y), np.linalg.eigvalsh(x.T @ x).mean()
    for penalty in (0.01, 1.0):
        plain = Ridge(penalty * mean, fit_intercept=False).fit(x, y)
        np.testing.assert_allclose(path.predict(x, penalty), plain.predict(x), atol=1e-9)
    np.testing.assert_allclose(
        residualised.RidgePath.of(np.ones((2, 1)), np.ones((2, 1))).predict(np.ones((1, 1)), 1.0), 0.5
    )


def test_text_blocks_weigh_the_same_and_are_learnt_from_the_fit_alone():
    embedded = np.array([[1.0, 0], [0, 1], [1, 1]]) * 50, np.ones((1, 2))
    fitted, read = residualised.text_features(["aa bb", "bb cc", "cc aa"], ["zz"], embedded)
    assert fitted[:, -2:].var(axis=0).sum() == pytest.approx(1)
    assert fitted[:, :-2].var(axis=0).sum() == pytest.approx(1)
    again, _ = residualised.text_features(["aa bb", "bb cc", "cc aa"], ["aa aa aa"], embedded)
    np.testing.assert_allclose(fitted, again)
    assert np.isfinite(read).all()


def test_what_text_explains_is_gone_and_what_it_does_not_stays():
    rng = np.random.default_rng(1)
    topic, concept = np.repeat(np.arange(6), 40), np.tile(np.arange(4), 60)
    x, free = rng.standard_normal((240, 5)), rng.standard_normal((240, 3))
    y = np.hstack([x @ rng.standard_normal((5, 3)), free])
    train = topic < 5
    text = Labelled(x, concept, topic)
    data = Labelled(y, concept, topic)
    left, left_test, told_, _, penalty = residualised.residualise(
        (text.where(train), text.where(~train)), data.where(train), data.where(~train)
    )
    assert penalty <= 0.03
    for part in (left, left_test):
        assert part.values[:, :3].std() < 0.05 * y[:, :3].std()
        assert part.values[:, 3:].std() > 0.9
    assert told_.values[:, 3:].std() < 0.3
    spoilt = Labelled(np.where(train[:, None], y, 99.0), concept, topic)
    again = residualised.residualise((text.where(train), text.where(~train)), spoilt.where(train), spoilt.where(~train))
    np.testing.assert_array_equal(left.values, again[0].values)


def test_an_emotion_beyond_the_words_survives_and_adds(noise, flat_components):
    result = run(residualised.EXPERIMENT, told(noise))
    assert result.verdict == "shown", result.finding
    assert result.measure("readers on what text leaves: mean rank").value < 2
    assert result.measure("text alone: mean rank").value > 2.5
    assert 2.5 < result.measure("readers on what text leaves, shuffled labels: mean rank").value < 4.5
    assert result.measure("variance between stories that text explains, held out").value < 0.1


def test_noise_is_not_shown_by_any_control(noise):
    assert run(residualised.EXPERIMENT, noise).verdict == "not shown"
    assert run(untrained_twin.EXPERIMENT, noise).verdict == "not shown"


@pytest.mark.parametrize("share", [0.3, 0.08])
def test_a_signal_that_is_in_the_words_is_called_out(planted, tmp_path_factory, flat_components, share):
    """The readers recognise it before; with the words taken away they add nothing."""
    subject = subject_on(planted[0], planted_corpus(share=share, per_cell=4), tmp_path_factory)
    for words in (subject, counted(subject)):
        result = run(residualised.EXPERIMENT, words)
        assert result.measure("readers before: mean rank").value < 2
        assert result.verdict == "not shown", result.finding
        assert result.measure("variance between emotions that text explains, held out").value > 0.5


def test_share_explained_is_one_less_the_remainder():
    stories = Labelled(np.array([[2.0], [-2], [2], [-2]]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    single, between = residualised.explained(stories.values, stories.values / 2, stories, 2)
    assert single == pytest.approx((0.75, 0.75, 0.75))
    assert between == pytest.approx((0.75, 0.75, 0.75))


def pairs_of(kind, count=24, seed=5):
    """Plain words with the emotion's marker in the gap of ``high`` (or of none)."""
    rng = np.random.default_rng(seed)

    def words(n):
        return " ".join(map(str, rng.choice(WORDS, n)))

    found = []
    for i in range(count):
        e = i % len(CONCEPTS)
        high = " ".join([MARKERS[e]] * 4) if kind == "marked" else words(4)
        found.append(MinimalPair(CONCEPTS[e], words(10) + " ", high, words(4), words(4), " " + words(6)))
    return tuple(found)


def gap_as_last(ids, ends):
    """A tiny random network carries nothing to the reply, so the words of the gap are read in its place."""
    real = SPANS(ids, ends)
    return [(before, end, (before[1], end[0])) for before, end, _ in real]


SPANS = minimal_pairs.spans_of


@pytest.mark.parametrize(("kind", "verdict"), [("marked", "shown"), ("plain", "not shown")])
def test_pairs_find_words_that_matter_and_no_others(subject, monkeypatch, kind, verdict):
    monkeypatch.setattr(minimal_pairs, "minimal_pairs", lambda: pairs_of(kind))
    monkeypatch.setattr(minimal_pairs, "spans_of", gap_as_last)
    result = run(minimal_pairs.EXPERIMENT, subject)
    assert result.verdict == verdict, result.finding
    assert result.measure("before the gap: largest difference of residuals").value < 0.01
    low, high = result.measure(result.control).low, result.measure(result.control).high
    assert low < 50 < high
    if kind == "marked":
        assert result.measure(result.effect).value > 95
        assert result.measure("own emotion's change over other emotions'").low > 0
        assert result.measure("text alone: pairs ordered right").value > 95  # the words carry it, and that is told


def test_a_reading_that_sees_ahead_is_called_out(subject, monkeypatch):
    monkeypatch.setattr(minimal_pairs, "minimal_pairs", lambda: pairs_of("marked"))
    monkeypatch.setattr(
        minimal_pairs, "spans_of", lambda ids, ends: [(gap, end, gap) for _, end, gap in gap_as_last(ids, ends)]
    )
    result = run(minimal_pairs.EXPERIMENT, subject)
    assert result.measure(result.effect).value > 95
    assert result.verdict == "not shown"


def test_spans_lie_before_after_and_at_the_end():
    ids = [[9, 1, 2, 3, 4, 50, 51, 7, 8, 99], [9, 1, 2, 3, 4, 60, 7, 8, 99], [9, 1, 2, 3, 4, 50, 61, 7, 8, 99]]
    found = minimal_pairs.spans_of(ids, [9, 8, 9])  # the last token is the template's
    assert found[0] == ((0, 5), (7, 9), (9, 10))
    assert found[1] == ((0, 5), (6, 8), (8, 9))


def test_changes_and_intervals_agree_with_hand_made_numbers():
    change = minimal_pairs.change(np.array([[3.0], [3], [1], [1], [2], [2]]))  # mean 2, s.d. sqrt(2/3)
    np.testing.assert_allclose(change[:, :, 0], np.array([[2.0, 2], [1, 1]]) / np.sqrt(2 / 3))
    assert statistics.wilson(5, 10) == pytest.approx((50, 23.66, 76.34), abs=0.01)
    assert minimal_pairs.foresight(np.array([[[3.0, 4]], [[3, 4]], [[3, 5]]])) == pytest.approx(0.2)


def plain_unrelated():
    """Two concepts with marker words of their own on the planted corpus's topics."""
    rng = np.random.default_rng(4)
    stories = []
    for topic in range(6):
        for c, name in enumerate(("cats", "railways", "weather")):
            text = [MARKERS[8 + c] if i > 50 and rng.random() < 0.3 else str(rng.choice(WORDS)) for i in range(90)]
            stories.append(Story(name, f"topic{topic}", "first", " ".join(text)))
    return Corpus(tuple(stories), "planted unrelated")


@pytest.fixture
def own_unrelated(monkeypatch):
    monkeypatch.setattr(directions, "unrelated", plain_unrelated)
    monkeypatch.setattr(unrelated, "unrelated", plain_unrelated)


def test_emotion_vectors_explain_what_unrelated_ones_do_not(noise, own_unrelated, flat_components):
    result = run(unrelated.EXPERIMENT, told(noise, size=6.0, width=WIDTH))
    assert result.verdict == "shown", result.finding
    assert result.measure(result.effect).value > 0.5


def test_a_planted_emotion_that_every_direction_sees_is_called_out(subject, own_unrelated):
    """Nearly all variance of these stories is the emotion's, so that a random mixture of them tells as much."""
    result = run(unrelated.EXPERIMENT, subject)
    assert result.measure(result.effect).value > 0.8
    assert result.verdict == "not shown", result.finding


def test_directions_that_say_nothing_are_the_same_in_every_fold(noise, flat_components):
    stories, none = noise.read.stories(1), np.zeros((0, WIDTH))
    one, other = (unrelated.variance_matched(stories, 40, none) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    loud = Labelled(stories.values * np.where(np.arange(WIDTH) < 3, 100.0, 1.0), stories.concept, stories.topic)
    assert (unrelated.variance_matched(loud, 40, none)[:, :3] ** 2).sum(axis=1).mean() > 0.9  # follows the variance


def test_vectors_of_noise_explain_no_more_than_unrelated_ones(noise, own_unrelated):
    result = run(unrelated.EXPERIMENT, noise)
    assert result.verdict == "not shown", result.finding
    assert abs(result.measure(result.effect).value) < 0.1


def test_omega_squared_is_the_textbooks_and_chance_is_zero():
    scores, group = np.array([[1.0], [2], [3], [5], [6], [7]]), np.array([0, 0, 0, 1, 1, 1])
    # between 24, within 4, mean square within 1: (24 - 1) / (28 + 1)
    np.testing.assert_allclose(unrelated.omega_squared(scores, group), [23 / 29])
    rng = np.random.default_rng(0)
    chance = unrelated.omega_squared(rng.standard_normal((120, 400)), np.repeat(np.arange(40), 3))
    assert abs(chance.mean()) < 0.01
    np.testing.assert_array_equal(unrelated.omega_squared(np.ones((6, 1)), group), [0])


def test_a_twin_is_its_own_model_and_the_same_every_time(planted):
    model = planted[0]
    state = torch.random.get_rng_state()
    one, other = untrained_twin.untrained(model), untrained_twin.untrained(model)
    assert torch.equal(state, torch.random.get_rng_state())
    assert one.identity["weights"] == other.identity["weights"] != model.identity["weights"]
    assert one.identity["tokenizer"] == model.identity["tokenizer"]
    assert (one.dtype, one.anatomy.depth, one.anatomy.d_model) == (
        model.dtype,
        model.anatomy.depth,
        model.anatomy.d_model,
    )


def test_training_is_shown_over_the_twin_and_its_vectors_are_at_chance(rare):
    result = run(untrained_twin.EXPERIMENT, rare)
    assert result.verdict == "shown", result.finding
    for probe in ("readers", "vectors"):
        assert 2.3 < result.measure(f"twin's {probe} on the subject: mean rank").value < 4.7  # chance is 3.5


def test_a_network_that_holds_no_more_than_words_does_not_beat_its_twin(tokenizer, tmp_path_factory):
    network = network_of("llama", hidden_size=192)
    torch.manual_seed(7)
    model = wrap(type(network)(network.config).float().eval(), tokenizer, name="random")
    subject = subject_on(model, planted_corpus(share=0.06, per_cell=2), tmp_path_factory)
    assert run(untrained_twin.EXPERIMENT, subject).verdict == "not shown"


def test_results_are_whole_and_can_be_drawn(subject, own_unrelated, monkeypatch):
    monkeypatch.setattr(minimal_pairs, "minimal_pairs", lambda: pairs_of("marked", count=8))
    for module in PARTS:
        result = run(module.EXPERIMENT, subject)
        assert result.n, result.finding
        assert result.rule.startswith("shown if")
        assert not result.measure(result.effect).control
        assert result.measure(result.control).control
        for figure in module.EXPERIMENT.plot(result):
            assert figure["title"] == result.finding
            assert figure["layout"]["xaxis"]["title"]["text"]
            json.dumps(figure)
        json.dumps(result.as_dict())


def test_what_is_missing_is_told(subject, planted, tmp_path_factory):
    few = subject_on(planted[0], planted_corpus(topics=2), tmp_path_factory)
    for module in (residualised, unrelated):
        result = run(module.EXPERIMENT, few)
        assert (result.verdict, result.n) == ("not applicable", 0)
        assert "fewer than four topics" in result.finding
