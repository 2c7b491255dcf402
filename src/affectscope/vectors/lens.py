"""What a vector makes a model more and less likely to say: through the final norm's scale and the unembedding.

The paper's section 3.2. A direction has no size, so the norm itself cannot be applied; its learned scale can, and
the unembedding follows. Only the order of tokens means anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from affectscope.models.load import Model


@dataclass(frozen=True)
class LensRow:
    """Tokens that a vector pushes up and down most, strongest first."""

    up: tuple[str, ...]
    down: tuple[str, ...]


def lens_scores(model: Model, vectors: np.ndarray) -> np.ndarray:
    """``[concepts, vocabulary]`` float32: what each direction ``[concepts, d_model]`` adds to the logits, up to scale."""
    weight: torch.Tensor = model.anatomy.unembedding.get_parameter("weight")
    directions = torch.tensor(vectors, device=model.device, dtype=torch.float32)
    directions = directions * norm_scale(model.anatomy.final_norm, directions)
    with torch.inference_mode():
        centred = directions - directions.mean(dim=0) if len(directions) > 1 else directions
        scores: np.ndarray = (centred @ weight.float().T).cpu().numpy()
    return scores


def norm_scale(norm: torch.nn.Module, like: torch.Tensor) -> torch.Tensor:
    """The learned scale of a norm, ``[d_model]`` float32, measured and not looked up: families store it differently.

    A vector of alternating ones has mean 0 and size 1, so RMS and layer norms return it times their scale, plus a bias
    that the opposite vector cancels.
    """
    probe = torch.ones(like.shape[-1], device=like.device)
    probe[1::2] = -1
    dtype = next((p.dtype for p in norm.parameters()), torch.float32)
    with torch.inference_mode():
        there: torch.Tensor = norm(probe[None].to(dtype)).float()
        back: torch.Tensor = norm(-probe[None].to(dtype)).float()
    return ((there - back) / 2 * probe)[0]


def logit_lens(model: Model, vectors: np.ndarray, count: int = 8) -> list[LensRow]:
    """For each vector its ``count`` strongest tokens up and down; fragments without a letter are left out."""
    rows = []
    for scores in lens_scores(model, vectors):
        order = np.argsort(-scores)
        rows.append(LensRow(_words(model, order, count), _words(model, order[::-1], count)))
    return rows


def _words(model: Model, order: np.ndarray, count: int) -> tuple[str, ...]:
    words: list[str] = []
    for token in order:
        text = model.tokenizer.decode([int(token)]).strip()
        if any(c.isalpha() for c in text) and "�" not in text and text not in words:
            words.append(text)
        if len(words) == count:
            break
    return tuple(words)
