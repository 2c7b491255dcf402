"""Many texts in one row, without padding, and what they share only once.

1. Texts are laid end to end in one row ``[1, tokens]`` with position ids that start again at each text. Tokens that
   all texts begin with may be laid down once, in front.
2. Every matrix multiplication and norm then sees real tokens only.
3. Attention alone must not cross texts: it is computed text by text, as one causal batch padded on the right
   (a real token never looks to its right, so padding needs no mask), and laid end to end again.

Right padding is what remains for models whose attention cannot be replaced; `packing_check` tells which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectscope.models.anatomy import Anatomy, Check, block_output

_NAME = "affectscope_packed"


@dataclass(frozen=True)
class Packed:
    """Texts end to end: ``ids`` and ``positions`` ``[1, tokens]``, and how attention finds each text in the row.

    ``where`` ``[texts, longest]`` holds the flat index of each text's own tokens and ``inside`` says which of them are
    real; the first ``shared`` tokens of the row stand for the beginning of every text.
    """

    ids: Tensor
    positions: Tensor
    where: Tensor
    inside: Tensor
    shared: int


_packed: ContextVar[Packed | None] = ContextVar("packed", default=None)


def pack(texts: Sequence[Sequence[int]], device: torch.device, shared: int = 0) -> Packed:
    """Lay ``texts`` end to end; their first ``shared`` tokens, the same in all, are laid down once."""
    own = [list(text[shared:]) for text in texts]
    ids = [*texts[0][:shared], *(token for text in own for token in text)]
    starts = [torch.arange(shared)] + [torch.arange(shared, shared + len(text)) for text in own]
    sizes = torch.tensor([len(text) for text in own], device=device)
    inside = torch.arange(int(sizes.max()), device=device) < sizes[:, None]
    where = torch.zeros(inside.shape, dtype=torch.long, device=device)
    where[inside] = torch.arange(shared, len(ids), device=device)
    positions = torch.cat(starts).to(device)
    return Packed(torch.tensor(ids, device=device)[None], positions[None], where, inside, shared)


@contextmanager
def packed_attention(network: nn.Module, packed: Packed) -> Iterator[None]:
    """Within the block the network's attention stays inside the texts of ``packed``; undone on exit.

    The network must not be used by another thread meanwhile.
    """
    token = _packed.set(packed)
    try:
        with replaced_attention(network, _NAME, _attention):
            yield
    finally:
        _packed.reset(token)


@contextmanager
def replaced_attention(network: nn.Module, name: str, attention: Callable[..., Any]) -> Iterator[None]:
    """Within the block the network computes attention by ``attention`` (transformers' interface); undone on exit.

    No mask function is registered with it: transformers then builds no mask, which is what is wanted.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(name, attention)
    configs = list({id(c): c for c in _configs(network)}.values())
    before = [c._attn_implementation for c in configs]
    try:
        for config in configs:
            config._attn_implementation = name
        yield
    finally:
        for config, old in zip(configs, before, strict=True):
            config._attn_implementation = old


def packing_check(network: nn.Module, anatomy: Anatomy, texts: Sequence[Sequence[int]]) -> Check:
    """Run ``texts`` packed and one by one; packing is used only if every block output agrees.

    In low precision the order of sums alone moves outputs, by more in one model than in another. So texts also run padded as
    one batch, which is the same computation in another order: packing may differ by little more than that does.
    """
    device = next(network.parameters()).device
    exact = next(network.parameters()).dtype == torch.float32
    seen: list[list[Tensor]] = [[] for _ in anatomy.blocks]

    def record(place: int) -> Any:
        return lambda _module, _args, output: seen[place].append(block_output(output).float())

    handles = [block.register_forward_hook(record(place)) for place, block in enumerate(anatomy.blocks)]
    try:
        with torch.inference_mode():
            for text in texts:
                network(torch.tensor([list(text)], device=device), use_cache=False)
            packed = pack(texts, device)
            with packed_attention(network, packed):
                network(packed.ids, position_ids=packed.positions, use_cache=False)
            if not exact:
                network(**_padded(texts, device), use_cache=False)
        single = [torch.cat([one[0] for one in s[: len(texts)]]) for s in seen]
        worst = _worst(single, [s[len(texts)][0] for s in seen])
        rounding = 0.0 if exact else _worst(single, [_real(s[-1], texts) for s in seen])
    except Exception as error:  # an attention that takes no replacement may fail in any way
        return Check("packing", False, f"padded instead: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
    finally:
        for handle in handles:
            handle.remove()
    tolerance = 1e-3 if exact else max(5e-3, 3 * rounding)
    return Check("packing", worst < tolerance, f"packed and single readings differ by {worst:.1e} in cosine")


def _worst(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest difference in cosine of two runs' block outputs, each ``[tokens, d_model]``."""
    return max(float((1 - F.cosine_similarity(a, b, dim=-1)).max()) for a, b in zip(one, other, strict=True))


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> dict[str, Tensor]:
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
    mask = torch.arange(longest, device=device) < torch.tensor([len(t) for t in texts], device=device)[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


def _real(output: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
    """A padded output ``[texts, longest, d_model]`` without its padding, ``[tokens, d_model]``."""
    return torch.cat([row[: len(text)] for row, text in zip(output, texts, strict=True)])


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
    packed = _packed.get()
    if packed is None or softcap is not None or s_aux is not None:
        raise NotImplementedError("this attention cannot be packed")
    where, inside, shared = packed.where, packed.inside, packed.shared
    # [heads, texts, longest, head_dim] -> [texts, heads, longest, head_dim]
    q, k, v = (t[0][:, where].transpose(0, 1) for t in (query, key, value))
    if not shared:
        out = attend(q, k, v, scaling, sliding_window)
        return out.transpose(1, 2)[inside][None], None  # [1, tokens, heads, head_dim]
    q0, k0, v0 = (t[:, :, :shared] for t in (query, key, value))
    k, v = (torch.cat([f.expand(len(where), -1, -1, -1), t], dim=2) for f, t in ((k0, k), (v0, v)))
    ahead = attend(q0, k0, v0, scaling, sliding_window).transpose(1, 2)[0]
    own = attend(q, k, v, scaling, sliding_window).transpose(1, 2)[inside]
    return torch.cat([ahead, own])[None], None


def attend(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention where the queries are the last of the keys' positions."""
    queries, keys = q.shape[2], k.shape[2]
    mask = None
    if queries != keys or (window is not None and keys > window):
        position = torch.arange(keys, device=q.device)
        distance = position[keys - queries :, None] - position[None, :]
        mask = (distance >= 0) & (distance < (window or keys))
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )


def _configs(network: nn.Module) -> list[Any]:
    config: Any = network.config
    return [config, config.get_text_config()] if hasattr(config, "get_text_config") else [config]
