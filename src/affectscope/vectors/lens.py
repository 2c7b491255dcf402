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
    scale = getattr(model.anatomy.final_norm, "weight", None)
    if scale is not None:
        # Gemma's norms multiply by (1 + weight); every other family here by the weight itself.
        offset = 1.0 if "Gemma" in type(model.anatomy.final_norm).__name__ else 0.0
        directions = directions * (scale.float() + offset)
    with torch.inference_mode():
        centred = directions - directions.mean(dim=0)  # what all concepts share says nothing of any one
        scores: np.ndarray = (centred @ weight.float().T).cpu().numpy()
    return scores


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
