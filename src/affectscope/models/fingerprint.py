"""Short hashes that tell whether two models, or two tokenizers, are the same one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

_SAMPLES = 4096


def weights_fingerprint(network: nn.Module) -> str:
    """SHA-256 over every parameter's name, shape and about 4,096 evenly spaced values, as bfloat16.

    bfloat16 makes the hash the same whether a checkpoint was loaded in float32 or in bfloat16. It samples, so
    that a 70B model takes a second; a change that touches no sampled value goes unseen. It tells models apart;
    it is no defence against a forger.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.named_parameters(), key=lambda item: item[0]):
        flat = tensor.detach().reshape(-1)
        step = max(flat.numel() // _SAMPLES, 1)
        sample = flat[::step].to(torch.bfloat16).contiguous().cpu().view(torch.int16).numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 over the vocabulary, the special tokens, and how one line with every kind of trap is cut."""
    probe = "Don't   panic: naïve café, 3.14 % of 北京 <tag>\n\tend."
    content = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": sorted(map(str, tokenizer.all_special_tokens)),
        "probe": tokenizer(probe, add_special_tokens=True)["input_ids"],
    }
    return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
