"""Many texts in one row, without padding.

1. Texts are laid end to end in one row ``[1, tokens]`` with position ids that start again at each text.
2. Every matrix multiplication and norm then sees real tokens only.
3. Attention alone must not cross texts: it is computed text by text, as one causal batch padded on the right
   (a real token never looks to its right, so padding needs no mask), and laid end to end again.

Right padding is what remains for models whose attention cannot be replaced; `packing_check` tells which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectscope.models.anatomy import Anatomy, Check, block_output

_NAME = "affectscope_packed"
_rows: ContextVar[tuple[Tensor, Tensor] | None] = ContextVar("packed_rows", default=None)


def pack(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and position ids of ``texts`` end to end, both ``[1, tokens]``."""
    ids = torch.tensor([token for text in texts for token in text], device=device)
    positions = torch.cat([torch.arange(len(text), device=device) for text in texts])
    return ids[None], positions[None]


@contextmanager
def packed_attention(network: nn.Module, lengths: Sequence[int], device: torch.device) -> Iterator[None]:
    """Within the block the network's attention stays inside texts of these ``lengths``; undone on exit.

    The network must not be used by another thread meanwhile.
    """
    _register()
    sizes = torch.tensor(lengths, device=device)
    inside = torch.arange(int(sizes.max()), device=device) < sizes[:, None]  # [texts, longest]
    where = torch.zeros(inside.shape, dtype=torch.long, device=device)
    where[inside] = torch.arange(int(sizes.sum()), device=device)
    configs = list({id(c): c for c in _configs(network)}.values())
    before = [c._attn_implementation for c in configs]
    token = _rows.set((where, inside))
    try:
        for config in configs:
            config._attn_implementation = _NAME
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
        _rows.reset(token)


def packing_check(network: nn.Module, anatomy: Anatomy, texts: Sequence[Sequence[int]]) -> Check:
    """Run ``texts`` packed and one by one; packing is used only if every block output agrees."""
    device = next(network.parameters()).device
    tolerance = 1e-3 if next(network.parameters()).dtype == torch.float32 else 5e-3
    seen: list[list[Tensor]] = [[] for _ in anatomy.blocks]

    def record(place: int) -> Any:
        return lambda _module, _args, output: seen[place].append(block_output(output)[0].float())

    handles = [block.register_forward_hook(record(place)) for place, block in enumerate(anatomy.blocks)]
    try:
        with torch.inference_mode():
            for text in texts:
                network(torch.tensor([list(text)], device=device), use_cache=False)
            ids, positions = pack(texts, device)
            with packed_attention(network, [len(t) for t in texts], device):
                network(ids, position_ids=positions, use_cache=False)
        worst = max(float((1 - F.cosine_similarity(torch.cat(s[:-1]), s[-1], dim=-1)).max()) for s in seen)
    except Exception as error:  # an attention that takes no replacement may fail in any way
        return Check("packing", False, f"padded instead: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
    finally:
        for handle in handles:
            handle.remove()
    return Check("packing", worst < tolerance, f"packed and single readings differ by {worst:.1e} in cosine")


def _attention(
    module: nn.Module,
    query: Tensor,  # [1, heads, tokens, head_dim]
    key: Tensor,  # [1, kv_heads, tokens, head_dim]
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each packed text; the signature is transformers' attention interface."""
    rows = _rows.get()
    if rows is None or softcap is not None or s_aux is not None:
        raise NotImplementedError("this attention cannot be packed")
    where, inside = rows
    longest = where.shape[1]
    mask = None
    if sliding_window is not None and longest > sliding_window:
        distance = torch.arange(longest, device=query.device)
        distance = distance[:, None] - distance[None, :]
        mask = (distance >= 0) & (distance < sliding_window)
    # [heads, texts, longest, head_dim] -> [texts, heads, longest, head_dim]
    q, k, v = (t[0][:, where].transpose(0, 1) for t in (query, key, value))
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)[inside][None], None  # [1, tokens, heads, head_dim]


def _configs(network: nn.Module) -> list[Any]:
    config: Any = network.config
    return [config, config.get_text_config()] if hasattr(config, "get_text_config") else [config]


def _register() -> None:
    from transformers import AttentionInterface

    # No mask function is registered with it: transformers then builds no mask, which is what is wanted.
    AttentionInterface.register(_NAME, _attention)
