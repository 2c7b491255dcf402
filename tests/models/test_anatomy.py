"""For every anatomy: the parts are found, checked, and read the same alone, in a batch and padded."""

from dataclasses import replace

import pytest
import torch
from tests.conftest import ARCHITECTURES, WORDS, network_of

from affectscope.errors import AffectscopeError
from affectscope.models import anatomy
from affectscope.models.load import wrap
from affectscope.models.residuals import pooled, visit


def texts_of(model, lengths=(70, 23, 41, 9)):
    generator = torch.Generator().manual_seed(5)
    return [[int(i) for i in torch.randint(4, 4 + len(WORDS), (n,), generator=generator)] for n in lengths]


def residuals(model, texts, layer):
    seen = []
    visit(model, texts, [layer], lambda _place, h: seen.append(h.clone()))
    return seen[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_check_passes(tiny, architecture):
    model = tiny(architecture)
    assert model.anatomy.depth == 3
    assert all(c.passed for c in model.checks if c.name != "packing"), model.checks


def test_all_but_soft_capped_attention_is_packed(tiny):
    padded = {a for a in ARCHITECTURES if not tiny(a).packed}
    assert padded == {"gemma2"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("packed", [True, False])
def test_single_and_batched_readings_agree_with_the_models_own_hidden_states(tiny, architecture, packed):
    model = tiny(architecture)
    if packed and not model.packed:
        packed = False
    model = replace(model, packed=packed)
    texts = texts_of(model)
    for layer in (0, 1):
        together = residuals(model, texts, layer)
        alone = torch.cat([residuals(model, [t], layer) for t in texts])
        with torch.inference_mode():
            own = torch.cat([
                model.network(torch.tensor([t]), output_hidden_states=True, use_cache=False).hidden_states[layer + 1][0] for t in texts
            ])  # fmt: skip
        for found in (together, alone):
            cosine = torch.nn.functional.cosine_similarity(found, own, dim=-1)
            assert cosine.min() > 1 - 1e-3
            assert (found - own).abs().max() < 1e-3 * own.abs().max()


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gemma2"])
def test_reading_leaves_the_network_as_it_was(tiny, architecture):
    model = tiny(architecture)
    ids = torch.tensor(texts_of(model)[:1])
    hooks = [len(block._forward_hooks) for block in model.anatomy.blocks]
    with torch.inference_mode():
        before = model.network(ids).logits
        list(pooled(model, texts_of(model), [1], skip=2))
        after = model.network(ids).logits
    assert torch.equal(before, after)
    assert [len(block._forward_hooks) for block in model.anatomy.blocks] == hooks


class Unknown(torch.nn.Module):
    """A model whose blocks have a name that nobody has heard of."""

    def __init__(self):
        super().__init__()
        self.tower = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
        self.config = object()

    def get_output_embeddings(self):
        return torch.nn.Linear(4, 4)


def test_an_unknown_architecture_says_how_to_name_its_blocks():
    with pytest.raises(AffectscopeError, match=r"--blocks and --final-norm.*tower"):
        anatomy.find(Unknown())


def test_named_blocks_are_taken_and_checked(tokenizer):
    network = network_of("llama")
    model = wrap(network, tokenizer, blocks="model.layers", final_norm="model.norm")
    assert model.anatomy.blocks_name == "model.layers"
    with pytest.raises(AffectscopeError, match="go together"):
        wrap(network, tokenizer, blocks="model.layers")


def test_a_wrong_final_norm_does_not_pass_the_check(tokenizer):
    network = network_of("llama")
    network.other = torch.nn.LayerNorm(48, elementwise_affine=False)
    with pytest.raises(AffectscopeError, match="unembedding: rebuilt logits differ"):
        wrap(network, tokenizer, blocks="model.layers", final_norm="other")


def test_two_thirds():
    assert [anatomy.two_thirds(n) for n in (3, 12, 30, 32, 80)] == [1, 7, 19, 20, 52]
