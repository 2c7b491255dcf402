"""Models that need no download: a word-level tokenizer over a made-up vocabulary, and tiny random networks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

CONCEPTS = ("angry", "calm", "happy", "proud", "sad", "tired")
WORDS = [f"w{i}" for i in range(180)]
MARKERS = [f"m{i}" for i in range(16)]
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m['role'] }} {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant {% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<|turn|>", "<|end|>"]
    names = [*special[:2], *WORDS, *MARKERS, "system", "user", "assistant", "tool", "The", *CONCEPTS]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", additional_special_tokens=special[2:]
    )
    made.chat_template = TEMPLATE
    return made


def _small(**more):
    return {"vocab_size": 256, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 512, "pad_token_id": 0, **more}  # fmt: skip


def network_of(architecture: str, **more):
    import transformers as t

    torch.manual_seed(0)
    configs = {
        "llama": lambda: t.LlamaConfig(**_small(**more)),
        "qwen3": lambda: t.Qwen3Config(**_small()),
        "gemma3": lambda: t.Gemma3TextConfig(**_small(sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
        "gemma2": lambda: t.Gemma2Config(**_small(sliding_window=8)),
        "mistral": lambda: t.MistralConfig(**_small(sliding_window=8)),
        "olmo2": lambda: t.Olmo2Config(**{k: v for k, v in _small().items() if k != "head_dim"}),
        "phi3": lambda: t.Phi3Config(**{k: v for k, v in _small().items() if k != "head_dim"}),
        "gpt2": lambda: t.GPT2Config(vocab_size=256, n_embd=48, n_layer=3, n_head=4, n_positions=512),
        "gpt_neox": lambda: t.GPTNeoXConfig(vocab_size=256, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4),
        "qwen3_moe": lambda: t.Qwen3MoeConfig(**_small(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, decoder_sparse_step=1)),
    }  # fmt: skip
    return t.AutoModelForCausalLM.from_config(configs[architecture]()).float().eval()


ARCHITECTURES = ("llama", "qwen3", "gemma3", "gemma2", "mistral", "olmo2", "phi3", "gpt2", "gpt_neox", "qwen3_moe")


@pytest.fixture(scope="session")
def tiny(tokenizer):
    """``tiny(architecture)``: a checked, readable model of three random blocks; made once."""
    from affectscope.models.load import wrap

    made = {}

    def make(architecture: str = "llama"):
        if architecture not in made:
            made[architecture] = wrap(network_of(architecture), tokenizer, name=f"tiny-{architecture}")
        return made[architecture]

    return make


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path, monkeypatch):
    """Every test has a cache folder of its own, but for those that run a real model."""
    if request.node.get_closest_marker("real") is None and request.node.get_closest_marker("browser") is None:
        monkeypatch.setenv("AFFECTSCOPE_CACHE", str(tmp_path / "cache"))


WIDTH = 192  # of the planted model: wide, so that projecting neutral components out costs a direction little


def planted_corpus(topics: int = 6, tokens: int = 90, share: float = 0.3, per_cell: int = 1):
    """Stories of random words in which each emotion's marker word stands among those that count."""
    from affectscope.concepts.stories import Corpus, Story

    rng = np.random.default_rng(1)
    stories = []
    for topic in range(topics):
        frame = rng.choice(WORDS, 20)
        for e, emotion in enumerate(CONCEPTS):
            for _ in range(per_cell):
                words = [str(rng.choice(frame if rng.random() < 0.5 else WORDS)) for _ in range(tokens)]
                for i in range(50, tokens):
                    if rng.random() < share:
                        words[i] = MARKERS[e]
                stories.append(Story(emotion, f"topic{topic}", "first", " ".join(words)))
    return Corpus(tuple(stories), "planted")


def plain_neutral(count: int = 12):
    from affectscope.concepts.neutral import Message, Neutral

    rng = np.random.default_rng(2)

    def text() -> str:
        return " ".join(map(str, rng.choice(WORDS, 60)))

    dialogues = tuple((Message("user", text()), Message("assistant", text())) for _ in range(count))
    return Neutral(tuple(text() for _ in range(count)), dialogues)


@pytest.fixture(scope="session")
def planted(tokenizer):
    """A tiny model with known directions: written into its residual stream by marker words, and read out of it as
    the concepts' own names."""
    from affectscope.models.load import wrap

    network = network_of("llama", hidden_size=WIDTH)
    torch.manual_seed(3)
    directions = torch.linalg.qr(torch.randn(WIDTH, len(CONCEPTS)))[0].T  # orthonormal rows
    with torch.no_grad():
        for e in range(len(CONCEPTS)):
            token = tokenizer.convert_tokens_to_ids(MARKERS[e])
            network.model.embed_tokens.weight[token] = 3.0 * directions[e]
            network.lm_head.weight[tokenizer.convert_tokens_to_ids(CONCEPTS[e])] = directions[e]
    return wrap(network, tokenizer, name="planted"), directions.numpy()


@pytest.fixture(scope="session")
def planted_read(planted, tmp_path_factory):
    from affectscope.vectors.extract import read_corpus

    model, _ = planted
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECTSCOPE_CACHE", str(tmp_path_factory.mktemp("planted")))
        return read_corpus(model, planted_corpus(), [0, 1, 2], neutral=plain_neutral())


@pytest.fixture(scope="session")
def planted_vectors(planted_read):
    from affectscope.vectors.extract import extract

    return extract(planted_read, 1, neutral=plain_neutral())


@pytest.fixture(scope="session")
def real_model():
    from affectscope.models.load import load

    return load()


@pytest.fixture(scope="session")
def real_audit(real_model, tmp_path_factory) -> Path:
    """The whole audit of the bundled model, quick, on four topics and five layers; used by real and browser tests."""
    from affectscope import api
    from affectscope.concepts.stories import load_stories

    out = tmp_path_factory.mktemp("audit")
    large = out / "stories.txt"
    large.write_text("\n\n".join(story.text for story in load_stories().stories[:60]))
    api.audit(real_model, out, load_stories(topics=4), layers="12,15,18-20", effort="quick", texts=[large])
    return out
