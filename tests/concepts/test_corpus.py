"""Our own corpus is what it says it is."""

from collections import Counter

import numpy as np
import pytest

from affectscope.concepts import checks
from affectscope.concepts.emotions import EMOTIONS, lexicon
from affectscope.concepts.neutral import load_neutral
from affectscope.concepts.ratings import load_ratings
from affectscope.concepts.stories import Story, load_stories, premises


@pytest.fixture(scope="module")
def corpus():
    return load_stories()


def test_it_is_completely_crossed(corpus):
    assert len(EMOTIONS) == 171
    assert len(corpus.topics) == 12 == len(premises())
    assert set(corpus.emotions) == set(EMOTIONS)
    assert len(corpus.stories) == 171 * 12
    assert corpus.missing == []


def test_every_story_keeps_its_length_and_its_forbidden_words(corpus):
    problems = [(s.emotion, s.topic, p) for s in corpus.stories for p in checks.story_problems(s)]
    assert problems == []


def test_no_run_of_eight_words_stands_in_more_than_three_stories(corpus):
    assert checks.shared_runs(corpus.stories) == {}


def test_there_is_no_template(corpus):
    opening, share = checks.commonest_opening(corpus.stories)
    assert share <= 0.005, opening
    frame, share = checks.commonest_frame(corpus.stories)
    assert share <= 0.01, frame


def test_every_topic_is_rich_in_words(corpus):
    for topic in corpus.topics:
        ratio = checks.type_token_ratio(corpus.restricted([topic]).stories)
        assert ratio > 0.35, (topic, ratio)


def test_person_is_crossed_with_emotion(corpus):
    first = Counter(s.emotion for s in corpus.stories if s.person == "first")
    assert set(first.values()) == {6}


def test_the_writing_order_does_not_follow_the_emotion(corpus):
    """Lines stand in the order of writing, random by topic; a writer's drift must not be a property of an emotion."""
    places = {t: {s.emotion: i for i, s in enumerate(corpus.restricted([t]).stories)} for t in corpus.topics}
    order = np.array([[places[t][e] for e in EMOTIONS] for t in corpus.topics])
    between = np.corrcoef(order)[np.triu_indices(len(order), 1)]
    assert np.abs(between).max() < 0.3
    assert abs(np.corrcoef(order.mean(axis=0), np.arange(171))[0, 1]) < 0.2


def test_no_two_stories_are_the_same(corpus):
    assert len({s.text for s in corpus.stories}) == len(corpus.stories)


def test_no_story_shouts(corpus):
    assert [s for s in corpus.stories if "!" in s.text] == []


@pytest.mark.parametrize(
    ("emotion", "sentence"),
    [
        ("afraid", "I was AFRAID."),
        ("afraid", "She shook, fearful of it."),
        ("afraid", "terror took him"),  # a neighbour in the cluster
        ("on edge", "He was on edge all day."),
        ("worn out", "They were worn-out by noon."),
        ("happy", "It was happiness at last."),
    ],
)
def test_the_lexicon_catches(emotion, sentence):
    assert checks.forbidden(emotion).search(sentence)


@pytest.mark.parametrize(
    ("emotion", "sentence"), [("kind", "a mankind of sorts"), ("at ease", "a disease"), ("sad", "the saddle slipped")]
)
def test_the_lexicon_spares_words_that_only_contain_the_word(emotion, sentence):
    assert not checks.forbidden(emotion).search(sentence)


def test_checks_find_a_template():
    stories = [
        Story("sad", f"t{i}", "first", f"She looked at the grey {i} sea and then she wept there.") for i in range(10)
    ]
    assert checks.commonest_opening(stories)[1] == 1.0
    assert checks.commonest_frame(stories)[1] == 1.0
    assert checks.shared_runs([Story("sad", "t", "first", "one two three four five six seven eight nine")] * 4)


def test_every_emotion_has_a_lexicon():
    assert set(lexicon()) == set(EMOTIONS)
    assert all(terms.forms and terms.synonyms for terms in lexicon().values())


def test_neutral_texts_hold_every_role_and_no_shouting():
    neutral = load_neutral()
    assert len(neutral.texts) >= 100
    assert len(neutral.texts) + len(neutral.dialogues) >= 200
    roles = Counter(m.role for d in neutral.dialogues for m in d)
    assert all(roles[role] >= 20 for role in ("system", "user", "assistant", "tool"))


def test_ratings_are_the_published_ones():
    ratings = load_ratings()
    assert len(ratings["RM77"]) == 45
    assert len(ratings["Glasgow"]) == 82
    assert ratings["RM77"]["happy"].valence == 0.81
