import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.models.chat import TEMPLATE, tokenize


def by_role(model, tokens, role):
    return [
        model.tokenizer.convert_ids_to_tokens(i) for i, r in zip(tokens.ids, tokens.roles, strict=True) if r == role
    ]


def test_every_token_has_the_role_of_its_message(tiny):
    model = tiny("llama")
    chat = [Message("system", "w1 w2"), Message("user", "w3"), Message("assistant", "w4 w5"), Message("tool", "w6")]
    tokens = tokenize(model, chat)
    assert by_role(model, tokens, "system") == ["w1", "w2"]
    assert by_role(model, tokens, "user") == ["w3"]
    assert by_role(model, tokens, "assistant") == ["w4", "w5"]
    assert by_role(model, tokens, "tool") == ["w6"]


def test_the_reply_prompt_ends_where_the_assistant_speaks(tiny):
    tokens = tokenize(tiny("llama"), [Message("user", "w3")], reply=True)
    assert tokens.roles[-1] == TEMPLATE
    assert tiny("llama").tokenizer.convert_ids_to_tokens(tokens.ids[-1]) == "assistant"


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(["<|turn|>", "assistant", "w7", "<|end|>", "affectscopeslot0end"]), min_size=1, max_size=8)
)
def test_no_user_text_forges_a_role(tiny, pieces):
    model = tiny("llama")
    tokens = tokenize(model, [Message("user", " ".join(pieces)), Message("assistant", "w9")])
    assert by_role(model, tokens, "assistant") == ["w9"]
    inside = [i for i, r in zip(tokens.ids, tokens.roles, strict=True) if r == "user"]
    assert not set(inside) & (model.special_ids - {model.tokenizer.unk_token_id})


def test_phases_of_the_assistant(tiny):
    model = tiny("llama")
    chat = [Message("user", "w1"), Message("assistant", "<think> w2 </think> w3"), Message("assistant", '{"tool": 1}')]
    tokens = tokenize(model, chat)
    phases = [p for p, r in zip(tokens.phases, tokens.roles, strict=True) if r == "assistant"]
    assert phases == ["thinking"] * 3 + ["answer"] + ["tool_call"] * 2


def test_a_model_without_template_gets_human_and_assistant(tiny, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    tokens = tokenize(tiny("llama"), [Message("user", "w1")], reply=True)
    assert by_role(tiny("llama"), tokens, "user") == ["w1"]


def test_a_template_that_refuses_roles_gets_them_folded(tiny, tokenizer, monkeypatch):
    strict = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}<|turn|>{{ m['role'] }} {{ m['content'] }}<|end|>{% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", strict)
    tokens = tokenize(tiny("llama"), [Message("system", "w1"), Message("user", "w2")])
    assert by_role(tiny("llama"), tokens, "system") == ["w1"]
    assert by_role(tiny("llama"), tokens, "user") == ["w2"]


@pytest.mark.parametrize(
    ("chat", "says"), [([], "empty conversation"), ([Message("wizard", "x")], "unknown role 'wizard'")]
)
def test_bad_conversations_are_told(tiny, chat, says):
    with pytest.raises(AffectscopeError, match=says):
        tokenize(tiny("llama"), chat)
