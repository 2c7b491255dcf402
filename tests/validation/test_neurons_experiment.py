"""Planted neurons are found, their ablation lowers the reading, and nothing of it is said of noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import CONCEPTS, MARKERS, WIDTH, network_of, plain_neutral, planted_corpus

from affectscope.files import json_text
from affectscope.validation import neurons
from affectscope.validation.base import Subject, run
from affectscope.vectors.extract import extract, read_corpus
from affectscope.vectors.neurons import (
    Best,
    NeuronRead,
    auc_by_topic,
    like_it,
    neuron_means,
    profile_scores,
    rand_index,
    separation,
)

LAYER, FIRST = 1, 10  # the planted neuron of concept e is number FIRST + e of this block


@pytest.fixture(scope="module")
def model(tokenizer):
    """A marker's embedding is read by one neuron, which writes another direction."""
    from affectscope.models.load import wrap

    network = network_of("llama", hidden_size=WIDTH)
    torch.manual_seed(3)
    basis = torch.linalg.qr(torch.randn(WIDTH, 2 * len(CONCEPTS)))[0].T
    with torch.no_grad():
        mlp = network.model.layers[LAYER].mlp
        for e in range(len(CONCEPTS)):
            network.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids(MARKERS[e])] = 3.0 * basis[e]
            mlp.gate_proj.weight[FIRST + e] = mlp.up_proj.weight[FIRST + e] = 0.5 * basis[e]
            mlp.down_proj.weight[:, FIRST + e] = 0.1 * basis[len(CONCEPTS) + e]
    return wrap(network, tokenizer, name="planted-neurons")


def subject_of(model, folder, **corpus):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECTSCOPE_CACHE", str(folder))
        read = read_corpus(model, planted_corpus(**corpus), [LAYER], neutral=plain_neutral())
        return Subject(model, extract(read, LAYER, neutral=plain_neutral()), read)


@pytest.fixture(scope="module")
def subject(model, tmp_path_factory):
    return subject_of(model, tmp_path_factory.mktemp("neurons"))


@pytest.fixture(scope="module")
def result(subject):
    return run(neurons.EXPERIMENT, subject)


def test_the_planted_neurons_are_found_and_the_reading_needs_them(result):
    assert result.verdict == "shown", result.finding
    for e, name in enumerate(CONCEPTS):
        layer, index, cosine, effect, auc = result.data["emotions"][name]["writers"][0]
        assert (layer, index) == (LAYER, FIRST + e)
        assert cosine > 0.5
        assert effect > 0
        assert auc > 0.95
    assert result.measure("best neuron: AUC on held-out topics").low > 0.8
    assert result.measure("own minus random neurons: change of z").high < -0.5


def test_the_one_planted_neuron_matters_to_its_own_emotion_only(subject, monkeypatch):
    monkeypatch.setattr(neurons, "FEWEST", 1)
    found = run(neurons.EXPERIMENT, replace(subject, effort="quick"))
    assert found.data["ablated"] == 1
    assert found.data["shared_with_another"] == 0
    assert found.measure("own minus another emotion's neurons: change of z").high < 0


def test_its_controls_are_flat(result):
    assert 0.3 < result.measure("best neuron of shuffled labels: AUC").value < 0.7
    own, random = (
        result.measure("own neurons ablated: change of z"),
        result.measure("random neurons ablated: change of z"),
    )
    assert abs(random.value) < 0.2 * abs(own.value)
    assert result.measure(result.control).control
    strongest = result.measure("best writer: cosine with the vector, absolute").value
    assert strongest > 2 * result.measure("best writer of a random direction: cosine, absolute").value


def test_noise_is_not_shown(model, tmp_path):
    found = run(neurons.EXPERIMENT, subject_of(model, tmp_path, share=0.0))
    assert found.verdict == "not shown", found.finding
    assert 0.3 < found.measure("best neuron: AUC on held-out topics").value < 0.7


def test_the_result_is_json_and_its_figures_state_it(result):
    json_text(result.as_dict())
    ablation, auc, layers = neurons.plot(result)
    assert ablation["title"] == result.finding
    assert f"{result.measure('best neuron: AUC on held-out topics').value:.3g}" in auc["title"]
    assert f"Most writers lie in block {LAYER}" in layers["title"]
    for figure in (ablation, auc, layers):
        json_text(figure)
        assert figure["layout"]["xaxis"]["title"]["text"]


def test_quick_reads_less(subject, result):
    quick = run(neurons.EXPERIMENT, replace(subject, effort="quick"))
    assert len(quick.data["topics"]) == 4
    assert quick.data["layers"] == [LAYER]
    assert len(quick.data["ablation"]["emotions"]) < len(result.data["ablation"]["emotions"])


