"""The parts of the proxy alone: a text that grows, a reply that is heard, and the words in JSON."""

import pytest

from affectscope.concepts.neutral import Message
from affectscope.engines import given
from affectscope.engines.given import GivenText
from affectscope.engines.running import RunningEngine
from affectscope.errors import AffectscopeError
from affectscope.models.load import wrap
from affectscope.monitoring.monitor import monitor
from affectscope.server.rereading import Heard
from affectscope.server.said import Said, conversation, prompts
from tests.conftest import TEMPLATE, network_of
from tests.server.fronts import PARTS, WORDS


def byte_reader():
    """A model over bytes, some of them merged: it can write any text down."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e")]
    vocabulary = {name: i for i, name in enumerate([*names, "th", "the", "<|turn|>", "<|end|>"])}
    inner = Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=["<|turn|>", "<|end|>"])
    made.chat_template = TEMPLATE
    return wrap(network_of("llama", vocab_size=300), made, name="bytes")


def test_tokens_of_a_given_text_are_the_assistants_and_have_its_phases():
    engine = RunningEngine(byte_reader(), slots=2)
    try:
        for whole_text, phases in (
            ("<think>\nthe \U0001f600\n</think>\n\nthe end <|end|>", {"thinking", "answer"}),
            ('{"name": "f", "arguments": {}}', {"tool_call"}),
            ("the thing", {"answer"}),
        ):
            text, steps = GivenText(engine, (Message("user", "the"),)), []
            for end in range(1, len(whole_text) + 1):
                text.grow(whole_text[:end], end == len(whole_text))
                steps += text.steps()
            text.close()
            own = [step for step in steps if step.generated]
            assert "".join(step.text for step in own) == whole_text
            assert {step.role for step in own} == {"assistant"}
            assert {step.phase for step in own[1:]} == phases
            assert [step.index for step in own] == list(range(len(own)))
            alone = engine.model.tokenizer(whole_text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            assert [step.token for step in own] == alone
    finally:
        engine.close()


def test_what_json_says_as_one_text():
    said = Said()
    parts = [{"content": None}, {"reasoning": "a"}, {"reasoning": "b"}, {"content": "c"}, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}]  # fmt: skip
    parts += [{"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, {"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": {"x": 1}}}]}]  # fmt: skip
    text = "".join(said.push(part) for part in parts) + said.end()
    assert text == '<think>\nab\n</think>\n\nc\n{"name": "f", "arguments": {}}\n{"name": "g", "arguments": {"x": 1}}'
    assert Said(5).push({"text": "w1 w2 w3"}) == " w3"
    messages, others = conversation([
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ])  # fmt: skip
    assert messages == (Message("system", "a"), Message("assistant", '{"name": "f", "arguments": {}}'))
    assert others == ("image_url",)
    assert [conversation(bad) for bad in (None, "x", [1], {})] == [((), ())] * 4
    assert [list(prompts(p)) for p in ("a", ["a", "b"], [1, 2], [[1], "b"], None)] == [["a"], ["a", "b"], [""], ["", "b"], [""]]  # fmt: skip


def test_a_reply_is_heard_whole_however_it_is_cut():
    heard = Heard()
    assert heard.behind == 0
    for part in ("a", "\ud83d", "\ude00", "b"):
        heard.say(part)
    assert heard.take() == ("a\U0001f600b", False)
    heard.say("\ud83d")
    assert heard.take()[0].endswith("b\ufffd")
    heard.end("stop")
    heard.end("left")
    assert (heard.take()[1], heard.finished, heard.behind) == (True, "stop", 5)


def test_a_growing_text_is_read_once_and_what_was_read_stays(planted, planted_vectors, monkeypatch):
    engine = RunningEngine(planted[0], monitor(planted_vectors, rules=()).read, slots=2)
    try:
        text, words, steps = GivenText(engine, (Message("user", "w1 w2"),)), "", []
        for part in [*PARTS, ""]:
            words += part
            text.grow(words, part == "")
            steps += text.steps()
        assert [s.text for s in steps if s.generated] == WORDS.split()
        assert [s.position for s in steps] == list(range(len(steps)))
        assert text.characters == len(WORDS)
        text.close()
        monkeypatch.setattr(given, "HOLD", 0)  # a word is read before it is whole
        cut = GivenText(engine, (Message("user", "w1 w2"),))
        cut.grow("w1 w", False)
        cut.grow("w1 w2 w3", True)
        assert [s.text for s in cut.steps() if s.generated] == ["w1", "<unk>", "<unk>", "w3"]
        cut.close()
    finally:
        engine.close()
    with pytest.raises(AffectscopeError, match="closed"):
        GivenText(engine, "w1")
