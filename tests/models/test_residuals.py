import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affectscope.errors import AffectscopeError
from affectscope.models.forward import batches
from affectscope.models.residuals import pooled, visit


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(50, 500))
def test_batches_hold_every_text_once_and_keep_the_budget(lengths, budget):
    groups = list(batches(lengths, budget))
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in g) <= budget or len(g) == 1 for g in groups)


@settings(deadline=None, max_examples=20)
@given(budget=st.integers(10, 400), skip=st.integers(0, 8))
def test_means_do_not_depend_on_the_batches(tiny, budget, skip):
    model = tiny("llama")
    texts = [[5 + (i * j) % 150 for j in range(1, n)] for i, n in enumerate((40, 12, 90, 33, 27), start=1)]
    found = torch.zeros(5, 2, 48)
    for batch in pooled(model, texts, [0, 2], skip=skip, budget=budget):
        found[batch.indices] = batch.means
    for i, text in enumerate(texts):
        seen = []
        visit(model, [text], [0, 2], lambda _place, h, seen=seen: seen.append(h))
        expected = torch.stack([h[skip:].mean(0) for h in seen])
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)


def test_special_tokens_are_left_out_of_the_mean(tiny, tokenizer):
    model = tiny("llama")
    text = [10, 11, tokenizer.convert_tokens_to_ids("<|turn|>"), 12]
    seen = []
    visit(model, [text], [1], lambda _place, h: seen.append(h))
    (batch,) = pooled(model, [text], [1])
    torch.testing.assert_close(batch.means[0, 0], seen[0][[0, 1, 3]].mean(0))


def test_deeper_blocks_are_not_run(tiny):
    model = tiny("llama")
    ran = []
    handles = [
        b.register_forward_pre_hook(lambda _m, _a, i=i: ran.append(i)) for i, b in enumerate(model.anatomy.blocks)
    ]
    visit(model, [[5, 6, 7]], [0, 1], lambda _place, _h: None)
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_a_text_that_is_too_short_is_named(tiny):
    with pytest.raises(AffectscopeError, match="text 2 has 3 tokens"):
        list(pooled(tiny("llama"), [[5] * 60, [5] * 3], [0], skip=50))


def test_nan_is_a_fault_and_not_a_vector(tokenizer):
    from tests.conftest import network_of

    from affectscope.models.load import wrap

    model = wrap(network_of("llama"), tokenizer)
    with torch.no_grad():
        model.network.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(AffectscopeError, match=r"NaN or Inf.*float32"):
        list(pooled(model, [[5] * 10], [1]))
