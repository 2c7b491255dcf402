import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectscope.vectors.readers import (
    Labelled,
    centred_by_topic,
    concept_means,
    fit_readers,
    folds,
    ranks,
    split_topics,
    standardised_scores,
)


def noisy(concepts=8, topics=12, d=40, loud=8.0, seed=0):
    """Concepts differ along quiet directions while loud ones vary within every concept."""
    rng = np.random.default_rng(seed)
    signal = np.zeros((concepts, d))
    signal[:, 10:] = rng.standard_normal((concepts, d - 10))
    concept = np.repeat(np.arange(concepts), topics)
    topic = np.tile(np.arange(topics), concepts)
    noise = rng.standard_normal((len(concept), d))
    noise[:, :10] *= loud
    offset = 5 * rng.standard_normal((topics, d))
    return Labelled((signal[concept] + noise + offset[topic]).astype(np.float32), concept, topic)


def test_readers_see_through_loud_directions_where_plain_means_do_not():
    data = noisy()
    held = data.topic >= 9
    train, test = data.where(~held), data.where(held)
    fitted, tested = centred_by_topic(train), centred_by_topic(test)
    plain = concept_means(fitted, train.concept, 8)
    readers, _ = fit_readers(train, 8)
    by_plain = ranks(standardised_scores(plain, fitted, tested), test.concept).mean()
    by_readers = ranks(standardised_scores(readers, fitted, tested), test.concept).mean()
    assert by_readers + 1 < by_plain


def test_a_readers_unit_is_the_spread_within_a_concept():
    data = noisy(loud=3.0, topics=200)
    readers, _ = fit_readers(data, 8, shrinkage=0.1)
    values = centred_by_topic(data)
    scores = values @ readers.T
    within = scores - np.stack([scores[data.concept == c].mean(axis=0) for c in range(8)])[data.concept]
    assert within.std(axis=0) == pytest.approx(np.ones(8), abs=0.15)


def test_topic_means_leave_nothing():
    data = noisy()
    values = centred_by_topic(data)
    assert all(abs(values[data.topic == t].mean(axis=0)).max() < 1e-9 for t in range(12))


@given(st.integers(2, 30), st.integers(1, 6))
def test_folds_deal_every_topic_once(topics, count):
    topic = np.repeat(np.arange(topics), 3)
    masks = folds(topic, count)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not set(topic[mask]) & set(topic[~mask])


@given(st.integers(1, 40))
def test_split_topics_are_disjoint_and_complete(count):
    parts = split_topics(range(count))
    assert sorted(t for part in parts for t in part) == list(range(count))
    assert len(parts[1]) == len(parts[2]) != 1


def test_ranks_count_ties_as_half():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert ranks(scores, np.array([1, 0, 2])).tolist() == [2.0, 1.5, 2.0]


def test_a_concept_without_stories_is_an_error():
    with pytest.raises(ValueError, match="concept 1 has no story"):
        concept_means(np.ones((2, 3)), np.array([0, 2]), 3)