def test_nothing_held_out_chooses_what_is_ablated(subject):
    """With the held-out stories' residuals replaced by noise, the same neurons are chosen."""
    texts = [subject.model.encode(story.text) for story in subject.corpus.stories]
    read = neurons._read(subject, texts, lambda *_: None)
    stories = subject.read.stories(LAYER)
    held = np.isin(stories.topic, np.unique(read.topic[~read.fit]))
    values, means = stories.values.copy(), read.means.copy()
    rng = np.random.default_rng(0)
    values[held] = rng.standard_normal(values[held].shape)
    means[:, ~read.fit] = rng.standard_normal(means[:, ~read.fit].shape)

    class Corrupted:
        corpus, recipe, components = subject.read.corpus, subject.read.recipe, subject.read.components

        def stories(self, _layer):
            return replace(stories, values=values)

    pairs = ((subject, read), (replace(subject, read=Corrupted()), replace(read, means=means)))
    clean, corrupted = (neurons._survey(s, r, texts[:2], list(CONCEPTS), 10, lambda *_: None).top for s, r in pairs)
    np.testing.assert_array_equal(clean.index, corrupted.index)


def test_what_cannot_be_read_says_why(subject, tiny):
    found = run(neurons.EXPERIMENT, replace(subject, model=tiny("qwen3_moe")))
    assert found.verdict == "not applicable"
    assert "mixture of experts" in found.finding
    few = planted_corpus(topics=2)
    stories = subject.read.stories(LAYER)
    rows = stories.topic < 2

    class Few:
        corpus, recipe = few, subject.read.recipe

        def stories(self, _layer):
            return stories.where(rows)

    assert "two topics each" in run(neurons.EXPERIMENT, replace(subject, read=Few())).finding


def test_separation_against_hand():
    centred = np.array([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]])
    found = separation(centred, np.array([0, 0, 1, 1]), 2)
    # Means 2 and -2, residuals +-1: s.d. within sqrt(4 / 2); a neuron that never varies counts for nothing.
    np.testing.assert_allclose(found, [[4 / np.sqrt(2), 0.0], [-4 / np.sqrt(2), 0.0]])


def test_auc_against_hand():
    values = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 0.0], [5.0, 9.0], [5.0, 1.0]])
    found = auc_by_topic(values, np.array([0, 1, 2, 0, 1]), np.array([4, 4, 4, 7, 7]))
    # Column 0: above both; then a tie. Column 1: a tie and one below; then below.
    np.testing.assert_allclose(found, [[1.0, 0.75], [0.5, 0.0]])


def test_the_best_over_layers_are_the_best_of_all():
    rng = np.random.default_rng(0)
    scores, best = rng.standard_normal((4, 3, 7)), Best(3, 5)
    for layer in range(4):
        best.see(layer, scores[layer], twice=2 * scores[layer])
    flat = scores.transpose(1, 0, 2).reshape(3, -1)
    order = np.argsort(-flat, axis=1)[:, :5]
    np.testing.assert_array_equal(best.layer * 7 + best.index, order)
    np.testing.assert_allclose(best.more["twice"], 2 * np.take_along_axis(flat, order, 1))
    assert sum(len(index) for index in best.by_layer(0).values()) == 5


def test_random_neurons_are_as_many_in_each_layer_and_others():
    top = {0: np.array([1, 2]), 3: np.array([0, 4, 5])}
    found = like_it(top, 7, np.random.default_rng(0))
    assert {layer: len(index) for layer, index in found.items()} == {0: 2, 3: 3}
    assert not any(np.intersect1d(top[layer], index).size for layer, index in found.items())


def test_profiles_from_inner_products_keep_distances():
    profiles = np.random.default_rng(0).standard_normal((6, 40))
    scores = profile_scores(profiles @ profiles.T)
    np.testing.assert_allclose(scores @ scores.T, (p := profiles - profiles.mean(axis=0)) @ p.T, atol=1e-9)


def test_the_rand_index_is_the_usual_one():
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(0)
    for kinds in (1, 2, 5):
        one, other = rng.integers(0, kinds, 30), rng.integers(0, 4, 30)
        assert rand_index(one, other) == pytest.approx(adjusted_rand_score(one, other))
        assert rand_index(one, one) == 1.0


def test_activations_on_disk_are_those_in_memory(tiny, tmp_path):
    texts = [[9, 10, 11, 12], [20, 21, 22]]
    kept = neuron_means(tiny("llama"), texts, [0, 2], 1)
    disk = neuron_means(tiny("llama"), texts, [0, 2], 1, memory=0)
    assert isinstance(disk, np.memmap)
    assert kept.dtype == disk.dtype == np.float16
    np.testing.assert_array_equal(kept, disk)
    assert not list((tmp_path / "cache").iterdir())


def test_a_neuron_is_found_at_its_layer():
    means = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    read = NeuronRead((2, 5), means, *[np.arange(3)] * 3, np.ones(3, bool))
    np.testing.assert_array_equal(read.at(np.array([5, 2]), np.array([0, 3])), [[12, 3], [16, 7], [20, 11]])
