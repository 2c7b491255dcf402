"""Neurons read are the inputs of the down-projection; an ablation takes away what they write, there and nowhere else."""

import pytest
import torch

from affectscope.errors import AffectscopeError
from affectscope.models.anatomy import down_projection
from affectscope.models.neurons import (
    Ablation,
    ablated,
    ablated_means,
    neuron_count,
    norm_scales,
    pooled_neurons,
    written,
)
from affectscope.models.residuals import Span, visit

DENSE = ("llama", "qwen3", "gemma3", "gemma2", "mistral", "olmo2", "phi3", "gpt2", "gpt_neox")
PLAIN = ("llama", "phi3", "gpt2", "gpt_neox")  # no norm between the MLP and the stream
TEXTS = [[9, 10, 11, 12, 13, 14], [20, 21, 22], [30, 31, 32, 33]]
INDEX = torch.tensor([3, 40])


def inputs_of(model, layer, text):
    """What goes into a block's down-projection for one text, by a hook of our own. ``[tokens, d_mlp]``."""
    kept = []
    handle = down_projection(model.anatomy.blocks[layer])[0].register_forward_pre_hook(
        lambda _m, args: kept.append(args[0])
    )
    try:
        with torch.inference_mode():
            model.network(torch.tensor([text]), use_cache=False)
    finally:
        handle.remove()
    return kept[0].reshape(len(text), -1)


def residual(model, texts, layer, ablations=(), of=None):
    kept = []
    with ablated(model, of or texts, ablations):
        visit(model, texts, [layer], lambda _place, h: kept.append(h.clone()))
    return kept[0].split([len(text) for text in texts])


@pytest.mark.parametrize("architecture", DENSE)
def test_means_are_those_of_the_inputs_of_the_down_projection(tiny, architecture):
    model = tiny(architecture)
    spans = [Span(0, 2, 6), Span(2, 0, 2), Span(0, 0, 1)]
    found = torch.zeros(3, 2, neuron_count(model, [0, 2]))
    for batch in pooled_neurons(model, TEXTS, [2, 0], spans=spans, budget=8):
        found[batch.indices] = batch.means
    for row, span in enumerate(spans):
        for place, layer in enumerate((2, 0)):
            expected = inputs_of(model, layer, TEXTS[span.text])[span.start : span.stop].mean(dim=0)
            torch.testing.assert_close(found[row, place], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("architecture", PLAIN)
def test_a_silenced_neuron_takes_away_what_it_writes(tiny, architecture):
    model = tiny(architecture)
    text = TEXTS[0]
    neurons = {1: (INDEX, torch.tensor([0.0, 0.5]))}
    before, after = residual(model, [text], 1)[0], residual(model, [text], 1, [Ablation(0, 2, 5, neurons)])[0]
    change = torch.tensor([0.0, 0.5]) - inputs_of(model, 1, text)[2:5][:, INDEX]
    torch.testing.assert_close((after - before)[2:5], change @ written(model, 1)[INDEX], rtol=1e-3, atol=1e-5)
    assert torch.equal(after[:2], before[:2])
    assert torch.equal(after[5:], before[5:])


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3", "olmo2"])
def test_the_norm_after_the_mlp_is_part_of_what_is_written(tiny, architecture):
    """The whole MLP, put together from its neurons with the exact norm of one token, is what the block's norm gives."""
    model = tiny(architecture)
    text, kept = [9], []
    norm = down_projection(model.anatomy.blocks[1])[1]
    handle = norm.register_forward_hook(lambda _m, _args, output: kept.append(output))
    visit(model, [text], [2], lambda _place, _h: None)
    handle.remove()
    scale = norm_scales(model, [text], [1])[0]
    rebuilt = inputs_of(model, 1, text) @ written(model, 1, scale)
    torch.testing.assert_close(rebuilt, kept[0].reshape(1, -1), rtol=1e-2, atol=1e-3)


def test_without_a_norm_the_scale_is_one(tiny):
    assert norm_scales(tiny("llama"), [TEXTS[0]], [0, 1]) == [1.0, 1.0]


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_each_text_of_a_batch_has_its_own_ablation(tiny, architecture):
    model = tiny(architecture)
    one, two = {0: (INDEX, torch.tensor([9.0, -9.0]))}, {1: (INDEX[:1], torch.tensor([20.0]))}
    together = residual(model, TEXTS, 2, [Ablation(0, 1, 6, one), Ablation(2, 0, 4, two)])
    singly = [
        residual(model, [TEXTS[0]], 2, [Ablation(0, 1, 6, one)])[0],
        residual(model, [TEXTS[1]], 2)[0],
        residual(model, [TEXTS[2]], 2, [Ablation(None, 0, 4, two)])[0],
    ]
    for row, expected in zip(together, singly, strict=True):
        torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-4)
    assert (together[0] - residual(model, [TEXTS[0]], 2)[0]).abs().max() > 1e-3, "an ablation must do something"
    assert torch.equal(together[1], residual(model, TEXTS, 2)[1]), "a text without one is not touched, to the bit"


def test_means_of_ablated_texts_are_those_of_each_alone_and_keep_the_first_token(tiny):
    model = tiny("llama")
    clamp = {0: (INDEX, torch.tensor([9.0, -9.0]))}
    seen = []
    found = ablated_means(
        model, TEXTS, 1, [clamp, {}, clamp], skip=1, budget=8, progress=lambda done, total: seen.append((done, total))
    )
    for i, text in enumerate(TEXTS):
        own = [Ablation(0, 1, len(text), clamp)] if i != 1 else []
        torch.testing.assert_close(found[i], residual(model, [text], 1, own)[0][1:].mean(dim=0), rtol=1e-4, atol=1e-5)
    assert seen[-1] == (3, 3)


def test_an_ablation_is_undone_to_the_bit_even_when_the_pass_fails(tiny):
    model = tiny("llama")
    before = residual(model, TEXTS, 2)
    clamp = [Ablation(None, 0, 3, {0: (INDEX, torch.tensor([9.0, -9.0]))})]
    residual(model, TEXTS, 2, clamp)
    with pytest.raises(ValueError, match="batch of"):
        residual(model, [TEXTS[0]], 2, clamp, of=TEXTS)
    assert all(torch.equal(a, b) for a, b in zip(before, residual(model, TEXTS, 2), strict=True))
    assert not any(down_projection(block)[0]._forward_pre_hooks for block in model.anatomy.blocks)


def test_a_mixture_of_experts_is_refused(tiny):
    model = tiny("qwen3_moe")
    with pytest.raises(AffectscopeError, match="no dense MLP"):
        neuron_count(model, [0])
    with (
        pytest.raises(AffectscopeError, match="no dense MLP"),
        ablated(model, TEXTS, [Ablation(0, 0, 1, {0: (INDEX, INDEX)})]),
    ):
        pass
