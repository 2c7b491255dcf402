"""A dose reaches what it should, nothing else, and is gone afterwards; what is shared runs once and reads the same."""

import pytest
import torch
from tests.conftest import ARCHITECTURES

from affectscope.models.predictions import continuation_logprobs, greedy, last_logits
from affectscope.models.residuals import visit
from affectscope.models.steering import Dose

BEGIN = [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
TEXTS = [[*BEGIN, 30, 31, 32], [*BEGIN, 40], [*BEGIN, 50, 51, 52, 53, 54]]
TOKENS = list(range(20, 60))


def alone(model, text, doses=()):
    return last_logits(model, [text], TOKENS, doses=doses)[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sharing_a_beginning_changes_no_prediction(tiny, architecture):
    model = tiny(architecture)
    together = last_logits(model, TEXTS, TOKENS, shared=len(BEGIN))
    for row, text in zip(together, TEXTS, strict=True):
        torch.testing.assert_close(row, alone(model, text), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen3_moe"])
def test_rows_with_different_doses_read_as_each_does_alone(tiny, architecture):
    model = tiny(architecture)
    rng = torch.Generator().manual_seed(1)
    add = [{0: torch.randn(48, generator=rng), 1: torch.randn(48, generator=rng)} for _ in range(2)]
    doses = [Dose(0, 12, 14, add[0]), Dose(2, 13, 17, add[1]), Dose(2, 13, 14, add[0])]
    together = last_logits(model, TEXTS, TOKENS, shared=len(BEGIN), doses=doses)
    singly = [
        alone(model, TEXTS[0], [Dose(0, 12, 14, add[0])]),
        alone(model, TEXTS[1]),
        alone(model, TEXTS[2], [Dose(0, 13, 17, add[1]), Dose(0, 13, 14, add[0])]),
    ]
    for row, expected in zip(together, singly, strict=True):
        torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-4)
    assert (together[0] - alone(model, TEXTS[0])).abs().max() > 1e-3, "a dose must do something"


def test_a_dose_on_what_is_shared_reaches_every_text(tiny):
    model = tiny("llama")
    add = {0: torch.ones(48)}
    together = last_logits(model, TEXTS, TOKENS, shared=len(BEGIN), doses=[Dose(None, 3, 6, add)])
    for row, text in zip(together, TEXTS, strict=True):
        torch.testing.assert_close(row, alone(model, text, [Dose(0, 3, 6, add)]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_steering_is_undone_to_the_bit(tiny, architecture):
    model = tiny(architecture)
    ids = torch.tensor([TEXTS[2]])
    with torch.inference_mode():
        before = model.network(ids, use_cache=False).logits
        hooks = [dict(block._forward_hooks) for block in model.anatomy.blocks]
        last_logits(model, TEXTS, TOKENS, doses=[Dose(1, 0, 13, {0: torch.ones(48) * 9, 2: torch.ones(48)})])
        after = model.network(ids, use_cache=False).logits
    assert torch.equal(before, after)
    assert [dict(block._forward_hooks) for block in model.anatomy.blocks] == hooks


def test_steering_is_undone_when_the_pass_fails(tiny):
    model = tiny("llama")

    def broken(_place, _h):
        raise RuntimeError("read-out failed")

    hooks = [dict(block._forward_hooks) for block in model.anatomy.blocks]
    with pytest.raises(RuntimeError, match="read-out failed"):
        visit(model, [BEGIN], [2], broken, doses=[Dose(0, 0, 3, {1: torch.ones(48)})])
    assert [dict(block._forward_hooks) for block in model.anatomy.blocks] == hooks


def test_undosed_rows_are_the_same_to_the_bit(tiny):
    model = tiny("llama")
    plain = last_logits(model, TEXTS, TOKENS)
    dosed = last_logits(model, TEXTS, TOKENS, doses=[Dose(0, 0, 15, {1: torch.ones(48)})])
    assert torch.equal(plain[1:], dosed[1:])
    assert not torch.equal(plain[0], dosed[0])


def test_a_dose_adds_exactly_its_vector_and_is_read_before_it_acts(tiny):
    model = tiny("llama")
    seen: dict[int, torch.Tensor] = {}
    plain: dict[int, torch.Tensor] = {}
    add = torch.linspace(-1, 1, 48)
    visit(model, [BEGIN], [0, 1], lambda p, h: plain.__setitem__(p, h.clone()))
    visit(model, [BEGIN], [0, 1], lambda p, h: seen.__setitem__(p, h.clone()), doses=[Dose(0, 11, 12, {0: add})])
    assert torch.equal(seen[0], plain[0]), "the read-out at the dosed layer comes before the dose"
    assert torch.equal(seen[1][:11], plain[1][:11])
    assert not torch.equal(seen[1][11], plain[1][11])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_log_probabilities_are_those_of_a_plain_forward(tiny, architecture):
    model = tiny(architecture)
    with torch.inference_mode():
        whole = model.network(torch.tensor([TEXTS[2]]), use_cache=False).logits[0].log_softmax(-1)
    expected = sum(float(whole[p - 1, TEXTS[2][p]]) for p in range(13, 17))
    for shared in (0, 12):
        found = continuation_logprobs(model, TEXTS, [13, 12, 13], shared=shared)
        assert float(found[2]) == pytest.approx(expected, abs=1e-3)


def test_greedy_continues_as_generate_does(tiny):
    model = tiny("llama")
    out = model.network.generate(
        torch.tensor([TEXTS[0]]), max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert greedy(model, TEXTS, 5, shared=12)[0] == out[0, len(TEXTS[0]) :].tolist()


def test_texts_that_do_not_begin_alike_are_refused(tiny):
    with pytest.raises(ValueError, match="in common"):
        last_logits(tiny("llama"), [[1, 2, 3], [2, 2, 3]], TOKENS, shared=2)
