import os
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import WIDTH

from affectscope.errors import AffectscopeError
from affectscope.vectors.artefact import PROBES, load_vectors
from affectscope.vectors.baseline import FEWEST_TOKENS


def test_saving_and_loading_keeps_everything(planted_vectors, tmp_path):
    path = planted_vectors.save(tmp_path / "v.safetensors")
    again = load_vectors(path)
    for name in (
        "vectors",
        "readers",
        "readers_heldout",
        "mean_norm",
        "baseline_mean",
        "baseline_std",
        "baseline_count",
        "read_mean",
    ):
        np.testing.assert_array_equal(getattr(again, name), getattr(planted_vectors, name))
    for name in ("concepts", "layers", "read_layer", "model", "recipe", "corpus"):
        assert getattr(again, name) == getattr(planted_vectors, name)
    assert os.listdir(tmp_path).count("v.safetensors") == 1
    assert not [f for f in os.listdir(tmp_path) if f.startswith(".v")]


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_a_corrupted_file_is_told(planted_vectors, tmp_path, keep):
    path = planted_vectors.save(tmp_path / "v.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AffectscopeError, match=r"is damaged.*extract it again"):
        load_vectors(path)


def test_another_format_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"vectors": np.zeros(3, np.float32)}, tmp_path / "other.safetensors", {"format": "something"})
    with pytest.raises(AffectscopeError, match="is not an affectscope/vectors@1 file"):
        load_vectors(tmp_path / "other.safetensors")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(AffectscopeError, match="affectscope extract MODEL --out"):
        load_vectors(tmp_path / "none.safetensors")


def test_nan_is_refused(planted_vectors):
    broken = planted_vectors.readers.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(AffectscopeError, match="readers holds NaN"):
        replace(planted_vectors, readers=broken)


def test_wrong_shapes_are_refused(planted_vectors):
    with pytest.raises(AffectscopeError, match="mean_norm has shape"):
        replace(planted_vectors, mean_norm=planted_vectors.mean_norm[:1])


def test_vectors_of_another_model_are_refused_part_by_part(planted_vectors):
    mine = planted_vectors.model
    same = {k: mine[k] for k in ("id", "tokenizer", "weights")}
    planted_vectors.require_model(same, WIDTH, 3)
    for identity, width, depth, says in (
        (same, 64, 3, "d_model 192, the model 64"),
        (same, WIDTH, 4, "3 blocks, the model has 4"),
        (same | {"tokenizer": "x"}, WIDTH, 3, "other tokenizer"),
        (same | {"weights": "x"}, WIDTH, 3, "other weights"),
    ):
        with pytest.raises(AffectscopeError, match=says):
            planted_vectors.require_model(identity, width, depth)


def test_an_unknown_emotion_gets_a_suggestion(planted_vectors):
    with pytest.raises(AffectscopeError, match="unknown emotion 'hapy': did you mean happy"):
        planted_vectors.select(["hapy"])


def test_a_layer_that_is_not_there_is_told(planted_vectors):
    with pytest.raises(AffectscopeError, match="layer 9 was not extracted; the file holds 0-2"):
        planted_vectors.place(9)


def test_the_baseline_makes_a_z_of_neutral_text_standard(planted, planted_vectors):
    """Scored again, the neutral tokens of a full cell have mean 0 and s.d. 1."""
    from tests.conftest import plain_neutral

    from affectscope.monitoring.scan import scan

    model, _ = planted
    z = np.concatenate([scan(model, planted_vectors, t).z[21:] for t in plain_neutral().texts])
    assert planted_vectors.baseline_count.max() >= FEWEST_TOKENS
    assert abs(z.mean()) < 0.02
    assert z.std() == pytest.approx(1, abs=0.05)
    assert len(PROBES) == planted_vectors.baseline_mean.shape[0]
