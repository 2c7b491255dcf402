"""The pipeline is proved on planted signals: what is written into the residual stream is what comes out."""

import numpy as np
import pytest
from tests.conftest import CONCEPTS, plain_neutral, planted_corpus

from affectscope.errors import AffectscopeError
from affectscope.vectors.extract import Recipe, extract, neutral_components, project_out, read_corpus, unit
from affectscope.vectors.layers import choose_layer


def planted_directions(directions):
    """What a difference of means can recover: each direction less the mean of all."""
    return unit(directions - directions.mean(axis=0))


def test_planted_directions_are_recovered(planted, planted_vectors):
    _, directions = planted
    for place in range(3):
        cosine = (planted_vectors.vectors[place] * planted_directions(directions)).sum(axis=1)
        assert cosine.min() > 0.95, (place, cosine)


def test_nothing_is_recovered_where_nothing_was_planted(planted):
    model, directions = planted
    corpus = planted_corpus(share=0.0)
    found = extract(read_corpus(model, corpus, [1], neutral=plain_neutral()), 1, neutral=plain_neutral())
    assert np.abs((found.vectors[0] * planted_directions(directions)).sum(axis=1)).max() < 0.6


def test_two_runs_agree(planted, planted_vectors, monkeypatch, tmp_path):
    model, _ = planted
    monkeypatch.setenv("AFFECTSCOPE_CACHE", str(tmp_path / "elsewhere"))
    again = extract(
        read_corpus(model, planted_corpus(), [0, 1, 2], neutral=plain_neutral()), 1, neutral=plain_neutral()
    )
    assert (again.vectors * planted_vectors.vectors).sum(axis=-1).min() > 1 - 1e-6


def test_topics_are_not_emotions(planted):
    """A topic that only some emotions are written on shifts their means; centring by topic takes the shift out."""
    model, directions = planted
    corpus = planted_corpus()
    from affectscope.concepts.stories import Corpus

    uneven = Corpus(tuple(s for i, s in enumerate(corpus.stories) if i % 7), "uneven")
    assert uneven.missing
    found = extract(read_corpus(model, uneven, [1], neutral=plain_neutral()), 1, neutral=plain_neutral())
    assert not found.corpus["crossed"]
    assert (found.vectors[0] * planted_directions(directions)).sum(axis=1).min() > 0.9


def test_vectors_have_no_part_in_the_neutral_components(planted_read, planted_vectors):
    for place, layer in enumerate(planted_vectors.layers):
        assert np.abs(planted_vectors.vectors[place] @ planted_read.components(layer).T).max() < 1e-5


def test_components_hold_the_variance_asked_for():
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((200, 20)) * np.array([10, 5] + [0.1] * 18)
    components = neutral_components(texts, 0.5)
    assert len(components) == 1
    assert abs(components[0, 0]) > 0.99
    assert len(neutral_components(texts, 0.9)) == 2
    assert neutral_components(texts, 0.0).shape == (0, 20)
    assert np.abs(project_out(texts, components) @ components.T).max() < 1e-9


def test_the_artefact_records_what_it_came_from(planted_vectors):
    assert planted_vectors.concepts == CONCEPTS
    assert planted_vectors.corpus["crossed"]
    groups = planted_vectors.recipe["reader_topics"]
    assert not set(groups["readers"]) & set(groups["readers_heldout"])
    assert planted_vectors.steer_layers == (1, 2)
    assert (np.abs(np.linalg.norm(planted_vectors.vectors, axis=-1) - 1) < 1e-5).all()


def test_the_mean_norm_is_that_of_ordinary_tokens(planted, planted_vectors):
    from affectscope.models.residuals import visit

    model, _ = planted
    norms = []
    for text in plain_neutral().texts:
        visit(model, [model.encode(text)], [1], lambda _p, h: norms.append(h.norm(dim=-1)[1:].mean()))
    assert planted_vectors.mean_norm[1] == pytest.approx(float(np.mean(norms)), rel=0.1)


def test_auto_chooses_a_layer_on_the_readers_topics_only(planted_read):
    choice = choose_layer(planted_read)
    assert choice.layer in (0, 1, 2)
    assert set(choice.curve) == {0, 1, 2}
    assert len(choice.topics) == 2


def test_a_short_story_is_named(planted):
    model, _ = planted
    corpus = planted_corpus(tokens=50)
    with pytest.raises(AffectscopeError, match=r"the story of 'angry' on 'topic0' has 50 tokens.*write it longer"):
        read_corpus(model, corpus, [1])
    read_corpus(model, corpus, [1], recipe=Recipe(skip_tokens=10), neutral=plain_neutral())


def test_a_missing_layer_is_told(planted):
    with pytest.raises(AffectscopeError, match="no layer 3: planted has layers 0 to 2"):
        read_corpus(planted[0], planted_corpus(), [3])
