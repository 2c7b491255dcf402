import json

import pytest
import torch
from tests.conftest import network_of

from affectscope.errors import AffectscopeError
from affectscope.models.bundled import converted
from affectscope.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from affectscope.models.load import load


def test_a_folder_is_loaded_and_reads_like_the_network_it_was_saved_from(saved):
    model = load(str(saved), dtype="float32")
    assert model.name == "saved"
    assert model.identity["weights"] == weights_fingerprint(network_of("llama"))


def test_the_fingerprint_is_the_same_in_both_number_formats_and_differs_between_models(saved):
    wide, narrow = load(str(saved), dtype="float32"), load(str(saved), dtype="bfloat16")
    assert wide.identity["weights"] == narrow.identity["weights"]
    assert wide.identity["dtype"] != narrow.identity["dtype"]
    other = network_of("llama")
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    assert weights_fingerprint(other) != wide.identity["weights"]


def test_tokenizers_that_cut_differently_differ(tokenizer, saved):
    inner = json.loads((saved / "tokenizer.json").read_text())
    inner["model"]["vocab"]["another"] = 250
    (saved / "tokenizer.json").write_text(json.dumps(inner))
    assert tokenizer_fingerprint(load(str(saved), dtype="float32").tokenizer) != tokenizer_fingerprint(tokenizer)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./nowhere", "neither a model folder nor a GGUF file"),
        ("nobody/no-such-model", "cannot load the model 'nobody/no-such-model'"),
        ("missing.gguf", "no GGUF file at missing.gguf"),
    ],
)
def test_a_missing_model_gets_one_clear_line(name, says):
    with pytest.raises(AffectscopeError, match=says) as error:
        load(name)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(AffectscopeError, match=r"holds no config.json"):
        load(str(tmp_path))


def test_an_unknown_dtype_is_told(saved):
    with pytest.raises(AffectscopeError, match="float32, bfloat16, float16"):
        load(str(saved), dtype="int3")


def test_corrupted_weights_are_told(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AffectscopeError, match="cannot load the model"):
        load(str(saved))


def test_something_that_is_no_gguf_is_told(tmp_path):
    path = tmp_path / "fake.gguf"
    path.write_bytes(b"JUNKJUNK")
    with pytest.raises(AffectscopeError, match="not a GGUF file"):
        converted(path)


def test_a_truncated_gguf_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    from affectscope.models.bundled import default_gguf

    monkeypatch.setenv("AFFECTSCOPE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "short.gguf"
    with default_gguf().open("rb") as whole:
        path.write_bytes(whole.read(3_000_000))
    with pytest.raises(AffectscopeError, match="may be truncated"):
        converted(path)
    assert list((tmp_path / "cache" / "models").iterdir()) == []
