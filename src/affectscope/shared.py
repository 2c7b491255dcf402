"""What the commands share: a model from its options, and a result as text or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from affectscope.terminal import say

if TYPE_CHECKING:
    from affectscope.models.load import Model
    from affectscope.vectors.artefact import ConceptVectors


def load_named(name: str, dtype: str, device: str, blocks: str = "", final_norm: str = "") -> Model:
    """The model of these options; a line says that it is being loaded."""
    from affectscope.models.load import load

    say(f"loading {name}")
    return load(
        name,
        dtype=None if dtype == "auto" else dtype,
        device=None if device == "auto" else device,
        blocks=blocks or None,
        final_norm=final_norm or None,
        tell=say,
    )


def load_for(vectors: ConceptVectors, model: str, dtype: str, device: str, blocks: str, final_norm: str) -> Model:
    """The model that vectors belong to, in their number format unless another is asked for."""
    number_format = vectors.model["dtype"] if dtype == "auto" else dtype
    return load_named(model or vectors.model["id"], number_format, device, blocks, final_norm)


def show(value: Any, as_json: bool, text: str) -> None:
    """Print ``value`` as JSON, or ``text``, on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=1) if as_json else text)
