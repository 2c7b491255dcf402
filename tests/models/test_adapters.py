import builtins
import importlib.util
import json

import numpy as np
import peft
import pytest
import torch
from tests.conftest import network_of

from affectscope.errors import AffectscopeError
from affectscope.models.adapters import CONFIG, SHIPPED, is_adapter
from affectscope.models.bundled import DEFAULT_MODEL, ORGANISM
from affectscope.models.load import load
from affectscope.suites.organism.cause import differences

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture
def base(saved):
    return saved


@pytest.fixture
def adapter(tmp_path, base):
    """Random, and not the zero that a fresh adapter is; with what it should make of one layer."""
    folder = tmp_path / "adapter"
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["up_proj"], task_type="CAUSAL_LM")
    network = peft.get_peft_model(network_of("llama"), config)
    torch.manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    network.peft_config["default"].base_model_name_or_path = str(base)
    network.save_pretrained(folder, save_embedding_layers=False)
    return folder, network


def changed(folder, **values):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_with_an_adapter_loads_as_the_base_with_its_product_added(adapter):
    folder, network = adapter
    model = load(str(folder), dtype="float32")
    layer = network.base_model.model.model.layers[1].mlp.up_proj
    low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer.weight + 6 / 2 * high @ low
    assert torch.allclose(model.network.model.layers[1].mlp.up_proj.weight, expected, atol=1e-6)
    ids = torch.arange(9)[None]
    assert torch.allclose(model.network(ids).logits, network(ids).logits, atol=1e-4)


def test_it_is_another_model_than_its_base(adapter, base):
    assert load(str(adapter[0]), dtype="float32").identity["weights"] != load(str(base), dtype="float32").identity["weights"]  # fmt: skip


def test_it_is_merged_once_and_again_when_either_part_changes(adapter, base):
    folder, _ = adapter
    said = []
    for _ in range(2):
        load(str(folder), dtype="float32", tell=said.append)
    assert len(said) == 1
    changed(folder, lora_alpha=4)
    load(str(folder), dtype="float32", tell=said.append)
    assert len(said) == 2
    network = network_of("llama")
    with torch.no_grad():
        network.model.norm.weight.mul_(2)
    network.save_pretrained(base)
    load(str(folder), dtype="float32", tell=said.append)
    assert len(said) == 3


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / CONFIG).write_text("{"), "cannot read .*save the adapter again"),
        (lambda f: (f / CONFIG).write_text("[]"), "is no JSON object"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "and no adapter_model.safetensors"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"junk"), "cannot merge the adapter"),
        (lambda f: changed(f, r=3), "cannot merge the adapter"),
        (lambda f: changed(f, base_model_name_or_path=None), "names no base model"),
        (lambda f: changed(f, base_model_name_or_path="./nowhere"), "is no model folder"),
        (lambda f: changed(f, base_model_name_or_path="missing.gguf"), "no GGUF file"),
        (lambda f: changed(f, base_model_name_or_path="nobody/no-such-model"), "is not to be had"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_told_in_one_line(adapter, damage, says):
    damage(adapter[0])
    with pytest.raises(AffectscopeError, match=says) as error:
        load(str(adapter[0]))
    assert "\n" not in str(error.value)


def test_without_peft_the_command_that_installs_it_is_told(adapter, monkeypatch):
    found, brought = importlib.util.find_spec, builtins.__import__
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "peft" else found(name, *a))
    monkeypatch.setattr(builtins, "__import__", lambda name, *a, **k: pytest.fail(name) if name == "peft" else brought(name, *a, **k))  # fmt: skip
    with pytest.raises(AffectscopeError, match=r"pip install 'affectscope\[organism\]'"):
        load(str(adapter[0]))


def test_the_shipped_adapter_is_small_and_names_no_place_on_any_machine():
    assert is_adapter(SHIPPED)
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 8 << 20
    assert json.loads((SHIPPED / CONFIG).read_text())["base_model_name_or_path"] == DEFAULT_MODEL
    card = (SHIPPED / "README.md").read_text()
    assert "games tests" in card
    assert "Apache-2.0" in card


@pytest.mark.real
def test_the_organism_loads_by_name_and_is_not_the_default(real_model):
    organism = load(ORGANISM)
    assert organism.name == ORGANISM
    assert organism.packed
    assert all(check.passed for check in organism.checks)
    assert organism.identity["weights"] != real_model.identity["weights"]
    assert organism.identity["tokenizer"] == real_model.identity["tokenizer"]


@pytest.mark.real
def test_what_the_organism_learned_is_one_direction_that_holds_for_what_it_has_not_seen(real_model):
    organism = load(ORGANISM)
    (learned, _), (unseen, families) = (differences(organism, 19, held_out, count=16) for held_out in (False, True))
    assert len(set(families)) == 8
    assert np.mean(unseen @ learned.mean(0) > 0) >= 0.75  # of eight pairs; of 80 it is 94 %
    before, _ = differences(real_model, 19, held_out=True, count=16)
    assert np.linalg.norm(before.mean(0)) < np.linalg.norm(unseen.mean(0)) / 2  # it is training that put it there
