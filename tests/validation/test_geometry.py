import numpy as np
import pytest

from affectscope.vectors.geometry import clustered_order, cosines, kmeans_labels, principal_components


@pytest.fixture
def groups():
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.standard_normal((20, 4)))[0].T
    label = np.tile(np.arange(4), 6)
    vectors = centres[label] + 0.1 * rng.standard_normal((24, 20))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), label


def test_groups_stand_together_in_clustered_order(groups):
    vectors, label = groups
    runs = 1 + int((np.diff(label[clustered_order(vectors)]) != 0).sum())
    assert runs == 4


def test_kmeans_finds_the_groups(groups):
    vectors, label = groups
    found = kmeans_labels(vectors, 4)
    assert len(set(zip(found.tolist(), label.tolist(), strict=True))) == 4


def test_components_ignore_the_length_of_vectors(groups):
    vectors, _ = groups
    scaled = vectors * np.linspace(1, 50, len(vectors))[:, None]
    np.testing.assert_allclose(principal_components(vectors).scores, principal_components(scaled).scores, atol=1e-9)


def test_the_sign_rule_is_stable(groups):
    vectors, _ = groups
    scores = principal_components(vectors).scores
    assert (scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])] > 0).all()
    np.testing.assert_allclose(np.abs(principal_components(-vectors).scores), np.abs(scores), atol=1e-9)


def test_cosines(groups):
    matrix = cosines(3 * groups[0])
    assert np.allclose(np.diag(matrix), 1)
    assert np.allclose(matrix, matrix.T)
